"""Parses notifications of uploads from all supported storages, which are distinguished by their shape.

To add a storage: one line in ``_SHAPES``, and one function in ``upload_records``.
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, NamedTuple

from functions.domain import json_values, names
from functions.domain.errors import Unusable
from functions.events import cloudevents, upload_records
from functions.events.cloudevents import CloudEvent
from functions.events.upload_records import Record

_RECORDS_LIMIT = 1_000
#: characters
_REASON_LENGTH = 500
#: how often one message may be wrapped in another: CloudEvent, SQS' text, SNS, its text, Records and record are six
_DEPTH_LIMIT = 8
#: a trainer's own files, which some storages report too
_OUTPUT = re.compile(r"(checkpoints|results|logs)/job-")
#: a CloudEvent in structured mode, as the data of another; never a request for a job
_IS_EVENT = {"specversion", "type"}
#: types of IntegrationSource aws.s3, by version
_OBJECTS_THEMSELVES = {"dev.knative.eventing.aws-s3", "dev.knative.connector.event.aws-s3"}


class Upload(NamedTuple):
    """One object that was uploaded."""

    bucket: str
    #: its possible keys, likeliest first; the bucket shows which one exists
    keys: tuple[str, ...]
    #: of the bytes that were uploaded, without quotes; "" where a notification does not name it
    etag: str
    #: of the object, in a versioned bucket; "" where a notification does not name it
    version: str = ""


class Rejected(NamedTuple):
    """A record that can never become a job."""

    reason: str
    #: the key, if it could be read
    upload: Upload | None = None


Reading = Upload | Rejected
Reader = Callable[[Any, int], Iterable[Reading]]


def is_notification(value: object) -> bool:
    """Return whether JSON is a notification rather than an API request, by its top level; it may be a CloudEvent."""
    several = value[:_RECORDS_LIMIT] if isinstance(value, list) else [value]
    return any(isinstance(one, dict) and (one.keys() >= _IS_EVENT or _shape(one)) for one in several)


def read(messages: Iterable[object]) -> list[Reading]:
    """Return the uploads and rejections of each record, from CloudEvents or the JSON values of other notifications.

    Other events (a test, a deletion, a folder, a trainer's own output) are ignored.

    Raises:
        ValueError: there are too many records.
    """
    readings = list(islice(chain.from_iterable(_read_payload(message, 0) for message in messages), _RECORDS_LIMIT + 1))
    if len(readings) > _RECORDS_LIMIT:
        raise ValueError(f"send at most {_RECORDS_LIMIT} records at a time")
    return readings


def dataset_id(key: str) -> str:
    """Return the id in ``datasets/{dataset_id}.zip``, in one form of Unicode whatever the key's.

    Raises:
        Unusable: the key names no dataset; the message says what is wrong with it.
    """
    name = key.removeprefix("datasets/")
    stem = name.removesuffix(".zip")
    wrong = {
        "it is not below datasets/": name == key,
        "it does not end with .zip in lower case": stem == name,
        "it lies in a folder below datasets/": "/" in stem,
        f"use {names.NAME_RULES}": not names.is_name(names.normalised(stem)),
    }
    for reason, is_so in wrong.items():
        if is_so:
            raise Unusable(f"it is no dataset: {reason}; upload to datasets/<dataset_id>.zip")
    return names.normalised(stem)


def _read_payload(payload: Any, depth: int) -> Iterator[Reading]:
    """Yield the uploads in one message; an error becomes a rejection, and does not affect other messages."""
    try:
        yield from _opened(payload, depth)
    except ValueError as error:
        yield Rejected(str(error)[:_REASON_LENGTH])


def _opened(payload: Any, depth: int) -> Iterable[Reading]:
    if depth > _DEPTH_LIMIT:
        raise ValueError(f"it is wrapped more than {_DEPTH_LIMIT} times")
    match payload:
        case CloudEvent():
            return _cloud_event(payload, depth)
        case ValueError():
            raise payload
        case str() | bytes():
            return _read_payload(_unpacked(payload), depth + 1)
        case list():
            return _listed(payload, depth)
        case dict() if payload.keys() >= _IS_EVENT:
            return _read_payload(cloudevents.structured(payload), depth + 1)
        case dict() if (shape := _shape(payload)) is not None:
            return shape(payload, depth)
    raise ValueError("it has the shape of no upload notification that is known here")


def _shape(payload: Mapping[str, Any]) -> Reader | None:
    return next((reader for names, reader in _SHAPES if names <= payload.keys()), None)


def _cloud_event(event: CloudEvent, depth: int) -> Iterator[Reading]:
    if event.type in _OBJECTS_THEMSELVES:
        # Not parsed: it is the uploaded content, which could imitate a notification.
        raise ValueError(
            "IntegrationSource aws.s3 sends the object (and by default deletes it) but never its key: "
            "let the bucket notify a queue, and use IntegrationSource aws.sqs"
        )
    if isinstance(event.data, dict) and _shape(event.data) is None and not event.data.keys() >= _IS_EVENT:
        raise ValueError(
            f"a CloudEvent of type {event.type} is not an upload notification: filter it out in the Trigger"
        )
    yield from _read_payload(event.data, depth + 1)


def _listed(payload: Any, depth: int) -> Iterator[Reading]:
    if not isinstance(payload, list):
        raise ValueError("its records or messages must be a JSON array")  # noqa: TRY004 -- a stranger's value
    for one in payload:
        wrapped = one if isinstance(one, dict) else {}
        yield from _read_payload(wrapped.get("body") or wrapped.get("Sns") or one, depth + 1)


def _sns(payload: Mapping[str, Any], depth: int) -> Iterator[Reading]:
    if payload["Type"] != "Notification":
        raise ValueError(
            "SNS sent something else than a Notification: to confirm a subscription, open its SubscribeURL"
        )
    yield from _read_payload(payload.get("Message"), depth + 1)


def _unpacked(payload: str | bytes) -> object:
    try:
        return json_values.decode(payload)
    except ValueError:
        if isinstance(payload, bytes):
            raise
    try:  # Cloudflare's queues hand JSON on in base64
        return json_values.decode(base64.b64decode(payload, validate=True))
    except ValueError as error:
        raise ValueError("its body is neither JSON nor JSON in base64") from error


def _record(read_record: Callable[[Mapping[str, Any]], Record | None]) -> Reader:
    def read_one(payload: Mapping[str, Any], _depth: int) -> Iterator[Reading]:
        record = read_record(payload)
        if record is not None and not record.keys[0].endswith("/") and not _OUTPUT.match(record.keys[0]):
            yield _upload(record)

    return read_one


def _upload(record: Record) -> Reading:
    """Return the upload of a record, with those of its keys that name a dataset."""
    usable, refused = [], []
    for key in record.keys:
        try:
            dataset_id(key)
        except Unusable as error:
            refused.append(error)
        else:
            usable.append(key)
    upload = Upload(record.bucket, tuple(usable) or record.keys, record.etag, record.version)
    if usable:
        return upload
    key = names.printable(record.keys[0]) or "an empty key"
    return Rejected(f"{key}: {refused[0]}"[:_REASON_LENGTH], upload)


#: the fields that the top level of a message must have, and the function that reads it; the first match is used
_SHAPES: tuple[tuple[frozenset[str], Reader], ...] = (
    # AWS S3, MinIO's webhook, Ceph; AWS Lambda's events of SQS and SNS
    (frozenset({"Records"}), lambda payload, depth: _listed(payload["Records"], depth)),
    # one of these, as the CloudEvents adapter for S3 has it
    (frozenset({"eventName", "s3"}), _record(upload_records.s3)),
    # what S3 sends when notifications are switched on
    (frozenset({"Service", "Event"}), lambda _said, _depth: ()),
    (frozenset({"Type", "MessageId"}), _sns),
    (frozenset({"detail-type", "detail"}), _record(upload_records.eventbridge)),
    (frozenset({"bucket", "object", "reason"}), _record(upload_records.eventbridge_detail)),
    (frozenset({"bucket", "object", "action"}), _record(upload_records.r2)),
    # Cloudflare's queues: the answer to a pull, and a batch as a Worker has it
    (frozenset({"success", "result"}), lambda payload, depth: _read_payload(payload["result"], depth + 1)),
    (frozenset({"messages"}), lambda payload, depth: _listed(payload["messages"], depth)),
    (frozenset({"event_type", "key", "message"}), _record(upload_records.seaweedfs)),
)
