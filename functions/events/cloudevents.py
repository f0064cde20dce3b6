"""CloudEvents 1.0 over HTTP, in and out (CloudEvents HTTP protocol binding 1.0.2).

Not by the SDK's ``from_http``: it leaves percent-encoded headers as they are, takes broken JSON for text and attributes
of any type, and knows no batches.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import msgspec
from msgspec import Meta

from functions.domain import fields, json_values
from functions.domain.errors import Unusable

#: no control characters (CloudEvents 1.0 §3.1.1), and short enough for an index
_Attribute = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1024,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z",
        description="text of 1 to 1,024 characters, without control characters",
    ),
]
#: by name, in any case
Headers = Mapping[str, str]
#: events of one delivery
BATCH_LIMIT = 1_000
_MARKS = ("ce-specversion", "ce-type")
_FAMILY = "application/cloudevents"
_ATTRIBUTES = ("specversion", "id", "source", "type", "subject")


class CloudEvent(NamedTuple):
    """One event that came in, by the attributes that we look at."""

    id: str
    source: str
    type: str
    #: "" where there is none
    subject: str
    #: a JSON value; bytes where it is not JSON; None where there is none
    data: object


class _Envelope(msgspec.Struct):
    specversion: Literal["1.0"]
    id: _Attribute
    source: _Attribute
    type: _Attribute
    subject: _Attribute | None = None
    datacontenttype: str | None = None
    data: Any = None
    data_base64: bytes | None = None  # msgspec reads bytes from base64


def is_event(headers: Headers) -> bool:
    """Tell a delivery of CloudEvents, in any of the three modes, by its headers."""
    given = _lower_case(headers)
    return not given.keys().isdisjoint(_MARKS) or _media_type(given).startswith(_FAMILY)


def parse_each(headers: Headers, body: bytes) -> list[CloudEvent | ValueError]:
    """Return the events of a delivery: one in binary or structured mode, any number in batched mode.

    An unusable event is an error in its place, which names what to change, and harms no other of its batch.

    Raises:
        ValueError: the delivery as a whole cannot be used; the message names what to change.
    """
    given = _lower_case(headers)
    match _media_type(given):
        case "application/cloudevents-batch+json":
            return _batch(body)
        case "application/cloudevents+json":
            return [structured(_json(body, "a CloudEvent in structured mode"))]
        case other if other.startswith(_FAMILY):
            raise ValueError(f"CloudEvents as {other[:100]!r} are not known here: send application/cloudevents+json")
        case _:
            return [_binary(given, body)]


def as_json(headers: Headers, body: bytes) -> bytes:
    """Return a delivery in any of the three modes as JSON, one event or an array of them, to be the data of another."""
    given = _lower_case(headers)
    if _media_type(given).startswith(_FAMILY):
        return body
    event: dict[str, Any] = {
        name.removeprefix("ce-"): _attribute(value) for name, value in given.items() if name.startswith("ce-")
    }
    if given.get("content-type"):
        event["datacontenttype"] = given["content-type"]
    try:
        event["data"] = _json(body, "data")
    except ValueError:
        event["data_base64"] = body
    return msgspec.json.encode(event)


def outgoing_headers(
    *, type_: str, id_: str, subject: str, now: str, trace_id: str, **extensions: str
) -> dict[str, str]:
    """Return the headers of an event with a JSON body, in binary mode: the same for the same arguments.

    ``id_`` is the caller's, and the same at each delivery. The trace goes along as a header and as the Distributed
    Tracing extension.
    """
    span_id = hashlib.sha256(id_.encode()).hexdigest()[:16]
    traceparent = f"00-{trace_id}-{span_id}-01"
    attributes = {
        "specversion": "1.0",
        "id": id_,
        "source": "/stoker",
        "type": type_,
        "subject": subject,
        "time": now,
        "traceparent": traceparent,
        **extensions,
    }
    headers = {f"ce-{name}": _header_value(value) for name, value in attributes.items()}
    return headers | {"content-type": "application/json", "traceparent": traceparent}


def _lower_case(headers: Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _media_type(given: Mapping[str, str]) -> str:
    return _essence(given.get("content-type") or "")


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def structured(event: object) -> CloudEvent | ValueError:
    """Return the event that a JSON value is in structured mode; an unusable one is the error that says why."""
    try:
        return _event(fields.convert(event, _Envelope))
    except (ValueError, Unusable) as error:
        return ValueError(f"the CloudEvent cannot be used: {error}")


def _batch(body: bytes) -> list[CloudEvent | ValueError]:
    # Each event is decoded on its own: one that is nested too deep harms no other.
    try:
        batch = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (ValueError, RecursionError) as error:
        wanted = "a batch of CloudEvents is a JSON array: send one, or application/cloudevents+json"
        raise ValueError(f"{wanted} ({error})") from error
    if len(batch) > BATCH_LIMIT:
        raise ValueError(f"send at most {BATCH_LIMIT} events at a time")
    return [_in_batch(bytes(event)) for event in batch]


def _in_batch(event: bytes) -> CloudEvent | ValueError:
    try:
        return structured(_json(event, "a CloudEvent of the batch"))
    except ValueError as error:
        return error


def _binary(given: Mapping[str, str], body: bytes) -> CloudEvent | ValueError:
    attributes: dict[str, Any] = {
        name: _attribute(given[f"ce-{name}"]) for name in _ATTRIBUTES if given.get(f"ce-{name}")
    }
    envelope = attributes | {"datacontenttype": given.get("content-type"), "data_base64": body or None}
    try:
        return _event(fields.convert(envelope, _Envelope))
    except (ValueError, Unusable) as error:
        return ValueError(f"the CloudEvent cannot be used: {error} (its attributes are headers: ce-id, ce-type, ...)")


def _event(given: _Envelope) -> CloudEvent:
    data = given.data
    if given.data_base64 is not None:
        data = _data(given.data_base64, _essence(given.datacontenttype or ""))
    return CloudEvent(given.id, given.source, given.type, given.subject or "", data)


def _data(raw: bytes, media_type: str) -> object:
    """Return JSON where it is JSON, whatever it calls itself; the bytes where it never said that it was."""
    try:
        return _json(raw, f"data of type {media_type[:100]!r}")
    except ValueError:
        if media_type == "application/json" or media_type.endswith("+json"):
            raise
        return raw


def _json(raw: bytes, what: str) -> object:
    try:
        return json_values.decode(raw)
    except ValueError as error:
        raise ValueError(f"{what} cannot be read: {error}") from error


def _attribute(value: str) -> str:
    """Return a header's value as it was meant (§3.1.3.2: UTF-8, percent-encoded).

    WSGI hands bytes over as Latin-1, and some senders, Ceph among them, put UTF-8 into headers without encoding it.
    """
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "replace")
    return unquote_to_bytes(raw).decode("utf-8", "replace")


def _header_value(value: str) -> str:
    return quote(value, safe="!#$&'()*+,/:;<=>?@[\\]^`{|}~")
