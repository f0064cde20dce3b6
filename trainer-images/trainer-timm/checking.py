"""Check a dataset on this machine, without a job: ``python check.py FILE|FOLDER [--task detect] [--json]``."""

import argparse
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from dataset.report import FILE, counted
from utils import ConfigInvalidError, Contract, DatasetInvalidError, Settings

USAGE, SHOWN = 64, 3
#: defaults of a job's variables on this machine; those of the environment, such as SEED, override them
NO_JOB = {
    "JOB_ID": "local",
    "BACKEND_BASE_URL": "http://127.0.0.1",
    "TASK": "check",
    "MODEL_NAME": "check",
    "STORAGE_TYPE": "presigned",
}


class LocalContract(Contract):
    """The contract without functions and storage: the dataset is a file of this machine, and nothing is sent."""

    def __init__(self, archive: Path, name: str, scratch: Path) -> None:
        own = {"DATASET_ID": name, "DATASET_ETAG": "", "CHECKPOINT_KEY": ""}
        settings, problems = Settings.from_environ(NO_JOB | os.environ | own)
        if problems:
            raise ConfigInvalidError(problems)
        self.settings, self.scratch, self.local_dataset = settings, scratch, archive

    def check(self) -> None:
        """Do nothing: only its caller stops a check."""

    def event(self, kind: str, message: str = "", **data: Any) -> None:
        """Do nothing: the report contains all events."""

    def warn_once(self, message: str) -> None:
        """Do nothing: as above."""

    def save_result(self, path: Path, name: str = "", *, kind: str = "results") -> None:
        """Do nothing: the report stays in the scratch folder."""


def main(arguments: Sequence[str], read: Callable[[Contract, str | None], object], tasks: Sequence[str]) -> int:
    """Check a file or a folder by ``read``, which gets the task; return 0 if it can be used for training, else 65."""
    parser = argparse.ArgumentParser(prog="check.py", description="Check a dataset without a job and a storage.")
    parser.add_argument("path", type=Path, help="an archive, or a folder")
    parser.add_argument("--task", choices=tasks, help="by default, what the dataset looks like")
    parser.add_argument("--json", action="store_true", help="print the report as it is stored: dataset.json")
    options = parser.parse_args(arguments)
    if not options.path.exists():
        sys.stderr.write(f"{options.path}: there is no such file or folder\n")
        return USAGE
    try:
        with redirect_stdout(sys.stderr):  # of libraries, which would be in the middle of the JSON
            report = check(options.path.absolute(), options.task, read)
    except ConfigInvalidError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    text = json.dumps(report, ensure_ascii=False) if options.json else "\n".join(lines(report))
    sys.stdout.write(f"{text}\n")
    return 0 if report["usable"] else DatasetInvalidError.exit_code


def check(path: Path, task: str | None, read: Callable[[Contract, str | None], object]) -> dict[str, Any]:
    """Return the report on an archive or a folder. Raises: ConfigInvalidError."""
    with tempfile.TemporaryDirectory(prefix="check-") as folder:
        scratch = Path(folder)
        archive = packed(path, scratch / "folder.zip") if path.is_dir() else path
        name = path.name if path.is_dir() else path.name.removesuffix(".zip")
        contract = LocalContract(archive, name, scratch)
        try:
            read(contract, task)
        except DatasetInvalidError as error:
            problem = str(error)
        else:
            problem = ""
        stored = contract.scratch / FILE
        if not stored.exists():  # refused before anything was read
            return {"dataset": path.name, "usable": False, "message": problem}
        text = stored.read_text(encoding="utf-8")
        report: dict[str, Any] = json.loads(text.replace(f"{name}.zip", path.name))  # an object has this name
        return report


def packed(folder: Path, archive: Path) -> Path:
    """Pack a folder, so that it is checked like an upload."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, strict_timestamps=False) as zipped:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                zipped.write(path, path.relative_to(folder))
    return archive


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield a report as lines for people."""
    name, verdict = report["dataset"], "can be used" if report["usable"] else "CANNOT BE USED"
    yield f"{name} {verdict}: {report['message'].removeprefix(f'{name}: ')}".rstrip(": ")
    for name, split in report.get("splits", {}).items():
        yield f"  {name}: " + ", ".join(counted(split[what], what) for what in ("images", "objects") if what in split)
    if report.get("classes"):
        yield f"  {len(report['classes'])} classes: {', '.join(map(str, report['classes'][:20]))}"
    for guess in report.get("guesses", []):
        yield f"  assumed: {guess['message']}"
    for problem in report.get("problems", []):
        if problem["refused"] and all(file["reason"] in report["message"] for file in problem["files"]):
            continue
        yield f"  {counted(problem['count'], problem['kind'])} ({'refused' if problem['refused'] else 'left out'})"
        for file in problem["files"][:SHOWN]:
            yield f"    {': '.join(filter(None, (file['file'], file['reason'])))}"
