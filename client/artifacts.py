"""The objects that a job has stored."""

from client.api import Api, Json, call
from client.errors import invalid
from client.show import FINAL

_PAGES = 1000


def artifacts_of(api: Api, job_id: str) -> list[Json]:
    """Return a job's artifacts, each with a link, from all pages.

    Raises:
        CallError: the job does not exist, or the functions are unavailable.
    """
    rows: list[Json] = []
    after = None
    for _ in range(_PAGES):
        page = call(api, "GET", f"/v1/jobs/{job_id}/artifacts", query={"after": after})
        rows += page["artifacts"]
        after = page.get("next_after")
        if not after:
            break
    return rows


def best_weights(api: Api, job: Json) -> Json:
    """Return the fields of a job that starts from the best.pt of a training, also of one that has not succeeded.

    Raises:
        CallError: it is no training, or has stored no best.pt.
    """
    if job["task"] != "train":
        raise invalid(f"job {job['id']} is a {job['task']} job; name a training")
    key = f"checkpoints/job-{job['id']}/best.pt"
    if key not in {artifact["key"] for artifact in artifacts_of(api, job["id"])}:
        fix = "name another training" if job["state"] in FINAL else f"wait for it: stoker watch {job['id']}"
        raise invalid(f"job {job['id']} is {job['state']} and has stored no best.pt; {fix}")
    model = {name: job[name] for name in ("framework", "model_name")}
    size = {"image_size": job["spec"]["image_size"]} if "image_size" in job["spec"] else {}
    return model | size | {"checkpoint_key": key}
