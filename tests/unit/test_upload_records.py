import json
from typing import Any

import pytest

from functions.domain.errors import Unusable
from functions.events import notifications
from functions.events.notifications import Rejected, Upload
from tests.unit.vendors import ETAG, FIXTURES, PLAIN, delivered, read, reason, record


@pytest.mark.parametrize(
    ("event", "uploads"),
    [
        ("ObjectCreated:Post", 1),
        ("ObjectCreated:Copy", 1),
        ("ObjectCreated:CompleteMultipartUpload", 1),
        ("s3:ObjectCreated:CompleteMultipartUpload", 1),
        ("s3:ObjectCreated:PutTagging", 0),
        ("s3:ObjectCreated:DeleteTagging", 0),
        ("s3:ObjectCreated:PutRetention", 0),
        ("s3:ObjectCreated:PutLegalHold", 0),
        ("ObjectRestore:Completed", 0),
        ("LifecycleExpiration:Delete", 0),
        ("s3:ObjectAccessed:Get", 0),
        ("ReducedRedundancyLostObject", 0),
    ],
)
def test_only_new_objects_are_uploads(event: str, uploads: int) -> None:
    assert len(read(record(eventName=event))) == uploads


@pytest.mark.parametrize("key", ["datasets/", "datasets/folder/", "checkpoints/job-1/last.pt", "logs/job-1/train.log"])
def test_folders_and_trainers_own_files_are_left_out(key: str) -> None:
    assert read(record(key=key)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"key": "elsewhere/a.zip"}, "not below datasets/"),
        ({"key": "upload/a.zip"}, "not below datasets/"),
        ({"key": "datasets/a.tar"}, "does not end with .zip"),
        ({"key": "datasets%2Fa%2Fb.zip"}, "in a folder below datasets/"),
        ({"key": 5}, "s3.object.key: use text"),
        ({"s3": {}}, "s3.bucket: it is missing"),
        ({"eTag": "x" * 1025}, "s3.object.eTag: use text of at most 1,024 characters"),
    ],
)
def test_a_rejection_names_what_is_wrong(changes: dict[str, Any], expected: str) -> None:
    assert expected in reason(*read(record(**changes)))


@pytest.mark.parametrize(
    ("etag", "version", "expected"),
    [
        ('"abc"', "v1", ("abc", "v1")),
        ("abc-12", None, ("abc-12", "")),
        ("", "null", ("", "")),
        (None, "v1", ("", "v1")),
    ],
)
def test_etag_and_version_are_read_without_quotes(etag: str | None, version: str, expected: tuple[str, str]) -> None:
    (upload,) = read(record(eTag=etag, versionId=version))

    assert isinstance(upload, Upload)
    assert (upload.etag, upload.version) == expected


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("datasets/a.zip", ("datasets/a.zip",)),
        ("datasets%2Fa%2Bb.zip", ("datasets/a+b.zip",)),
        ("datasets/a+b.zip", ("datasets/a b.zip", "datasets/a+b.zip")),
        ("datasets/a%20b.zip", ("datasets/a b.zip", "datasets/a%20b.zip")),
        ("datasets/100%.zip", ("datasets/100%.zip",)),
        ("datasets/%FF.zip", ("datasets/%FF.zip",)),
        ("datasets/a%2Fb.zip", ("datasets/a%2Fb.zip",)),
    ],
)
def test_a_key_that_may_be_encoded_or_not_is_read_both_ways(key: str, keys: tuple[str, ...]) -> None:
    (upload,) = read(record(key=key))

    assert isinstance(upload, Upload)
    assert upload.keys == keys


def test_ceph_sends_keys_as_they_are() -> None:
    (upload,) = read(record(key="datasets/a+b.zip", eventSource="ceph:s3"))

    assert isinstance(upload, Upload)
    assert upload.keys == ("datasets/a+b.zip",)


def seaweedfs(**changes: Any) -> list[Upload | Rejected]:
    """Read the captured webhook with changes to its new entry, or above that to the message."""
    webhook = json.loads(FIXTURES["seaweedfs_create"])
    for name, value in changes.items():
        part = webhook["message"] if name in webhook["message"] else webhook["message"]["new_entry"]
        part[name] = value
    return delivered(PLAIN, json.dumps(webhook).encode())


@pytest.mark.parametrize(
    ("changes", "etag"),
    [
        ({"extended": {}}, ETAG),
        ({"extended": {}, "attributes": {}}, ETAG),
        ({"extended": {}, "attributes": {"md5": None}, "chunks": [{"e_tag": "YQ=="}, {"e_tag": "Yg=="}]}, None),
    ],
)
def test_seaweedfs_etag_is_what_its_s3_lists(changes: dict[str, Any], etag: str | None) -> None:
    (upload,) = seaweedfs(**changes)

    assert isinstance(upload, Upload)
    assert upload.etag == (etag or "187ef4436122d1cc2f40dc2b92f0eba0-2")  # md5 of b"ab"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"extended": {"Seaweed-X-Amz-ETag": "/w=="}}, "can't decode byte"),
        ({"extended": {"Seaweed-X-Amz-ETag": "not base64"}}, "base64"),
        ({"new_parent_path": "/buckets/stoker/elsewhere"}, "not below datasets/"),
    ],
)
def test_seaweedfs_webhooks_that_cannot_be_used_are_rejected(changes: dict[str, Any], expected: str) -> None:
    assert expected in reason(*seaweedfs(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"new_parent_path": "/etc/seaweedfs"},
        {"new_parent_path": "/buckets", "name": "stoker"},
        {"new_parent_path": "/buckets/stoker/datasets/a.zip.versions", "name": "v_1"},
        {"attributes": {"file_mode": 0o20000000770}},
    ],
)
def test_seaweedfs_entries_that_are_not_objects_are_left_out(changes: dict[str, Any]) -> None:
    assert seaweedfs(**changes) == []


@pytest.mark.parametrize("name", ["a", "a b+ü", "a.b", "x" * 200, "数据"])
def test_a_dataset_is_named_by_its_key(name: str) -> None:
    assert notifications.dataset_id(f"datasets/{name}.zip") == name


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("", "not below datasets/"),
        ("a.zip", "not below datasets/"),
        ("/datasets/a.zip", "not below datasets/"),
        ("Datasets/a.zip", "not below datasets/"),
        ("datasets/a", ".zip in lower case"),
        ("datasets/a.ZIP", ".zip in lower case"),
        ("datasets/.zip", "1 to 200 characters"),
        ("datasets/" + "x" * 201 + ".zip", "1 to 200 characters"),
        ("datasets/a/b.zip", "folder"),
        ("datasets/../b.zip", "folder"),
        ("datasets/...zip", "without .."),
        ("datasets/a\\b.zip", "backslashes"),
        ("datasets/a\nb.zip", "control characters"),
        ("datasets/a\0b.zip", "control characters"),
        ("datasets/a\u202eb.zip", "control characters"),
    ],
)
def test_a_key_that_names_no_dataset_is_explained(key: str, expected: str) -> None:
    with pytest.raises(Unusable, match="is no dataset") as raised:
        notifications.dataset_id(key)

    assert expected in str(raised.value)
    assert str(raised.value).isprintable()
