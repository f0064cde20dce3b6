"""All functions in one Knative Service, as in the overlay ``small``, beside the existing installation."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml

from infra.node.layout import apply, kubectl
from infra.node.stoker import OVERLAY
from tests.node.conftest import STOKER, TRAINERS, address_of, get

ADDRESS = "http://stoker.stoker.svc.cluster.local"
KUSTOMIZATION = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [{overlay}]
components: [{overlay}/../../components/one-service]
"""
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def one_service(tmp_path: Path) -> Iterator[str]:
    """Apply the Service and its policy, made by the component itself; yields the Service's host."""
    overlay = os.path.relpath(OVERLAY.resolve(), tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(KUSTOMIZATION.format(overlay=overlay))
    made = list(yaml.safe_load_all(kubectl("kustomize", str(tmp_path))))
    (service,) = (one for one in made if one["apiVersion"].startswith("serving.knative.dev"))
    (policy,) = (one for one in made if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == "kourier")
    # The ConfigMap names the front, which the other functions are behind.
    service["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "BACKEND_BASE_URL", "value": ADDRESS})
    for one in (service, policy):
        apply(json.dumps(one))
    kubectl("wait", "--for=condition=Ready", "ksvc/stoker", "-n", STOKER, "--timeout=120s")
    yield ADDRESS.removeprefix("http://")
    kubectl("delete", "ksvc", "stoker", "-n", STOKER)
    kubectl("delete", "networkpolicy", "kourier", "-n", TRAINERS)


def test_a_job_runs_to_its_end_with_one_service(
    one_service: str, api: httpx.Client, dataset: str, ended: Callable[[str], dict[str, Any]]
) -> None:
    body = {"framework": "stub", "model_name": "stub", "dataset_id": dataset, "epochs": 2}
    kourier = address_of("kourier-internal", namespace="kourier-system")
    made = api.post(f"{kourier}/v1/jobs", json=body, headers={"Host": one_service, "Idempotency-Key": uuid4().hex})
    assert made.status_code == 201, made.text
    job_id = made.json()["id"]

    job = ended(job_id)

    assert (job["state"], job["epoch"]) == ("SUCCEEDED", 2)
    (pod,) = get("pods", "-l", f"stoker.dev/job-id={job_id}", namespace=TRAINERS)
    variables = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
    assert variables["BACKEND_BASE_URL"] == ADDRESS
    read = api.get(f"{kourier}/v1/jobs/{job_id}/artifacts", headers={"Host": one_service})
    assert read.json()["artifacts"]
