"""Options and arguments that several commands share."""

from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
JobRef = Annotated[
    str, typer.Argument(metavar="JOB", help="The job's id, its beginning, its name, or `last`.", show_default=False)
]


def model_option(about: str) -> Any:
    """Return the option that names a model."""
    return typer.Option("--model", "-m", metavar="NAME", help=about)


def trainer_option(about: str) -> Any:
    """Return the option that names a trainer."""
    return typer.Option("--framework", metavar="NAME", help=about)


#: the panels of `stoker --help`, in order
START, JOBS, RESULTS, DATA, SERVERS = "Train", "Jobs", "Results", "Datasets", "Servers"
