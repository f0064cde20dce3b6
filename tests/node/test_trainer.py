"""Each trainer's image, built by its own Dockerfile, trains a real model on the node."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.demos import DEMOS
from infra.node import images
from tests.node.conftest import STOKER, address_of, eventually, report

EPOCHS = 3


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("framework", DEMOS)
def test_digits_that_are_uploaded_become_a_model(
    framework: str, bucket: Any, api: httpx.Client, ended: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    began = time.time()
    images.build_trainer(framework)
    report(f"trainer-{framework}: its image built and imported in {time.time() - began:.0f} s")
    demo, dataset_id = DEMOS[framework], f"digits-{time.time_ns()}"
    demo.write(tmp_path / "digits.zip")
    metadata = {f"stoker-{name}": value for name, value in demo.metadata.items()} | {"stoker-epochs": str(EPOCHS)}

    began = time.time()
    content = (tmp_path / "digits.zip").read_bytes()
    bucket.put_object(Bucket=STOKER, Key=f"datasets/{dataset_id}.zip", Body=content, Metadata=metadata)
    listed = eventually(
        lambda: api.get("/v1/jobs", params={"dataset_id": dataset_id}).json()["jobs"], within_seconds=120
    )
    job = ended(listed[0]["id"], within_seconds=600)

    assert (job["state"], job["epoch"]) == ("SUCCEEDED", EPOCHS), json.dumps(job)
    stored = {
        one["key"].rpartition("/")[2]: one for one in api.get(f"/v1/jobs/{job['id']}/artifacts").json()["artifacts"]
    }
    assert {"best.pt", "last.pt", "metrics.csv"} <= stored.keys()
    # The link names the storage as the cluster knows it, and the name is signed.
    link = httpx.URL(stored["best.pt"]["url"])
    best = httpx.get(f"{address_of('storage')}{link.raw_path.decode()}", headers={"Host": link.netloc.decode()}).content
    assert len(best) == stored["best.pt"]["size_bytes"] > 0
    report(f"{framework}: from upload to SUCCEEDED in {time.time() - began:.0f} s, {EPOCHS} epochs; {job['metrics']}")
