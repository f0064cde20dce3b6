"""The demo: upload a dataset, and follow the job that the upload creates."""

import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from client import show
from client.api import Api, CallError, Json, call, connect
from client.artifacts import artifacts_of
from client.follow import follow
from client.home import home
from client.watch import watcher
from infra.local import bucket, processes, stack, trainers
from infra.local.demos import DEMOS, Demo
from infra.local.stopping import Stopped, raise_on_signals

_JOB_SECONDS = 60.0
_POLL_SECONDS = 0.1
_LOG_LINES = 20
#: artifacts that are shown; the others are only counted
_SHOWN = ("best.pt", "metrics.csv", "results.png", "curves.png", "report.html", ".log")


class DemoError(Exception):
    """The demo cannot continue; the message says why, and where to look."""


@dataclass
class Run:
    """One run of the demo: its job, and how long each step took."""

    demo: Demo
    dataset_id: str
    job: Json | None = None
    is_uploaded: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Measure a step, and print its time and the details that the block adds to the list."""
        began, details = time.monotonic(), list[str]()
        yield details
        self.seconds[name] = time.monotonic() - began
        print(f"  {name:<9}  {show.duration(self.seconds[name]):>12}  {' '.join(details)}".rstrip(), flush=True)


def main(framework: str) -> int:
    """Run a framework's demo, and return the exit code."""
    demo = DEMOS[framework]
    run = Run(demo, f"digits-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
    print(f"Stoker's demo: {demo.sentence}.\n", flush=True)
    raise_on_signals()
    try:
        return _run(run)
    except Stopped as stopped:
        _cancel(run)
        return stopped.exit_code
    except (DemoError, CallError, stack.NotStartedError, OSError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1


def _run(run: Run) -> int:
    with run.step("stack"):
        stack.ensure_up(lambda line: print(f"    {line}", flush=True))
    api = connect()
    with run.step("dataset") as details:
        path = home() / "demo" / run.demo.file
        if not path.exists():
            run.demo.write(path)
        details.append(f"{path} ({show.size(path.stat().st_size)})")
    with run.step("upload") as details:
        key = f"datasets/{run.dataset_id}.zip"
        run.is_uploaded = True  # from now on, a job may exist
        bucket.upload(path, key, {f"stoker-{name}": value for name, value in run.demo.metadata.items()})
        details.append(f"{key}, with the model's name and settings as metadata")
    with run.step("job") as details:
        job = run.job = _job_of(api, run.dataset_id)
        details.append(f"the upload has created job {job['id']}")
    with run.step("training"):
        run.job = watcher(as_json=False)(follow(api, job["id"]))
    return _ended(api, run.job, run)


def _job_of(api: Api, dataset_id: str) -> Json:
    """Wait for the job that the upload's notification creates."""
    end = time.monotonic() + _JOB_SECONDS
    while time.monotonic() < end:
        jobs: list[Json] = call(api, "GET", "/v1/jobs", query={"dataset_id": dataset_id})["jobs"]
        if jobs:
            return jobs[0]
        time.sleep(_POLL_SECONDS)
    rejected = call(api, "GET", "/v1/rejected-events")["events"]
    why = f"; last rejected event: {show.plain(rejected[-1]['reason'])}" if rejected else ""
    raise DemoError(
        f"the upload created no job within {_JOB_SECONDS:.0f} s{why}; see {processes.log_file('functions')}"
    )


def _ended(api: Api, job: Json, run: Run) -> int:
    print(f"\n{show.end(job)}")
    if job["state"] != "SUCCEEDED":
        _show_log(job)
        return 1
    print(f"{show.metrics(job['metrics'])}\n\nIn the bucket:")
    for line in artifact_lines(artifacts_of(api, job["id"])):
        print(line)
    total = show.duration(sum(run.seconds.values()))
    print(f"\nTook {total}: {', '.join(f'{name} {show.duration(seconds)}' for name, seconds in run.seconds.items())}.")
    print(_next(job))
    return 0


def artifact_lines(artifacts: list[Json]) -> Iterator[str]:
    """Yield the main artifacts, each with its size, and the number of the others."""
    shown = [artifact for artifact in artifacts if artifact["key"].endswith(_SHOWN)]
    for artifact in shown:
        yield f"  {artifact['key']} ({show.size(artifact['size_bytes'])})"
    if len(artifacts) > len(shown):
        yield f"  and {len(artifacts) - len(shown)} more"


def _next(job: Json) -> str:
    short = job["id"][:8]
    return f"""
What next:
  ./taskw download ID={short}     get best.pt, plots and logs
  ./taskw predict ID={short} IMAGES={job["dataset_id"]}
                                  run the trained model on the dataset's images
  ./taskw train DATA=./cats MODEL={job["model_name"]} EPOCHS=20
                                  train on your own images: a folder or an archive
  ./taskw jobs, events, logs      look around; ./taskw lists more
  ./taskw down                    stop the local stack; all data stays"""


def _show_log(job: Json) -> None:
    """Print the end of the trainer's log from the launcher's folder, which exists even if no log was uploaded."""
    logs = sorted((home() / "runs" / job["id"]).glob("*/trainer.log"), key=lambda path: path.stat().st_mtime)
    if not logs:
        print(f"No trainer has written a log; see {processes.log_file('functions')}", file=sys.stderr)
        return
    print(f"The end of {logs[-1]}:", file=sys.stderr)
    for line in processes.last_lines(Path(logs[-1]), _LOG_LINES):
        print(f"  {show.plain(line)}", file=sys.stderr)


def _cancel(run: Run) -> None:
    """Cancel the demo's job, and wait until its trainer has ended."""
    try:
        if run.is_uploaded:
            api = connect()
            job = run.job or _job_of(api, run.dataset_id)
            print(f"\ninterrupted; cancelling job {job['id']} …", flush=True)
            state = call(api, "POST", f"/v1/jobs/{job['id']}/cancel", body={"message": "the demo was interrupted"})[
                "state"
            ]
            is_gone = trainers.wait_for_end({job["id"]})
            print(f"job {job['id']} is {state}; its trainer {'has stopped' if is_gone else 'still runs'}")
    except (CallError, DemoError) as error:
        print(f"\ninterrupted; {error}", file=sys.stderr)
    print("the local stack is still up: ./taskw down stops it")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
