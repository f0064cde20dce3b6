"""Parses the records of uploaded objects, with one function for each storage.

Each function gets one message of its shape (see ``notifications``). It returns None if no object was created, and
raises ValueError, with the fix, if the message is invalid.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote_plus

import msgspec
from msgspec import Meta

from functions.domain import fields
from functions.domain.errors import Unusable
from functions.domain.fields import Model

_Name = Annotated[str, Meta(min_length=1, max_length=255)]
_Version = Annotated[str, Meta(max_length=1024)] | None
#: with ``s3:`` before it from MinIO; what MinIO files under creations beside them leaves the object as it was
_CREATED = re.compile(r"(s3:)?ObjectCreated:(?!Put(Tagging|Retention|LegalHold)|DeleteTagging)")
#: in the words of EventBridge and R2
_CREATING = ("PutObject", "POST Object", "CopyObject", "CompleteMultipartUpload")
_FILED = re.compile(r"/buckets/(?P<bucket>[^/]{1,255})/(?P<key>.+)\Z", re.DOTALL)
_IS_DIRECTORY = 1 << 31  # Go's fs.ModeDir


class Record(NamedTuple):
    """One object, as a storage names it."""

    bucket: str
    #: the possible keys, likeliest first: some servers percent-encode keys, others do not
    keys: tuple[str, ...]
    #: without quotes; "" where there is none
    etag: str
    #: "" where there is none
    version: str


class _Bucket(msgspec.Struct):
    name: _Name


class _Object(msgspec.Struct, rename="camel"):
    key: str
    e_tag: _Version = None
    version_id: _Version = None


class _S3(msgspec.Struct):
    bucket: _Bucket
    object: _Object


class _Record(msgspec.Struct, rename="camel"):
    s3: _S3
    event_source: str = "aws:s3"


def s3(payload: Mapping[str, Any]) -> Record | None:
    """Read one of the ``Records`` of AWS S3, MinIO, Ceph and compatible servers."""
    event = payload["eventName"]
    if not isinstance(event, str) or not _CREATED.match(event):
        return None
    record = _read(payload, _Record)
    uploaded = record.s3.object
    keys = (uploaded.key,) if record.event_source == "ceph:s3" else _decoded(uploaded.key)
    return Record(record.s3.bucket.name, keys, _bare(uploaded.e_tag), _bare(uploaded.version_id))


def _decoded(key: str) -> tuple[str, ...]:
    """Return a key decoded as a form's value, and as it was sent.

    AWS, MinIO and most others encode it; Ceph (its rgw_pubsub.cc) and versitygw do not.
    """
    try:
        decoded = unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return (key,)
    return (decoded,) if decoded == key else (decoded, key)


class _BridgedObject(msgspec.Struct, rename="kebab"):
    key: str
    etag: _Version = None
    version_id: _Version = None


class _Detail(msgspec.Struct):
    bucket: _Bucket
    object: _BridgedObject


def eventbridge(payload: Mapping[str, Any]) -> Record | None:
    """Read an event of EventBridge."""
    return _detailed(payload["detail"]) if payload["detail-type"] == "Object Created" else None


def eventbridge_detail(payload: Mapping[str, Any]) -> Record | None:
    """Read the detail alone, which AWS' template for CloudEvents makes their data."""
    return _detailed(payload) if payload["reason"] in _CREATING else None


def _detailed(payload: object) -> Record:
    detail = _read(payload, _Detail)
    return Record(detail.bucket.name, (detail.object.key,), _bare(detail.object.etag), _bare(detail.object.version_id))


class _R2(msgspec.Struct):
    bucket: _Name
    object: _Object


def r2(payload: Mapping[str, Any]) -> Record | None:
    """Read a message of Cloudflare R2."""
    if payload["action"] not in _CREATING:
        return None
    message = _read(payload, _R2)
    return Record(message.bucket, (message.object.key,), _bare(message.object.e_tag), "")


class _Chunk(msgspec.Struct):
    e_tag: bytes = b""


class _Attributes(msgspec.Struct):
    md5: bytes | None = None
    file_mode: int = 0


class _Entry(msgspec.Struct):
    name: str
    is_directory: bool = False
    chunks: list[_Chunk] = []
    attributes: _Attributes = msgspec.field(default_factory=_Attributes)
    extended: dict[str, bytes | None] = {}


class _Change(msgspec.Struct):
    new_entry: _Entry | None = None
    new_parent_path: str = ""


class _Filed(msgspec.Struct):
    key: str
    message: _Change


def seaweedfs(payload: Mapping[str, Any]) -> Record | None:
    """Read a filer's webhook: its new entry, regardless of the event's name (versions differ on update and rename)."""
    filed = _read(payload, _Filed)
    entry, parent = filed.message.new_entry, filed.message.new_parent_path
    if entry is None or entry.is_directory or entry.attributes.file_mode & _IS_DIRECTORY:
        return None
    place = _FILED.match(f"{parent}/{entry.name}" if parent else filed.key)
    # Parts of a running upload are files, too, and so are versions in a versioned bucket, which sweep lists.
    if place is None or place["key"].startswith(".uploads/") or ".versions/" in place["key"]:
        return None
    return Record(place["bucket"], (place["key"],), _bare(_filed_etag(entry)), "")


def _filed_etag(entry: _Entry) -> str:
    """Return the ETag that SeaweedFS' S3 gives (its filechunks.go)."""
    if recorded := entry.extended.get("Seaweed-X-Amz-ETag"):
        return recorded.decode()
    md5 = entry.attributes.md5
    digests = [md5] if md5 else [chunk.e_tag for chunk in entry.chunks]
    if len(digests) > 1:
        return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"
    return b"".join(digests).hex()


def _read(payload: object, model: type[Model]) -> Model:
    try:
        return fields.convert(payload, model)
    except Unusable as error:
        raise ValueError(str(error)) from error


def _bare(text: str | None) -> str:
    bare = (text or "").strip('"')
    return "" if bare == "null" else bare
