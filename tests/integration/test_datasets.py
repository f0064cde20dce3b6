"""Datasets: their list, and uploads by links, at once, in parts, resumed and aborted."""

import unicodedata
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlmodel import select

from functions.domain.spec import Spec
from functions.domain.states import FINAL, State
from functions.events import intake
from functions.events.notifications import Upload
from functions.reconcile import retention, sweeping
from functions.runtime import datasets, storage
from functions.store import jobs, queries
from functions.store.session import read
from functions.store.tables import IgnoredUpload
from tests.conftest import BUCKET, NOW, api_headers, forget, seconds

pytestmark = pytest.mark.usefixtures("database_url", "s3", "no_trainer_left")

JOB = {"stoker-framework": "stub", "stoker-model": "stub-1", "stoker-hyperparameters": '{"calls": false}'}
SIZE = datasets.PART_BYTES + 1_000


@pytest.fixture
def client(function: Callable[[str], Any]) -> Any:
    return function("datasets")


@pytest.fixture
def begin(client: Any) -> Callable[..., Any]:
    def begin(name: str, size: int, scope: str = "datasets:write", **metadata: str) -> Any:
        body = {"bytes": size, "metadata": {key.replace("_", "-"): value for key, value in metadata.items()}}
        return client.post(f"/v1/datasets/{quote(name)}/uploads", json=body, headers=api_headers(scope))

    return begin


def notified(name: str, etag: str = "", now: datetime = NOW) -> None:
    intake.deliver([Upload(BUCKET, (f"datasets/{name}.zip",), etag)], b"", may_create=False, now=now)


def completion(etags: list[str]) -> str:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"


@pytest.mark.parametrize("name", ["cats", "cats (1) & 100%", "हिन्दी", "Zu\u0308rich"])
def test_a_small_dataset_is_one_put_whose_metadata_makes_its_job(begin: Any, name: str) -> None:
    response = begin(name, 4, **JOB, stoker_name="Nächte")
    links = response.json()
    stored = httpx.put(links["urls"][0], content=b"cats", headers=links["headers"], timeout=60)
    assert (response.status_code, stored.status_code, links["upload_id"]) == (201, 200, None)
    notified(links["key"].removeprefix("datasets/").removesuffix(".zip"))

    (job,) = queries.jobs({}, cursor=None, limit=9)[0]
    assert (job.name, job.owner, job.dataset_etag) == ("Nächte", "tester", stored.headers["ETag"].strip('"'))


def test_a_link_takes_only_as_many_bytes_as_it_was_made_for_and_its_own_metadata(begin: Any) -> None:
    links = begin("cats", 4, **JOB).json()
    url, headers = links["urls"][0], links["headers"]

    assert httpx.put(url, content=b"more than four", headers=headers, timeout=60).status_code == 403
    assert httpx.put(url, content=b"cats", headers=headers | {"x-amz-meta-stoker-owner": "eve"}).status_code == 403
    assert storage.head("datasets/cats.zip") is None


def test_a_large_dataset_is_uploaded_in_parts_and_resumed_with_new_links(begin: Any, client: Any) -> None:
    began = begin("cats", SIZE, **JOB)
    links = began.json()
    assert (len(links["urls"]), links["part_bytes"], links["headers"]) == (2, datasets.PART_BYTES, {})
    first = httpx.put(links["urls"][0], content=b"x" * datasets.PART_BYTES, timeout=60).headers["ETag"]
    resumed = client.get(began.headers["Location"], headers=api_headers("datasets:write")).json()

    assert resumed["parts"] == [{"number": 1, "bytes": datasets.PART_BYTES, "etag": first.strip('"')}]
    assert (resumed["upload_id"], resumed["key"], resumed["bytes"]) == (links["upload_id"], links["key"], SIZE)
    second = httpx.put(resumed["urls"][1], content=b"y" * 1_000, timeout=60).headers["ETag"]
    completed = httpx.post(resumed["complete_url"], content=completion([first, second]), timeout=60)
    assert completed.status_code == 200, completed.text
    notified("cats")
    (job,) = queries.jobs({}, cursor=None, limit=9)[0]
    assert (job.dataset_id, job.owner) == ("cats", "tester")
    ended = client.get(began.headers["Location"], headers=api_headers("datasets:write"))
    assert (ended.status_code, "completed or aborted" in ended.json()["detail"]) == (404, True)


def test_an_aborted_upload_no_longer_exists(begin: Any, client: Any) -> None:
    began = begin("cats", SIZE, job="none")
    assert httpx.delete(began.json()["abort_url"], timeout=60).status_code == 204
    assert client.get(began.headers["Location"], headers=api_headers("datasets:write")).status_code == 404


