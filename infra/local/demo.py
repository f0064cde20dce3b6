"""The demo: a dataset is uploaded, and by that alone a model is trained."""

import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from client import show, stored_log
from client.api import Api, CallError, Json, call, connect
from client.follow import follow
from client.home import home
from client.watch import watcher
from infra.local import bucket, processes, stack, trainers
from infra.local.demos import DEMOS, Demo
from infra.local.stopping import Stopped, raise_on_signals

_NOTICE_SECONDS = 60.0
_LOOK_SECONDS = 0.1
_LOG_LINES = 20
#: what of the artifacts gets its link shown; the rest is counted
_SHOWN = ("best.pt", "metrics.csv", "results.png", "curves.png", ".log")


class DemoError(Exception):
    """The demo cannot go on; the message says why, and where to look."""


@dataclass
class Run:
    """One run of the demo: what is known so far, and how long each leg took."""

    demo: Demo
    dataset_id: str
    job: Json | None = None
    is_uploaded: bool = False
    legs: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def leg(self, name: str) -> Iterator[list[str]]:
        """Time a part of the run, and print it with what it has put into the list."""
        began, said = time.monotonic(), list[str]()
        yield said
        self.legs[name] = time.monotonic() - began
        print(f"  {name:<9}  {show.duration(self.legs[name]):>12}  {' '.join(said)}".rstrip(), flush=True)


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
    with run.leg("stack"):
        stack.ensure_up(lambda line: print(f"    {line}", flush=True))
    api = connect()
    with run.leg("dataset") as said:
        path = home() / "demo" / run.demo.file
        if not path.exists():
            run.demo.write(path)
        said.append(f"{path} ({show.size(path.stat().st_size)})")
    with run.leg("upload") as said:
        key = f"datasets/{run.dataset_id}.zip"
        run.is_uploaded = True  # from here on, there may be a job
        bucket.upload(path, key, {f"stoker-{name}": value for name, value in run.demo.metadata.items()})
        said.append(f"{key}, with the model's name and settings as metadata")
    with run.leg("notice") as said:
        job = run.job = _job_of(api, run.dataset_id)
        said.append(f"the upload has become job {job['id']}")
    with run.leg("training"):
        run.job = watcher(as_json=False)(follow(api, job["id"]))
    return _ended(api, run.job, run)


def _job_of(api: Api, dataset_id: str) -> Json:
    """Return the job that the upload's notification makes."""
    end = time.monotonic() + _NOTICE_SECONDS
    while time.monotonic() < end:
        found: list[Json] = call(api, "GET", "/v1/jobs", query={"dataset_id": dataset_id})["jobs"]
        if found:
            return found[0]
        time.sleep(_LOOK_SECONDS)
    rejected = call(api, "GET", "/v1/rejected-events")["events"]
    why = f"; rejected last: {show.plain(rejected[-1]['reason'])}" if rejected else ""
    raise DemoError(f"the upload became no job in {_NOTICE_SECONDS:.0f} s{why}; see {processes.log_file('functions')}")


def _ended(api: Api, job: Json, run: Run) -> int:
    print(f"\n{show.end(job)}")
    if job["state"] != "SUCCEEDED":
        _show_log(job)
        return 1
    print(f"{show.metrics(job['metrics'])}\n\nIn the bucket (the links are good for an hour):")
    for line in artifact_lines(stored_log.artifacts(api, job["id"])):
        print(line)
    total = show.duration(sum(run.legs.values()))
    print(f"\nTook {total}: {', '.join(f'{name} {show.duration(seconds)}' for name, seconds in run.legs.items())}.")
    print(_next(job))
    return 0


def artifact_lines(found: list[Json]) -> Iterator[str]:
    """Yield the artifacts that people look at first, each with its size and link, and how many more there are."""
    shown = [one for one in found if one["key"].endswith(_SHOWN)]
    for one in shown:
        yield f"  {one['key']} ({show.size(one['size_bytes'])})\n    {one['url']}"
    if len(found) > len(shown):
        yield f"  and {len(found) - len(shown)} more"


def _next(job: Json) -> str:
    return f"""
What next:
  ./taskw artifacts ID={job["id"]}    all that it stored, with links
  ./taskw events ID={job["id"]}       what happened, when
  ./taskw logs ID={job["id"]}         what the trainer printed
  ./taskw predict ID={job["id"]} DATASET={job["dataset_id"]}
                                      look through pictures with what it has learned
  ./taskw down                        stop the local stack; what is stored stays"""


def _show_log(job: Json) -> None:
    """Print the end of what the trainer wrote, as the launcher has it: it is there even if nothing was stored."""
    logs = sorted((home() / "runs" / job["id"]).glob("*/trainer.log"), key=lambda path: path.stat().st_mtime)
    if not logs:
        print(f"There is no log of a trainer; see {processes.log_file('functions')}", file=sys.stderr)
        return
    print(f"The end of {logs[-1]}:", file=sys.stderr)
    for line in processes.last_lines(Path(logs[-1]), _LOG_LINES):
        print(f"  {show.plain(line)}", file=sys.stderr)


def _cancel(run: Run) -> None:
    """Cancel what the demo has started, and wait for its trainer to be gone."""
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
