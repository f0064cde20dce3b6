"""The commands that start jobs: train, submit, resume, clone."""

from pathlib import Path
from typing import Annotated

import typer

from client import fields, fitting, references, requests
from client.api import Api, call, connect
from client.errors import Json, invalid
from client.job_options import Chosen, takes_job_options
from client.options import AsJson, JobRef
from client.output import note, print_json
from client.watching import watch_job

Watch = Annotated[bool, typer.Option("--watch/--no-watch", help="Show the job until it ends.")]
Unset = Annotated[
    list[str] | None,
    typer.Option(
        "--unset", "-u", metavar="NAME", help="A setting of the old job to leave to its default; may be repeated."
    ),
]
_WHICH_MODEL = "which model? for example --model yolo11n.pt or --model resnet18; stoker models lists them"


@takes_job_options
def train(
    path: Annotated[
        Path, typer.Argument(metavar="FOLDER|ARCHIVE", help="A folder, or a zip or tar file.", show_default=False)
    ],
    *,
    chosen: Chosen,
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="The dataset's name on the server; by default the folder's.")
    ] = "",
    watch: Watch = True,
    as_json: AsJson = False,
) -> None:
    """Train on a folder or an archive: upload, submit and watch.

    stoker train ./cats --model yolo11n.pt --epochs 20

    stoker train ./more-cats --from-job 3f2a --epochs 20

    An upload that was interrupted continues where it stopped, and an
    unchanged dataset is not uploaded again.
    """
    from client import local_check, uploads  # noqa: PLC0415 -- only what uploads needs them

    api = connect()
    job = requests.body(chosen, api)
    note(local_check.summary(path))
    if not job.get("model_name"):
        raise invalid(f"which model? for example --model {fitting.usual_model(path)}; stoker models lists them")
    framework = requests.trainer(api, job)
    if job.get("task", "train") == "train":
        fitting.check(path, framework, str(job["model_name"]))
    if chosen.is_dry_run:
        print_json(job | {"dataset_id": dataset or local_check.dataset_name(path)})
        return
    name = dataset or local_check.dataset_name(path)
    requests.validate(api, job | {"dataset_id": name})
    uploaded = uploads.upload(api, path, name, is_quiet=as_json)
    submitted = requests.submit(api, job | {"dataset_id": uploaded.dataset, "dataset_etag": uploaded.etag})
    _started(api, submitted, is_watched=watch, as_json=as_json)


@takes_job_options
def submit(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="The dataset's name, as in stoker datasets.", show_default=False)
    ] = "",
    *,
    chosen: Chosen,
    watch: Watch = False,
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
    api = connect()
    job = requests.body(chosen._replace(options=chosen.options | {"dataset_id": dataset}), api)
    if chosen.is_dry_run:
        print_json(job)
        return
    if not job.get("dataset_id"):
        raise invalid("which dataset? stoker datasets lists them; stoker train FOLDER uploads one and trains on it")
    if not job.get("model_name"):
        raise invalid(_WHICH_MODEL)
    _started(api, requests.submit(api, job), is_watched=watch, as_json=as_json)


@takes_job_options
def resume(job: JobRef, *, chosen: Chosen, unset: Unset = None, watch: Watch = False, as_json: AsJson = False) -> None:
    """Continue a failed or cancelled job from its last checkpoint, as a new job.

    stoker resume 3f2a --epochs 50

    The new job has the settings of the old one, but for the options.
    Model, trainer and dataset stay: stoker clone changes them.
    """
    if chosen.from_job:
        raise invalid(
            f"resume continues from the job's own last.pt; to start from a best.pt: "
            f"stoker clone {job} --from-job {chosen.from_job}"
        )
    _again(job, "resume", chosen, unset or [], is_watched=watch, as_json=as_json)


@takes_job_options
def clone(job: JobRef, *, chosen: Chosen, unset: Unset = None, watch: Watch = False, as_json: AsJson = False) -> None:
    """Start a new job with the settings of another one.

    stoker clone 3f2a --learning-rate 0.01 --unset mosaic

    The new job has the settings of the old one, but for the options.
    --unset leaves a setting of the old one to its default.
    To train on from what the old one has learned:

    stoker clone 3f2a --from-job 3f2a --epochs 20
    """
    _again(job, "clone", chosen, unset or [], is_watched=watch, as_json=as_json)


def _again(reference: str, verb: str, chosen: Chosen, unset: list[str], *, is_watched: bool, as_json: bool) -> None:
    api = connect()
    job = references.job(api, reference, prefers=references.is_training)
    changes = requests.changes(chosen, api, job, unset)
    if chosen.is_dry_run:
        print_json(changes)
        return
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
