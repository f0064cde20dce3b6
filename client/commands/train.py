"""The commands that start jobs: train, submit, resume, clone."""

from pathlib import Path
from typing import Annotated, Any

import typer

from client import fields, references, requests
from client.api import Api, call, connect
from client.errors import Json, invalid
from client.options import AsJson, JobRef
from client.output import note, print_json
from client.watching import watch_job

Model = Annotated[str, typer.Option("--model", "-m", metavar="NAME", help="The model, such as yolo11n.pt or resnet18.")]
Framework = Annotated[str, typer.Option(metavar="NAME", help="The trainer; by default the one that knows the model.")]
Epochs = Annotated[
    int | None, typer.Option("--epochs", "-e", metavar="N", help="Number of epochs.", show_default=False)
]
BatchSize = Annotated[int | None, typer.Option(metavar="N", help="Images in a batch.", show_default=False)]
ImageSize = Annotated[
    int | None, typer.Option(metavar="PIXELS", help="Images are scaled to this many pixels.", show_default=False)
]
LearningRate = Annotated[float | None, typer.Option(metavar="RATE", help="Initial learning rate.", show_default=False)]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="cpu, mps, or the numbers of GPUs, such as 0,1.")
]
Gpus = Annotated[
    int | None, typer.Option(metavar="N", help="Number of GPUs to ask the cluster for.", show_default=False)
]
Name = Annotated[str, typer.Option(metavar="TEXT", help="A name for the job.")]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TEXT", help="A tag to find the job by; may be repeated.")
]
Notes = Annotated[str, typer.Option(metavar="TEXT", help="Notes on the job.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="NAME=VALUE", help="Any field, or an option of the trainer; may be repeated."),
]
File = Annotated[
    Path | None, typer.Option("--file", "-f", metavar="FILE", help="A job file in YAML; options override it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the request as JSON, and send nothing.")]


def train(
    path: Annotated[Path, typer.Argument(metavar="FOLDER|ZIP", help="A folder, or a zip file.", show_default=False)],
    *,
    model: Model = "",
    framework: Framework = "",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    image_size: ImageSize = None,
    learning_rate: LearningRate = None,
    device: Device = "",
    gpus: Gpus = None,
    name: Name = "",
    tag: Tags = None,
    notes: Notes = "",
    settings: Settings = None,
    file: File = None,
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="The dataset's name on the server; by default the folder's.")
    ] = "",
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Show the job until it ends.")] = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train on a folder or zip file: upload, submit and watch.

    stoker train ./cats --model yolo11n.pt --epochs 20

    An upload that was interrupted continues where it stopped, and an
    unchanged dataset is not uploaded again.
    """
    from client import local_check, uploads  # noqa: PLC0415 -- only what uploads needs them

    api = connect()
    job = requests.body(_job_fields(locals()), settings or [], file, api)
    if not job.get("model_name"):
        raise invalid("which model? for example --model yolo11n.pt or --model resnet18; stoker models lists them")
    note(local_check.summary(path))
    requests.check_trainer(api, job)
    if dry_run:
        print_json(job | {"dataset_id": dataset or local_check.dataset_name(path)})
        return
    uploaded = uploads.upload(api, path, dataset or local_check.dataset_name(path), is_quiet=as_json)
    submitted = requests.submit(api, job | {"dataset_id": uploaded.dataset, "dataset_etag": uploaded.etag})
    _started(api, submitted, is_watched=watch, as_json=as_json)


def submit(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="The dataset's name, as in stoker datasets.", show_default=False)
    ] = "",
    *,
    model: Model = "",
    framework: Framework = "",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    image_size: ImageSize = None,
    learning_rate: LearningRate = None,
    device: Device = "",
    gpus: Gpus = None,
    name: Name = "",
    tag: Tags = None,
    notes: Notes = "",
    settings: Settings = None,
    file: File = None,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Show the job until it ends.")] = False,
    dry_run: DryRun = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of job files, for editors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train on a dataset that has been uploaded.

    stoker submit cats --model resnet18 --set lr=0.1 -f job.yaml

    For help in an editor: stoker submit --schema > job.schema.json, and as first line of job.yaml
    # yaml-language-server: $schema=job.schema.json
    """
    if schema:
        print(fields.SCHEMA_FILE.read_text(encoding="utf-8"), end="")
        return
    options = _job_fields(locals()) | {"dataset_id": dataset}
    api = connect()
    job = requests.body(options, settings or [], file, api)
    if dry_run:
        print_json(job)
        return
    if not job.get("dataset_id"):
        raise invalid("which dataset? stoker datasets lists them; stoker train FOLDER uploads one and trains on it")
    if not job.get("model_name"):
        raise invalid("which model? for example --model yolo11n.pt or --model resnet18; stoker models lists them")
    _started(api, requests.submit(api, job), is_watched=watch, as_json=as_json)


def resume(
    job: JobRef,
    *,
    settings: Settings = None,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Show the job until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Continue an ended job from its last checkpoint, as a new job.

    stoker resume 3f2a --set epochs=50
    """
    _again(job, "resume", settings, is_watched=watch, as_json=as_json)


def clone(
    job: JobRef,
    *,
    settings: Settings = None,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Show the job until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a new job with the settings of another one.

    stoker clone 3f2a --set learning_rate=0.01
    """
    _again(job, "clone", settings, is_watched=watch, as_json=as_json)


def _again(reference: str, verb: str, settings: list[str] | None, *, is_watched: bool, as_json: bool) -> None:
    api = connect()
    job = references.job(api, reference)
    changes = fields.from_settings(settings, requests.options_of(api, job)) if settings else {}
    new = call(api, "POST", f"/v1/jobs/{job['id']}/{verb}", body=changes, feature=f"{verb} of jobs")
    _started(api, new, is_watched=is_watched, as_json=as_json)


def _started(api: Api, job: Json, *, is_watched: bool, as_json: bool) -> None:
    """Print a new job, and watch it if that is wanted."""
    if as_json and not is_watched:
        print_json(job)
        return
    if not as_json:
        print(f"job {job['id']} is {job['state']}" + (f": {job['message']}" if job.get("message") else ""))
    if is_watched:
        watch_job(api, job["id"], as_json=as_json)
    else:
        print(f"watch it: stoker watch {job['id']}")


def _job_fields(values: dict[str, Any]) -> Json:
    """Return a command's options as fields of a job."""
    names = ("framework", "epochs", "batch_size", "image_size", "learning_rate", "device", "gpus", "name", "notes")
    return {name: values[name] for name in names} | {"model_name": values["model"], "tags": values["tag"]}
