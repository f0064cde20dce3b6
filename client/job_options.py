"""The options of the commands that start jobs: train, submit, resume and clone take the same."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from client.errors import Json
from client.options import model_option, trainer_option


class Chosen(NamedTuple):
    """The fields of a job that the user has set."""

    #: by the names of the API; empty if not set
    options: Json
    #: NAME=VALUE, as they were written
    settings: list[str]
    file: Path | None
    #: the job whose best.pt the new one starts from
    from_job: str
    is_dry_run: bool


def _options(  # noqa: PLR0913 -- as many as options
    *,
    model: Annotated[str, model_option("The model, such as yolo11n.pt or resnet18.")] = "",
    framework: Annotated[str, trainer_option("The trainer; by default the one that knows the model.")] = "",
    from_job: Annotated[
        str, typer.Option("--from-job", metavar="JOB", help="Start from the best.pt of this job, with its model.")
    ] = "",
    epochs: Annotated[
        int | None, typer.Option("--epochs", "-e", metavar="N", help="Number of epochs.", show_default=False)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Images in a batch.", show_default=False)] = None,
    image_size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Images are scaled to this many pixels.", show_default=False)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="Initial learning rate.", show_default=False)
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="cpu, mps, or the numbers of GPUs, such as 0,1.")
    ] = "",
    gpus: Annotated[
        int | None, typer.Option(metavar="N", help="Number of GPUs to ask the cluster for.", show_default=False)
    ] = None,
    check_first: Annotated[
        bool | None,
        typer.Option(
            "--check-first/--no-check-first", help="Check the dataset first, without GPUs.", show_default=False
        ),
    ] = None,
    name: Annotated[str, typer.Option(metavar="TEXT", help="A name for the job.")] = "",
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TEXT", help="A tag to find the job by; may be repeated.")
    ] = None,
    notes: Annotated[str, typer.Option(metavar="TEXT", help="Notes on the job.")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", metavar="NAME=VALUE", help="Any field, or an option of the trainer; may be repeated."
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="A job file in YAML; options override it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the request as JSON, and send nothing.")] = False,
) -> Chosen:
    """Return the values of the shared options; its signature is what ``takes_job_options`` adds."""
    options = {
        "model_name": model,
        "framework": framework,
        "epochs": epochs,
        "batch_size": batch_size,
        "image_size": image_size,
        "learning_rate": learning_rate,
        "device": device,
        "gpus": gpus,
        "check_first": check_first,
        "name": name,
        "tags": tag,
        "notes": notes,
    }
    return Chosen(options, settings or [], file, from_job, dry_run)


def takes_job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the shared options; it gets them as the keyword argument ``chosen``."""
    own = inspect.signature(command)
    shared = inspect.signature(_options).parameters

    @wraps(command)
    def with_options(**values: Any) -> None:
        chosen = _options(**{name: values.pop(name) for name in shared})
        command(**values, chosen=chosen)

    parameters = [each for each in own.parameters.values() if each.name != "chosen"]
    positional = [each for each in parameters if each.kind is not each.KEYWORD_ONLY]
    named = [each for each in parameters if each.kind is each.KEYWORD_ONLY]
    vars(with_options)["__signature__"] = own.replace(parameters=[*positional, *shared.values(), *named])
    return with_options
