"""Options and arguments that several commands share."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
JobRef = Annotated[
    str, typer.Argument(metavar="JOB", help="The job's id, its beginning, its name, or `last`.", show_default=False)
]

#: the panels of `stoker --help`, in order
START, JOBS, RESULTS, DATA, SERVERS = "Train", "Jobs", "Results", "Datasets", "Servers"
