"""Start, stop and show the local stack, or run a single function (``python -m infra.local.stack start``)."""

import fcntl
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from client import contexts, show
from client.home import ROOT, home, read_environment, write_environment
from infra.local import bucket, parts, ports, processes, registry, trainers
from infra.local.parts import Part
from infra.local.stopping import Stopped, raise_on_signals

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Json = Annotated[bool, typer.Option("--json", help="Print JSON only.")]

_READY_SECONDS = 60.0
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 10.0
_LOG_LINES = 15
_OK = 200
#: in the order in which they start; they stop in the reverse order
NAMES = ("storage", "functions", "timer")


class NotStartedError(Exception):
    """A part did not start; the message contains the end of its log."""


@app.command()
def start(*, as_json: Json = False) -> None:
    """Start the parts that do not run yet."""
    raise_on_signals()
    try:
        ensure_up(lambda line: print(line, file=sys.stderr if as_json else sys.stdout))
    except Stopped as stopped:
        print(f"stopped by {stopped}; ./taskw down stops the parts that are up", file=sys.stderr)
        raise typer.Exit(stopped.exit_code) from stopped
    except NotStartedError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    status(as_json=as_json)


@app.command()
def stop() -> None:
    """Stop the trainers, then the stack. All data stays, and the next start continues the jobs."""
    with _alone():
        was_up = any(processes.running(name) for name in NAMES)
        processes.stop("timer", grace_seconds=_GRACE_SECONDS)  # first, or sweep would start the trainers again
        _announce(trainers.alive())
        stopped = trainers.pause_all()  # while functions and storage run, for the last checkpoints
        open_jobs = trainers.jobs("PENDING", "QUEUED", "RUNNING")
        unfinished = stopped if open_jobs is None else {job["id"] for job in open_jobs}
        processes.stop("functions", grace_seconds=_GRACE_SECONDS)
        unfinished |= trainers.pause_all()  # trainers of requests that arrived meanwhile
        processes.stop("storage", grace_seconds=_GRACE_SECONDS)
    _remove_sockets()
    print("the local stack is down" if was_up else "the local stack was down already")
    if still_running := trainers.alive():
        print(f"the trainers of these jobs did not stop: {', '.join(sorted(still_running))}", file=sys.stderr)
    if unfinished:
        count = f"{len(unfinished)} job{'s'[: len(unfinished) > 1]}"
        print(f"./taskw up continues {count}: {', '.join(sorted(unfinished))}")


def _announce(running: set[str]) -> None:
    """Print the jobs whose trainers are about to be stopped."""
    known = {job["id"]: job for job in trainers.jobs("RUNNING") or ()}
    for job_id in sorted(running):
        job = known.get(job_id, {})
        details = [f"dataset {job['dataset_id']}"] if job else []
        details += [f"epoch {show.epochs(job)}"] if job.get("epoch") else []
        about = f" ({', '.join(details)})" if details else ""
        print(f"job {job_id}{about} is running: its trainer stores a checkpoint and stops", flush=True)


def _remove_sockets() -> None:
    known = read_environment()
    parts.remove_sockets(int(known[f"{name}_PORT"]) for name in parts.PORTS if known.get(f"{name}_PORT"))


@app.command()
def status(*, as_json: Json = False) -> None:
    """Show each part: whether it runs, its address and its log file."""
    known = read_environment()
    addresses = {"storage": known.get("MINIO_ENDPOINT"), "functions": known.get("STOKER_URL")}
    rows: list[dict[str, Any]] = []
    for name in NAMES:
        process = processes.running(name)
        row = {"name": name, "is_up": process is not None, "pid": process and process.pid}
        rows.append(row | {"address": process and addresses.get(name), "log": str(processes.log_file(name))})
    if as_json:
        print(json.dumps({"parts": rows, **addresses, "environment": str(home() / "local.env")}))
        return
    for row in rows:
        state = f"up (pid {row['pid']})" if row["is_up"] else "down"
        print(f"{row['name']:<10} {state:<17} {row['address'] or '':<23} {_short(str(row['log']))}".rstrip())
    if known:
        print(f'\naddresses and keys for curl and S3 clients: eval "$(./taskw env)"  ({_short(str(home()))}/local.env)')


def _short(path: str) -> str:
    """Return a path relative to the current folder if it is below it."""
    here = f"{Path.cwd()}{os.sep}"
    return path.removeprefix(here)


@app.command()
def serve(function: str, port: int = 8080) -> None:
    """Run one function in the foreground with auto-reload, with the local stack's settings."""
    if not os.environ.get("JWT_SECRETS") and not read_environment():
        print("there are no settings; start the local stack once (./taskw up), or set JWT_SECRETS", file=sys.stderr)
        raise typer.Exit(1)
    os.environ["FUNCTION_TARGET"] = function.replace("-", "_")
    command = ["functions.api.server:app", "--factory", "--host", "127.0.0.1", "--port", str(port)]
    _exec(["uvicorn", *command, "--reload", "--reload-dir", str(ROOT / "functions")])


@app.command()
def migrate() -> None:
    """Migrate the database of DATABASE_URL if it is set, else of the local stack."""
    _exec([sys.executable, "-m", "functions.store.migrate"])


