"""Access to the bucket: uploaded datasets, jobs' artifacts and presigned links. Datasets never pass through here."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from functions.domain.errors import Busy, ConfigurationError, NotFound
from functions.runtime.configuration import check_storage
from functions.runtime.logs import log
from functions.runtime.settings import settings, storage_access

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from types_boto3_s3 import S3Client

LINK_SECONDS = 3600
_COPY_BYTES = 64 * 1024 * 1024
OUTPUTS = ("checkpoints", "results", "logs")
_UNAUTHORIZED, _FORBIDDEN, NOT_FOUND = 401, 403, 404
#: error codes of S3 with the status 400
_BAD_CREDENTIALS = {"ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed", "TokenRefreshRequired"}


class StoredObject(NamedTuple):
    """One object of the bucket, without its bytes."""

    key: str
    #: without quotes
    etag: str
    #: "" if the bucket is not versioned
    version: str
    #: the user metadata, by lower-case names without ``x-amz-meta-``, such as ``stoker-model``
    metadata: dict[str, str]


def dataset_key(dataset_id: str) -> str:
    """Return the key that a dataset is uploaded to."""
    return f"datasets/{dataset_id}.zip"


def dataset_stem(key: str) -> str:
    """Return the dataset's name in its key, in the key's form of Unicode."""
    return key.removeprefix("datasets/").removesuffix(".zip")


def own_prefixes(job_id: str) -> tuple[str, ...]:
    """Return the key prefixes of a job's artifacts."""
    return tuple(f"{output}/job-{job_id}/" for output in OUTPUTS)


class Artifact(msgspec.Struct):
    """An object that a job has stored, with a link that is valid for an hour."""

    key: str
    size_bytes: int
    url: str


def artifacts(
    job_id: str, *, prefix: str = "", after: str = "", limit: int = 1_000
) -> tuple[list[Artifact], str | None]:
    """Return a page of a job's artifacts by key, each with a link valid for an hour, and the key to continue from.

    ``prefix``: of the keys, such as ``results/``; ``after``: the last key of the page before.

    Raises:
        Busy, ConfigurationError: as ``head``.
    """
    items: list[Any] = []
    with refusals():
        for own in sorted(own_prefixes(job_id)):
            # Keys must have both prefixes: the longer one, if it begins with the other.
            wanted = max(own, prefix, key=len)
            if len(items) <= limit and wanted.startswith(own) and wanted.startswith(prefix):
                start = {"StartAfter": after} if after else {}
                found = s3().list_objects_v2(Bucket=bucket(), Prefix=wanted, MaxKeys=limit + 1, **start)  # type: ignore[arg-type]
                items += found.get("Contents", [])
    page = [Artifact(item["Key"], item["Size"], public_link(item["Key"])) for item in items[:limit]]
    return page, page[-1].key if len(items) > limit else None


def link(method: Literal["GET", "PUT"], key: str, seconds: int = LINK_SECONDS) -> str:
    """Return a presigned URL for one object; this makes no request.

    Raises:
        ConfigurationError: no storage is set up.
    """
    action = {"GET": "get_object", "PUT": "put_object"}[method]
    return s3().generate_presigned_url(action, Params={"Bucket": bucket(), "Key": key}, ExpiresIn=seconds)


def public_link(key: str) -> str:
    """Return a presigned URL for downloading one object, at the storage's public endpoint if it has one.

    Raises:
        ConfigurationError: no storage is set up.
    """
    return public_s3().generate_presigned_url(
        "get_object", Params={"Bucket": bucket(), "Key": key}, ExpiresIn=LINK_SECONDS
    )


class PartLinks(msgspec.Struct):
    """Presigned URLs of a multipart upload: one for each part, one to complete it, one to abort it."""

    upload_id: str
    urls: list[str]
    complete_url: str
    abort_url: str


def part_links(key: str, parts: int, upload_id: str | None = None) -> PartLinks:
    """Create a multipart upload, unless ``upload_id`` names one, and return its links.

    Raises:
        Busy: the storage is unavailable.
    """
    client = s3()
    with refusals():
        upload_id = upload_id or client.create_multipart_upload(Bucket=bucket(), Key=key)["UploadId"]
    upload = {"Bucket": bucket(), "Key": key, "UploadId": upload_id}
    sign = partial(client.generate_presigned_url, ExpiresIn=LINK_SECONDS)
    return PartLinks(
        upload_id,
        [sign("upload_part", Params={**upload, "PartNumber": number}) for number in range(1, parts + 1)],
        sign("complete_multipart_upload", Params=upload),
        sign("abort_multipart_upload", Params=upload),
    )


def write(key: str, content: bytes) -> None:
    """Write an object, replacing any under the same key.

    Raises:
        Busy, ConfigurationError: as ``head``.
    """
    with refusals():
        s3().put_object(Bucket=bucket(), Key=key, Body=content, ContentType="application/gzip")


def read(key: str, *, limit_bytes: int) -> bytes | None:
    """Return a small object's content; None if the object does not exist or is larger than the limit.

    Raises:
        Busy: the storage is unavailable.
    """
    from botocore.exceptions import ClientError  # noqa: PLC0415 -- boto3 costs a third of a second

    with refusals():
        try:
            response = s3().get_object(Bucket=bucket(), Key=key)
        except ClientError as error:
            if status_of(error) == NOT_FOUND:
                return None
            raise
        with response["Body"] as body:
            content: bytes = body.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        log(logging.WARNING, "an object is too large to be read", key=key, limit_bytes=limit_bytes)
        return None
    return content


