"""The bucket, seen from the functions: what was uploaded, what a job left, presigned links. Data never passes here."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Literal

import msgspec

from functions.errors import Busy
from functions.logs import log
from functions.settings import check_storage, settings, storage_access

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

LINK_SECONDS = 3600
OUTPUTS = ("checkpoints", "results", "logs")


def own_prefixes(job_id: str) -> tuple[str, ...]:
    """Return the prefixes that a job writes below."""
    return tuple(f"{output}/job-{job_id}/" for output in OUTPUTS)


class Artifact(msgspec.Struct):
    """An object that a job has stored, with a link that is valid for an hour."""

    key: str
    size_bytes: int
    url: str


def artifacts(job_id: str) -> list[Artifact]:
    """Return everything that a job has left in storage, each with a link that is good for an hour.

    Raises:
        Busy: the storage is away.
    """
    with _refusals():
        return [
            Artifact(found["Key"], found["Size"], link("GET", found["Key"]))
            for prefix in own_prefixes(job_id)
            for page in _client().get_paginator("list_objects_v2").paginate(Bucket=bucket(), Prefix=prefix)
            for found in page.get("Contents", [])
        ]


def link(method: Literal["GET", "PUT"], key: str, seconds: int = LINK_SECONDS) -> str:
    """Return a presigned URL for one object; signing asks nobody.

    Raises:
        ConfigurationError: no storage is set up.
    """
    action = {"GET": "get_object", "PUT": "put_object"}[method]
    return _client().generate_presigned_url(action, Params={"Bucket": bucket(), "Key": key}, ExpiresIn=seconds)


def keep(key: str, content: bytes) -> None:
    """Write one object of our own; the same key again replaces it.

    Raises:
        Busy: the storage is away.
    """
    with _refusals():
        _client().put_object(Bucket=bucket(), Key=key, Body=content, ContentType="application/gzip")


def uploads(*, before: datetime, horizon: timedelta) -> list[tuple[str, str, str]]:
    """Return bucket, key and ETag of the datasets uploaded between ``before - horizon`` and ``before``.

    Raises:
        Busy: the storage is away.
    """
    with _refusals():
        return [
            (bucket(), found["Key"], found["ETag"].strip('"'))
            for page in _client().get_paginator("list_objects_v2").paginate(Bucket=bucket(), Prefix="datasets/")
            for found in page.get("Contents", [])
            if before - horizon <= found["LastModified"].astimezone(UTC) <= before
        ]


def upload_metadata(key: str) -> dict[str, str] | None:
    """Return an object's user metadata, without the ``x-amz-meta-``; None when the object is gone.

    Raises:
        Busy: the storage is away.
    """
    from botocore.exceptions import ClientError  # noqa: PLC0415 -- boto3 costs a third of a second

    with _refusals():
        try:
            return dict(_client().head_object(Bucket=bucket(), Key=key)["Metadata"])
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in {403, 404}:
                return None
            raise


@contextmanager
def _refusals() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 -- as above

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        log(logging.WARNING, "the storage is away", detail=str(error)[:300])
        raise Busy("the storage is away") from error


def bucket() -> str:
    """Return the name of the one bucket."""
    return settings().storage_bucket


@cache
def _client() -> "S3Client":
    check_storage()
    import boto3  # noqa: PLC0415 -- as above
    from botocore.config import Config  # noqa: PLC0415

    endpoint, access, secret = storage_access().values()
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        region_name="us-east-1" if settings().storage_type == "minio" else "auto",
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=3,
            read_timeout=10,
            retries={"max_attempts": 2},
        ),
    )
