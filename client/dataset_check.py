"""Check a dataset with the trainer's own check: on this machine where the local stack has it, else by a job."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx

from client import home, local_check, requests, show, uploads
from client.api import Api, Json
from client.artifacts import artifacts_of
from client.errors import CallError, invalid
from client.follow import follow
from client.output import note

_LISTED, _FILES = 20, 3
_USABLE, _NOT_USABLE = 0, 65


def report(api: Api, path: str, framework: str, *, is_quiet: bool) -> Json:
    """Return the report (``dataset.json``) on a folder, a zip file, or an uploaded dataset.

    Raises:
        CallError: it could not be checked.
    """
    local = Path(path)
    if not local.exists():
        return _by_job(api, {"dataset_id": path}, framework or "ultralytics")
    name = framework or local_check.framework_of(local)
    if not is_quiet:
        note(f"checking with the trainer {name}")
    command = _command(api, name)
    if command and local.is_file():
        return _here(command, local)
    uploaded = uploads.upload(api, local, local_check.dataset_name(local), is_quiet=is_quiet)
    return _by_job(api, {"dataset_id": uploaded.dataset, "dataset_etag": uploaded.etag}, name)


def _command(api: Api, framework: str) -> list[str] | None:
    """Return the local stack's command that checks for a trainer; None if the server is another machine's."""
    stack = api.server.stack if api.server else None
    registry = home.read_environment(stack).get("TRAINERS") if stack else None
    if not registry:
        return None
    path = Path(registry)
    try:
        words: list[str] = json.loads(path.read_text(encoding="utf-8"))[framework]["command"]["check"]
    except (OSError, ValueError, KeyError):
        return None
    return [str((path.parent / word).absolute()) if "/" in word else word for word in words]


def _here(command: list[str], file: Path) -> Json:
    result = subprocess.run(  # noqa: S603 -- the local stack's own trainer
        [*command, str(file.absolute()), "--json"], capture_output=True, text=True, check=False
    )
    if result.returncode not in {_USABLE, _NOT_USABLE}:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise CallError(f"the trainer's check failed: {show.plain(lines[-1])}")
    content: Json = json.loads(result.stdout)
    return content


def _by_job(api: Api, dataset: Json, framework: str) -> Json:
    """Submit a job with the task ``check``, wait for its end, and return what it has stored."""
    models = {each["framework"]: each["models"] for each in requests.frameworks(api)}
    if framework not in models:
        raise invalid(f"there is no trainer {framework}; use one of {', '.join(models)}")
    body = dataset | {"task": "check", "framework": framework, "model_name": "check"}
    job = requests.submit(api, body)
    note(f"job {job['id']} checks the dataset")
    for update in follow(api, job["id"]):
        job = update.job
    key = f"results/job-{job['id']}/dataset.json"
    link = next((artifact["url"] for artifact in artifacts_of(api, job["id"]) if artifact["key"] == key), None)
    if link is None:
        raise CallError(f"job {job['id']} {show.state(job)}: {show.plain(job['message'])}")
    content: Json = httpx.get(link, timeout=60).raise_for_status().json()
    return content


def lines(found: Json) -> Iterator[str]:
    """Yield a report as lines for people."""
    verdict = "can be used" if found.get("usable") else "CANNOT BE USED"
    yield f"{show.plain(str(found.get('dataset', '')))} {verdict}: {show.plain(found.get('message'))}".rstrip(": ")
    for name, split in (found.get("splits") or {}).items():
        counts = [f"{split.get('images', 0):,} images"]
        counts += [f"{split['objects']:,} objects"] if split.get("objects") is not None else []
        counts += [f"{split['background']:,} without objects"] if split.get("background") else []
        yield f"  {name}: {', '.join(counts)}"
    classes = found.get("classes") or []
    if classes:
        more = f" and {len(classes) - _LISTED} more" if len(classes) > _LISTED else ""
        yield f"  {len(classes)} classes: {', '.join(map(str, classes[:_LISTED]))}{more}"
    for guess in found.get("guesses") or []:
        yield f"  assumed: {show.plain(guess['message'])}"
    for problem in found.get("problems") or []:
        kind = "refused" if problem.get("refused") else "left out"
        yield f"  {problem['count']:,} {show.plain(problem['kind'])} ({kind})"
        for file in (problem.get("files") or [])[:_FILES]:
            yield f"    {show.plain(file['file'])}: {show.plain(file['reason'])}"