@pytest.mark.parametrize("upload_id", ["none", "LTE6eA", "é", "MTp"])
def test_an_unknown_upload_id_is_404(client: Any, upload_id: str) -> None:
    path = f"/v1/datasets/cats/uploads/{quote(upload_id)}"
    assert client.get(path, headers=api_headers("datasets:write")).status_code == 404


@pytest.mark.parametrize(
    ("name", "size", "metadata", "field"),
    [
        ("..", 1, {}, "name"),
        ("cats", 0, {}, "bytes"),
        ("cats", 2**41, {}, "bytes"),
        ("cats", 1, {"stoker-epoch": "3"}, "epoch"),
        ("cats", 1, {"stoker-epochs": "many"}, "epochs"),
        ("cats", 1, {"Stoker-Epochs": "1"}, "metadata"),
        ("cats", 1, {"stoker-notes": "x" * 1_990}, "metadata"),
    ],
    ids=str,
)
def test_an_upload_that_could_become_no_job_is_refused_at_once(
    client: Any, name: str, size: int, metadata: dict[str, str], field: str
) -> None:
    path = f"/v1/datasets/{name}/uploads" if name != ".." else "/v1/datasets/a..b/uploads"
    refused = client.post(path, json={"bytes": size, "metadata": JOB | metadata}, headers=api_headers("datasets:write"))

    assert refused.status_code == 422, refused.text
    assert [error["field"] for error in refused.json()["errors"]] == [field]


@pytest.mark.parametrize("scope", ["jobs:write", "jobs:read", "datasets:notify"])
def test_only_its_own_scope_allows_uploads(begin: Any, scope: str) -> None:
    assert begin("cats", 1, scope, **JOB).status_code == 403


def test_links_name_the_public_endpoint(begin: Any, s3_server: str, environment: pytest.MonkeyPatch) -> None:
    public = s3_server.replace("127.0.0.1", "localhost")
    environment.setenv("STORAGE_PUBLIC_ENDPOINT", public)
    forget()
    links = begin("cats", SIZE, job="none").json()

    assert all(url.startswith(f"{public}/") for url in [*links["urls"], links["complete_url"], links["abort_url"]])


def test_an_upload_with_job_none_makes_no_job_and_no_rejected_event_however_it_is_noticed(s3: Any, now: Any) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key="datasets/cats.zip", Body=b"cats", Metadata={"job": "none"})["ETag"]
    for _ in range(2):
        notified("cats", etag.strip('"'), now)
        sweeping.run(now=now + seconds(3600))
    s3.delete_object(Bucket=BUCKET, Key="datasets/cats.zip")
    notified("cats", etag.strip('"'), now)

    assert queries.jobs({}, cursor=None, limit=9)[0] == []
    assert queries.rejected_events(after=0, limit=9)[0] == []
    retention.run(now=now + seconds(8 * 24 * 3600 + 1))
    with read() as session:
        assert session.exec(select(IgnoredUpload)).all() == []


def test_datasets_are_listed_with_their_jobs_page_by_page(client: Any, s3: Any, a_job: Any) -> None:
    for key in ("a.zip", "b.zip", "Z\u00fcrich.zip", "notes.txt", "sub/c.zip", "c.zip"):
        s3.put_object(Bucket=BUCKET, Key=f"datasets/{key}", Body=key.encode())
    for state in (State.RUNNING, State.FAILED):
        a_job(state, dataset_id="b")
    pages: list[list[dict[str, Any]]] = []
    after: dict[str, str] = {}
    while True:
        page = client.get("/v1/datasets", params={"limit": 2, **after}, headers=api_headers("jobs:read")).json()
        pages.append(page["datasets"])
        if page["next_after"] is None:
            break
        after = {"after": page["next_after"]}
    listed = {dataset["name"]: dataset for page in pages for dataset in page}

    assert {name: dataset["jobs"] for name, dataset in listed.items()} == {"a": 0, "b": 2, "c": 0, "Zürich": 0}
    assert listed["a"]["bytes"] == len("a.zip")
    assert listed["a"]["key"] == "datasets/a.zip"
    assert listed["a"]["etag"] == s3.head_object(Bucket=BUCKET, Key="datasets/a.zip")["ETag"].strip('"')


@pytest.mark.parametrize(("size", "part"), [(1, 32), (32 * 1200, 32), (32 * 1200 + 1, 33), (5 * 1024**2, 4370)])
def test_parts_are_few_enough_whatever_the_size_in_mebibytes(size: int, part: int) -> None:
    upload = datasets.Upload(size * datasets.MEBIBYTE, "x")

    assert (upload.part_bytes, upload.parts <= datasets.PARTS) == (part * datasets.MEBIBYTE, True)
    assert datasets.Upload.of_token(upload.token) == upload


