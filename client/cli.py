"""The commands of `stoker`, in the order in which `stoker --help` lists them."""

import os
from typing import Annotated

import typer

from client.commands import datasets, jobs, results, servers, train
from client.options import DATA, JOBS, RESULTS, SERVERS, START

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Train computer-vision models: on this laptop's stack, or on a cluster that scales to zero.",
    epilog="Start here: stoker train ./cats --model yolo11n.pt --epochs 20",
)


def _print_version(*, is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version  # noqa: PLC0415 -- only this option needs it

        print(f"stoker {version('stoker')}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    context: Annotated[
        str, typer.Option("--context", metavar="NAME", help="The server to use; see stoker contexts.")
    ] = "",
    version: Annotated[  # noqa: ARG001 -- the callback prints it
        bool,
        typer.Option(
            "--version",
            callback=lambda value: _print_version(is_wanted=value),
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    if context:
        os.environ["STOKER_CONTEXT"] = context


for panel, commands in {
    START: (train.train, train.submit, train.resume, train.clone),
    JOBS: (jobs.jobs, jobs.watch, jobs.logs, jobs.events, jobs.cancel, jobs.label, jobs.share, jobs.rm),
    RESULTS: (results.download, results.artifacts, results.compare, results.predict, results.models),
    DATA: (datasets.upload, datasets.check),
    SERVERS: (servers.login, servers.env, servers.open_console, servers.completion),
}.items():
    for command in commands:
        name = {"open_console": "open"}.get(command.__name__, command.__name__)
        app.command(name, rich_help_panel=panel)(command)
app.add_typer(datasets.datasets_app, name="datasets", rich_help_panel=DATA)
app.add_typer(servers.contexts_app, name="contexts", rich_help_panel=SERVERS)
