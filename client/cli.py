"""The commands for jobs and tokens (``python -m client``)."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, ParamSpec

import typer

from client import show, stored_log
from client import submit as request
from client.api import Api, CallError, Json, call, connect
from client.follow import events_of, follow
from client.home import read_environment
from client.minting import mint
from client.watch import watcher

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

JobId = Annotated[str, typer.Argument(help="The job's id.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help=f"One of {', '.join(request.FIELDS)}; may be repeated."),
]
_INTERRUPTED = 130
_HOUR_SECONDS = 3600
Parameters = ParamSpec("Parameters")


def friendly(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Print an error as one line, or as JSON under ``--json``; exit with 1, or with 2 for an invalid value."""

    @wraps(command)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CallError as error:
            _print_error(str(error), error.problem, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(1) from error
        except typer.BadParameter as error:  # typer's own message shows a command that nobody typed: python -m client
            problem = {"title": "invalid value", "detail": error.message}
            _print_error(error.message, problem, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(2) from error
        except BrokenPipeError:  # as in `… | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return guarded


def _print_error(line: str, problem: Json, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(problem))
    else:
        print(f"stoker: {line}", file=sys.stderr)


@app.command()
@friendly
def jobs(*, state: str = "", dataset: str = "", framework: str = "", limit: int = 20, as_json: AsJson = False) -> None:
    """List jobs, newest first."""
    filters = {"state": state.upper(), "dataset_id": dataset, "framework": framework, "limit": limit}
    page = call(connect(), "GET", "/v1/jobs", query={name: value for name, value in filters.items() if value})
    if as_json:
        print(json.dumps(page))
    elif not page["jobs"]:
        print("no jobs")
    else:
        print("\n".join(show.table(show.JOB_COLUMNS, map(show.job_row, page["jobs"]))))


@app.command()
@friendly
def watch(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Show a job live until it ends; Ctrl-C leaves it running. Exit with 1 unless it succeeds."""
    _watch(connect(), job_id, as_json=as_json)


@app.command()
@friendly
def submit(
    dataset: str, *, model: str = "", framework: str = "", settings: Settings = None, as_json: AsJson = False
) -> None:
    """Train on the dataset datasets/DATASET.zip of the bucket."""
    names = {"dataset_id": dataset, "model_name": model, "framework": framework}
    body = {name: value for name, value in names.items() if value} | request.fields(settings or [])
    job = call(connect(), "POST", "/v1/jobs", body=body)
    _show_new(job, as_json=as_json)


@app.command()
@friendly
def predict(job_id: JobId, dataset: str, *, as_json: AsJson = False) -> None:
    """Run a trained model (best.pt) on a dataset's images, and wait until it has finished."""
    api = connect()
    body = request.prediction(call(api, "GET", f"/v1/jobs/{job_id}"), dataset)
    job = call(api, "POST", "/v1/jobs", body=body)
    if not as_json:
        _show_new(job, as_json=False)
    _watch(api, job["id"], as_json=as_json)
    if not as_json:
        key = f"results/job-{job['id']}/predictions.jsonl"
        links = {artifact["key"]: artifact["url"] for artifact in stored_log.artifacts(api, job["id"])}
        print(f"predictions: {key}\n  {links.get(key, 'not stored')}")


@app.command()
@friendly
def cancel(job_id: JobId, *, message: str = "", as_json: AsJson = False) -> None:
    """Cancel a job; its trainer is stopped."""
    job = call(connect(), "POST", f"/v1/jobs/{job_id}/cancel", body={"message": message} if message else {})
    print(json.dumps(job) if as_json else f"job {job['id']} is {job['state']}")


@app.command()
@friendly
def logs(job_id: JobId, *, follow: bool = False, attempt: int | None = None, as_json: AsJson = False) -> None:
    """Print a job's stored log; by default, the log of its last attempt."""
    with _detached_by_interrupt(job_id):
        chunks = stored_log.chunks(connect(), job_id, attempt=attempt, is_followed=follow and not as_json)
        if as_json:
            text = b"".join(chunks).decode("utf-8", "replace")
            print(json.dumps({"job_id": job_id, "lines": text.splitlines()}))
            return
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


@app.command()
@friendly
def events(job_id: JobId, *, kind: str = "", as_json: AsJson = False) -> None:
    """Print a job's timeline: states, events and heartbeats of its trainer."""
    timeline = events_of(connect(), job_id, kind=kind or None)
    if as_json:
        print(json.dumps({"events": list(timeline)}))
        return
    for event in timeline:
        print(show.event_line(event))


@app.command()
@friendly
def artifacts(job_id: JobId, *, as_json: AsJson = False) -> None:
    """List a job's artifacts, with links that are valid for an hour."""
    rows = stored_log.artifacts(connect(), job_id)
    if as_json:
        print(json.dumps({"artifacts": rows}))
        return
    for artifact in rows:
        print(f"{artifact['key']} ({show.size(artifact['size_bytes'])})\n  {artifact['url']}")


@app.command()
@friendly
def token(
    *,
    scope: str = "jobs:read jobs:write",
    subject: str = "developer",
    hours: Annotated[float, typer.Option(min=0.01)] = 24,
    as_json: AsJson = False,
) -> None:
    """Create an API token, signed with JWT_SECRETS of the environment or else of the local stack."""
    secret = os.environ.get("JWT_SECRETS") or read_environment().get("JWT_SECRETS")
    if not secret:
        line = "there is no secret to sign with; start the local stack (./taskw up), or set JWT_SECRETS=kid:secret"
        raise CallError(line, {"title": "no secret", "detail": line})
    try:
        api_token = mint(secret, subject, scope, hours * _HOUR_SECONDS)
    except ValueError as error:
        raise CallError(str(error), {"title": "no token", "detail": str(error)}) from error
    print(json.dumps({"token": api_token}) if as_json else api_token)


def _watch(api: Api, job_id: str, *, as_json: bool) -> None:
    with _detached_by_interrupt(job_id):
        job = watcher(as_json=as_json)(follow(api, job_id))
    if not as_json:
        print("\n".join(line for line in (show.end(job), show.metrics(job["metrics"])) if line))
    if job["state"] != "SUCCEEDED":
        raise typer.Exit(1)


def _show_new(job: Json, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(job))
        return
    print(f"job {job['id']} is {job['state']}; watch it: ./taskw watch ID={job['id']}")


@contextmanager
def _detached_by_interrupt(job_id: str) -> Iterator[Any]:
    try:
        yield
    except KeyboardInterrupt as error:
        print(f"\ndetached; the job continues. To watch it again: ./taskw watch ID={job_id}", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from error
