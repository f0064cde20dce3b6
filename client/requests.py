"""Build the request for a job from options, settings and a job file, and send it."""

import difflib
import secrets
import time
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from client import fields, job_files, references
from client.api import Api, call, request
from client.artifacts import best_weights
from client.errors import CallError, Json, UnavailableError, invalid
from client.fields import unknown
from client.job_options import Chosen

_TRIES, _WAIT_SECONDS = 4, 1.0


def body(chosen: Chosen, api: Api | None, base: Json | None = None) -> Json:
    """Return the fields of a request: the file's, then ``--set``, then options, of which the later ones win.

    ``base``: the job whose settings the request changes.

    Raises:
        CallError: a field is unknown, has the wrong type, or is out of its bounds; or ``--from-job`` names no weights.
    """
    from_file = job_files.read(chosen.file) if chosen.file else {}
    from_options = {name: value for name, value in chosen.options.items() if value not in (None, "", [])}
    from_job = _start(api, chosen.from_job, base) if chosen.from_job and api else {}
    known = options_of(api, (base or {}) | from_job | from_file | from_options) if chosen.settings and api else None
    from_settings = fields.from_settings(chosen.settings, known)
    requested: Json = from_file | from_settings | from_options
    _refuse_other_weights(requested, from_job, chosen.from_job)
    parts = [from_file.get("hyperparameters"), from_settings.get("hyperparameters")]
    hyperparameters = {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
    merged = from_job | requested
    fields.check_bounds(merged)
    return merged | ({"hyperparameters": hyperparameters} if hyperparameters else {})


def _start(api: Api, reference: str, base: Json | None) -> Json:
    """Return the fields of a job that starts from another one's best.pt; the ``base``'s own image size stays.

    Raises:
        CallError: the other job has none.
    """
    start = best_weights(api, references.job(api, reference, prefers=references.is_training))
    if base and "image_size" in base["spec"]:
        start.pop("image_size", None)
    return start


def _refuse_other_weights(requested: Json, from_job: Json, reference: str) -> None:
    """Refuse a request that names another model than the job that it starts from. Raises: CallError."""
    for name in ("framework", "model_name", "checkpoint_key"):
        if from_job and requested.get(name, from_job[name]) != from_job[name]:
            raise invalid(f"--from-job {reference} starts from its {from_job[name]}, not {requested[name]}")


def changes(chosen: Chosen, api: Api, base: Json, unset: Sequence[str]) -> Json:
    """Return the changes for a resumed or cloned job: as ``body``, and null for fields that take their default.

    Raises:
        CallError: as ``body``; or ``unset`` names no setting.
    """
    changed = body(chosen, api, base)
    if not unset:
        return changed
    own = base["spec"].get("hyperparameters") or {}
    removed = fields.unset(unset, own, options_of(api, base | changed))
    hyperparameters = removed.get("hyperparameters", {}) | changed.get("hyperparameters", {})
    return removed | changed | ({"hyperparameters": hyperparameters} if hyperparameters else {})


def options_of(api: Api, job: Json) -> dict[str, str] | None:
    """Return the trainer's names, each with the field that it means, or with nothing for an option.

    None if the server does not provide them, or the trainer is ambiguous.
    """
    try:
        known = frameworks(api)
    except CallError:
        return None  # an older server
    framework = job.get("framework") or framework_of(known, str(job.get("model_name") or ""))
    declared = next((each for each in known if each["framework"] == framework), None)
    if not declared or declared.get("options") is None:
        return None
    options = {option["name"]: "" for option in declared["options"]}
    return options | {name: field for name, field in (declared.get("aliases") or {}).items() if field in fields.kinds()}


def trainer(api: Api, job: Json) -> str | None:
    """Return the trainer of a job, before a long upload; None if an older server does not tell.

    Raises:
        CallError: the server has none, or several.
    """
    try:
        known = frameworks(api)
    except UnavailableError:
        raise
    except CallError:
        return None  # the server reports it, once the dataset is uploaded
    names = [each["framework"] for each in known]
    wanted, model = job.get("framework"), str(job["model_name"])
    if wanted and wanted not in names:
        raise invalid(unknown(str(wanted), names, "trainer"))
    framework = str(wanted) if wanted else framework_of(known, model)
    if framework is None:
        raise invalid(_no_trainer(known, model))
    return framework


def _no_trainer(known: Iterable[Json], model: str) -> str:
    """Return the message for a model that no trainer knows, or several do."""
    knowing = [each["framework"] for each in known if _knows(each, model)]
    if knowing:
        return f"several trainers know the model {model}: choose --framework: {', '.join(knowing)}"
    by_key = {name.casefold(): name for each in known for name in each["models"]}
    close = sorted(by_key[key] for key in difflib.get_close_matches(model.casefold(), by_key, n=3))
    return f"no trainer knows the model {model}; " + (
        f"did you mean {', '.join(close)}?" if close else "stoker models lists some; or choose --framework"
    )


def frameworks(api: Api) -> list[Json]:
    """Return the declarations of the server's trainers: models, tasks and options. Raises: CallError."""
    content: Any = call(api, "GET", "/v1/frameworks", feature="list of models")
    rows: list[Json] = content["frameworks"] if isinstance(content, dict) else content
    return rows


def framework_of(known: Iterable[Json], model: str) -> str | None:
    """Return the only framework that knows a model; None if it is not unique."""
    matching = [each for each in known if _knows(each, model)]
    narrow = [each for each in matching if "*" not in each["models"]] or matching
    return str(narrow[0]["framework"]) if model and len(narrow) == 1 else None


def _knows(trainer: Json, model: str) -> bool:
    """Return whether a trainer knows a model, as the server decides it: by a name in any case, or by a pattern."""
    folded = model.casefold()
    return any(folded == name.casefold() or fnmatchcase(model, name) for name in trainer["models"])


def validate(api: Api, job: Json) -> None:
    """Check a request before a long upload; an older server, which lacks this check, refuses it afterwards.

    Raises:
        CallError: the request would be refused.
    """
    try:
        request(api, "POST", "/v1/validate", body=job, feature="validation of requests")
    except CallError as error:
        if error.problem.get("title") != "unknown path":
            raise _explained(api, job, error) from error


def submit(api: Api, job: Json) -> Json:
    """Submit a job, and return it; a repeated request after an outage creates no second job.

    Raises:
        CallError: the request was refused.
    """
    headers = {"Idempotency-Key": secrets.token_hex(16)}
    for left in reversed(range(_TRIES)):
        try:
            return call(api, "POST", "/v1/jobs", body=job, headers=headers)
        except UnavailableError as error:
            if not left:
                raise
            time.sleep(error.retry_after_seconds or _WAIT_SECONDS)
        except CallError as error:
            raise _explained(api, job, error) from error
    raise AssertionError("unreachable")


def _explained(api: Api, job: Json, error: CallError) -> CallError:
    """Return the error with the missing field named as on the command line."""
    missing = {each["field"] for each in error.problem.get("errors") or () if "missing" in each["detail"]}
    if "model_name" in missing:
        return invalid("which model? for example --model yolo11n.pt or --model resnet18; stoker models lists them")
    if "framework" in missing:
        try:
            names = ", ".join(each["framework"] for each in frameworks(api))
        except CallError:
            names = "ultralytics or timm"
        return invalid(f"more than one trainer may know {job.get('model_name')}: choose --framework: {names}")
    return error
