"""A real OpenTelemetry Collector, with the component's own configuration, reads the kubelet's files and answers the documented queries."""

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from infra.node.layout import CACHE
from tests.conftest import ROOT, eventually, free_ports
from tests.logs.loki import Loki, documented_queries, listening

COLLECTOR = CACHE / "collector-v0.165.1/collector"
CONFIG = ROOT / "knative/components/logs/config.yaml"
JOB, TRACE = "3f2a9c0d1e4b5a69", "0af7651916cd43dd8448eb211c80319c"
OTHER_JOB, OTHER_TRACE = "77aa9c0d1e4b5a69", "b7ad6b7169203331b7ad6b7169203331"
START = datetime(2026, 11, 27, 10, 0, tzinfo=UTC)
pytestmark = pytest.mark.timeout(300)


class Pods:
    """A node's folder of logs, as the kubelet and containerd write it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written = 0

    def write(self, pod: str, namespace: str, container: str, *lines: str, parts: int = 1) -> None:
        """Append lines to the log of a container, each in parts, as containerd does with long ones."""
        file = self.folder / f"{namespace}_{pod}_6c1e63b4-5d8b-4b0d-9b6e-0a1f0e6e4a11" / container / "0.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as log:
            for line in lines:
                size = -(-len(line) // parts)
                for number in range(parts):
                    at = (START + timedelta(milliseconds=self._written)).isoformat().replace("+00:00", ".000000000Z")
                    self._written += 1000
                    tag = "F" if number == parts - 1 else "P"
                    log.write(f"{at} stderr {tag} {line[number * size : (number + 1) * size]}\n")


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    """Return the folder in which the test's containers log."""
    return Pods(tmp_path / "pods")


@pytest.fixture
def loki() -> Iterator[tuple[Loki, str]]:
    """Serve the stand-in."""
    with listening() as served:
        yield served


Collector = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def collector(tmp_path: Path, pods: Pods, loki: tuple[Loki, str]) -> Collector:
    """Return a context in which a collector runs; its state stays from one to the next."""
    assert os.access(COLLECTOR, os.X_OK), "there is no collector: sh infra/kubernetes/build.sh collector"
    config = yaml.safe_load(CONFIG.read_text())
    # The test's folder and port in place of the node's; all else is as it is deployed.
    receiver = config["receivers"]["file_log"]
    receiver["include"] = [one.replace("/var/log/pods", str(pods.folder)) for one in receiver["include"]]
    (port,) = free_ports(1)
    config["extensions"]["health_check"]["endpoint"] = f"127.0.0.1:{port}"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "state").mkdir()
    environment = {"LOKI_ENDPOINT": loki[1], "LOKI_TENANT": "stoker", "COLLECTOR_STATE": str(tmp_path / "state")}

    @contextmanager
    def run(*, stops_by: signal.Signals = signal.SIGTERM) -> Iterator[None]:
        with (tmp_path / "collector.log").open("ab") as log:
            process = subprocess.Popen(
                [COLLECTOR, f"--config={tmp_path}/config.yaml"], env=environment, stdout=log, stderr=log
            )
        try:
            yield
            assert process.poll() is None, (tmp_path / "collector.log").read_text()[-3000:]
        finally:
            process.send_signal(stops_by)
            process.wait(60)

    return run


def trainer_line(text: str, job_id: str = JOB, trace_id: str = TRACE) -> str:
    return f"2026-11-27T10:00:00.123Z INFO [TRACE:{trace_id}] job_id={job_id} {text}"


def function_line(text: str, job_id: str, trace_id: str) -> str:
    fields = {"severity": "INFO", "message": f"[TRACE:{trace_id}] {text}", "trace_id": trace_id, "job_id": job_id}
    return json.dumps(fields)


def trainer_pod(job_id: str = JOB, launch: int = 1) -> str:
    return f"stoker-{job_id}-{launch}-{secrets.token_hex(3)[:5]}"