def size_of(key: str) -> int | None:
    """Return an object's size in bytes; None if it does not exist.

    Raises:
        Busy, ConfigurationError: as ``head``.
    """
    from botocore.exceptions import ClientError  # noqa: PLC0415 -- boto3 costs a third of a second

    with refusals():
        try:
            return s3().head_object(Bucket=bucket(), Key=key)["ContentLength"]
        except ClientError as error:
            if status_of(error) == NOT_FOUND:
                return None
            raise


def read_range(key: str, start: int, end: int) -> bytes:
    """Return the bytes of an object from ``start`` up to, and without, ``end``.

    Raises:
        Busy, ConfigurationError: as ``head``.
    """
    with refusals(), s3().get_object(Bucket=bucket(), Key=key, Range=f"bytes={start}-{end - 1}")["Body"] as body:
        content: bytes = body.read()
        return content


def copy_checkpoints(from_job: str, to_job: str) -> None:
    """Copy a job's checkpoints to another job, within the storage.

    Raises:
        NotFound: the job has stored no ``last.pt``.
        Busy, ConfigurationError: as ``head``.
    """
    from boto3.s3.transfer import TransferConfig  # noqa: PLC0415 -- boto3 costs a third of a second

    # In parts, because the storage answers only once it has copied all.
    parts = TransferConfig(multipart_threshold=_COPY_BYTES, multipart_chunksize=_COPY_BYTES)
    for name in ("best.pt", "last.pt"):
        key = f"checkpoints/job-{from_job}/{name}"
        if size_of(key) is not None:
            with refusals():
                source: Any = {"Bucket": bucket(), "Key": key}
                s3().copy(source, bucket(), f"checkpoints/job-{to_job}/{name}", Config=parts)
        elif name == "last.pt":
            raise NotFound(f"job {from_job} has stored no checkpoint {key}")


def delete_artifacts(job_id: str) -> None:
    """Delete all objects of a job; deleting again changes nothing.

    Raises:
        Busy, ConfigurationError: as ``head``.
    """
    with refusals():
        for prefix in own_prefixes(job_id):
            for page in s3().get_paginator("list_objects_v2").paginate(Bucket=bucket(), Prefix=prefix):
                for item in page.get("Contents", []):
                    s3().delete_object(Bucket=bucket(), Key=item["Key"])


def uploads(*, before: datetime, horizon: timedelta) -> list[tuple[str, str, str]]:
    """Return bucket, key and ETag of the datasets uploaded between ``before - horizon`` and ``before``.

    Raises:
        Busy, ConfigurationError: as ``head``.
    """
    with refusals():
        return [
            (bucket(), item["Key"], item["ETag"].strip('"'))
            for page in s3().get_paginator("list_objects_v2").paginate(Bucket=bucket(), Prefix="datasets/")
            for item in page.get("Contents", [])
            if before - horizon <= item["LastModified"].astimezone(UTC) <= before
        ]


def head(key: str) -> StoredObject | None:
    """Return an object's ETag, version and metadata; None if the object does not exist.

    Raises:
        Busy: the storage is unavailable.
        ConfigurationError: the storage refuses access, or the bucket does not exist.
    """
    from botocore.exceptions import ClientError  # noqa: PLC0415 -- boto3 costs a third of a second

    with refusals():
        try:
            response = s3().head_object(Bucket=bucket(), Key=key)
        except ClientError as error:
            if status_of(error) != NOT_FOUND:
                raise
            s3().head_bucket(Bucket=bucket())  # a missing bucket gives the same 404
            return None
    return StoredObject(
        key,
        response["ETag"].strip('"'),
        response.get("VersionId", ""),
        {name.lower(): value for name, value in response["Metadata"].items()},
    )


@contextmanager
def refusals() -> Iterator[None]:
    """Raise Busy or ConfigurationError for errors of the storage within the block."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 -- boto3 costs a third of a second

    try:
        yield
    except ClientError as error:
        raise _refusal(error) from error
    except BotoCoreError as error:
        log(logging.WARNING, "the storage is unavailable", detail=str(error)[:300])
        raise Busy("the storage is unavailable") from error


def _refusal(error: "ClientError") -> Busy | ConfigurationError:
    """Return the error for an error response of the storage: a ConfigurationError if only the operator can fix it."""
    code = error.response.get("Error", {}).get("Code", "")
    if status_of(error) == NOT_FOUND:
        return ConfigurationError(f"STORAGE_BUCKET: there is no bucket {bucket()} in the storage")
    if status_of(error) in {_UNAUTHORIZED, _FORBIDDEN} or code in _BAD_CREDENTIALS:
        variables = ", ".join(storage_access())
        return ConfigurationError(f"{variables}: the storage refuses access to the bucket {bucket()} ({code})")
    log(logging.WARNING, "the storage is unavailable", detail=str(error)[:300])
    return Busy("the storage is unavailable")


def status_of(error: "ClientError") -> int:
    """Return the status of an error response."""
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def bucket() -> str:
    """Return the bucket's name."""
    return settings().storage_bucket


def public_s3() -> "S3Client":
    """Return a client that signs links for people: for the storage's public endpoint, if it has one.

    Raises:
        ConfigurationError: no storage is set up.
    """
    return s3(settings().storage_public_endpoint)


@cache
def s3(public_endpoint: str = "") -> "S3Client":
    """Return the client of the storage; links that it signs name ``public_endpoint``, if that is given.

    Raises:
        ConfigurationError: no storage is set up.
    """
    check_storage()
    import boto3  # noqa: PLC0415 -- boto3 costs a third of a second
    from botocore.config import Config  # noqa: PLC0415 -- part of boto3

    endpoint, access, secret = storage_access().values()
    return boto3.client(
        "s3",
        endpoint_url=public_endpoint or endpoint,
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