def test_a_dataset_has_the_versions_that_its_jobs_were_made_for(client: Any, a_job: Any, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="datasets/cats (1).zip", Body=b"four")
    s3.put_object(Bucket=BUCKET, Key="datasets/cats (1).zip.old", Body=b"another object")
    spec = Spec(framework="stub", model_name="stub-1", dataset_id="cats (1)")
    for number, etag in enumerate(["old", "old", "new", None]):
        now = NOW + seconds(number)
        last, _ = jobs.create(spec, identity=None, trace_id=f"{number:032x}", now=now, dataset_etag=etag)
    a_job(dataset_id="dogs")
    dataset = client.get(f"/v1/datasets/{quote('cats (1)')}", headers=api_headers("jobs:read")).json()

    assert (dataset["name"], dataset["bytes"], dataset["jobs"]) == ("cats (1)", 4, 4)
    versions = [(version["etag"], version["jobs"]) for version in dataset["versions"]]
    assert versions == [(None, 1), ("new", 1), ("old", 2)]
    assert dataset["versions"][0]["last_job_id"] == last.id


def test_a_dataset_is_found_by_its_name_in_either_form_of_unicode(client: Any, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="datasets/Zu\u0308rich.zip", Body=b"four")
    dataset = client.get(f"/v1/datasets/{quote('Zürich')}", headers=api_headers("datasets:write")).json()

    assert (dataset["name"], dataset["key"]) == ("Zürich", "datasets/Zu\u0308rich.zip")


def test_a_missing_dataset_is_named(client: Any) -> None:
    response = client.get("/v1/datasets/nobody", headers=api_headers("jobs:read"))

    assert (response.status_code, response.json()["detail"]) == (404, "there is no dataset 'nobody' in the bucket")


@pytest.mark.parametrize("key", ["cats (1)", "Zu\u0308rich"])
def test_a_dataset_is_deleted_and_the_jobs_that_used_it_stay(client: Any, s3: Any, a_job: Any, key: str) -> None:
    name = unicodedata.normalize("NFC", key)
    for other in (key, f"{key}.old", "dogs"):
        s3.put_object(Bucket=BUCKET, Key=f"datasets/{other}.zip", Body=b"four")
    ended = [a_job(state, dataset_id=name) for state in sorted(FINAL)]
    a_job(State.RUNNING, dataset_id="dogs")
    path, headers = f"/v1/datasets/{quote(name)}", api_headers("datasets:write")

    assert (client.delete(path, headers=headers).status_code, client.get(path, headers=headers).status_code) == (
        204,
        404,
    )
    assert client.delete(path, headers=headers).status_code == 404
    left = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, Prefix="datasets/")["Contents"]]
    assert left == sorted([f"datasets/{key}.old.zip", "datasets/dogs.zip"])
    assert [queries.job(job_id).dataset_id for job_id in ended] == [name] * len(ended)


@pytest.mark.parametrize("state", sorted(set(State) - FINAL))
def test_a_dataset_that_open_jobs_use_is_not_deleted_and_they_are_named(
    client: Any, s3: Any, a_job: Any, state: State
) -> None:
    s3.put_object(Bucket=BUCKET, Key="datasets/cats.zip", Body=b"four")
    users = [a_job(state, dataset_id="cats", now=NOW + seconds(number)) for number in range(2)]
    a_job(State.FAILED, dataset_id="cats")
    refused = client.delete("/v1/datasets/cats", headers=api_headers("datasets:write"))

    assert (refused.status_code, refused.json()["jobs"]) == (409, users)
    assert all(job_id in refused.json()["detail"] for job_id in users)
    assert storage.head("datasets/cats.zip") is not None


def test_a_refusal_names_some_of_very_many_jobs(client: Any, s3: Any, a_job: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="datasets/cats.zip", Body=b"four")
    for _ in range(25):
        a_job(dataset_id="cats")
    refused = client.delete("/v1/datasets/cats", headers=api_headers("datasets:write")).json()

    assert (len(refused["jobs"]), refused["detail"].count("…")) == (20, 1)


@pytest.mark.parametrize("scope", ["jobs:write", "jobs:read", "datasets:notify"])
def test_only_its_own_scope_deletes_a_dataset(client: Any, s3: Any, scope: str) -> None:
    s3.put_object(Bucket=BUCKET, Key="datasets/cats.zip", Body=b"four")

    assert client.delete("/v1/datasets/cats", headers=api_headers(scope)).status_code == 403
    assert storage.head("datasets/cats.zip") is not None
