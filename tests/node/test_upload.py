"""From an upload to SUCCEEDED and back to zero pods, with the time of each leg; and cold starts beside a hello-world."""

import statistics
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

from infra.local.minting import mint
from infra.node.layout import apply, kubectl
from tests import conftest
from tests.node.conftest import FUNCTIONS, STOKER, TRAINERS, ZIP, address_of, eventually, get, report, uploaded

TURNS = 3
#: a hello-world with the image, the probe and the limits of Stoker's functions
HELLO = """
apiVersion: v1
kind: ConfigMap
metadata: {name: hello, namespace: stoker}
data:
  hello.py: |
    def hello(request):
        return "hello"
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: hello
  namespace: stoker
  labels: {networking.knative.dev/visibility: cluster-local}
spec:
  template:
    spec:
      timeoutSeconds: 60
      containerConcurrency: 40
      enableServiceLinks: false
      containers:
        - image: stoker.local/functions:1
          ports: [{name: http1, containerPort: 8080}]
          command: [functions-framework]
          env: [{name: FUNCTION_TARGET, value: hello}, {name: FUNCTION_SOURCE, value: /hello/hello.py}]
          resources: {requests: {cpu: 25m, memory: 96Mi}, limits: {memory: 384Mi}}
          readinessProbe: {httpGet: {path: /healthz, port: 8080}}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            runAsNonRoot: true
            capabilities: {drop: [ALL]}
            seccompProfile: {type: RuntimeDefault}
          volumeMounts: [{name: scratch, mountPath: /tmp}, {name: hello, mountPath: /hello, readOnly: true}]
      volumes: [{name: scratch, emptyDir: {medium: Memory, sizeLimit: 16Mi}}, {name: hello, configMap: {name: hello}}]
"""


def pods() -> list[str]:
    """Return the functions' pods, by Service."""
    items = get("pods", "-l", "serving.knative.dev/service")
    return [one["metadata"]["labels"]["serving.knative.dev/service"] for one in items]


def at_zero() -> None:
    """Wait until no function runs; the timer's minute starts sweep again and again, so that one does not count."""
    eventually(lambda: set(pods()) <= {"sweep"}, within_seconds=300)


@pytest.mark.timeout(900)
def test_an_upload_becomes_a_model_from_zero_pods_and_back(
    bucket: Any, api: httpx.Client, ended: Callable[..., dict[str, Any]]
) -> None:
    at_zero()
    key, began = f"upload-{time.time_ns()}", time.time()
    metadata = {"stoker-framework": "stub", "stoker-model": "stub", "stoker-epochs": "20"}
    bucket.put_object(Bucket=STOKER, Key=f"datasets/{key}.zip", Body=ZIP, Metadata=metadata)
    stored = time.time()

    rows = eventually(lambda: api.get("/v1/jobs", params={"dataset_id": key}).json()["jobs"], within_seconds=60)
    job = ended(rows[0]["id"])
    assert job["state"] == "SUCCEEDED", job
    seen = time.time()
    at_zero()
    zero = time.time()

    events = api.get(f"/v1/jobs/{job['id']}/events", params={"limit": 100}).json()["events"]
    assert len([one for one in events if one["kind"] == "heartbeat"]) == 20
    assert job["artifacts"] == [f"checkpoints/job-{job['id']}/best.pt", f"checkpoints/job-{job['id']}/last.pt"]
    moments = {
        name: datetime.fromisoformat(job[name]).timestamp() for name in ("created_at", "started_at", "finished_at")
    }
    (pod,) = get("pods", "-l", f"stoker.dev/job-id={job['id']}", namespace=TRAINERS)
    ran = pod["status"]["containerStatuses"][0]["state"]["terminated"]["startedAt"]
    legs = {
        "upload stored": stored - began,
        "notification -> Broker -> create-job from zero -> row": moments["created_at"] - stored,
        "row -> Job, pod, container (whole seconds)": datetime.fromisoformat(ran).timestamp() - moments["created_at"],
        "row -> first callback, event from zero": moments["started_at"] - moments["created_at"],
        "training, heartbeat and presign from zero": moments["finished_at"] - moments["started_at"],
        "end -> no pod of a function (window 20-90 s, grace 30 s)": zero - seen,
    }
    for leg, seconds in legs.items():
        report(f"{leg}: {seconds:.1f} s")


