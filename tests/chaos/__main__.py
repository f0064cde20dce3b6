"""Break the local stack in every way we know, thousands of jobs long, and see that nothing is lost.

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
from tests.chaos.checks import AT_REST, Verdict
from tests.chaos.plan import JOBS_A_FAULT
from tests.chaos.run import Run

_REST_SECONDS = 240.0
_SHOWN = 5

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    jobs: Annotated[int, typer.Option(min=1, help="How many jobs.")] = 300,
    seed: Annotated[int | None, typer.Option(help="What jobs and faults are drawn from; a new one, if none.")] = None,
    minutes: Annotated[float, typer.Option(help="Ask for no more jobs after so long; the rest is judged.")] = 1e6,
    report: Annotated[Path | None, typer.Option(help="A JSON file to write.")] = None,
) -> None:
    """Run, judge, print; the exit code is 1 when a check is broken."""
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    try:
        raise_on_signals()
        print(f"chaos: {jobs} jobs, seed {seed}; a fault of the machinery every {JOBS_A_FAULT} jobs", flush=True)
        with scratch_folder(f"stoker-chaos-{seed}-") as home:
            run = Run(jobs, seed, home, minutes)
            try:
                verdict = run.all(_REST_SECONDS)
            except Exception:
                _keep(home)
                raise
            _write(run, verdict, report)
            if any(verdict.values()):
                print(f"BROKEN; again: ./taskw chaos JOBS={jobs} SEED={seed}")
                _keep(home)
    except Stopped as stopped:
        print(f"stopped by {stopped} before the first job", flush=True)
        raise typer.Exit(stopped.exit_code) from stopped
    if run.stopped:
        print(f"stopped by {run.stopped}; not judged: {', '.join(AT_REST)}", flush=True)
    raise typer.Exit(1 if any(verdict.values()) else run.stopped.exit_code if run.stopped else 0)


def _keep(home: Path) -> None:
    folder = home.rename(home.with_name(f"{home.name}-kept"))
    print(f"its logs and databases are in {folder}", flush=True)


def _write(run: Run, verdict: Verdict, report: Path | None) -> None:
    content = {
        "seed": run.seed,
        "jobs": Counter(work.kind for work in run.works),
        "minutes": round((time.monotonic() - run.began) / 60, 1),
        "stopped": str(run.stopped) if run.stopped else None,
        "faults": _faults(run),
        "seen": _seen(run),
        "broken": verdict,
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
    return dict(sorted((name, count) for name, count in counts.items() if name != "call passed on"))


def _seen(run: Run) -> dict[str, Any]:
    trainers = [line.split(" ")[2] for line in _lines(run.home / "trainers.log")]
    return {
        "jobs accepted": len(run.accepted),
        "trainers started": trainers.count("started"),
        "calls through the proxy": len(_lines(run.home / "calls.log")),
        "events delivered": sum(map(len, run.sink.taken.values())),
        "events refused by the sink": run.sink.refusals,
        "lines at which functions died": len({line.split(" ")[1] for line in _lines(run.home / "deaths.log")}),
        **{f"sweeps answered {status or 'by nothing'}": count for status, count in sorted(run.sweeps.items())},
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _print(content: dict[str, Any]) -> None:
    print(f"\nseed {content['seed']}, {content['minutes']} minutes")
    for title in ("jobs", "faults", "seen"):
        print(f"\n{title}")
        for name, count in content[title].items():
            print(f"  {name:<44} {count:>8}")
    print("\nbroken")
    for name, lines in content["broken"].items():
        print(f"  {name:<44} {len(lines):>8}")
        for line in lines[:_SHOWN]:
            print(f"    {line[:300]}")


if __name__ == "__main__":
    app()
