"""heartbeat, event, done and presign, through functions-framework as a trainer meets them."""

import json
from datetime import datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from functions.api import tokens
from functions.domain.errors import ConfigurationError
from functions.domain.states import FINAL, State
from functions.store import jobs, queries, upkeep
from tests.conftest import SECRET, api_headers, callback_headers, seconds

pytestmark = pytest.mark.usefixtures("sqlite")
BODIES = {"heartbeat": {"epoch": 1}, "event": {"type": "log"}, "done": {"status": "SUCCEEDED"}}
CALLBACKS = sorted(BODIES)


def post(client: Any, job_id: str, name: str, body: Any = None, **headers: str) -> Any:
    return client.post(
        f"/v1/jobs/{job_id}/{name}", json=body or BODIES[name], headers=callback_headers(job_id, **headers)
    )


def test_a_trainer_of_five_lines_works(function: Any, a_job: Any) -> None:
    job_id = a_job(State.QUEUED)

    assert (
        post(function("heartbeat"), job_id, "heartbeat", {"epoch": 1, "metrics": {"loss": 1}}).json()["state"]
        == "RUNNING"
    )
    assert post(function("done"), job_id, "done", {"status": "SUCCEEDED", "metrics": {"loss": 0.5}}).json() == {
        "state": "SUCCEEDED"
    }

    job = queries.job(job_id)
    assert (job.state, job.metrics, job.attempt) == ("SUCCEEDED", {"loss": 0.5}, 0)


def test_started_returns_the_attempt_and_a_repeated_call_the_same_one(function: Any, a_job: Any) -> None:
    job_id, client = a_job(State.QUEUED), function("event")
    first = {"ce-id": "1", "ce-source": "/t"}

    assert post(client, job_id, "event", {"type": "started"}, **first).json() == {"state": "RUNNING", "attempt": 1}
    assert post(client, job_id, "event", {"type": "started"}).json()["attempt"] == 2
    assert post(client, job_id, "event", {"type": "started"}, **first).json()["attempt"] == 1


def test_an_idempotency_key_repeats_the_first_outcome(function: Any, a_job: Any) -> None:
    job_id, client = a_job(State.RUNNING), function("done")
    key = {"Idempotency-Key": "only-once"}

    assert [post(client, job_id, "done", **key).status_code for _ in range(3)] == [200] * 3
    assert post(client, job_id, "done").status_code == 409


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_late_callback_gets_409_and_the_state(function: Any, a_job: Any, name: str) -> None:
    answer = post(function(name), a_job(State.CANCELLED), name)

    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["state"] == "CANCELLED"
    assert len(answer.json()["trace_id"]) == 32


@pytest.mark.parametrize("name", CALLBACKS)
def test_an_unknown_job_is_404(function: Any, name: str) -> None:
    assert post(function(name), "nobody", name).status_code == 404


def forged(job_id: str) -> dict[str, str]:
    claims = {
        "iss": "stoker",
        "aud": "callback",
        "job_id": job_id,
        "iat": tokens.now(),
        "exp": tokens.now() + timedelta(hours=1),
    }
    kid = {"kid": "test"}
    wrong = {
        "another job's": tokens.mint_callback("other", 3600, now=tokens.now()),
        "an API token": tokens.mint_api("me", "jobs:write", 3600, now=tokens.now()),
        "expired": tokens.mint_callback(job_id, 3600, now=tokens.now() - timedelta(days=2)),
        "of tomorrow": tokens.mint_callback(job_id, 3600, now=tokens.now() + timedelta(days=1)),
        "another secret": jwt.encode(claims, "x" * 32, "HS256", headers=kid),
        "another issuer": jwt.encode(claims | {"iss": "me"}, SECRET, "HS256", headers=kid),
        "unknown kid": jwt.encode(claims, SECRET, "HS256", headers={"kid": "old"}),
        "no kid": jwt.encode(claims, SECRET, "HS256"),
        "alg none": jwt.encode(claims, None, "none", headers=kid),
        "another algorithm": jwt.encode(claims, SECRET * 2, "HS512", headers=kid),
        "without an end": jwt.encode({k: v for k, v in claims.items() if k != "exp"}, SECRET, "HS256", headers=kid),
        "no token": "",
        "garbage": "a.b.c",
        "not even ASCII": "\u00e4.\u00f6.\u00fc",
    }
    return {name: f"Bearer {token}" for name, token in wrong.items()} | {
        "another scheme": "Basic " + tokens.mint_callback(job_id, 3600, now=tokens.now())
    }


