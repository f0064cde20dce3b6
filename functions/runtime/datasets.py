"""Datasets in the bucket: their list, and presigned links for uploading one, at once or in parts.

An upload id is opaque to callers. It contains the size and the storage's own id, from which new links are created.
"""

import base64
import binascii
from collections.abc import Iterator
from datetime import datetime
from email.header import Header
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from functions.domain.errors import NotFound
from functions.runtime import storage
from functions.runtime.storage import LINK_SECONDS, bucket, public_s3, refusals, s3

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PREFIX = "datasets/"
#: prefix of the keys of datasets for a single prediction, if their metadata has ``temporary: true``
_OF_PREDICTIONS = f"{PREFIX}predict-"
MEBIBYTE = 1024 * 1024
#: an upload of more bytes than this has parts of this size, or larger ones so that there are at most PARTS
PART_BYTES, PARTS = 32 * MEBIBYTE, 1_200
#: S3's limit for all metadata of an object
METADATA_LIMIT_BYTES = 2_000


class StoredDataset(NamedTuple):
    """An object below ``datasets/``."""

    key: str
    size_bytes: int
    etag: str
    modified_at: datetime


def listed(*, after: str | None, limit: int) -> tuple[list[StoredDataset], str | None]:
    """Return a page of objects by key, and the key to continue from (None if no more follow).

    Raises:
        Busy, ConfigurationError: as ``storage.head``.
    """
    start = {"StartAfter": after} if after else {}
    with refusals():
        page: Any = s3().list_objects_v2(Bucket=bucket(), Prefix=PREFIX, MaxKeys=limit, **start)  # type: ignore[arg-type]
    objects = [
        StoredDataset(item["Key"], item["Size"], item["ETag"].strip('"'), item["LastModified"])
        for item in page.get("Contents", [])
    ]
    return objects, objects[-1].key if objects and page["IsTruncated"] else None


def stored_dataset(key: str) -> StoredDataset | None:
    """Return one object below ``datasets/``; None if it does not exist.

    Raises:
        Busy, ConfigurationError: as ``storage.head``.
    """
    with refusals():
        page: Any = s3().list_objects_v2(Bucket=bucket(), Prefix=key, MaxKeys=1)
    item = next(iter(page.get("Contents", [])), None)
    if item is None or item["Key"] != key:
        return None
    return StoredDataset(key, item["Size"], item["ETag"].strip('"'), item["LastModified"])


def temporary(*, after: datetime, before: datetime) -> Iterator[StoredDataset]:
    """Yield the datasets that were uploaded between two times for a single prediction, by their metadata.

    Raises:
        Busy, ConfigurationError: as ``storage.head``.
    """
    with refusals():
        pages = s3().get_paginator("list_objects_v2").paginate(Bucket=bucket(), Prefix=_OF_PREDICTIONS)
        items = [item for page in pages for item in page.get("Contents", []) if item["Key"].endswith(".zip")]
    for item in items:
        # Each costs a request, so those that are not temporary must not be requested for ever.
        stored = storage.head(item["Key"]) if after < item["LastModified"] < before else None
        if stored is not None and stored.metadata.get("temporary", "").lower() == "true":
            yield StoredDataset(item["Key"], item["Size"], stored.etag, item["LastModified"])


def delete(key: str) -> None:
    """Delete one object below ``datasets/``; deleting again changes nothing.

    Raises:
        Busy, ConfigurationError: as ``storage.head``.
    """
    with refusals():
        s3().delete_object(Bucket=bucket(), Key=key)


