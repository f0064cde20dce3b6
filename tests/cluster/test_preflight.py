"""The preflight names what a real API server lacks for an overlay, and what of an applied one does not work."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.node.layout import BINARIES
from tests.cluster.conftest import condition, container, kubectl
from tests.conftest import ROOT, eventually

pytestmark = pytest.mark.timeout(600)

DIGEST = "sha256:" + "1" * 64
SECRET = {
    "DATABASE_URL": "postgresql://stoker:secret-word@10.1.2.3/stoker",
    "JWT_SECRETS": "a:0123456789abcdefghijklmnopqrstuvwxyz",
    "MINIO_ACCESS_KEY": "key",
    "MINIO_SECRET_KEY": "secret-word",
}
#: a copy of the production overlay with everything that is an example replaced
OWN = {
    "registry.example.com": "registry.acme.test",
    "registry\\\\.example\\\\.com": "registry\\\\.acme\\\\.test",
    "hooks.example.com": "hooks.acme.test",
    "https://s3.example.com": "https://s3.acme.test",
    "stoker-example": "stoker-acme",
    "sha256:" + "0" * 64: DIGEST,
    "example.com/spot": "acme.test/spot",
}


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """Copy the production overlay, as an operator does, and fill it in."""
    folder = ROOT / "knative/overlays/production"
    copy = tmp_path / "knative/overlays/mine"
    copy.mkdir(parents=True)
    for part in ("base", "components"):
        (tmp_path / "knative" / part).symlink_to(ROOT / "knative" / part)
    for file in folder.iterdir():
        text = file.read_text()
        for example, own in OWN.items():
            text = text.replace(example, own)
        (copy / file.name).write_text(text)
    return copy


def change(overlay: Path, file: str, before: str, after: str) -> None:
    text = (overlay / file).read_text()
    assert before in text
    (overlay / file).write_text(text.replace(before, after))


@pytest.fixture
def complete(cluster: Path) -> Iterator[Callable[..., None]]:
    """Give the cluster all that the overlay needs; returns a function that applies and deletes objects."""

    def has(*items: dict[str, Any]) -> None:
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        done = kubectl(cluster, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
        assert done.returncode == 0, done.stderr

    for namespace in ("stoker", "knative-eventing", "kourier-system"):
        kubectl(cluster, "create", "namespace", namespace)
    has(
        secret(**SECRET),
        configmap("config-features", "knative-eventing", {"authentication-oidc": "enabled"}),
        service("kourier-internal", "kourier-system"),
        deployment("kafka-controller", "knative-eventing"),
    )
    is_available(cluster, "kafka-controller")
    yield has
    for namespace in ("knative-eventing", "kourier-system"):
        kubectl(cluster, "delete", "deployment,service,configmap", "--all", "-n", namespace)
    kubectl(cluster, "delete", "secret", "stoker", "-n", "stoker")


def secret(**values: str) -> dict[str, Any]:
    metadata = {"name": "stoker", "namespace": "stoker"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def configmap(name: str, namespace: str, data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def service(name: str, namespace: str, port: int = 80, **selector: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    spec = {"ports": [{"port": port}], **({"selector": selector} if selector else {})}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def deployment(name: str, namespace: str) -> dict[str, Any]:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "c"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def is_available(cluster: Path, name: str) -> None:
    """Set the status of a Deployment's pod as the kubelet would; the controllers then count it."""

    def pods() -> str:
        return kubectl(
            cluster, "get", "pods", "-n", "knative-eventing", "-l", f"app={name}", "-o", "name"
        ).stdout.strip()

    pod = eventually(pods)
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    words = ("patch", pod, "-n", "knative-eventing", "--subresource=status", "--type=merge")
    kubectl(cluster, *words, "-p", json.dumps({"status": status})).check_returncode()
    available = ("wait", "--for=condition=Available", f"deployment/{name}", "-n", "knative-eventing", "--timeout=60s")
    kubectl(cluster, *available).check_returncode()


