"""From an upload to SUCCEEDED and back to zero pods, with the time of each leg; and cold starts beside a hello-world."""

import statistics
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

from infra.node.layout import apply, kubectl
from tests.node.conftest import FUNCTIONS, STOKER, TRAINERS, ZIP, address_of, eventually, get, said

TURNS = 3
#: the image, the probe and the limits of our functions, and nothing of ours in it
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
    found = get("pods", "-l", "serving.knative.dev/service")
    return [one["metadata"]["labels"]["serving.knative.dev/service"] for one in found]


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
        said(f"{leg}: {seconds:.1f} s")


def cold_start(name: str, path: str) -> float:
    """Return the seconds from a request to the answer of a function that had no pod."""
    eventually(lambda: name not in pods(), within_seconds=300)
    host = {"Host": f"{name}.{STOKER}.svc.cluster.local"}
    address = kubectl("get", "service", "kourier-internal", "-n", "kourier-system", "-o", "jsonpath={.spec.clusterIP}")
    began = time.monotonic()
    answer = httpx.get(f"http://{address}{path}", headers=host, timeout=90)
    assert answer.status_code == 200, answer.text
    return time.monotonic() - began


@pytest.mark.timeout(1800)
def test_each_function_starts_from_zero_beside_a_hello_world() -> None:
    apply(HELLO)
    kubectl("wait", "--for=condition=Ready", "ksvc/hello", "-n", STOKER, "--timeout=120s")
    # All at zero first, then one after the other: two cores start one pod at a time.
    names = [name for name in FUNCTIONS if name != "sweep"]
    figures: dict[str, list[float]] = {name: [] for name in ["hello", *names]}
    for _ in range(TURNS):
        at_zero()
        for name, measured in figures.items():
            measured.append(cold_start(name, "/healthz"))
    kubectl("delete", "ksvc/hello", "configmap/hello", "-n", STOKER)
    base = statistics.median(figures["hello"])
    for name, measured in figures.items():
        middle = statistics.median(measured)
        said(f"{name:10} {middle:5.2f} s ({min(measured):.2f}-{max(measured):.2f})  {middle / base:4.2f} x hello-world")


def test_the_front_answers_while_no_function_runs() -> None:
    assert httpx.get(f"{address_of('front')}/healthz").status_code == 200
