"""What makes two requests for a job the same request: a digest, so that it fits an index whatever a stranger sends."""

import hashlib
import json


def of_upload(bucket: str, key: str, etag: str) -> str:
    """Return the identity of one version of a dataset.

    The ETag rather than a version, a time or an event's id: every storage has it, and so does a listing of the bucket.
    An upload that is notified through two channels, or found by sweep, is therefore one job, and so are the same bytes
    uploaded again under the same key.
    """
    return _digest("upload", bucket, key, etag)


def of_missing_version(bucket: str, key: str, version: str) -> str:
    """Return the identity of a version that was overwritten or deleted before a job was made of it."""
    return _digest("gone", bucket, key, version)


def of_event(source: str, id_: str) -> str:
    """Return the identity of a CloudEvent that requests a job."""
    return _digest("event", source, id_)


def of_request(subject: str, idempotency_key: str) -> str:
    """Return the identity of an HTTP request with an ``Idempotency-Key``; each caller has keys of its own."""
    return _digest("idempotency-key", subject, idempotency_key)


def _digest(*parts: str) -> str:
    # Migration 0004 hashes the JSON that earlier releases stored: to change this text is to forget all identities.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