class Upload(NamedTuple):
    """An upload in parts."""

    size_bytes: int
    #: the storage's id
    id: str

    @property
    def part_bytes(self) -> int:
        """The size of each part but the last, a whole number of MiB."""
        return part_bytes(self.size_bytes)

    @property
    def parts(self) -> int:
        """The number of parts."""
        return -(-self.size_bytes // self.part_bytes)

    @property
    def token(self) -> str:
        """The id as callers get it."""
        return base64.urlsafe_b64encode(f"{self.size_bytes}:{self.id}".encode()).decode().rstrip("=")

    @classmethod
    def of_token(cls, token: str) -> "Upload":
        """Return the upload that a token names.

        Raises:
            NotFound: it names none.
        """
        try:
            padded = token + "=" * (-len(token) % 4)
            size, _, id_ = base64.b64decode(padded, altchars="-_", validate=True).decode().partition(":")
            upload = cls(int(size), id_)
        except (binascii.Error, ValueError):
            upload = cls(0, "")
        if not (upload.size_bytes > 0 and upload.id):
            raise NotFound("there is no such upload: use the upload_id of the response that began it")
        return upload


def part_bytes(size_bytes: int) -> int:
    """Return the size of the parts of an upload."""
    smallest = -(-size_bytes // PARTS)
    return max(PART_BYTES, -(-smallest // MEBIBYTE) * MEBIBYTE)


def headers_of(metadata: dict[str, str]) -> dict[str, str]:
    """Return the headers that store metadata with an object; text that is not ASCII is encoded by RFC 2047."""
    return {f"x-amz-meta-{name}": value for name, value in encoded(metadata).items()}


def encoded(metadata: dict[str, str]) -> dict[str, str]:
    """Return metadata with non-ASCII text encoded by RFC 2047."""
    return {
        name: value if value.isascii() else Header(value, "utf-8", maxlinelen=10_000).encode()
        for name, value in metadata.items()
    }


def put_link(key: str, size_bytes: int, metadata: dict[str, str]) -> str:
    """Return a link for one PUT of exactly this many bytes, with ``headers_of(metadata)``.

    Raises:
        ConfigurationError: no storage is set up.
    """
    request: dict[str, Any] = {"Bucket": bucket(), "Key": key, "ContentLength": size_bytes}
    signed = {**request, "Metadata": encoded(metadata)}
    return public_s3().generate_presigned_url("put_object", Params=signed, ExpiresIn=LINK_SECONDS)


def begin(key: str, size_bytes: int, metadata: dict[str, str]) -> Upload:
    """Begin an upload in parts.

    Raises:
        Busy, ConfigurationError: as ``storage.head``.
    """
    with refusals():
        begun = s3().create_multipart_upload(Bucket=bucket(), Key=key, Metadata=encoded(metadata))
    return Upload(size_bytes, begun["UploadId"])


class PartLinks(NamedTuple):
    """Links of an upload in parts: one for each part, one to complete it and one to abort it."""

    urls: list[str]
    complete_url: str
    abort_url: str


def part_links(key: str, upload: Upload) -> PartLinks:
    """Return the links of an upload; each part's is for exactly its number of bytes.

    Raises:
        ConfigurationError: no storage is set up.
    """
    client, named = public_s3(), {"Bucket": bucket(), "Key": key, "UploadId": upload.id}
    return PartLinks(
        [_part_link(client, named, number, upload) for number in range(1, upload.parts + 1)],
        _link(client, "complete_multipart_upload", named),
        _link(client, "abort_multipart_upload", named),
    )


def _part_link(client: "S3Client", named: dict[str, Any], number: int, upload: Upload) -> str:
    size = min(upload.part_bytes, upload.size_bytes - (number - 1) * upload.part_bytes)
    return _link(client, "upload_part", {**named, "PartNumber": number, "ContentLength": size})


def _link(client: "S3Client", action: str, parameters: dict[str, Any]) -> str:
    return client.generate_presigned_url(action, Params=parameters, ExpiresIn=LINK_SECONDS)


class StoredPart(msgspec.Struct):
    """A part that the storage has."""

    number: int
    bytes: int
    etag: str


def stored_parts(key: str, upload: Upload) -> list[StoredPart]:
    """Return the parts of an upload that the storage has.

    Raises:
        NotFound: the upload was completed or aborted, or never existed.
        Busy, ConfigurationError: as ``storage.head``.
    """
    from botocore.exceptions import ClientError  # noqa: PLC0415 -- boto3 costs a third of a second

    parts: list[StoredPart] = []
    with refusals():
        try:
            for page in s3().get_paginator("list_parts").paginate(Bucket=bucket(), Key=key, UploadId=upload.id):
                parts += [
                    StoredPart(part["PartNumber"], part["Size"], part["ETag"].strip('"'))
                    for part in page.get("Parts", [])
                ]
        except ClientError as error:
            if storage.status_of(error) != storage.NOT_FOUND:
                raise
            raise NotFound(f"there is no such upload of {key}: it was completed or aborted") from error
    return parts
