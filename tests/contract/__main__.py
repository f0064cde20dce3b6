"""The contract kit: tests a trainer against each rule (``python -m tests.contract TRAINER.json``)."""

import json
import sys
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import typer

from infra.local.stopping import Stopped, no_process_left, raise_on_signals, scratch_folder
from tests.contract.rules import RULES, Rule, broken
from tests.contract.scenarios import SCENARIOS
from tests.contract.workbench import Trainer, Workbench, of_image, read, workbench_running

SHIPPED = Path(__file__).parent / "trainers"
_KEPT, _BROKEN, _UNABLE = 0, 1, 2


class Verdict(NamedTuple):
    """A rule, and how the trainer violates it; None if it does not."""

    rule: Rule
    broken: str | None


def main(
    trainer: Annotated[
        str, typer.Argument(help="A JSON file that describes the trainer, or the name of a shipped one.")
    ],
    image: Annotated[str, typer.Option(help="Start this image instead of the command.")] = "",
    engine: Annotated[str, typer.Option(help="The program that starts images.")] = "docker",
    only: Annotated[str, typer.Option(help="Check only this rule, or the rules of this run.")] = "",
    report: Annotated[Path | None, typer.Option(help="Write the verdicts to this file, as JSON.")] = None,
) -> None:
    """Check which rules of the contract a trainer keeps. Exit code 0: all required ones; 1: not all; 2: cannot run."""
    path = Path(trainer) if trainer.endswith(".json") else SHIPPED / f"{trainer}.json"
    rules = [rule for rule in RULES if only in {"", rule.name, rule.scenario}]
    try:
        tried = read(path)
    except (OSError, msgspec.ValidationError, msgspec.DecodeError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        raise typer.Exit(_UNABLE) from error
    if not rules:
        print(f"--only {only}: there is no such rule or run", file=sys.stderr)
        raise typer.Exit(_UNABLE)
    raise typer.Exit(_judge(of_image(tried, engine, image) if image else tried, path.stem, rules, report))


def _judge(trainer: Trainer, name: str, rules: list[Rule], report: Path | None) -> int:
    """Print each verdict as soon as its run has ended; return the exit code."""
    verdicts: list[Verdict] = []
    stopped = None
    try:
        raise_on_signals()
        print(f"{name} and the contract, v1: {len(rules)} rules", flush=True)
        with closing(verdicts_by_run(trainer, rules)) as runs:
            for run in runs:
                verdicts += run
                if report is not None:
                    _write(report, name, rules, verdicts)
    except Stopped as signal:
        stopped = signal
    _summarize(rules, verdicts, stopped)
    is_broken = any(verdict.broken and verdict.rule.is_required for verdict in verdicts)
    return stopped.exit_code if stopped else _BROKEN if is_broken else _KEPT


def verdicts_by_run(trainer: Trainer, rules: list[Rule]) -> Generator[list[Verdict]]:
    """Start a workbench and run the trainer in each scenario; print and yield the verdicts of each."""
    with (
        scratch_folder("stoker-contract-") as folder,
        no_process_left(),
        workbench_running(trainer, folder) as workbench,
    ):
        for scenario in dict.fromkeys(rule.scenario for rule in rules):
            began = time.monotonic()
            verdicts = tried(workbench, scenario, rules)
            print(f"\n{scenario}: {time.monotonic() - began:.0f} s")
            for verdict in verdicts:
                _print(verdict)
            yield verdicts


def tried(workbench: Workbench, scenario: str, rules: Iterable[Rule]) -> list[Verdict]:
    """Run one scenario; return the verdicts of its rules."""
    runs = SCENARIOS[scenario](workbench)
    return [Verdict(rule, broken(rule, runs)) for rule in rules if rule.scenario == scenario]


def _print(verdict: Verdict) -> None:
    rule = verdict.rule
    need = "" if rule.is_required else " (recommended)"
    print(f"  {'BROKEN' if verdict.broken else 'kept':<6}  {rule.name:<18}  {rule.sentence}{need}", flush=True)
    if verdict.broken:
        print(f"{'':30}{verdict.broken}", flush=True)


def _summarize(rules: list[Rule], verdicts: list[Verdict], stopped: Stopped | None) -> None:
    met = sum(verdict.broken is None for verdict in verdicts)
    print(f"\n{met} of {len(rules)} rules are kept")
    for name, is_required in (("required", True), ("recommended", False)):
        wrong = [
            verdict.rule.name for verdict in verdicts if verdict.broken and verdict.rule.is_required == is_required
        ]
        if wrong:
            print(f"broken, {name}: {', '.join(wrong)}")
    undecided = _undecided(rules, verdicts)
    if stopped:
        print(f"stopped by {stopped}; undecided: {', '.join(undecided)}")


def _undecided(rules: list[Rule], verdicts: list[Verdict]) -> list[str]:
    decided = {verdict.rule.name for verdict in verdicts}
    return [rule.name for rule in rules if rule.name not in decided]


def _write(path: Path, name: str, rules: list[Rule], verdicts: list[Verdict]) -> None:
    """Write the report atomically: the kit may be killed at any time."""
    rows = [
        {
            "rule": rule.name,
            "is_required": rule.is_required,
            "sentence": rule.sentence,
            "run": rule.scenario,
            "broken": wrong,
        }
        for rule, wrong in verdicts
    ]
    part = path.with_name(f"{path.name}.part")
    content = {"trainer": name, "rules": rows, "undecided": _undecided(rules, verdicts)}
    part.write_text(json.dumps(content, indent=1))
    part.replace(path)


if __name__ == "__main__":
    typer.run(main)
