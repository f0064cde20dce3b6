"""Each change of a job is one line of the log, once it has committed, and names who made it."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest

from functions.domain.errors import Busy, WrongState
from functions.domain.states import Reason, State
from functions.reconcile import sweeping
from functions.runtime import logs
from functions.runtime.settings import settings
from functions.store import jobs, outbox, queries, transitions
from functions.store.session import log_after_commit, write
from tests.conftest import api_headers, callback_headers, claim, forget, seconds

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Collect the lines that this process logs, access lines too."""
    output = io.StringIO()
    logger = logging.getLogger("stoker")
    handlers, level = logger.handlers[:], logger.level
    logger.handlers.clear()
    logs.start("json", "debug")
    (handler,) = logger.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(output)
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    logger.handlers[:] = handlers
    logger.setLevel(level)


def named(lines: Lines, message: str) -> dict[str, Any]:
    """Return the one line with this message."""
    (line,) = [line for line in lines() if line["message"].endswith(f"] {message}")]
    return line


@pytest.mark.usefixtures("database_url", "no_trainer_left")
def test_who_cancelled_a_job_is_in_the_log_the_timeline_and_the_event(
    function: Any, a_job: Any, lines: Lines, now: datetime
) -> None:
    job = queries.job(a_job(State.QUEUED, now=now))
    trace = "c" * 32
    headers = api_headers(subject="alice") | {"traceparent": f"00-{trace}-{'d' * 16}-01"}
    assert (
        function("cancel").post(f"/v1/jobs/{job.id}/cancel", headers=headers, json={"message": "wrong data"}).is_success
    )

    line = named(lines, "the job is CANCELLED")
    assert {
        "job_id": job.id,
        "trace_id": job.trace_id,
        "request_trace_id": trace,
        "state": "CANCELLED",
        "attempt": 0,
        "actor": "alice",
        "detail": "wrong data",
        "function": "cancel",
        "severity": "INFO",
    }.items() <= line.items()
    assert f"[TRACE:{job.trace_id}]" in line["message"]
    events, _ = queries.events(job.id, kind="state", after=0, limit=10)
    assert (events[-1].type, events[-1].actor) == ("CANCELLED", "alice")
    assert outbox.unsent(excluded_jobs=[], limit=10)[-1].data["actor"] == "alice"

    shown = function("jobs").get(f"/v1/jobs/{job.id}/events", headers=api_headers()).json()["events"]
    assert shown[-1]["actor"] == "alice"


@pytest.mark.usefixtures("sqlite", "no_trainer_left")
def test_the_way_of_a_job_that_fails_is_a_line_for_each_step(
    function: Any, a_job: Any, lines: Lines, now: datetime
) -> None:
    job_id = a_job(State.QUEUED, now=now)
    headers, error = callback_headers(job_id), {"reason": "oom_gpu", "message": "CUDA out of memory"}
    for target, body in [
        ("event", {"type": "started"}),
        ("done", {"status": "FAILED", "attempt": 1, "error": error}),
    ]:
        for _ in range(2):  # the second is a repetition, and changes nothing
            response = function(target).post(
                f"/v1/jobs/{job_id}/{target}", headers=headers | {"Idempotency-Key": target}, json=body
            )
            assert response.is_success

    of_job = [line for line in lines() if line["severity"] != "DEBUG"]
    assert [line["message"].partition("] ")[2] for line in of_job] == [
        *("the job is PENDING", "the job is QUEUED", "the job is RUNNING", "attempt 1 has started", "the job is FAILED")
    ]
    assert {line["job_id"] for line in of_job} == {job_id}
    assert {"reason": "oom_gpu", "detail": "CUDA out of memory", "attempt": 1, "severity": "WARNING"}.items() <= of_job[
        -1
    ].items()
    assert [line.get("actor") for line in of_job] == [None, None, "trainer", "trainer", "trainer"]


@pytest.mark.usefixtures("sqlite", "s3", "no_trainer_left")
def test_a_launch_a_relaunch_and_its_reason_are_in_the_log(a_job: Any, lines: Lines, now: datetime) -> None:
    job_id = a_job(State.RUNNING, now=now)  # and the launcher has no trainer of it
    sweeping.run(now=now)
    sweeping.run(now=now + seconds(61))

    relaunched, launched = named(lines, "the job is retrying"), named(lines, "launch 2 was submitted")
    assert {
        "reason": "lost",
        "launch": 2,
        "attempt": 1,
        "actor": "sweep",
        "job_id": job_id,
    }.items() <= relaunched.items()
    assert relaunched["detail"] == "the launcher has no trainer of this job"
    assert {"launch": 2, "job_id": job_id, "actor": "sweep"}.items() <= launched.items()
    (event,) = [row for row in queries.events(job_id, kind="event", after=0, limit=10)[0] if row.type == "retrying"]
    assert (event.actor, event.data) == ("sweep", {"reason": "lost"})
    assert "actor" not in logs.context.get()


@pytest.mark.usefixtures("database_url")
def test_what_is_refused_or_rolled_back_has_no_line(a_job: Any, lines: Lines, now: datetime) -> None:
    job_id = a_job(State.SUCCEEDED, now=now)
    before = lines()
    with pytest.raises(WrongState):
        jobs.move(job_id, State.CANCELLED, now=now)
    with pytest.raises(WrongState):
        claim(job_id)
    with pytest.raises(WrongState):
        move_and_raise(job_id)
    assert lines() == before


def move_and_raise(job_id: str) -> None:
    with write() as session:
        log_after_commit(session, logging.INFO, "never")
        raise transitions.refusal(session, job_id, State.CANCELLED)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_commit_that_fails_has_no_line(database_url: str, a_job: Any, lines: Lines, now: datetime) -> None:
    job_id = a_job(State.RUNNING, now=now)
    with pytest.raises(Busy):
        move_without_a_server_to_commit(job_id, database_url, now=now)

    assert queries.job(job_id).state == State.RUNNING
    assert not [line for line in lines() if "FAILED" in line["message"]]


def move_without_a_server_to_commit(job_id: str, url: str, *, now: datetime) -> None:
    with write() as session:
        pid = session.connection().exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        values = {"reason": Reason.LOST, "message": None}
        assert transitions.change_state(session, job_id, State.FAILED, now=now, values=values) is not None
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


@pytest.mark.usefixtures("sqlite")
def test_at_debug_each_request_is_a_line_with_its_caller_and_without_its_query(
    function: Any, a_job: Any, lines: Lines
) -> None:
    job_id = a_job()
    function("jobs").get(f"/v1/jobs/{job_id}?x=secret", headers=api_headers(subject="bob"))
    function("jobs").post("/v1/jobs/x/y/z?x=secret")

    first, second = [line for line in lines() if line["severity"] == "DEBUG"]
    assert {
        "method": "GET",
        "path": f"/v1/jobs/{job_id}",
        "status": 200,
        "actor": "bob",
        "job_id": job_id,
        "function": "jobs",
    }.items() <= first.items()
    assert first["seconds"] >= 0
    assert {"method": "POST", "path": "/v1/jobs/x/y/z", "status": 404}.items() <= second.items()
    assert "secret" not in json.dumps(lines())


def test_the_level_of_the_log_is_a_setting(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("LOG_LEVEL", "debug")
    forget()
    assert settings().log_level == "debug"