def first_calls(
    job_id: str, other: str, api: dict[str, str], reader: dict[str, str]
) -> dict[str, tuple[str, str, Any, dict[str, str]]]:
    """Return for each function the first call of its life: method, path, body, headers; most commit a write.

    ``job_id`` and ``other`` wait for a GPU that does not exist; only these calls change them.
    """
    callback, path = conftest.callback_headers(job_id), f"/v1/jobs/{job_id}"
    wanted = {"framework": "stub", "model_name": "stub", "dataset_id": "here", "gpus": 1}
    key = {"method": "GET", "key": "datasets/here.zip"}
    return {
        "hello": ("GET", "/", None, {}),
        "uploads": ("POST", "/v1/uploads", uploaded("here"), api),
        "create-job": ("POST", "/v1/jobs", wanted, api),
        "event": ("POST", f"{path}/event", {"type": "started"}, callback),
        "heartbeat": ("POST", f"{path}/heartbeat", {"epoch": 1, "metrics": {"loss": 0.5}}, callback),
        "presign": ("POST", f"{path}/presign", key, callback),
        "done": ("POST", f"{path}/done", {"status": "SUCCEEDED"}, callback),
        "jobs": ("GET", path, None, api),
        "datasets": ("GET", "/v1/datasets", None, api),
        "metrics": ("GET", "/v1/metrics", None, reader),
        "console": ("GET", "/", None, {}),
        "dead-letter": ("POST", "/v1/dead-letters", {"nobody": "took this"}, api),
        "cancel": ("POST", f"/v1/jobs/{other}/cancel", {}, api),
    }


def cold_start(name: str, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[float, Any]:
    """Return the seconds from a call to the answer of a function that had no pod, and the answer."""
    eventually(lambda: name not in pods(), within_seconds=300)
    kourier = address_of("kourier-internal", namespace="kourier-system")
    host = {"Host": f"{name}.{STOKER}.svc.cluster.local"}
    content = {} if body is None else {"json": body}
    began = time.monotonic()
    answer = httpx.request(method, f"{kourier}{path}", headers=headers | host, timeout=90, **content)
    took = time.monotonic() - began
    assert answer.status_code in {200, 201, 202}, f"{name}: {answer.status_code} {answer.text}"
    return took, answer


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_function_makes_its_first_write_from_zero_beside_a_hello_world(
    submit: Callable[..., str], api: httpx.Client, secret: dict[str, str]
) -> None:
    apply(HELLO)
    kubectl("wait", "--for=condition=Ready", "ksvc/hello", "-n", STOKER, "--timeout=120s")
    caller = {"Authorization": api.headers["Authorization"]}
    reader = {"Authorization": f"Bearer {mint(secret['JWT_SECRETS'], 'prometheus', 'metrics:read', 3600)}"}
    # sweep's are the timer's; of the others no one is left out.
    figures: dict[str, list[float]] = {name: [] for name in ("hello", *FUNCTIONS) if name != "sweep"}
    for _ in range(TURNS):
        calls = first_calls(submit(gpus=1), submit(gpus=1), caller, reader)
        # All at zero first, then one after the other: two cores start one pod at a time.
        at_zero()
        for name, call in calls.items():
            took, answer = cold_start(name, *call)
            figures[name].append(took)
            if name == "create-job":
                made = answer.json()["id"]
        api.post(f"/v1/jobs/{made}/cancel", json={})
    kubectl("delete", "ksvc/hello", "configmap/hello", "-n", STOKER)
    base = statistics.median(figures["hello"])
    for name, measured in figures.items():
        middle = statistics.median(measured)
        report(
            f"{name:11} {middle:5.2f} s ({min(measured):.2f}-{max(measured):.2f})  {middle / base:4.2f} x hello-world"
        )


def test_the_front_answers_while_no_function_runs() -> None:
    assert httpx.get(f"{address_of('front')}/healthz").status_code == 200
