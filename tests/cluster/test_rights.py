"""The rights of each account, in every relevant namespace: exactly those that it needs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.api import tokens
from functions.launchers import base, launching
from functions.launchers import kubernetes_objects as objects
from functions.launchers.base import Phase
from functions.launchers.kubernetes import Kubernetes
from functions.store import queries
from functions.store.tables import Job
from infra.node.layout import BINARIES, run
from tests.cluster.conftest import NAMESPACE, Cluster, disconnect, kubectl
from tests.conftest import ROOT, seconds

pytestmark = [pytest.mark.usefixtures("sqlite", "s3"), pytest.mark.timeout(600)]

NAMESPACES = (NAMESPACE, "stoker", "kube-system", "default")
LAUNCH = {"create jobs.batch", "get jobs.batch", "create secrets", "patch secrets", "list localqueues.kueue.x-k8s.io"}
REPLACE = {"delete secrets"}
STOP = {"list jobs.batch", "delete jobs.batch"}
LOOK = {"get jobs.batch", "list jobs.batch", "get pods", "list pods", "list events", "list workloads.kueue.x-k8s.io"}
WATCH = {"get jobs.batch", "list jobs.batch", "watch jobs.batch"}
#: in the trainers' namespace; no account has rights elsewhere
RIGHTS: dict[str, set[str]] = {
    "stoker:create-job": LAUNCH | STOP,
    "stoker:cancel": STOP,
    "stoker:sweep": LAUNCH | REPLACE | STOP | LOOK,
    "stoker:job-changes": WATCH,
    "stoker:callbacks": set(),
    "stoker:uploads": set(),
    "stoker:dead-letter": set(),
    "stoker:default": set(),
    f"{NAMESPACE}:trainer": set(),
    f"{NAMESPACE}:default": set(),
}


@pytest.fixture(scope="module")
def accounts(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Apply the accounts and rights of the production overlay and of the component for queues; return the accounts."""
    folder = tmp_path_factory.mktemp("rights")
    made = {
        "resources": [relative(folder, ROOT / "knative/overlays/production")],
        "components": [relative(folder, ROOT / "knative/components/kueue")],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(made))
    rendered = [*yaml.safe_load_all(run(BINARIES / "kubectl", "kustomize", folder))]
    mine = [
        one
        for one in rendered
        if one["kind"] in {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    ]
    kubectl(
        cluster, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(mine)
    ).check_returncode()
    return {
        f"{one['metadata']['namespace']}:{one['metadata']['name']}" for one in mine if one["kind"] == "ServiceAccount"
    }


def relative(start: Path, target: Path) -> str:
    return str(Path(*[".."] * (len(start.resolve().parts) - 1), *target.parts[1:]))


def rights(cluster: Path, account: str) -> dict[str, set[str]]:
    """Return by namespace what an account may do: each verb and kind, as the API server itself sums it up."""
    reviews = [
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": one}}
        for one in NAMESPACES
    ]
    words = ("create", "--validate=false", "-f", "-", "-o", "json", f"--as=system:serviceaccount:{account}")
    done = kubectl(cluster, *words, stdin=yaml.safe_dump_all(reviews))
    assert done.returncode == 0, done.stderr
    answers, decoder, text = [], json.JSONDecoder(), done.stdout.strip()
    while text:
        answer, end = decoder.raw_decode(text)
        answers.append(answer["status"])
        text = text[end:].lstrip()
    assert [answer["incomplete"] for answer in answers] == [False] * len(NAMESPACES)
    return {
        namespace: {
            f"{verb} {kind}{f'.{group}' if group else ''}"
            for rule in answer["resourceRules"]
            for verb in rule["verbs"]
            for group in rule["apiGroups"]
            for kind in rule["resources"]
        }
        for namespace, answer in zip(NAMESPACES, answers, strict=True)
    }


@pytest.mark.parametrize("account", RIGHTS)
def test_an_account_can_do_what_it_needs_and_nothing_else(cluster: Path, accounts: set[str], account: str) -> None:
    assert accounts
    # Every account may query its own rights.
    anybody = rights(cluster, "stoker:nobody-has-this-name")
    mine = rights(cluster, account)

    assert {namespace: mine[namespace] - anybody[namespace] for namespace in NAMESPACES} == {
        namespace: RIGHTS[account] if namespace == NAMESPACE else set() for namespace in NAMESPACES
    }
    assert all("secrets" not in what and "jobs" not in what for what in anybody[NAMESPACE])


def test_every_account_is_in_that_table(accounts: set[str]) -> None:
    assert accounts <= RIGHTS.keys()


@pytest.fixture
def acting(
    cluster: Path, accounts: set[str], tmp_path: Path, environment: pytest.MonkeyPatch
) -> Callable[[str], Kubernetes]:
    """Return the launcher as it is with an account's own token."""

    def as_account(name: str) -> Kubernetes:
        assert f"stoker:{name}" in accounts
        token = kubectl(cluster, "create", "token", name, "-n", "stoker").stdout.strip()
        config = yaml.safe_load((cluster / "kubeconfig").read_text())
        config["users"][0]["user"] = {"token": token}
        (tmp_path / name).write_text(yaml.safe_dump(config))
        disconnect()
        environment.setenv("KUBECONFIG", str(tmp_path / name))
        return Kubernetes()

    return as_account


def test_each_function_does_its_work_with_its_own_rights(
    acting: Callable[[str], Kubernetes], kubernetes: Cluster, a_job: Callable[..., str]
) -> None:
    job = queries.job(a_job(now=tokens.now()))

    assert submitted(acting("create-job"), job).phase == Phase.HELD
    sweep = acting("sweep")
    assert sweep.list() == {job.id}
    assert sweep.inspect(job).phase == Phase.HELD
    assert submitted(sweep, job).phase == Phase.HELD
    sweep.renew(job, launching.credentials(job, now=tokens.now()))
    kubernetes.patch("Secret", objects.name(job), {"immutable": True})
    sweep.renew(job, launching.credentials(job, now=tokens.now() + seconds(60)))
    assert not kubernetes.get("Secret", objects.name(job)).immutable
    acting("cancel").stop(job.id)
    assert acting("sweep").list() == set()


def submitted(kubernetes: Kubernetes, job: Job) -> base.Status:
    return kubernetes.submit(job, launching.environment(job, now=tokens.now()))


@pytest.mark.parametrize("account", ["callbacks", "dead-letter", "uploads"])
def test_a_function_without_rights_cannot_even_look(
    account: str, acting: Callable[[str], Any], kubernetes: Cluster
) -> None:
    del kubernetes
    with pytest.raises(OSError, match="forbidden"):
        acting(account).list()
