import base64
import copy
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.domain import json_values
from functions.events import cloudevents, notifications
from functions.events.notifications import Rejected, Upload
from tests.unit.vendors import (
    CEPH,
    ETAG,
    FIXTURES,
    KEY,
    NO_DEADLINE,
    PLAIN,
    S3,
    SQS,
    STRUCTURED,
    delivered,
    read,
    reason,
    record,
)

UPLOADS = [
    ("aws_put", PLAIN),
    ("aws_put", SQS),
    ("aws_cloudevent", STRUCTURED),
    ("sns_notification", {"Content-Type": "text/plain; charset=UTF-8"}),
    ("sns_notification", SQS),
    ("sqs_lambda", PLAIN),
    ("eventbridge_created", PLAIN),
    ("eventbridge_created", SQS),
    ("eventbridge_cloudevent", STRUCTURED),
    ("minio_put", PLAIN),
    ("ceph_put", PLAIN),
    ("ceph_put", CEPH),
    ("r2_put", PLAIN),
    ("r2_pull", PLAIN),
    ("r2_batch", PLAIN),
    ("seaweedfs_create", PLAIN),
    ("seaweedfs_update", PLAIN),
    ("seaweedfs_rename", PLAIN),
]
OTHERS = [
    "aws_delete",
    "aws_test",
    "eventbridge_deleted",
    "minio_delete",
    "r2_delete",
    "seaweedfs_delete",
    "seaweedfs_directory",
    "seaweedfs_part",
]


@pytest.mark.parametrize(("name", "headers"), UPLOADS)
def test_an_upload_is_the_same_in_every_vendors_format(name: str, headers: dict[str, str]) -> None:
    (upload,) = delivered(headers, FIXTURES[name])

    assert isinstance(upload, Upload)
    assert (upload.bucket, upload.keys[0], upload.etag) == ("stoker", KEY, ETAG)
    assert cloudevents.is_event(headers) or notifications.is_notification(json_values.decode(FIXTURES[name]))


@pytest.mark.parametrize("name", OTHERS)
def test_other_events_are_left_out(name: str) -> None:
    assert delivered(PLAIN, FIXTURES[name]) == []
    assert notifications.is_notification(json_values.decode(FIXTURES[name]))


def test_every_fixture_is_tested() -> None:
    assert {name for name, _ in UPLOADS} | {*OTHERS, "sns_subscription"} == FIXTURES.keys()


def test_a_bad_record_does_not_affect_the_others() -> None:
    first, bad, worse, last = read(record(), record(key=None), 5, record(eTag='"2"'))

    assert isinstance(first, Upload)
    assert isinstance(bad, Rejected)
    assert isinstance(worse, Rejected)
    assert isinstance(last, Upload)
    assert last.etag == "2"


def test_a_bad_event_of_a_batch_does_not_affect_the_others() -> None:
    event = json.loads(FIXTURES["aws_cloudevent"])
    body = json.dumps([event, {**event, "id": 1}, event]).encode()

    first, bad, last = delivered({"Content-Type": "application/cloudevents-batch+json"}, body)

    assert first == last
    assert isinstance(first, Upload)
    assert "id: use text" in reason(bad)


def test_a_thousand_records_are_read_and_more_are_refused() -> None:
    assert len(read(*[record()] * 1_000)) == 1_000
    with pytest.raises(ValueError, match="at most 1000 records"):
        read(*[5] * 1_001)


def test_the_integration_source_that_sends_objects_is_explained_and_not_looked_into() -> None:
    assert "use IntegrationSource aws.sqs" in reason(*delivered(S3, FIXTURES["aws_put"]))


def test_an_event_of_something_else_is_rejected_by_its_type() -> None:
    headers = {**SQS, "ce-type": "dev.stoker.job.succeeded"}

    assert "dev.stoker.job.succeeded" in reason(*delivered(headers, b'{"id": "1"}'))


@pytest.mark.parametrize("body", [b"", b"Hello from AWS SQS!", b"\xff"])
def test_a_queue_message_of_something_else_is_rejected(body: bytes) -> None:
    assert reason(*delivered(SQS, body))


def test_an_sns_subscription_is_left_to_a_human() -> None:
    assert "SubscribeURL" in reason(*delivered(PLAIN, FIXTURES["sns_subscription"]))