@pytest.mark.parametrize("kind", sorted(forged("x")))
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_token_that_is_not_this_jobs_is_401_and_changes_nothing(
    function: Any, a_job: Any, name: str, kind: str
) -> None:
    job_id = a_job(State.RUNNING)
    before = queries.job(job_id)

    answer = function(name).post(
        f"/v1/jobs/{job_id}/{name}", json=BODIES[name], headers={"Authorization": forged(job_id)[kind]}
    )

    assert answer.status_code == 401
    assert SECRET not in answer.text
    assert queries.job(job_id) == before


@pytest.mark.parametrize(
    ("kind", "detail"),
    [
        ("expired", "the token has expired"),
        ("an API token", "the token has another audience: use the job's CALLBACK_TOKEN; an API token is for the API"),
    ],
)
def test_a_refusal_of_a_token_says_what_is_wrong_with_it(function: Any, a_job: Any, kind: str, detail: str) -> None:
    job_id = a_job(State.RUNNING)

    response = function("heartbeat").post(
        f"/v1/jobs/{job_id}/heartbeat", json={}, headers={"Authorization": forged(job_id)[kind]}
    )

    assert response.json()["detail"] == detail


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("heartbeat", {"epoch": -1}, "epoch"),
        ("heartbeat", {"epoch": 10**9}, "epoch"),
        ("heartbeat", {"epoch": "1"}, "epoch"),
        ("heartbeat", {"metrics": {"loss": "low"}}, "metrics"),
        ("heartbeat", {"speed": 3}, "speed"),
        ("heartbeat", [], "body"),
        ("event", {}, "type"),
        ("event", {"type": "exploded"}, "type"),
        ("event", {"type": "log", "message": "x" * 5000}, "message"),
        ("done", {}, "status"),
        ("done", {"status": "WON"}, "status"),
        ("done", {"status": "FAILED", "error": {"reason": "bad luck"}}, "error.reason"),
        ("done", {"status": "SUCCEEDED", "artifacts": [1]}, "artifacts[0]"),
    ],
)  # fmt: skip
def test_an_unusable_body_is_422_and_names_the_field(
    function: Any, a_job: Any, name: str, body: Any, field: str
) -> None:
    job_id = a_job(State.RUNNING)
    answer = function(name).post(f"/v1/jobs/{job_id}/{name}", json=body, headers=callback_headers(job_id))

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'{"metrics": {"loss": NaN}}', 422),
        (b'{"metrics": {"loss": Infinity}}', 422),
        (b'{"metrics": {"loss": 1e999}}', 422),
        (b'{"epoch": 1', 422),
        (b'{"epoch": 1} and more', 422),
        (b"\xff\xfe\x00", 422),
        (b'{"a": ' * 30_000, 413),
        (b"[" * 60_000, 422),
        (b'{"message": "' + b"x" * 10_000_000 + b'"}', 413),
    ],
)
def test_a_broken_or_oversized_body_is_refused(function: Any, a_job: Any, raw: bytes, status: int) -> None:
    job_id = a_job(State.RUNNING)
    answer = function("heartbeat").post(
        f"/v1/jobs/{job_id}/heartbeat",
        content=raw,
        headers={"Content-Type": "application/json", **callback_headers(job_id)},
    )

    assert answer.status_code == status
    assert json.loads(answer.text)["detail"]


