"""A client generated from the API's description by a well-known generator works for each operation."""

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from functions.domain.states import State
from functions.front import API
from functions.runtime.settings import SCOPES
from functions.store import upkeep
from infra import openapi
from tests.conftest import BUCKET, NOW, answering, api_headers, callback_headers, served_and_up

PACKAGE = "stoker_generated"
OPERATIONS = {route.handler.__name__: route.function for route in API}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Generate the client, and let it be imported."""
    folder = tmp_path_factory.mktemp("generated")
    # The generator knows few media types by name.
    settings = "post_hooks: []\ncontent_type_overrides: {application/openmetrics-text: text/plain}\n"
    (folder / "settings.yaml").write_text(settings)
    generator = Path(sys.executable).with_name("openapi-python-client")
    command = [str(generator), "generate", "--path", str(openapi.FILE), "--meta", "none", "--fail-on-warning"]
    command += ["--output-path", str(folder / PACKAGE), "--config", str(folder / "settings.yaml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield PACKAGE


@pytest.fixture
def models(package: str) -> Any:
    return importlib.import_module(f"{package}.models")


class _Broker(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(202)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- its base class says so
        """Log nothing."""


@pytest.fixture
def call(
    package: str, database_url: str, s3: Any, environment: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[int, Any]]]:
    """Return a function that calls an operation by its name, and returns the status and the parsed response."""
    del database_url, s3
    client_of = importlib.import_module(package).AuthenticatedClient
    broker = ThreadingHTTPServer(("127.0.0.1", 0), _Broker)
    environment.setenv("K_SINK", f"http://127.0.0.1:{broker.server_port}")
    with answering(broker), served_and_up("front") as address:

        def call(operation: str, *path: str, **parameters: Any) -> tuple[int, Any]:
            module = importlib.import_module(f"{package}.api.{OPERATIONS[operation]}.{operation}")
            is_callback = OPERATIONS[operation] in {"event", "heartbeat", "done", "presign"}
            headers = callback_headers(*path) if is_callback else api_headers(" ".join(SCOPES))
            with client_of(address, token=headers["Authorization"].removeprefix("Bearer "), timeout=60) as client:
                response = module.sync_detailed(*path, client=client, **parameters)
            called.add(operation)
            return response.status_code, response.parsed

        called: set[str] = set()
        yield call
        assert called == OPERATIONS.keys()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("no_trainer_left")
def test_each_operation_works_with_a_generated_client(  # noqa: PLR0915 -- one call for each operation
    call: Callable[..., tuple[int, Any]], models: Any, a_job: Any, s3: Any
) -> None:
    s3.put_object(Bucket=BUCKET, Key="datasets/digits.zip", Body=b"zip")
    requested = {
        "framework": "stub",
        "model_name": "stub-1",
        "dataset_id": "digits",
        "hyperparameters": {"calls": False},
    }
    spec = models.Spec.from_dict(requested)
    assert call("validate_job", body=spec) == (204, None)
    status, job = call("submit_job", body=spec, idempotency_key="once")
    assert (status, type(job), job.state) == (201, models.Job, models.State.QUEUED)
    assert isinstance(job.created_at, datetime)
    assert call("submit_job", body=spec, idempotency_key="once") == (200, job)
    assert (
        call("submit_job", body=models.Spec(dataset_id="digits", framework="stub"))[1].errors[0].field == "model_name"
    )

    status, cancelled = call("cancel_job", job.id, body=models.Cancel(message="not needed"))
    assert (status, cancelled.state, cancelled.message) == (200, models.State.CANCELLED, "not needed")
    event = models.CloudEvent(
        specversion=models.CloudEventSpecversion("1.0"), id="1", source="/me", type_="dev.stoker.job.cancel"
    )
    event.subject = a_job(State.QUEUED)
    assert call("receive_cancel_event", body=event) == (202, None)
    assert call("get_job", event.subject)[1].state == models.State.CANCELLED

    job_id = a_job(State.QUEUED)
    status, recorded = call("record_event", job_id, body=models.Event(type_=models.EventType.STARTED), ce_id="1")
    assert (status, recorded) == (200, models.EventResponse(state=models.State.RUNNING, attempt=1))
    metrics = models.HeartbeatMetricsType0.from_dict({"loss": 0.5})
    assert call("record_heartbeat", job_id, body=models.Heartbeat(epoch=1, metrics=metrics))[1].state == "RUNNING"
    key = f"results/job-{job_id}/metrics.csv"
    status, link = call(
        "presign_object", job_id, body=models.PresignRequest(method=models.PresignRequestMethod.PUT, key=key)
    )
    assert (status, link.url.startswith("http"), type(link.expires_at)) == (200, True, datetime)
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"epoch,loss")
    error = models.Error(reason=models.Reason.OOM_GPU, message="out of memory")
    report = models.Report(status=models.ReportStatus.FAILED, error=error)
    assert call("report_done", job_id, body=report) == (200, models.DoneResponse(state=models.State.FAILED))
    status, problem = call("report_done", job_id, body=report)
    assert (status, type(problem), problem.state) == (409, models.Problem, models.State.FAILED)

    assert call("get_job", job_id)[1].reason == models.Reason.OOM_GPU
    status, described = call("describe_job", job_id, body=models.Changes(name="night run", tags=["a", "b"]))
    assert (status, described.name, described.tags, described.owner) == (200, "night run", ["a", "b"], None)
    assert [one.id for one in call("list_jobs", state=[models.State.FAILED, models.State.SUCCEEDED])[1].jobs] == [
        job_id
    ]
    beats = call("list_job_events", job_id, kind=models.ListJobEventsKind.HEARTBEAT)[1].events
    assert [one.metrics.to_dict() for one in beats] == [{"loss": 0.5}]
    (artifact,) = call("list_job_artifacts", job_id)[1].artifacts
    assert (artifact.key, artifact.size_bytes) == (key, 10)

    status, links = call(
        "create_upload",
        "cats (1)",
        body=models.NewUpload(bytes_=2**26, metadata=models.NewUploadMetadata.from_dict({"job": "none"})),
    )
    assert (status, len(links.urls), links.part_bytes) == (201, 2, 2**25)
    status, started = call("get_upload", "cats (1)", links.upload_id)
    assert (status, started.parts, started.bytes_, len(started.urls)) == (200, [], 2**26, 2)
    (listed,) = call("list_datasets")[1].datasets
    assert (listed.name, listed.bytes_, listed.jobs, type(listed.modified_at)) == ("digits", 3, 3, datetime)

    status, dataset = call("get_dataset", "digits")
    assert (status, dataset.bytes_, [version.jobs for version in dataset.versions]) == (200, 3, [1, 2])
    status, link = call("create_job_link", job_id, body=models.NewJobLink(valid_seconds=60))
    assert (status, link.path, type(link.expires_at)) == (201, f"/jobs/{job_id}#token={link.token}", datetime)

    assert call("revoke_job_links", job_id) == (204, None)

    status, shown = call("get_job_metrics", job_id, points=10)
    assert (status, shown.rows, shown.columns["loss"]) == (200, 1, [0.5])
    assert call("get_job_log", job_id, offset=-10) == (200, "")
    s3.put_object(Bucket=BUCKET, Key=f"checkpoints/job-{job_id}/last.pt", Body=b"x")
    status, resumed = call("resume_job", job_id, body=models.SpecChanges(epochs=7))
    assert (status, resumed.resumed_from, resumed.epochs) == (201, job_id, 7)
    status, clone = call("clone_job", job_id, body=models.SpecChanges(seed=1), idempotency_key="again")
    assert (status, clone.cloned_from) == (201, job_id)
    assert call("delete_job", clone.id)[0] == 409
    status, problem = call("delete_dataset", "digits")
    assert (status, set(problem.jobs)) == (409, {resumed.id, clone.id})
    assert call("delete_dataset", "nobody")[0] == 404
    assert call("delete_job", job_id) == (204, None)
    (framework,) = call("list_frameworks")[1].frameworks
    assert (framework.framework, framework.models, framework.options) == ("stub", ["stub*"], None)

    upkeep.reject("no such framework", "{}", now=NOW)
    assert [one.reason for one in call("list_rejected_events")[1].events] == ["no such framework"]
    assert call("receive_dead_letter", body={"any": "event"}) == (202, None)
    assert call("receive_upload", body={"Records": []}) == (202, None)
    assert call("run_sweep") == (204, None)
    assert "stoker_sweep_timestamp_seconds" in call("show_metrics")[1]
    assert call("get_openapi")[1].to_dict()["openapi"] == "3.1.0"
