import base64
import json

import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent as SdkEvent
from cloudevents.http import from_http
from hypothesis import given
from hypothesis import strategies as st

from functions.events import cloudevents
from functions.events.cloudevents import CloudEvent, Headers
from tests.unit.vendors import NO_DEADLINE

ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/here", "type": "a.b"}
BINARY = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=UTF-8"}
BATCHED = {"Content-Type": "application/cloudevents-batch+json"}


def parse(headers: Headers, body: bytes) -> list[CloudEvent]:
    """Return the events of a delivery; the first unusable one is raised."""
    events: list[CloudEvent] = []
    for event in cloudevents.parse_each(headers, body):
        if isinstance(event, ValueError):
            raise event
        events.append(event)
    return events


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"ce-specversion": "1.0"}, True),
        ({"CE-Type": "a.b"}, True),
        ({"content-type": "application/cloudevents+json"}, True),
        ({"Content-Type": "Application/CloudEvents-Batch+JSON; charset=utf-8"}, True),
        ({"Content-Type": "application/cloudevents+xml"}, True),
        ({"Content-Type": "application/json"}, False),
        ({"Idempotency-Key": "1"}, False),
        ({}, False),
    ],
)
def test_an_event_is_recognized_by_its_headers(headers: dict[str, str], expected: bool) -> None:  # noqa: FBT001
    assert cloudevents.is_event(headers) is expected


@pytest.mark.parametrize(
    ("content_type", "body", "data"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("application/vnd.any+json; charset=utf-8", b"[1]", [1]),
        ("text/plain", b'{"a": 1}', {"a": 1}),
        ("text/plain", b"Hello from AWS SQS!", b"Hello from AWS SQS!"),
        ("", b"\xff", b"\xff"),
        ("application/json", b"", None),
    ],
)
def test_binary_mode_decodes_data_that_is_json(content_type: str, body: bytes, data: object) -> None:
    headers = {**BINARY, "Ce-Subject": "job", "Content-Type": content_type, "ce-extra": "x"}

    assert parse(headers, body) == [CloudEvent("1", "/here", "a.b", "job", data)]


@pytest.mark.parametrize(
    "subject",
    [
        "a%20b%C3%BC%E2%82%AC.zip",  # as the HTTP binding specifies
        "a bü€.zip".encode().decode("latin-1"),  # as Ceph sends it, and WSGI passes it on
        "a bü€.zip",
    ],
)
def test_headers_are_decoded_whatever_their_encoding(subject: str) -> None:
    assert parse({**BINARY, "ce-subject": subject}, b"")[0].subject == "a bü€.zip"


@pytest.mark.parametrize(
    ("more", "data"),
    [
        ({"data": {"a": 1}}, {"a": 1}),
        ({"data": "text", "datacontenttype": "text/plain"}, "text"),
        ({"data": None, "subject": None}, None),
        ({"data_base64": base64.b64encode(b'{"a": 1}').decode()}, {"a": 1}),
        ({"data_base64": "/w==", "datacontenttype": "application/zip"}, b"\xff"),
    ],
)
def test_structured_mode_has_data_in_json_or_base64(more: dict[str, object], data: object) -> None:
    body = json.dumps({**ATTRIBUTES, **more}).encode()

    assert parse(STRUCTURED, body) == [CloudEvent("1", "/here", "a.b", "", data)]


def test_a_batch_is_any_number_of_events() -> None:
    batch = [{**ATTRIBUTES, "id": str(number)} for number in range(3)]

    assert [event.id for event in parse(BATCHED, json.dumps(batch).encode())] == ["0", "1", "2"]
    assert parse(BATCHED, b"[]") == []