def test_both_documented_queries_find_a_jobs_lines_and_no_others(
    pods: Pods, loki: tuple[Loki, str], collector: Collector
) -> None:
    mine = [trainer_line(f"epoch {number}") for number in range(3)]
    pods.write(trainer_pod(), "stoker-trainers", "trainer", *mine[:2])
    pods.write(trainer_pod(launch=2), "stoker-trainers", "trainer", mine[2], "a library's line")
    pods.write(trainer_pod(OTHER_JOB), "stoker-trainers", "trainer", trainer_line("x", OTHER_JOB, OTHER_TRACE))
    moves = [function_line(f"the job is {state}", JOB, TRACE) for state in ("QUEUED", "RUNNING")]
    create_job = "create-job-00001-deployment-7d9c-x2x9f"
    pods.write(create_job, "stoker", "function", moves[0], function_line("the job is QUEUED", OTHER_JOB, OTHER_TRACE))
    pods.write(create_job, "stoker", "queue-proxy", "no JSON", '["an array"]')
    pods.write("event-00001-deployment-7d9c-abcde", "stoker", "function", moves[1])
    pods.write("coredns-5d4b-abcde", "kube-system", "coredns", "of no concern")

    received, _ = loki
    with collector():
        eventually(lambda: len(received.lines) == 10, within_seconds=60)

    of_trainer, of_functions = documented_queries(job_id=JOB, trace_id=TRACE)
    assert received.query(of_trainer) == mine
    assert received.query(of_functions) == moves
    assert {line.text for line in received.lines}.isdisjoint({"of no concern"})


def test_streams_have_few_labels_and_lines_their_pod(pods: Pods, loki: tuple[Loki, str], collector: Collector) -> None:
    pod = trainer_pod()
    pods.write(pod, "stoker-trainers", "trainer", "a")
    pods.write("front-5d4b-abcde", "stoker", "envoy", "b")

    received, _ = loki
    with collector():
        eventually(lambda: len(received.lines) == 2, within_seconds=60)

    trainer, front = sorted(received.lines, key=lambda line: line.text)
    assert trainer.labels == {"namespace": "stoker-trainers", "job_id": JOB, "service_name": "stoker"}
    assert front.labels == {"namespace": "stoker", "service_name": "stoker"}
    assert trainer.metadata == {"pod": pod, "container": "trainer", "log.iostream": "stderr"}
    assert datetime.fromtimestamp(trainer.at_ns / 1e9, UTC) == START
    assert received.headers[0]["X-Scope-Orgid"] == "stoker"


def test_a_long_line_that_containerd_split_is_one_line(
    pods: Pods, loki: tuple[Loki, str], collector: Collector
) -> None:
    long = function_line("x" * 50_000, JOB, TRACE)
    pods.write("jobs-00001-deployment-7d9c-abcde", "stoker", "function", long, parts=4)

    received, _ = loki
    with collector():
        eventually(lambda: received.lines, within_seconds=60)

    assert received.query(documented_queries(job_id=JOB, trace_id=TRACE)[1]) == [long]


def test_a_log_that_the_kubelet_rotates_is_read_to_its_end(
    pods: Pods, loki: tuple[Loki, str], collector: Collector
) -> None:
    received, _ = loki
    pod, lines = trainer_pod(), [trainer_line(f"epoch {number}") for number in range(40)]
    with collector():
        pods.write(pod, "stoker-trainers", "trainer", *lines[:10])
        eventually(lambda: len(received.lines) == 10, within_seconds=60)
        pods.write(pod, "stoker-trainers", "trainer", *lines[10:20])
        (current,) = pods.folder.glob("*/trainer/0.log")
        current.rename(current.with_name("0.log.20261127-100000"))
        pods.write(pod, "stoker-trainers", "trainer", *lines[20:])
        eventually(lambda: len(received.lines) == 40, within_seconds=60)

    assert received.query(f'{{job_id="{JOB}"}}') == lines


def test_no_line_is_lost_while_loki_is_away_and_the_collector_is_killed(
    pods: Pods, loki: tuple[Loki, str], collector: Collector
) -> None:
    received, _ = loki
    pod, lines = trainer_pod(), [trainer_line(f"epoch {number}") for number in range(30)]
    with collector():
        pods.write(pod, "stoker-trainers", "trainer", *lines[:10])
        eventually(lambda: len(received.lines) == 10, within_seconds=60)
    received.refuses = True
    with collector(stops_by=signal.SIGKILL):
        pods.write(pod, "stoker-trainers", "trainer", *lines[10:20])
        eventually(lambda: received.refusals > 1, within_seconds=60)
    received.refuses = False
    pods.write(pod, "stoker-trainers", "trainer", *lines[20:])
    with collector():
        eventually(lambda: len(set(received.query(f'{{job_id="{JOB}"}}'))) == 30, within_seconds=120)

    assert sorted(set(received.query(f'{{job_id="{JOB}"}}'))) == sorted(lines)
