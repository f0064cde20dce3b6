"""The commands for datasets: upload, datasets, datasets delete, check."""

import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from client import show
from client.api import Json, call, connect, request
from client.errors import DATASET, FAILED, CallError, invalid
from client.options import AsJson, model_option, trainer_option
from client.output import Column, note, print_error, print_json, print_table, width

_COLUMNS = (
    Column("NAME", is_name=True),
    Column("SIZE", is_number=True),
    Column("UPLOADED", optional=1),
    Column("JOBS", is_number=True),
    Column("ETAG", optional=2, is_flexible=True),
)


def upload(
    path: Annotated[
        Path, typer.Argument(metavar="FOLDER|ARCHIVE", help="A folder, or a zip or tar file.", show_default=False)
    ],
    *,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The dataset's name; by default the folder's or the file's.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Upload a dataset, without starting a job.

    Run it again to continue after an interruption.

    stoker upload ./cats.zip --name cats
    """
    from client import local_check, uploads  # noqa: PLC0415 -- only what uploads needs them

    note(local_check.summary(path))
    api = connect()
    uploaded = uploads.upload(api, path, name or local_check.dataset_name(path), is_quiet=as_json)
    if as_json:
        print_json(uploaded._asdict())
    else:
        print(f"dataset {uploaded.dataset} is uploaded; train on it: stoker submit {uploaded.dataset} --model NAME")


datasets_app = typer.Typer(help="List and delete the datasets in the bucket.", invoke_without_command=True)


@datasets_app.callback()
def list_datasets(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """List the datasets in the bucket, with sizes and jobs."""
    if ctx.invoked_subcommand:
        return
    from client import uploads  # noqa: PLC0415 -- only what knows datasets needs them

    rows = uploads.datasets(connect())
    if as_json:
        print_json({"datasets": rows})
    elif not rows:
        print("no datasets yet; upload one: stoker upload FOLDER")
    else:
        print_table(
            _COLUMNS,
            [
                [
                    show.plain(row["name"]),
                    show.size(row["bytes"]),
                    show.local_time(row["modified_at"])[:-3],
                    str(row.get("jobs", "")),
                    row["etag"].strip('"'),
                ]
                for row in rows
            ],
        )


@datasets_app.command("delete")
def delete_datasets(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Names of datasets.", show_default=False)],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete datasets that no open job uses.

    The jobs that used them stay, with checkpoints and results.
    """
    api = connect()
    paths = {name: f"/v1/datasets/{quote(name, safe='')}" for name in names}
    if not yes:
        if not sys.stdin.isatty():
            raise invalid("this deletes datasets for good; add --yes")
        for path in paths.values():
            print(_described(call(api, "GET", path, feature="pages of datasets")))
        if not typer.confirm(f"Delete {'this dataset' if len(paths) == 1 else f'these {len(paths)} datasets'}?"):
            print("nothing is deleted")
            raise typer.Exit(FAILED)
    deleted, errors = [], list[CallError]()
    for name, path in paths.items():
        try:
            request(api, "DELETE", path, feature="deletion of datasets")
        except CallError as error:
            errors.append(error)
            print_error(f"dataset {show.plain(name)} is not deleted: {error}")
            continue
        deleted.append(name)
        if not as_json:
            print(f"dataset {show.plain(name)} is deleted")
    if as_json:
        print_json({"deleted": deleted, "errors": [error.problem for error in errors]})
    if errors:
        raise typer.Exit(errors[0].exit_code)


def _described(dataset: Json) -> str:
    """Return what tells a dataset from others, before it is deleted."""
    jobs = "1 job" if dataset["jobs"] == 1 else f"{dataset['jobs']} jobs"
    words = (show.plain(dataset["name"]), show.size(dataset["bytes"]), show.local_time(dataset["modified_at"])[:-3])
    return "  ".join([*words, jobs])


def check(
    path: Annotated[
        str, typer.Argument(metavar="DATASET", help="A folder, an archive, or an uploaded dataset.", show_default=False)
    ],
    *,
    model: Annotated[str, model_option("The model to train; by default any that fits.")] = "",
    framework: Annotated[str, trainer_option("The trainer that checks; by default what the dataset looks like.")] = "",
    as_json: AsJson = False,
) -> None:
    """Check a dataset without training: every problem at once.

    Exits with 65 if it cannot be used.

    stoker check ./cats --model yolo11n.pt
    """
    from client import dataset_check  # noqa: PLC0415 -- only this command needs it

    report = dataset_check.report(path, framework, model, is_quiet=as_json)
    if as_json:
        print_json(report)
    else:
        print("\n".join(dataset_check.wrapped(report, width())))
    if not report.get("usable"):
        raise typer.Exit(DATASET)