def test_another_content_type_is_415(function: Any, a_job: Any) -> None:
    job_id = a_job(State.RUNNING)
    answer = function("heartbeat").post(
        f"/v1/jobs/{job_id}/heartbeat", data={"epoch": 1}, headers=callback_headers(job_id)
    )
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "path", ["/v1/jobs/../done", "/v1/jobs/a/b/done", "/v1/jobs/%2e%2e/done", "/v1/jobs/a%00b/done", "/etc/passwd"]
)
def test_an_odd_path_is_404(function: Any, path: str) -> None:
    assert function("done").post(path, json=BODIES["done"], headers=callback_headers("x")).status_code == 404


def test_another_method_is_405_and_health_is_open(function: Any, a_job: Any) -> None:
    client = function("done")
    assert client.get(f"/v1/jobs/{a_job()}/done").status_code == 405
    assert client.get("/healthz").text == "ok\n"


def test_a_token_is_renewed_only_past_its_half(function: Any, a_job: Any) -> None:
    job_id, client = a_job(State.RUNNING), function("heartbeat")
    aged = tokens.mint_callback(job_id, 6 * 3600, now=tokens.now() - timedelta(hours=4))
    assert "token" not in post(client, job_id, "heartbeat").json()

    fresh = client.post(f"/v1/jobs/{job_id}/heartbeat", json={}, headers={"Authorization": f"Bearer {aged}"}).json()[
        "token"
    ]

    assert (
        client.post(f"/v1/jobs/{job_id}/heartbeat", json={}, headers={"Authorization": f"Bearer {fresh}"}).status_code
        == 200
    )


def test_a_token_of_a_replica_whose_clock_is_ahead_is_good(function: Any, a_job: Any) -> None:
    job_id, client = a_job(State.RUNNING), function("heartbeat")
    ahead = tokens.mint_callback(job_id, 6 * 3600, now=tokens.now() + timedelta(minutes=20))
    headers = {"Authorization": f"Bearer {ahead}"}

    assert client.post(f"/v1/jobs/{job_id}/heartbeat", json={}, headers=headers).status_code == 200


def test_a_started_that_comes_after_the_next_launch_claims_nothing(function: Any, a_job: Any) -> None:
    job_id, client, now = a_job(State.RUNNING, attempt_limit=2), function("event"), tokens.now()

    def start(launch: int) -> Any:
        return client.post(f"/v1/jobs/{job_id}/event", json={"type": "started"}, headers=of_launch(job_id, launch))

    assert start(1).json()["attempt"] == 2
    upkeep.relaunch(queries.job(job_id), "its trainer is gone", now=now)
    assert start(2).json()["attempt"] == 3
    late = start(1)

    assert (late.status_code, late.json()["state"]) == (409, State.RUNNING)
    assert "launch 1 has been replaced by launch 2" in late.json()["detail"]
    assert queries.job(job_id).attempt == 3


def of_launch(job_id: str, launch: int) -> dict[str, str]:
    """Return the headers of the trainer that one launch has started."""
    token = tokens.mint_callback(job_id, 3600, now=tokens.now(), launch=launch)
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize("name", [*CALLBACKS, "presign"])
def test_a_launch_that_was_replaced_is_refused_before_the_new_one_has_called_back(
    function: Any, a_job: Any, name: str
) -> None:
    job_id = a_job(State.RUNNING, attempt_limit=2)
    body = BODIES.get(name, {"method": "PUT", "key": f"checkpoints/job-{job_id}/last.pt"})
    upkeep.relaunch(queries.job(job_id), "its trainer is gone", now=tokens.now())
    before = queries.job(job_id)

    late = function(name).post(f"/v1/jobs/{job_id}/{name}", json=body, headers=of_launch(job_id, 1))
    assert (late.status_code, late.json()["state"]) == (409, State.RUNNING)
    assert "launch 1 has been replaced by launch 2" in late.json()["detail"]
    assert queries.job(job_id) == before

    current = function(name).post(f"/v1/jobs/{job_id}/{name}", json=body, headers=of_launch(job_id, 2))
    assert current.status_code == 200


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_job_that_has_ended_gets_no_link_but_to_complete_its_log(function: Any, a_job: Any, state: State) -> None:
    client = function("presign")

    def status(job_id: str, method: str, key: str) -> int:
        return int(post(client, job_id, "presign", {"method": method, "key": key}).status_code)

    just_now = a_job(state, now=tokens.now() - timedelta(seconds=500))
    assert status(just_now, "PUT", f"logs/job-{just_now}/attempt-1.log") == 200
    for method, key in [("PUT", f"checkpoints/job-{just_now}/best.pt"), ("PUT", f"results/job-{just_now}/metrics.csv"),
                        ("GET", f"logs/job-{just_now}/attempt-1.log"), ("GET", "datasets/digits.zip")]:  # fmt: skip
        assert status(just_now, method, key) == 409

    long_ago = a_job(state, now=tokens.now() - timedelta(seconds=700))
    refused = post(client, long_ago, "presign", {"method": "PUT", "key": f"logs/job-{long_ago}/attempt-1.log"})
    assert (refused.status_code, refused.json()["state"]) == (409, state)


