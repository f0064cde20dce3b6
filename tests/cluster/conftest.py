"""A real Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager.

There is no kubelet: tests set the status that a node would.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.config import new_client_from_config
from kubernetes.dynamic import DynamicClient

from functions.launchers import kubernetes as launch_kubernetes
from infra.node.layout import BINARIES
from tests.cluster import definitions
from tests.conftest import ROOT, eventually, free_ports

NAMESPACE = "stoker-trainers"
MERGE = "application/merge-patch+json"
TOKEN = "the-administrator-of-a-test"


@contextmanager
def running(folder: Path, name: str, *flags: str) -> Iterator[None]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([str(BINARIES / name), *flags], cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run a control plane with our manifests applied; yields the folder with its kubeconfig."""
    folder = tmp_path_factory.mktemp("cluster")
    store, peer, api, manager = free_ports(4)
    for command in (["genrsa", "-out", "sa.key", "2048"], ["rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"]):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f"{TOKEN},administrator,1,system:masters\n")
    write_kubeconfig(folder / "kubeconfig", f"https://127.0.0.1:{api}")
    here = f"http://127.0.0.1:{store}"
    with ExitStack() as parts:
        parts.enter_context(
            running(
                folder, "etcd", "--data-dir=etcd", f"--listen-client-urls={here}", f"--advertise-client-urls={here}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}", f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}", "--unsafe-no-fsync",
            )
        )  # fmt: skip
        parts.enter_context(
            running(
                folder, "kube-apiserver", f"--etcd-servers={here}", "--cert-dir=certs", "--bind-address=127.0.0.1",
                f"--secure-port={api}", "--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=sa.pub",
                "--service-account-signing-key-file=sa.key", "--token-auth-file=tokens.csv",
            )
        )  # fmt: skip
        eventually(lambda: is_ready(api), within_seconds=200)
        parts.enter_context(
            running(
                folder, "kube-controller-manager", "--kubeconfig=kubeconfig", f"--secure-port={manager}",
                "--service-account-private-key-file=sa.key", "--use-service-account-credentials", "--leader-elect=false",
            )
        )  # fmt: skip
        files = [word for file in ("trainers", "rights", "policy") for word in ("-f", manifest(file))]
        eventually(lambda: kubectl(folder, "apply", "--server-side", "--validate=strict", *files).returncode == 0)
        kubectl(folder, "create", "--validate=false", "-f", "-", stdin=definitions.manifests()).check_returncode()
        established = ("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        # Again, because kubectl gives up on a watch that a busy API server closes.
        eventually(lambda: kubectl(folder, *established).returncode == 0, within_seconds=200)
        yield folder


def is_ready(port: int) -> bool:
    try:
        answer = httpx.get(
            f"https://127.0.0.1:{port}/readyz", verify=False, headers={"Authorization": f"Bearer {TOKEN}"}
        )
    except httpx.TransportError:
        return False
    return answer.is_success


def manifest(name: str) -> str:
    return str(ROOT / f"knative/base/{name}.yaml")


def write_kubeconfig(path: Path, server: str) -> None:
    path.write_text(
        f"""apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "{server}", certificate-authority: {path.parent}/certs/apiserver.crt}}}}]
users: [{{name: u, user: {{token: {TOKEN}}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"""
    )


def kubectl(folder: Path, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(BINARIES / "kubectl"), f"--kubeconfig={folder}/kubeconfig", *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120)


#: each by its API version
KINDS = {
    "Job": "batch/v1", "Pod": "v1", "Secret": "v1", "ResourceQuota": "v1", "Event": "v1",
    "Workload": "kueue.x-k8s.io/v1beta2", "LocalQueue": "kueue.x-k8s.io/v1beta2",
}  # fmt: skip


class Cluster:
    """The test's own client of the API server: objects of any kind, in the trainers' namespace."""

    def __init__(self, folder: Path) -> None:
        self._client = new_client_from_config(str(folder / "kubeconfig"))
        self._dynamic = DynamicClient(self._client, cache_file=str(folder / "discovered.json"))

    def list(self, kind: str, **labels: str) -> list[Any]:
        selector = ",".join(f"stoker.dev/{name}={value}" for name, value in labels.items())
        return list(self._of(kind).get(namespace=NAMESPACE, label_selector=selector).items)

    def get(self, kind: str, name: str) -> Any:
        return self._of(kind).get(name=name, namespace=NAMESPACE)

    def create(self, body: dict[str, Any], namespace: str = NAMESPACE, **options: Any) -> Any:
        return self._of(body["kind"]).create(body=body, namespace=namespace, **options)

    def patch(self, kind: str, name: str, changes: dict[str, Any]) -> Any:
        return self._of(kind).patch(body=changes, name=name, namespace=NAMESPACE, content_type=MERGE)

    def patch_status(self, kind: str, name: str, status: dict[str, Any]) -> Any:
        resource = self._of(kind).status
        return resource.patch(body={"status": status}, name=name, namespace=NAMESPACE, content_type=MERGE)

    def delete(self, kind: str, name: str) -> None:
        self._of(kind).delete(name=name, namespace=NAMESPACE, grace_period_seconds=0)

    def close(self) -> None:
        self._client.close()

    def _of(self, kind: str) -> Any:
        return self._dynamic.resources.get(api_version=KINDS[kind], kind=kind)


@pytest.fixture
def kubernetes(cluster: Path, environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    """Let the functions launch into the cluster; yields a client of it. Leftover objects are deleted."""
    (tmp_path / "trainers.json").write_text('{"stub": {"image": "registry.example.com/stub:1"}}')
    environment.setenv("LAUNCHER", "kubernetes")
    environment.setenv("KUBECONFIG", str(cluster / "kubeconfig"))
    client = Cluster(cluster)
    eventually(lambda: client.list("Job") == [])
    yield client
    kubectl(
        cluster, "delete", "jobs,pods,secrets", "--all", "-n", NAMESPACE, "--grace-period=0", "--force", "--wait=false"
    )
    eventually(lambda: client.list("Pod") == [] and client.list("Job") == [])
    client.close()
    disconnect()


@contextmanager
def unlabelled(cluster: Path, client: Cluster, job: dict[str, Any]) -> Iterator[None]:
    """Make a Job as a release made it that knew no installations, whose policy took it."""
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        del metadata["labels"]["stoker.dev/installation"]
    binding = ("validatingadmissionpolicybinding", "stoker-trainer-jobs")
    kubectl(cluster, "delete", *binding).check_returncode()

    def is_made() -> bool:
        try:
            client.create(job)
        except ApiException:
            return False
        return True

    def is_refused() -> bool:
        try:
            client.create(job, dry_run="All")
        except ApiException as error:
            return bool(error.status == 422)
        return False

    eventually(is_made)
    kubectl(cluster, "apply", "--server-side", "-f", manifest("policy")).check_returncode()
    eventually(is_refused)
    yield


def disconnect() -> None:
    """Let the launcher read its kubeconfig again."""
    if launch_kubernetes._api.cache_info().currsize:
        launch_kubernetes._api().close()
    launch_kubernetes._api.cache_clear()


@pytest.fixture
def node(kubernetes: Cluster) -> Callable[..., Any]:
    """Set the status of a job's newest pod as a kubelet or the scheduler would."""

    def say(job_id: str, phase: str, **status: Any) -> Any:
        def current() -> Any:
            pods = kubernetes.list("Pod", **{"job-id": job_id})
            pods = [pod for pod in pods if pod.status.phase == "Pending"] or pods
            return pods[-1] if pods else None

        pod = eventually(current)
        started_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kubernetes.patch_status("Pod", pod.metadata.name, {"phase": phase, "startTime": started_at, **status})
        return pod

    return say


def container(**state: Any) -> dict[str, Any]:
    """Return the status of the trainer's container."""
    about = {"name": "trainer", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    return {"containerStatuses": [about | {"state": state}]}


def condition(type_: str, *, status: str = "True", **more: str) -> dict[str, Any]:
    """Return a pod's condition."""
    return {"conditions": [{"type": type_, "status": status, **more}]}
