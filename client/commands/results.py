"""The commands for what jobs have produced: download, artifacts, compare, predict, models."""

import sys
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from client import references, requests, show
from client.api import Api, Json, connect
from client.artifacts import artifacts_of, best_weights
from client.errors import invalid
from client.fields import unknown
from client.options import AsJson, JobRef
from client.output import Column, note, print_json, print_table
from client.watching import watch_job


def download(
    job: JobRef,
    patterns: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE…]", help="best.pt, results/*.png, …", show_default=False)
    ] = None,
    *,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="The folder; by default the job's id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download a job's checkpoints, results and logs.

    Run it again to continue after an interruption.

    stoker download 3f2a best.pt --to ./cats-model

    A named file is saved directly in the folder; without names, or by
    a path (results/plots, or plots), files keep their folders.
    """
    from client import downloads  # noqa: PLC0415 -- only this command needs it

    api = connect()
    job_id = references.job_id(api, job)
    chosen = downloads.chosen(artifacts_of(api, job_id), job_id, patterns or [])
    files = downloads.download(api, job_id, chosen, to or Path(job_id), is_quiet=as_json)
    if as_json:
        print_json({"job_id": job_id, "files": [str(path) for path in files]})
    else:
        for row in downloads.listing((path, artifact["size_bytes"]) for artifact, path in chosen):
            count = f" ({row.files} files)" if row.is_folder else ""
            print(f"{(to or Path(job_id)).joinpath(row.path)}{count}")


def artifacts(job: JobRef, *, as_json: AsJson = False) -> None:
    """List a job's stored files, with links valid for an hour."""
    from client import downloads  # noqa: PLC0415 -- only what knows files needs it

    api = connect()
    job_id = references.job_id(api, job)
    rows = artifacts_of(api, job_id)
    if as_json:
        print_json({"artifacts": rows})
        return
    by_path = {downloads.path_of(each["key"], job_id): each for each in rows}
    for row in downloads.listing((path, each["size_bytes"]) for path, each in by_path.items()):
        if row.is_folder:
            print(f"{row.path} ({row.files} files, {show.size(row.bytes)})\n  stoker download {job_id} {row.path}")
        else:
            artifact = by_path[row.path]
            print(f"{artifact['key']} ({show.size(row.bytes)})\n  {artifact['url']}")


def compare(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB JOB…", help="Two jobs or more.", show_default=False)],
    *,
    all_settings: Annotated[bool, typer.Option("--all", help="Also what is the same in all of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare jobs: the settings that differ, and the metrics.

    stoker compare 3f2a 91bc
    """
    from client import comparing  # noqa: PLC0415 -- only this command needs it

    api = connect()
    rows = [references.job(api, each) for each in jobs]
    if len(rows) < 2:  # noqa: PLR2004 -- a pair
        raise invalid("name two jobs or more")
    table = comparing.table(api, rows, with_same=all_settings)
    if as_json:
        print_json({"jobs": [job["id"] for job in rows], "rows": table})
        return
    columns = [Column("", is_flexible=True), *(Column(job["id"][:8], is_name=True) for job in rows)]
    print_table(columns, [[name, *values] for name, values in table.items()])


def predict(
    job: JobRef,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES…", help="Images, folders, one archive, or an uploaded dataset.", show_default=False
        ),
    ],
    *,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="DIR", help="Save predictions.jsonl and the images with their boxes here; or a .jsonl file."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a trained model (best.pt) on images, and show what it sees.

    stoker predict 3f2a cat.jpg dog.jpg --to ./predictions
    """
    from client import local_check, predicting, uploads  # noqa: PLC0415 -- only what uploads needs them

    paths = [Path(each) for each in images]
    is_dataset = len(paths) == 1 and not paths[0].exists() and not local_check.looks_like_path(images[0])
    source = None if is_dataset else predicting.images(paths)
    api = connect()
    if is_dataset:
        uploads.require_dataset(api, images[0])
    training = references.job(api, job, prefers=references.is_training)
    machine = {name: training["spec"][name] for name in ("device", "workers") if name in training["spec"]}
    body = best_weights(api, training) | machine | {"task": "predict"}
    if source:
        name = predicting.dataset_name(source)
        requests.validate(api, body | {"dataset_id": name})
        uploaded = uploads.upload(api, source, name, metadata=uploads.TEMPORARY, is_quiet=as_json)
        body |= {"dataset_id": uploaded.dataset, "dataset_etag": uploaded.etag}
    else:
        body |= {"dataset_id": images[0]}
    new = requests.submit(api, body)
    if not as_json:
        note(f"job {new['id']} is {new['state']}")
    ended = watch_job(api, new["id"], as_json=as_json, is_quiet=as_json)
    _show_predictions(api, ended, to, as_json=as_json)
    if source:  # the predictions are stored with the job
        uploads.delete(api, body["dataset_id"])


def _show_predictions(api: Api, job: Json, to: Path | None, *, as_json: bool) -> None:
    from client import downloads, predicting  # noqa: PLC0415 -- only this command needs them

    predictions, artifacts = predicting.stored(api, job["id"])
    files = list[Path]()
    if to is not None:
        is_table_only = to.suffix == ".jsonl"
        targets = predicting.targets(predictions, artifacts, job["id"], is_table_only=is_table_only)
        targets = [(each, PurePosixPath(to.name)) for each, _ in targets] if is_table_only else targets
        files = downloads.download(api, job["id"], targets, to.parent if is_table_only else to, is_quiet=as_json)
    if as_json:
        print_json(job | {"predictions": predictions} | ({"files": list(map(str, files))} if to else {}))
        return
    rows = list(predicting.rows(predictions))
    shown = rows[: _PREDICTIONS if sys.stdout.isatty() else None]
    if shown:
        print_table(predicting.COLUMNS, shown)
    if len(rows) > len(shown):
        print(f"and {len(rows) - len(shown):,} more")
    if to is None:
        note(f"to save them: stoker download {job['id']} --to ./predictions")
    elif files:
        note(f"saved in {to}: {len(files):,} file{'s'[: len(files) > 1]}")


def models(
    trainer: Annotated[str, typer.Argument(metavar="TRAINER", help="One trainer.", show_default=False)] = "",
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN", help="Its models, or else options, whose names have this.", show_default=False
        ),
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """List the models that can be trained, or a trainer's options.

    stoker models: the trainers, and some models of each

    stoker models timm: its options, for --set

    stoker models timm resnet: its models whose names contain resnet
    """
    known = requests.frameworks(connect())
    if trainer:
        known = [each for each in known if each["framework"] == trainer] or _no_trainer(trainer, known)
    if as_json:
        print_json({"frameworks": known})
    elif pattern:
        _print_matching(known[0], pattern)
    elif trainer:
        print_table(_OPTIONS, [_option(option) for option in known[0].get("options") or []])
    else:
        for each in known:
            tasks = ", ".join(each.get("tasks") or ["train"])
            print(f"{each['framework']} ({tasks}): {_some(each['models'])}")
        note("for options: stoker models TRAINER; for models: stoker models TRAINER PART-OF-A-NAME")


def _print_matching(declared: Json, pattern: str) -> None:
    """Print the models of a name, or else the options of the name. Raises: CallError: there is neither."""
    own = declared.get("options") or []
    names = [name for name in declared["models"] if fnmatchcase(name, pattern) or pattern in name]
    options = [option for option in own if fnmatchcase(option["name"], pattern) or pattern in option["name"]]
    options.sort(key=lambda option: option["name"] != pattern)
    trainer = declared["framework"]
    if names:
        print("\n".join(names))
    elif options:
        print_table(_OPTIONS, [_option(option) for option in options])
        note(f"no model of {trainer}, but an option: --set {options[0]['name']}=VALUE")
    else:
        known = [*declared["models"], *(option["name"] for option in own)]
        advice = f"stoker models {trainer} lists its options, and stoker models {trainer} '*' its models"
        raise invalid(unknown(pattern, known, f"model or option of {trainer}", advice))


def _some(models: list[str]) -> str:
    """Return a few names, those that people know first, and the number of all."""
    patterns = [name for name in models if "*" in name]
    usual = [name for name in _USUAL if name in models]
    shown = (patterns + usual or models)[:_SHOWN]
    more = len(models) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


_SHOWN = 8
#: rows of predictions on a terminal
_PREDICTIONS = 40
_USUAL = (
    "resnet18",
    "resnet50",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_small_patch16_224",
    "yolo11n.yaml",
    "yolov8n.yaml",
)
_OPTIONS = (
    Column("OPTION"),
    Column("TYPE"),
    Column("DEFAULT", is_flexible=True),
    Column("ABOUT", is_flexible=True, is_wrapped=True),
)


def _option(option: Json) -> list[str]:
    low, high = option.get("minimum"), option.get("maximum")
    bounds = f"{low} to {high}" if low is not None and high is not None else ""
    bounds = bounds or (f"at least {low}" if low is not None else f"at most {high}" if high is not None else "")
    choices = ", ".join(str(each) for each in option.get("choices") or [])
    limits = [word for word in (bounds, choices) if word]
    description = option.get("description") or ""
    about = (
        "; ".join([description.rstrip(".") if limits else description, *limits]) if description else "; ".join(limits)
    )
    default = option.get("default")
    kind = option["type"] if isinstance(option["type"], str) else " or ".join(option["type"])
    return [option["name"], kind, "" if default is None else str(default), about]


def _no_trainer(name: str, known: list[Json]) -> list[Json]:
    raise invalid(unknown(name, [each["framework"] for each in known], "trainer"))
