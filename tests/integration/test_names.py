"""Names that people use, by every way in; the object is read, however its name is written."""

import io
import unicodedata
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from functions.api import specs
from functions.domain.states import State
from functions.launchers import launching
from functions.reconcile import sweeping
from functions.store import queries
from tests.conftest import BUCKET, NOW, api_headers, callback_headers

pytestmark = pytest.mark.usefixtures("sqlite", "no_trainer_left")
GOOD = {"framework": "stub", "model_name": "stub-1", "dataset_id": "digits", "hyperparameters": {"calls": False}}
METADATA = {"stoker-framework": "stub", "stoker-model": "stub-1", "stoker-hyperparameters": '{"calls": false}'}
NAMES = [
    "café", "cafe\u0301", "Zu\u0308rich", "हिन्दी", "ไทย น้ำ", "データ", "한국어", "cats (1)", "a&b", "my,data", "a'b",
    "[draft] v2", "50% off", "a#b?c=d", "$HOME $(JOB_ID) $$", "🐈 cats", "👨\u200d👩\u200d👧", "Screenshot 10.00\u202fAM", "a;b`c`", 'say "hi"', "{x}", "a+b=c@d~e!",
]  # fmt: skip
BAD = [
    "",
    "a/b",
    "..",
    "a..b",
    "a\\b",
    "a\nb",
    "a\0b",
    "a\x1b[2J",
    "a\u202eb",
    "a\u2028b",
    "a\u200bb",
    ".hidden",
    "-rf",
    " a",
    "ends.",
    "x" * 201,
]


def nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("name", NAMES)
def test_a_realistic_name_is_accepted_and_reaches_the_trainer(
    function: Callable[[str], Any], s3: Any, name: str
) -> None:
    s3.put_object(Bucket=BUCKET, Key=f"datasets/{nfc(name)}.zip", Body=b"x")
    response = function("create_job").post("/v1/jobs", json=GOOD | {"dataset_id": name}, headers=api_headers())
    assert response.status_code == 201, response.text
    assert response.json()["dataset_id"] == nfc(name)

    results = function("jobs").get("/v1/jobs", params={"dataset_id": name}, headers=api_headers()).json()["jobs"]
    assert [job["id"] for job in results] == [response.json()["id"]]
    job = queries.job(response.json()["id"])
    assert launching.environment(job, now=NOW)["DATASET_ID"] == nfc(name)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("field", ["dataset_id", "framework"])
def test_a_dangerous_name_is_refused_with_an_explanation(function: Callable[[str], Any], field: str, name: str) -> None:
    response = function("create_job").post("/v1/jobs", json=GOOD | {field: name}, headers=api_headers())

    assert response.status_code == 422
    assert response.json()["errors"] == [
        {
            "field": field,
            "detail": "use a name of 1 to 200 characters, without slashes, without .., backslashes or control characters, "
            "that does not begin with a dot, a dash or a space, or end with a dot",
        }
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_found_by_sweep", [False, True], ids=["notified", "swept"])
def test_an_upload_with_a_realistic_name_becomes_a_job_whose_trainer_can_download_it(
    function: Callable[[str], Any],
    s3: Any,
    now: datetime,
    name: str,
    is_found_by_sweep: bool,  # noqa: FBT001
) -> None:
    key = f"datasets/{name}.zip"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("name.txt", name)
    etag = s3.put_object(Bucket=BUCKET, Key=key, Body=content.getvalue(), Metadata=METADATA)["ETag"].strip('"')
    if is_found_by_sweep:
        sweeping.run(now=now + timedelta(minutes=5))
    else:
        detail = {"bucket": {"name": BUCKET}, "object": {"key": key, "etag": etag}}
        event = {"detail-type": "Object Created", "detail": detail}
        function("create_job").post("/", json=event, headers=api_headers("datasets:notify"))

    assert queries.rejected_events(after=0, limit=9)[0] == []
    (job,) = queries.jobs({}, cursor=None, limit=9)[0]
    assert job.dataset_id == nfc(name)
    # As a trainer does: request a link to datasets/$DATASET_ID.zip.
    wanted = {"method": "GET", "key": f"datasets/{launching.environment(job, now=NOW)['DATASET_ID']}.zip"}
    link = function("presign").post(f"/v1/jobs/{job.id}/presign", json=wanted, headers=callback_headers(job.id))
    assert link.status_code == 200, link.text
    assert httpx.get(link.json()["url"], timeout=60).content == content.getvalue()


def test_both_forms_of_a_name_are_one_dataset(s3: Any, now: datetime) -> None:
    for number, name in enumerate(("Zürich", "Zu\u0308rich")):
        key = f"datasets/{name}.zip"
        s3.put_object(Bucket=BUCKET, Key=key, Body=bytes([number]), Metadata=METADATA)
    sweeping.run(now=now + timedelta(minutes=5))

    jobs = queries.jobs({"dataset_id": "Zürich"}, cursor=None, limit=9)[0]
    assert len({launching.environment(job, now=NOW)["DATASET_ID"] for job in jobs}) == 2


@pytest.mark.parametrize(
    ("value", "model"),
    [
        ("=?UTF-8?Q?stub_=C3=A9?=", "stub é"),
        ("=?UTF-8?B?c3R1YiDDqQ==?=", "stub é"),
        ("stub Ã©", "stub é"),
        ("stub é", "stub é"),
        ("stub =?x", "stub =?x"),
        ("stub =?no-such-charset?Q?x?=", "stub =?no-such-charset?Q?x?="),
    ],
)
def test_metadata_with_non_ascii_characters_is_decoded(value: str, model: str) -> None:
    assert specs.from_upload("digits", {"stoker-framework": "stub", "stoker-model": value}).model_name == model


@pytest.mark.usefixtures("s3")
def test_a_trainer_may_store_files_with_realistic_names(function: Callable[[str], Any], a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    key = f"results/job-{job_id}/हिन्दी (1)/cafe\u0301 🐈.png"
    link = function("presign").post(
        f"/v1/jobs/{job_id}/presign", json={"method": "PUT", "key": key}, headers=callback_headers(job_id)
    )
    assert httpx.put(link.json()["url"], content=b"x", timeout=60).is_success

    listed = function("jobs").get(f"/v1/jobs/{job_id}/artifacts", headers=api_headers()).json()["artifacts"]
    assert [one["key"] for one in listed] == [key]
    assert httpx.get(listed[0]["url"], timeout=60).content == b"x"