def test_a_renewed_token_is_of_the_same_launch() -> None:
    old = tokens.now() - timedelta(hours=4)
    claims = {"job_id": "x", "iat": old.timestamp(), "exp": old.timestamp() + 6 * 3600, "launch": 2}
    fresh = tokens.renewed(claims, now=tokens.now())

    assert fresh is not None
    assert jwt.decode(fresh, options={"verify_signature": False})["launch"] == 2


def test_secrets_rotate_without_a_refusal(function: Any, a_job: Any, environment: pytest.MonkeyPatch) -> None:
    job_id, client = a_job(State.RUNNING), function("heartbeat")
    old = callback_headers(job_id)
    environment.setenv("JWT_SECRETS", f"new:{SECRET[::-1]},test:{SECRET}")
    new = callback_headers(job_id)
    assert [client.post(f"/v1/jobs/{job_id}/heartbeat", json={}, headers=one).status_code for one in (old, new)] == [
        200,
        200,
    ]

    environment.setenv("JWT_SECRETS", f"new:{SECRET[::-1]}")

    assert [client.post(f"/v1/jobs/{job_id}/heartbeat", json={}, headers=one).status_code for one in (old, new)] == [
        401,
        200,
    ]


@pytest.mark.parametrize("secrets", ["", "a:short", "a:" + "x" * 64, "nokid"])
def test_weak_or_missing_secrets_refuse_to_start(environment: pytest.MonkeyPatch, secrets: str) -> None:
    environment.setenv("JWT_SECRETS", secrets)
    with pytest.raises(ConfigurationError, match="32 random bytes"):
        tokens.keys()


def test_a_database_that_is_unreachable_or_has_no_tables_is_503_with_retry_after(
    function: Any, a_job: Any, environment: pytest.MonkeyPatch
) -> None:
    from tests.conftest import forget

    job_id = a_job(State.RUNNING)
    environment.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    forget()

    for name in CALLBACKS:
        answer = post(function(name), job_id, name)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_a_large_object_is_uploaded_in_parts_through_links(function: Any, a_job: Any, s3: Any) -> None:
    job_id, client = a_job(State.RUNNING), function("presign")
    key, parts = f"checkpoints/job-{job_id}/last.pt", [b"a" * (5 << 20), b"the end"]
    wanted = {"method": "PUT", "key": key, "parts": 2}

    first = post(client, job_id, "presign", wanted).json()
    links = post(client, job_id, "presign", wanted | {"upload_id": first["upload_id"]}).json()
    etags = [
        httpx.put(url, content=part, timeout=60).headers["etag"] for url, part in zip(links["urls"], parts, strict=True)
    ]
    listed = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in enumerate(etags, 1))
    xml = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
    assert httpx.post(links["complete_url"], content=xml, timeout=60).status_code == 200

    assert links["upload_id"] == first["upload_id"]
    assert s3.get_object(Bucket="stoker", Key=key)["Body"].read() == b"".join(parts)