def test_a_worker_may_send_a_plain_list() -> None:
    message = json.loads(FIXTURES["r2_put"])
    body = json.dumps([message, message]).encode()

    assert notifications.is_notification(json_values.decode(body))
    assert len(delivered(PLAIN, body)) == 2


def test_pulled_messages_may_be_plain_text_too() -> None:
    body = json.dumps({"messages": [{"body": FIXTURES["r2_put"].decode()}, {"body": "Hello"}]}).encode()

    upload, other = delivered(PLAIN, body)

    assert isinstance(upload, Upload)
    assert "neither JSON nor JSON in base64" in reason(other)


def test_the_depth_of_wrapping_is_limited() -> None:
    body = FIXTURES["aws_put"]
    for _ in range(10):
        body = json.dumps({"messages": [{"body": base64.b64encode(body).decode()}]}).encode()

    assert "wrapped more than" in reason(*delivered(PLAIN, body))


@pytest.mark.parametrize(
    "body",
    [
        b"5",
        b'"Records"',
        b"[]",
        b"{}",
        b'{"framework": "timm", "model_name": "resnet18", "dataset_id": "a"}',
        b'{"Event": "s3:TestEvent"}',
    ],
)
def test_a_call_of_the_api_is_no_notification(body: bytes) -> None:
    assert not notifications.is_notification(json_values.decode(body))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"Records": NaN}'])
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="not JSON in UTF-8"):
        delivered(PLAIN, body)


def test_a_body_that_is_nested_too_deep_is_refused() -> None:
    for depth in (33, 100_000):
        with pytest.raises(ValueError, match="nested deeper than 32 levels"):
            delivered(PLAIN, b"[" * depth + b"]" * depth)


def check(headers: dict[str, str], body: bytes) -> None:
    try:
        results = delivered(headers, body)
    except ValueError as error:
        results = [Rejected(str(error))]
    for one in results:
        if isinstance(one, Rejected):
            assert 0 < len(one.reason) <= 500
            assert one.reason.isprintable()
        else:
            assert all(notifications.dataset_id(key) for key in one.keys)
            assert one.keys
            assert one.bucket


@NO_DEADLINE
@given(st.sampled_from([PLAIN, SQS, S3, CEPH, STRUCTURED]), st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(headers: dict[str, str], body: bytes) -> None:
    check(headers, body)


@pytest.mark.parametrize(
    "shape",
    [
        '{"eventName": %s, "s3": {}}',
        '{"Type": %s, "MessageId": "1"}',
        '{"detail-type": %s, "detail": {}}',
        '{"bucket": "b", "object": {}, "reason": %s}',
        '{"bucket": "b", "object": {}, "action": %s}',
        '{"event_type": "create", "key": %s, "message": {}}',
        '{"messages": [{"body": %s}]}',
    ],
)
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_nesting_is_no_deeper_than_python_can_go(shape: str, brackets: tuple[str, str]) -> None:
    """A value that can be decoded may still be too deep for later code; how deep depends on the caller's stack."""
    opening, closing = brackets
    for depth in range(1, sys.getrecursionlimit() + 1):
        check(PLAIN, (shape % (opening * depth + "1" + closing * depth)).encode())


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "\u202e", "\x1b[2J"])
@pytest.mark.parametrize("name", ["Type", "Message"])
def test_a_reason_can_be_printed(name: str, text: str) -> None:
    body = {**json.loads(FIXTURES["sns_notification"]), name: text}

    assert reason(*delivered(PLAIN, json.dumps(body).encode())).isprintable()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    results = [path] if path else []
    for name, part in inside:
        results += places(part, (*path, name))
    return results


MUTABLE = {name: (json.loads(body), places(json.loads(body))) for name, body in FIXTURES.items()}


@NO_DEADLINE
@given(st.data())
def test_any_change_to_a_notification_is_read_or_refused(data: st.DataObject) -> None:
    whole, paths = MUTABLE[data.draw(st.sampled_from(sorted(MUTABLE)))]
    changed = copy.deepcopy(whole)
    *above, last = data.draw(st.sampled_from(paths))
    part: Any = changed
    for name in above:
        part = part[name]
    if data.draw(st.booleans()):
        part[last] = data.draw(ANYTHING)
    else:
        del part[last]

    for headers in (PLAIN, SQS, STRUCTURED):
        check(headers, json.dumps(changed).encode("utf-8", "surrogatepass"))
