"""Compare jobs: a row for each setting that differs, and rows with the last and best value of each metric."""

from client import show
from client.api import Api, Json, call
from client.errors import CallError
from client.progress import JUDGED

_POINTS = 2000


def table(api: Api, jobs: list[Json], *, with_same: bool) -> dict[str, list[str]]:
    """Return a value for each job, by row."""
    rows = {
        "name": [show.plain(job.get("name")) for job in jobs],
        "state": [show.state(job) for job in jobs],
        "dataset": [show.plain(job["dataset_id"]) for job in jobs],
        "model": [show.plain(job["model_name"]) for job in jobs],
        "framework": [job["framework"] for job in jobs],
        "took": [show.duration(show.seconds_between(job["started_at"], job["finished_at"])) for job in jobs],
        "epoch": [show.epochs(job) for job in jobs],
    }
    settings = [_flat(job["spec"]) for job in jobs]
    for name in dict.fromkeys(name for each in settings for name in each):
        rows[name] = [each.get(name, "") for each in settings]
    always = {"state", "took", "epoch"}
    if not with_same:
        rows = {name: values for name, values in rows.items() if name in always or len(set(values)) > 1}
    columns = [_metrics(api, job) for job in jobs]
    for name in dict.fromkeys(name for each in columns for name in each):
        rows[name] = [each.get(name, "") for each in columns]
    return rows


def _flat(spec: Json) -> dict[str, str]:
    """Return a spec's settings, with the trainer's options beside the fields."""
    hidden = {"framework", "model_name", "dataset_id", "dataset_etag", "task", "hyperparameters"}
    fields = {name: str(value) for name, value in spec.items() if name not in hidden}
    return fields | {name: str(value) for name, value in (spec.get("hyperparameters") or {}).items()}


def _metrics(api: Api, job: Json) -> dict[str, str]:
    """Return the last value of each metric, and the best of those by which models are judged."""
    names = sorted(name for name in job["metrics"] if not name.startswith(show.SYSTEM))
    shown = {show.label(name, names): show.number(job["metrics"][name]) for name in names}
    try:
        path = f"/v1/jobs/{job['id']}/metrics"
        columns = call(api, "GET", path, query={"points": _POINTS}, feature="metrics by column")["columns"]
    except CallError:
        return shown  # an older server: the last values only
    for name, values in columns.items():
        numbers = [value for value in values if value is not None]
        if numbers and any(name in names for names in JUDGED.values()):
            shown[f"best {show.label(name, columns)}"] = show.number(max(numbers))
    return shown