def test_an_upload_in_parts_can_be_aborted(function: Any, a_job: Any, s3: Any) -> None:
    job_id = a_job(State.RUNNING)
    wanted = {"method": "PUT", "key": f"checkpoints/job-{job_id}/last.pt", "parts": 1}
    links = post(function("presign"), job_id, "presign", wanted).json()
    assert httpx.put(links["urls"][0], content=b"x", timeout=60).status_code == 200

    assert httpx.delete(links["abort_url"], timeout=60).status_code == 204

    assert not s3.list_multipart_uploads(Bucket="stoker").get("Uploads")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"method": "GET", "parts": 2}, "parts"),
        ({"method": "PUT", "parts": 0}, "parts"),
        ({"method": "PUT", "parts": 10_001}, "parts"),
        ({"method": "PUT", "upload_id": "u"}, "upload_id"),
    ],
)
def test_invalid_numbers_of_parts_are_refused(function: Any, a_job: Any, fields: dict[str, Any], field: str) -> None:
    job_id = a_job(State.RUNNING)
    body = {"key": f"checkpoints/job-{job_id}/last.pt", **fields}

    response = post(function("presign"), job_id, "presign", body)

    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)


def test_a_cancelled_job_can_be_downloaded_and_its_trainer_stores_the_last_checkpoint_only(
    function: Any, a_job: Any, s3: Any, now: datetime
) -> None:
    job_id, client = a_job(State.RUNNING), function("presign")
    s3.put_object(Bucket="stoker", Key=f"checkpoints/job-{job_id}/best.pt", Body=b"best")
    s3.put_object(Bucket="stoker", Key=f"results/job-{job_id}/metrics.csv", Body=b"1,2")
    jobs.move(job_id, State.CANCELLED, now=now)

    def status(method: str, key: str) -> int:
        return int(post(client, job_id, "presign", {"method": method, "key": key}).status_code)

    assert (
        status("PUT", f"checkpoints/job-{job_id}/last.pt") == status("PUT", f"logs/job-{job_id}/attempt-1.log") == 200
    )
    refused = [
        ("PUT", "checkpoints/job-{}/best.pt"),
        ("PUT", "results/job-{}/x"),
        ("GET", "checkpoints/job-{}/last.pt"),
    ]
    assert {status(method, key.format(job_id)) for method, key in refused} == {409}
    artifacts = function("jobs").get(f"/v1/jobs/{job_id}/artifacts", headers=api_headers()).json()["artifacts"]
    assert [httpx.get(artifact["url"]).content for artifact in artifacts] == [b"best", b"1,2"]


@pytest.mark.parametrize(("state", "age_seconds"), [(State.CANCELLED, 31), (State.SUCCEEDED, 0), (State.FAILED, 0)])
def test_no_checkpoint_is_stored_long_after_a_cancel_or_after_another_end(
    function: Any, a_job: Any, now: datetime, state: State, age_seconds: int
) -> None:
    job_id = a_job(state, now=now - seconds(age_seconds))
    body = {"method": "PUT", "key": f"checkpoints/job-{job_id}/last.pt"}

    assert post(function("presign"), job_id, "presign", body).status_code == 409


def test_presigned_links_are_of_the_jobs_own_objects_only(function: Any, a_job: Any, s3: Any) -> None:
    import urllib.request

    job_id, client = a_job(State.RUNNING), function("presign")
    s3.put_object(Bucket="stoker", Key="datasets/digits.zip", Body=b"zip")

    def status(method: str, key: str) -> int:
        return int(post(client, job_id, "presign", {"method": method, "key": key}).status_code)

    assert (
        status("PUT", f"checkpoints/job-{job_id}/last.pt") == status("GET", f"logs/job-{job_id}/attempt-1.log") == 200
    )
    assert status("GET", "models/yolo11n.pt") == status("GET", "datasets/digits.zip") == 200
    for method, key in [("PUT", "datasets/digits.zip"), ("GET", "datasets/other.zip"), ("GET", "checkpoints/job-other/best.pt"),
                        ("PUT", "models/yolo11n.pt"), ("PUT", f"checkpoints/job-{job_id}/../../datasets/x.zip")]:  # fmt: skip
        assert status(method, key) == 422
    link = post(client, job_id, "presign", {"method": "GET", "key": "datasets/digits.zip"}).json()["url"]
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == b"zip"
