"""Run jobs on the local stack while injecting failures, and check that no job is lost, duplicated or misreported.

``python -m tests.chaos --jobs 10000 --seed 1 --report report.json``
"""

import json
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.local.stopping import Stopped, raise_on_signals, scratch_folder
from tests.chaos.checks import SETTLED, Verdict
from tests.chaos.plan import JOBS_PER_FAULT
from tests.chaos.run import Run

_SETTLE_SECONDS = 240.0
_SHOWN = 5

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    jobs: Annotated[int, typer.Option(min=1, help="Number of jobs.")] = 300,
    seed: Annotated[int | None, typer.Option(help="Seed of the jobs and faults; a random one by default.")] = None,
    minutes: Annotated[float, typer.Option(help="Submit no jobs after this many minutes.")] = 1e6,
    report: Annotated[Path | None, typer.Option(help="A JSON file to write.")] = None,
) -> None:
    """Run the jobs, check the result and print it; exit with 1 if a check fails."""
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    try:
        raise_on_signals()
        print(f"chaos: {jobs} jobs, seed {seed}; one infrastructure fault every {JOBS_PER_FAULT} jobs", flush=True)
        with scratch_folder(f"stoker-chaos-{seed}-") as home:
            run = Run(jobs, seed, home, minutes)
            try:
                verdict = run.all(_SETTLE_SECONDS)
            except Exception:
                _keep(home)
                raise
            _write(run, verdict, report)
            if any(verdict.values()):
                print(f"FAILED; repeat with: ./taskw chaos JOBS={jobs} SEED={seed}")
                _keep(home)
    except Stopped as stopped:
        print(f"stopped by {stopped} before the first job", flush=True)
        raise typer.Exit(stopped.exit_code) from stopped
    if run.stopped:
        print(f"stopped by {run.stopped}; not checked: {', '.join(SETTLED)}", flush=True)
    raise typer.Exit(1 if any(verdict.values()) else run.stopped.exit_code if run.stopped else 0)


def _keep(home: Path) -> None:
    folder = home.rename(home.with_name(f"{home.name}-kept"))
    print(f"the logs and databases are in {folder}", flush=True)


def _write(run: Run, verdict: Verdict, report: Path | None) -> None:
    content = {
        "seed": run.seed,
        "jobs": Counter(work.kind for work in run.works),
        "minutes": round((time.monotonic() - run.began) / 60, 1),
        "stopped": str(run.stopped) if run.stopped else None,
        "faults": _faults(run),
        "counts": _counts(run),
        "failed_checks": verdict,
    }
    if report is not None:
        report.write_text(json.dumps(content, indent=2) + "\n")
    _print(content)


def _faults(run: Run) -> dict[str, int]:
    counts: Counter[str] = Counter()
    calls = run.home / "calls.log"
    counts.update(calls.read_text().splitlines())
    deaths = _lines(run.home / "deaths.log")
    counts["function killed between two lines"] = len(deaths)
    counts.update(run.counts)
    counts.update(
        f"trainer {line.split(' ', 2)[2]}" for line in _lines(run.home / "trainers.log") if " dies by " in line
    )
    return dict(sorted((name, count) for name, count in counts.items() if name != "call forwarded"))


def _counts(run: Run) -> dict[str, Any]:
    trainers = [line.split(" ")[2] for line in _lines(run.home / "trainers.log")]
    return {
        "jobs accepted": len(run.accepted),
        "trainers started": trainers.count("started"),
        "calls through the proxy": len(_lines(run.home / "calls.log")),
        "events delivered": sum(map(len, run.sink.received.values())),
        "events rejected by the sink": run.sink.rejections,
        "lines at which functions were killed": len({line.split(" ")[1] for line in _lines(run.home / "deaths.log")}),
        **{f"sweeps with status {status or 'none'}": count for status, count in sorted(run.sweeps.items())},
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _print(content: dict[str, Any]) -> None:
    print(f"\nseed {content['seed']}, {content['minutes']} minutes")
    for title in ("jobs", "faults", "counts"):
        print(f"\n{title}")
        for name, count in content[title].items():
            print(f"  {name:<44} {count:>8}")
    print("\nfailed checks")
    for name, lines in content["failed_checks"].items():
        print(f"  {name:<44} {len(lines):>8}")
        for line in lines[:_SHOWN]:
            print(f"    {line[:300]}")


if __name__ == "__main__":
    app()
