"""Identities of requests for a job: two requests with the same identity create one job.

An identity is a digest, so that it fits an index however long the request's values are.
"""

import hashlib
import json


def of_upload(bucket: str, key: str, etag: str) -> str:
    """Return the identity of one version of a dataset.

    It uses the ETag, because every storage and every listing of a bucket has one, unlike versions or event ids. An
    upload that is notified through two channels, or detected by sweep, therefore creates one job. Uploading the same
    bytes again under the same key creates no second job.
    """
    return _digest("upload", bucket, key, etag)


def of_missing_version(bucket: str, key: str, version: str) -> str:
    """Return the identity of a dataset version that was overwritten or deleted before its job was created."""
    return _digest("gone", bucket, key, version)


def of_event(source: str, id_: str) -> str:
    """Return the identity of a CloudEvent that requests a job."""
    return _digest("event", source, id_)


def of_request(subject: str, idempotency_key: str) -> str:
    """Return the identity of an HTTP request with an ``Idempotency-Key``; keys of different callers never collide."""
    return _digest("idempotency-key", subject, idempotency_key)


def _digest(*parts: str) -> str:
    # Migration 0004 hashes the JSON that earlier releases stored: changing this text would lose all identities.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
