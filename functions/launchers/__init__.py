"""Launchers start, stop and inspect trainers, as local processes or as Kubernetes Jobs."""
