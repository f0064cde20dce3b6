"""Incoming CloudEvents and storage notifications; delivery of the outbox."""