@pytest.fixture
def preflight(cluster: Path, environment: pytest.MonkeyPatch, overlay: Path) -> Callable[..., list[str]]:
    """Return a function that runs the preflight and returns its lines without the last."""
    environment.setenv("KUBECONFIG", str(cluster / "kubeconfig"))
    environment.setenv("PATH", f"{BINARIES}:/usr/bin:/bin")

    def run(*words: str) -> list[str]:
        command = [sys.executable, "-m", "infra.preflight", str(overlay), *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        *lines, last = done.stdout.splitlines() or [done.stderr]
        assert (done.returncode, last) == ((1, f"{len(lines)} missing") if lines else (0, "nothing is missing")), done
        assert "secret-word" not in done.stdout + done.stderr
        return [line.removeprefix("missing: ") for line in lines]

    return run


@pytest.mark.usefixtures("complete")
def test_a_cluster_with_everything_lacks_nothing(preflight: Callable[..., list[str]]) -> None:
    assert preflight() == []


def test_an_empty_cluster_lacks_each_thing_by_its_name(preflight: Callable[..., list[str]]) -> None:
    text = "\n".join(preflight())

    for words in (
        "authentication-oidc is not enabled",
        "no Service kourier-internal in kourier-system",
        "the class Kafka, and its controller, Deployment kafka-controller in knative-eventing, is not running",
        "no Secret stoker in the namespace stoker",
    ):
        assert words in text


def test_an_unfilled_copy_is_named_value_by_value(
    preflight: Callable[..., list[str]], complete: Any, overlay: Path
) -> None:
    del complete
    change(overlay, "settings.yaml", "stoker-acme", "stoker-example")
    change(overlay, "job-events.yaml", "hooks.acme.test", "hooks.example.com")

    assert preflight() == [
        "ConfigMap stoker still has the example stoker-example: put your own",
        "Trigger job-events still has the example https://hooks.example.com/stoker: put your own",
    ]


@pytest.mark.parametrize(
    ("file", "before", "after", "words"),
    [
        ("settings.yaml", "DEFAULT_FRAMEWORK: ultralytics", "DEFAULT_FRAMEWORK: gone", "DEFAULT_FRAMEWORK: gone is not in TRAINERS"),
        ("settings.yaml", 'STOP_GRACE_SECONDS: "120"', 'STOP_GRACE_SECONDS: "x"', "STOP_GRACE_SECONDS"),
        ("broker.yaml", "broker.class: Kafka", "broker.class: RabbitMQBroker", "Deployment rabbitmq-broker-controller"),
        ("broker.yaml", "broker.class: Kafka", "broker.class: Nats", "the class Nats, which is none of"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_overlay_is_named(  # noqa: PLR0913, PLR0917 -- the columns of the table
    preflight: Callable[..., list[str]], complete: Any, overlay: Path, file: str, before: str, after: str, words: str
) -> None:
    del complete
    change(overlay, file, before, after)

    (line,) = preflight()
    assert words in line


def test_another_issuer_and_missing_keys_are_named(
    preflight: Callable[..., list[str]], complete: Any, overlay: Path
) -> None:
    complete(secret(**SECRET | {"MINIO_SECRET_KEY": ""}))
    patch = '  - target: {kind: ConfigMap, name: event-callers}\n    patch: |\n      - {op: replace, path: /data/OIDC_ISSUER, value: "https://eks.test"}\n'
    (overlay / "kustomization.yaml").write_text((overlay / "kustomization.yaml").read_text() + patch)

    issuer, key = preflight()
    assert "signed by https://kubernetes.default.svc: set OIDC_ISSUER" in issuer
    assert key == "the Secret stoker has no MINIO_SECRET_KEY"


def test_a_storage_and_a_database_that_the_policies_block_are_named(
    preflight: Callable[..., list[str]], complete: Any, overlay: Path, cluster: Path
) -> None:
    kubectl(cluster, "create", "namespace", "infra")
    complete(
        secret(**SECRET | {"DATABASE_URL": "postgresql://stoker@10.1.2.3:6432/stoker"}),
        service("storage", "infra", 8333, app="minio"),
    )
    change(overlay, "settings.yaml", "https://s3.acme.test", "http://storage.infra:8333")
    functions, trainers, database = preflight()
    assert functions.startswith("no NetworkPolicy lets functions reach the storage at storage.infra:8333")
    assert trainers.startswith("no NetworkPolicy lets trainers reach the storage at storage.infra:8333")
    assert functions.endswith("add the component storage-inside, or a policy of your own to the namespace stoker")
    assert database == (
        "no NetworkPolicy lets functions reach the database at 10.1.2.3:6432: add a policy of your own to the namespace stoker"
    )

    change(overlay, "settings.yaml", "http://storage.infra:8333", "http://storage.infra.svc.cluster.local:8333")
    change(overlay, "kustomization.yaml", "components:\n", "components:\n  - ../../components/storage-inside\n")
    assert preflight() == [database]


def test_a_storage_at_a_private_address_is_out_of_the_trainers_reach(
    preflight: Callable[..., list[str]], complete: Any, overlay: Path
) -> None:
    del complete
    change(overlay, "settings.yaml", "https://s3.acme.test", "https://10.20.30.40")

    (line,) = preflight()
    assert line.startswith("no NetworkPolicy lets trainers reach the storage at 10.20.30.40:443")


def test_a_kind_that_the_cluster_lacks_is_named_with_its_version(
    preflight: Callable[..., list[str]], complete: Any, overlay: Path
) -> None:
    del complete
    other = "apiVersion: other.test/v1\nkind: Thing\nmetadata: {name: a, namespace: stoker}\n"
    (overlay / "thing.yaml").write_text(other)
    change(overlay, "kustomization.yaml", "job-events.yaml]", "job-events.yaml, thing.yaml]")

    (line,) = preflight()
    assert line.startswith("the cluster has no Thing of other.test/v1")


def test_a_loki_that_the_collector_cannot_reach_is_named(
    preflight: Callable[..., list[str]], complete: Any, overlay: Path, cluster: Path
) -> None:
    kubectl(cluster, "create", "namespace", "loki")
    complete(service("loki-gateway", "loki", 80, app="loki"))
    change(overlay, "kustomization.yaml", "components:\n", "components:\n  - ../../components/logs\n")

    (line,) = preflight()
    assert line.startswith("no NetworkPolicy lets the collector of logs reach Loki at loki-gateway.loki.svc")


@pytest.fixture
def kubelet(cluster: Path) -> Callable[[str, dict[str, Any]], None]:
    """Return a function that waits for the trial pod of an image, and sets its status as the kubelet would."""

    def say(image: str, status: dict[str, Any]) -> None:
        def name() -> str | None:
            words = ("get", "pods", "-n", "stoker-trainers", "-l", "stoker.dev/preflight", "-o", "json")
            pods = json.loads(kubectl(cluster, *words).stdout)["items"]
            names = [pod["metadata"]["name"] for pod in pods if image in pod["spec"]["containers"][0]["image"]]
            return names[0] if names else None

        words = ("patch", "pod", eventually(name), "-n", "stoker-trainers", "--subresource=status", "--type=merge")
        kubectl(cluster, *words, "-p", json.dumps({"status": status})).check_returncode()

    return say


def waits_for(reason: str, message: str) -> dict[str, Any]:
    return container(waiting={"reason": reason, "message": message})


def test_images_that_cannot_be_pulled_are_named_with_the_kubelets_words(
    preflight: Callable[..., list[str]], kubelet: Callable[[str, dict[str, Any]], None], cluster: Path
) -> None:
    with ThreadPoolExecutor(1) as other:
        lines = other.submit(preflight, "--images", "--timeout=60")
        kubelet("trainer-ultralytics", waits_for("ImagePullBackOff", "401 Unauthorized"))
        kubelet("trainer-timm@", container(terminated={"exitCode": 0}))
        kubelet("trainer-timm-cpu", waits_for("CreateContainerError", "no such command"))

        (line,) = lines.result()
    image = f"registry.acme.test/stoker/trainer-ultralytics@{DIGEST}"
    assert line == f"the image {image} of ultralytics cannot be pulled: 401 Unauthorized"
    remaining = ("get", "pods", "-n", "stoker-trainers", "-l", "stoker.dev/preflight", "-o", "name")
    eventually(lambda: not kubectl(cluster, *remaining).stdout)


def test_images_that_no_node_can_take_are_named_with_the_schedulers_words(
    preflight: Callable[..., list[str]], kubelet: Callable[[str, dict[str, Any]], None]
) -> None:
    unscheduled = condition("PodScheduled", status="False", message="0/3 nodes are available")
    with ThreadPoolExecutor(1) as other:
        lines = other.submit(preflight, "--images", "--timeout=15")
        kubelet("trainer-ultralytics", container(running={}))
        kubelet("trainer-timm@", unscheduled)
        kubelet("trainer-timm-cpu", container(running={}))

        (line,) = lines.result()
    assert line.endswith("of timm was not pulled within 15 s: 0/3 nodes are available")


def test_after_apply_what_nothing_serves_or_what_fails_is_named(
    preflight: Callable[..., list[str]], complete: Any, overlay: Path, cluster: Path
) -> None:
    del complete
    missing = preflight("--after", "--timeout=0")
    assert "Broker stoker: it does not exist: apply the overlay" in missing

    rendered = kubectl(cluster, "kustomize", str(overlay)).stdout
    served = [one for one in yaml.safe_load_all(rendered) if one["kind"] in {"Broker", "Trigger"}]
    kubectl(cluster, "apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(served)).check_returncode()
    missing = preflight("--after", "--timeout=0")
    assert "Broker stoker: nothing reports its status: is its controller installed and running?" in missing

    for status, message in (("False", "no topic"), ("True", "")):
        condition = {"type": "Ready", "status": status, "message": message}
        words = (
            "patch",
            "brokers.eventing.knative.dev",
            "stoker",
            "-n",
            "stoker",
            "--subresource=status",
            "--type=merge",
        )
        kubectl(cluster, *words, "-p", json.dumps({"status": {"conditions": [condition]}})).check_returncode()
        line = [one for one in preflight("--after", "--timeout=0") if one.startswith("Broker stoker")]
        assert line == (["Broker stoker: Ready is False: no topic"] if status == "False" else [])
    kubectl(cluster, "delete", "brokers.eventing.knative.dev,triggers.eventing.knative.dev", "--all", "-n", "stoker")


def test_an_unreachable_api_server_is_the_only_finding(
    preflight: Callable[..., list[str]], environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("KUBECONFIG", str(tmp_path / "none"))

    (line,) = preflight()
    assert line.startswith("the API server cannot be reached: ")