def ensure_up(say: Callable[[str], None]) -> None:
    """Start the parts that do not run, in order, each after the previous one is ready.

    Raises:
        NotStartedError: a part did not start.
    """
    with _alone():
        before, wanted = read_environment(), parts.environment()
        _check(wanted)
        _say_what_is_ignored(wanted, say)
        _stop_what_has_other_settings(before, wanted, say)
        _remember_last_stack()
        if all(processes.running(name) for name in NAMES):
            if "STOKER_TOKEN" not in before:  # of an older version
                write_environment(wanted)
            return
        _free_ports()
        variables = parts.environment()
        write_environment(variables)
        _remember_registry(variables)
        if processes.running("storage") is None:
            parts.write_notification(variables)
        _migrate(variables)
        paused = sorted(trainers.paused())
        for part in (parts.storage(variables), parts.functions(variables), parts.timer()):
            if processes.running(part.name) is None:
                began = time.monotonic()
                folder = home() / "s3" if part.name == "storage" else ROOT
                processes.start(part.name, part.command, parts.process_environment(variables), folder=folder)
                _wait_until_ready(part)
                say(f"started {part.name} ({time.monotonic() - began:.1f} s)")
        for job_id in paused:
            say(f"job {job_id} continues from its last checkpoint")


def _say_what_is_ignored(wanted: Mapping[str, str], say: Callable[[str], None]) -> None:
    names = parts.ignored(wanted)
    if names:
        say(f"not used: {', '.join(names)} of the environment; the local stack has its own, in {home() / 'local.env'}")


def _stop_what_has_other_settings(
    before: Mapping[str, str], wanted: Mapping[str, str], say: Callable[[str], None]
) -> None:
    """Stop functions that run with other settings than this start wants; trainers keep running."""
    names = list(dict.fromkeys(parts.changed(before, wanted)))
    if not names and wanted["TRAINERS"] != str(registry.BUILT_IN):
        names = ["TRAINERS"] if _read(_used_registry()) != _read(Path(wanted["TRAINERS"])) else []
    if names and processes.running("functions") is not None:
        say(f"the functions start again with other settings: {', '.join(names)}")
        processes.stop("functions", grace_seconds=_GRACE_SECONDS)


def _used_registry() -> Path:
    """Return the copy of the registry that the running functions have read."""
    return home() / "run" / "trainers.json"


def _remember_registry(variables: Mapping[str, str]) -> None:
    _used_registry().parent.mkdir(parents=True, exist_ok=True)
    _used_registry().write_bytes(_read(Path(variables["TRAINERS"])))


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _remember_last_stack() -> None:
    """Let `stoker` find this stack from any folder; a stack of another ``STOKER_HOME`` is chosen by that variable."""
    if os.environ.get("STOKER_HOME"):
        return
    configuration = contexts.read()
    if configuration.last_stack != str(home()):
        configuration.last_stack = str(home())
        contexts.write(configuration)


def _free_ports() -> None:
    """If another program uses a port of a stopped part, stop all parts and forget all ports, to choose new ones."""
    known = read_environment()
    down = {"storage": parts.PORTS[1:], "functions": parts.PORTS[:1]}
    wanted = [
        known.get(f"{port}_PORT") for name, names in down.items() for port in names if not processes.running(name)
    ]
    if all(ports.is_free(int(port)) for port in wanted if port):
        return
    for name in reversed(NAMES):
        processes.stop(name, grace_seconds=_GRACE_SECONDS)
    write_environment({name: value for name, value in known.items() if not name.endswith("_PORT")})


def _check(variables: Mapping[str, str]) -> None:
    result = _module("functions.runtime.configuration", variables)
    if result.returncode:
        raise NotStartedError(f"the settings cannot be used:\n{result.stderr.strip()}")


def _migrate(variables: Mapping[str, str]) -> None:
    result = _module("functions.store.migrate", variables)
    if result.returncode:
        raise NotStartedError(f"the migration failed:\n{result.stderr}")


def _module(name: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- our own module
        [sys.executable, "-m", name],
        cwd=ROOT,
        env=parts.process_environment(variables),
        capture_output=True,
        text=True,
        check=False,
    )


def _wait_until_ready(part: Part) -> None:
    end = time.monotonic() + _READY_SECONDS
    while not _is_ready(part):
        if processes.running(part.name) is None or time.monotonic() > end:
            log = "\n".join(f"  {line}" for line in processes.last_lines(processes.log_file(part.name), _LOG_LINES))
            raise NotStartedError(f"{part.name} did not start; the end of {processes.log_file(part.name)}:\n{log}")
        time.sleep(_POLL_SECONDS)


def _is_ready(part: Part) -> bool:
    if part.address is None:
        return processes.running(part.name) is not None
    try:
        with urllib.request.urlopen(f"{part.address}/healthz", timeout=2) as response:  # noqa: S310 -- our own address
            return bool(response.status == _OK) and (part.name != "storage" or bucket.exists())
    except OSError:
        return False


def _exec(command: list[str]) -> None:
    os.environ.update({name: value for name, value in read_environment().items() if name not in os.environ})
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])  # noqa: PTH120
    os.environ["PATH"] = path
    os.chdir(ROOT)
    os.execvp(command[0], command)  # noqa: S606 -- our own commands


@contextmanager
def _alone() -> Iterator[None]:
    """Let only one process at a time start or stop the stack."""
    home().mkdir(parents=True, exist_ok=True)
    with (home() / "stack.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    app()
