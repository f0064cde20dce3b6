"""Notifications as vendors send them, with their headers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from functions.domain import json_values
from functions.events import cloudevents, notifications
from functions.events.notifications import Rejected, Upload

#: for properties: on a busy machine any example can be slow
NO_DEADLINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

FIXTURES = {path.stem: path.read_bytes() for path in (Path(__file__).parent / "notifications").glob("*.json")}
KEY = "datasets/a b+ü.zip"
ETAG = "b567fcb68d8555227123ab87e255872e"
#: the bytes that were uploaded
CONTENT = b"x" * 10_000

SQS = {
    "ce-specversion": "1.0",
    "ce-id": "0A1B2C3D4E5F6A7-0000000000000001",
    "ce-type": "dev.knative.eventing.aws-sqs",
    "ce-source": "dev.knative.eventing.aws-sqs-source",
    "ce-subject": "aws-sqs-source",
}
S3 = {name: value.replace("sqs", "s3") for name, value in SQS.items()}
CEPH = {
    "ce-specversion": "1.0",
    "ce-id": "503a4c37-85eb-47cd-8681-2817e80b4281.5330.903595.14d2-zone1-zonegroup1",
    "ce-type": "com.amazonaws.ObjectCreated:Put",
    "ce-source": "ceph:s3.us-east-1.stoker",
    "ce-subject": KEY.encode().decode("latin-1"),
    "Content-Type": "application/json",
}
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
PLAIN = {"Content-Type": "application/json"}


def record(**changes: Any) -> dict[str, Any]:
    """Return an AWS record with changes to ``s3.object``, or to fields of the record itself."""
    result: dict[str, Any] = json.loads(FIXTURES["aws_put"])["Records"][0]
    for name, value in changes.items():
        part = result if name in result else result["s3"]["object"]
        part[name] = value
    return result


def delivered(headers: Mapping[str, str], body: bytes) -> list[Upload | Rejected]:
    """Return the uploads and rejections that create-job reads from a delivery."""
    is_event = cloudevents.is_event(headers)
    return notifications.read(cloudevents.parse_each(headers, body) if is_event else [json_values.decode(body)])


def read(*records: object) -> list[Upload | Rejected]:
    return notifications.read([{"Records": list(records)}])


def reason(*uploads: Upload | Rejected) -> str:
    (only,) = uploads
    assert isinstance(only, Rejected)
    return only.reason
