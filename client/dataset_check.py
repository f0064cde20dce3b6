"""Check a dataset with the trainer's own check: on this machine if the local stack has it, else by a job."""

import json
import os
import subprocess
import textwrap
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import httpx

from client import contexts, fitting, home, local_check, requests, show, uploads
from client.api import Api, Json, connect
from client.artifacts import artifacts_of
from client.errors import CallError, UnavailableError, invalid
from client.follow import follow
from client.output import note

_LISTED, _FILES = 20, 3
_USUAL_MODEL = "yolo11n.yaml"
_USABLE, _NOT_USABLE = 0, 65


def report(path: str, framework: str, model: str, *, is_quiet: bool) -> Json:
    """Return the report (``dataset.json``) on a folder, an archive, or an uploaded dataset.

    ``model``: the model to train on it; by default, its kind is detected.

    Raises:
        CallError: it could not be checked, or does not fit the model.
    """
    local = Path(path)
    framework = framework or (_framework_of(model) if model else "")
    if not local.exists():
        if local_check.looks_like_path(path):
            raise local_check.missing(local)
        api = connect()
        uploads.require_dataset(api, path)
        return _by_job(api, {"dataset_id": path}, framework or "ultralytics", model)
    name = framework or local_check.framework_of(local)
    fitting.check(local, name, model)
    if not is_quiet:
        note(f"checking with the trainer {name}")
    command = _command(name)
    if command:
        task = fitting.task_of(name, model) if name == "ultralytics" else None
        return _here([*command, *(["--task", task] if task else [])], local)
    api = connect()
    uploaded = uploads.upload(api, local, local_check.dataset_name(local), is_quiet=is_quiet)
    return _by_job(api, {"dataset_id": uploaded.dataset, "dataset_etag": uploaded.etag}, name, model)


def _framework_of(model: str) -> str:
    """Return the server's trainer for a model; without a server, the built-in one that has such names."""
    try:
        return requests.trainer(connect(), {"model_name": model}) or _built_in(model)
    except UnavailableError:
        return _built_in(model)
    except CallError as error:
        if error.problem.get("title") == "no server":
            return _built_in(model)
        raise


def _built_in(model: str) -> str:
    return "ultralytics" if model.startswith(("yolo", "rtdetr")) or model.endswith((".pt", ".yaml")) else "timm"


def _command(framework: str) -> list[str] | None:
    """Return this machine's command that checks for a trainer; None if it has none, or the server is another machine's.

    It is the local stack's, or the checkout's if no server was ever selected or started.
    """
    try:
        stack = contexts.select().stack
        path = Path(home.read_environment(stack).get("TRAINERS", "")) if stack else None
    except CallError:
        path = home.ROOT / "infra/local/trainers.json"
    if path is None:
        return None
    try:
        words: list[str] = json.loads(path.read_text(encoding="utf-8"))[framework]["command"]["check"]
    except (OSError, ValueError, KeyError):
        return None
    return [os.path.normpath(path.parent.absolute() / word) if "/" in word else word for word in words]


def _here(command: list[str], path: Path) -> Json:
    words = [*command, str(path.absolute()), "--json"]
    try:
        result = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 -- the local stack's own
    except OSError as error:
        raise CallError(f"the trainer is not set up on this machine ({error.filename}): run ./taskw setup") from error
    if result.returncode not in {_USABLE, _NOT_USABLE}:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise CallError(f"the trainer's check failed: {show.plain(lines[-1])}")
    content: Json = json.loads(result.stdout)
    return content


def _by_job(api: Api, dataset: Json, framework: str, model: str) -> Json:
    """Submit a job with the task ``check``, wait for its end, and return what it has stored."""
    models = {each["framework"]: each["models"] for each in requests.frameworks(api)}
    if framework not in models:
        raise invalid(f"there is no trainer {framework}; use one of {', '.join(models)}")
    body = dataset | {"task": "check", "framework": framework, "model_name": model or _model(models[framework])}
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


def _model(models: list[str]) -> str:
    """Return a model that the trainer knows; its size does not affect the check."""
    if any(fnmatchcase(_USUAL_MODEL, pattern) for pattern in models):
        return _USUAL_MODEL
    return next((name for name in models if not set(name) & set("*?[")), "check")


def lines(content: Json) -> Iterator[str]:
    """Yield a report as lines for people."""
    verdict = "can be used" if content.get("usable") else "CANNOT BE USED"
    name = show.plain(str(content.get("dataset", "")))
    yield f"{name} {verdict}: {show.plain(content.get('message')).removeprefix(f'{name}: ')}".rstrip(": ")
    for name, split in (content.get("splits") or {}).items():
        counts = [show.counted(split.get("images", 0), "images")]
        counts += [show.counted(split["objects"], "objects")] if split.get("objects") is not None else []
        counts += [f"{split['background']:,} without objects"] if split.get("background") else []
        yield f"  {name}: {', '.join(counts)}"
    classes = content.get("classes") or []
    if classes:
        more = f" and {len(classes) - _LISTED} more" if len(classes) > _LISTED else ""
        yield f"  {len(classes)} classes: {', '.join(map(str, classes[:_LISTED]))}{more}"
    for guess in content.get("guesses") or []:
        yield f"  assumed: {show.plain(guess['message'])}"
    for problem in content.get("problems") or []:
        if problem.get("refused") and _is_in_message(problem, content.get("message") or ""):
            continue
        kind = "refused" if problem.get("refused") else "left out"
        yield f"  {show.counted(problem['count'], show.plain(problem['kind']))} ({kind})"
        for file in (problem.get("files") or [])[:_FILES]:
            yield f"    {show.plain(': '.join(filter(None, (file['file'], file['reason']))))}"


def _is_in_message(problem: Json, message: str) -> bool:
    return all(file["reason"] in message and file["file"] in message for file in problem.get("files") or [])


def wrapped(content: Json, columns: int | None) -> Iterator[str]:
    """Yield the lines of a report, none wider than the terminal; continuation lines are indented."""
    if columns is None:
        yield from lines(content)
        return
    for line in lines(content):
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        yield from textwrap.wrap(line, columns, subsequent_indent=indent, break_on_hyphens=False)
