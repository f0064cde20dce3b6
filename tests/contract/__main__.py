"""The contract kit: tries a trainer, rule by rule (``python -m tests.contract TRAINER.json``)."""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tests.contract.rules import RULES, broken
from tests.contract.scenarios import SCENARIOS
from tests.contract.stand import Stand, Trainer, of_image, read, standing

SHIPPED = Path(__file__).parent / "trainers"
_KEPT, _BROKEN, _UNABLE = 0, 1, 2
Finding = dict[str, object]


def main(
    trainer: Annotated[str, typer.Argument(help="A JSON file that describes it, or the name of one that is shipped.")],
    image: Annotated[str, typer.Option(help="Start this image instead of the command.")] = "",
    engine: Annotated[str, typer.Option(help="What starts images.")] = "docker",
    only: Annotated[str, typer.Option(help="Only this rule, or the rules of this run.")] = "",
    report: Annotated[Path | None, typer.Option(help="Write the findings there, as JSON.")] = None,
) -> None:
    """Say which rules of the contract a trainer keeps: 0 all that are required, 1 not all, 2 it could not be tried."""
    path = Path(trainer) if trainer.endswith(".json") else SHIPPED / f"{trainer}.json"
    rules = [rule for rule in RULES if only in {"", rule.name, rule.scenario}]
    try:
        asked = read(path)
    except (OSError, msgspec.ValidationError, msgspec.DecodeError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        raise typer.Exit(_UNABLE) from error
    if not rules:
        print(f"--only {only}: there is no such rule or run", file=sys.stderr)
        raise typer.Exit(_UNABLE)
    found = findings(of_image(asked, engine, image) if image else asked, {rule.name for rule in rules})
    _show(path.stem, found)
    if report is not None:
        report.write_text(json.dumps({"trainer": path.stem, "rules": found}, indent=1))
    raise typer.Exit(_BROKEN if any(one["broken"] and one["is_required"] for one in found) else _KEPT)


def findings(trainer: Trainer, names: set[str]) -> list[Finding]:
    """Put up a stand, and try a trainer there."""
    with tempfile.TemporaryDirectory(prefix="stoker-contract-") as folder, standing(trainer, Path(folder)) as stand:
        return tried(stand, names)


def tried(stand: Stand, names: set[str]) -> list[Finding]:
    """Do the runs that these rules need, and return each rule with what is wrong."""
    wanted = [rule for rule in RULES if rule.name in names]
    runs = {}
    for name in dict.fromkeys(rule.scenario for rule in wanted):
        began = time.monotonic()
        runs[name] = SCENARIOS[name](stand)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return [
        {
            "rule": rule.name,
            "is_required": rule.is_required,
            "sentence": rule.sentence,
            "run": rule.scenario,
            "broken": broken(rule, runs[rule.scenario]),
        }
        for rule in wanted
    ]


def _show(name: str, found: list[Finding]) -> None:
    table = Table("rule", "", "what it asks", "kept", title=f"{name} and the contract, v1")
    for one in found:
        need = "required" if one["is_required"] else "recommended"
        table.add_row(str(one["rule"]), need, str(one["sentence"]), f"NO: {one['broken']}" if one["broken"] else "yes")
    Console(width=170).print(table)


if __name__ == "__main__":
    typer.run(main)