def test_a_bad_event_of_a_batch_does_not_affect_the_others() -> None:
    body = json.dumps([ATTRIBUTES, 5, {**ATTRIBUTES, "id": "2"}]).encode()

    first, bad, last = cloudevents.parse_each(BATCHED, body)

    assert isinstance(first, CloudEvent)
    assert isinstance(bad, ValueError)
    assert isinstance(last, CloudEvent)
    with pytest.raises(ValueError, match="CloudEvent cannot be used"):
        parse(BATCHED, body)


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({"ce-specversion": "1.0"}, b"", "id: it is missing; use text of 1 to 1,024 characters.*ce-id"),
        ({**BINARY, "ce-specversion": "0.3"}, b"", "specversion"),
        ({**BINARY, "ce-type": ""}, b"", "type: it is missing"),
        ({**BINARY, "ce-id": "x" * 1025}, b"", "id: use text of 1 to 1,024 characters"),
        ({**BINARY, "ce-source": "a%00b"}, b"", "source: use text"),
        (
            {**BINARY, "content-type": "application/json"},
            b"{",
            "data of type 'application/json' cannot be read: it is not JSON",
        ),
        (STRUCTURED, b"", "a CloudEvent in structured mode cannot be read: it is not JSON in UTF-8"),
        (STRUCTURED, b"[" * 100_000, "nested deeper than 32 levels"),
        (STRUCTURED, b"[]", "body: use a JSON object"),
        (STRUCTURED, json.dumps({**ATTRIBUTES, "id": 1}).encode(), "id: use text of 1 to 1,024 characters"),
        (STRUCTURED, json.dumps({**ATTRIBUTES, "data_base64": "!"}).encode(), "data_base64"),
        (BATCHED, b"{}", "a JSON array"),
        ({"Content-Type": "application/cloudevents+xml"}, b"<a/>", r"send application/cloudevents\+json"),
    ],
)
def test_the_error_names_what_cannot_be_used(headers: dict[str, str], body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(headers, body)


def test_events_of_the_sdk_are_understood() -> None:
    event = SdkEvent({**ATTRIBUTES, "subject": "job"}, {"ü": [1.5, None]})

    for headers, body in (to_binary(event), to_structured(event)):
        assert parse(headers, body) == [CloudEvent("1", "/here", "a.b", "job", {"ü": [1.5, None]})]


def outgoing() -> dict[str, str]:
    return cloudevents.outgoing_headers(
        type_="dev.stoker.job.running",
        id_="job-1.7",
        subject="job-1",
        now="2026-11-24T00:00:00Z",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        sequence="0000000007",
    )


def test_the_sdk_understands_what_we_send() -> None:
    event = from_http(outgoing(), json.dumps({"id": "job-1", "message": "ü"}).encode())

    assert event.get_data() == {"id": "job-1", "message": "ü"}
    assert {name: event[name] for name in ("id", "source", "type", "subject", "time", "sequence")} == {
        "id": "job-1.7",
        "source": "/stoker",
        "type": "dev.stoker.job.running",
        "subject": "job-1",
        "time": "2026-11-24T00:00:00Z",
        "sequence": "0000000007",
    }


def test_the_trace_is_sent_as_header_and_as_attribute() -> None:
    headers = outgoing()

    version, trace_id, span_id, flags = headers["traceparent"].split("-")

    assert headers["ce-traceparent"] == headers["traceparent"]
    assert (version, trace_id, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert len(bytes.fromhex(span_id)) == 8


def test_an_event_delivered_again_is_the_same_bytes() -> None:
    assert outgoing() == outgoing()


def test_no_value_can_break_out_of_its_header() -> None:
    headers = cloudevents.outgoing_headers(type_="a", id_="x\r\nevil: 1 %ü", subject="j", now="t", trace_id="0" * 32)

    assert headers["ce-id"] == "x%0D%0Aevil:%201%20%25%C3%BC"
    assert parse({**headers, "ce-id": "100%25"}, b"{}")[0].id == "100%"


@NO_DEADLINE
@given(
    st.dictionaries(st.sampled_from([*BINARY, "ce-subject", "content-type"]), st.text(max_size=20))
    | st.sampled_from([STRUCTURED, BATCHED, BINARY]),
    st.binary(max_size=100) | st.recursive(st.none() | st.text(), st.lists).map(lambda it: json.dumps(it).encode()),
)
def test_any_delivery_is_read_or_refused(headers: dict[str, str], body: bytes) -> None:
    refusal = ""
    try:
        events = parse(headers, body)
    except ValueError as error:
        events, refusal = [], str(error)

    assert all(isinstance(event, CloudEvent) for event in events)
    assert events or refusal or body == b"[]"
