"""Record what the README shows: real commands on the local stack, as an image of a terminal (``./taskw cast``)."""

import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from client.api import call, connect
from client.home import ROOT, home
from infra.local import digits, stack
from infra.local.demos import DEMOS

IMAGE = ROOT / "docs/train.svg"
_COLUMNS, _ROWS = 96, 40
_TRAIN = "stoker train ./digits --model yolo11n.yaml --epochs 12 --batch-size 16 --image-size 128"
#: which screen of a training is shown: one after half of it
_MIDDLE = re.compile(r"\b[56]\d%.* left")
_ESCAPE = re.compile(r"\x1b\[(\d*)([A-Za-z])")


def main() -> None:
    """Train, list and download, and write the image."""
    stack.ensure_up(lambda line: print(line, flush=True))
    folder = home() / "cast"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    digits.write_strewn(folder / "digits.zip")
    with zipfile.ZipFile(folder / "digits.zip") as archive:
        archive.extractall(folder / "digits")
    screens = [
        _recorded(folder, _TRAIN, _options()),
        _recorded(folder, "stoker jobs"),
    ]
    job = call(connect(), "GET", "/v1/jobs", query={"limit": 1})["jobs"][0]
    screens.append(_recorded(folder, f"stoker download {job['id'][:8]} best.pt --to ./first"))
    _write(screens)
    print(f"{IMAGE} is written")


def _options() -> list[str]:
    """Return the demo's settings, with which a few epochs on digits are enough."""
    metadata = DEMOS["ultralytics"].metadata
    hyperparameters = json.loads(metadata["hyperparameters"]) | {
        "learning_rate": metadata["learning-rate"],
        "workers": 0,
    }
    return [f"--set={name}={value}" for name, value in hyperparameters.items()]


def _recorded(folder: Path, command: str, hidden: Sequence[str] = ()) -> list[str]:
    """Run a command in a terminal of its own, and return its prompt and what is on the screen at its end.

    ``hidden``: options that the prompt does not show.
    """
    print(f"$ {command}", flush=True)
    words = [sys.executable, "-m", "client", *command.split()[1:], *hidden]
    environment = os.environ | {"COLUMNS": str(_COLUMNS), "LINES": str(_ROWS), "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    parent, child = pty.openpty()
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=child, stderr=child)  # noqa: S603 -- our own
    os.close(child)
    output = b""
    while chunk := _read(parent):
        output += chunk
    os.close(parent)
    if process.wait():
        sys.exit(f"{command} exited with {process.returncode}:\n{output.decode(errors='replace')}")
    text = output.decode(errors="replace")
    screens = [screen for screen in _screens(text) if any(_MIDDLE.search(line) for line in screen)]
    middle = [*screens[-1], "\x1b[90m…\x1b[0m"] if screens else []
    shown = [*middle, *_last(text, 2)] if middle else _last(text)
    return [f"\x1b[1;32m$\x1b[0m \x1b[1m{command}\x1b[0m", *shown, ""]


def _last(output: str, count: int | None = None) -> list[str]:
    """Return the last lines of the screen at the end of the output; all of them by default."""
    *_, screen = _screens(output)
    return screen if count is None else screen[-count:]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the command has closed its end
        return b""


def _screens(output: str) -> Iterator[list[str]]:
    """Yield the lines of a terminal after each piece of output, with the cursor movements that the command uses."""
    lines, row = [""], 0
    for piece in re.split(r"(\x1b\[\d*[AJK]|\r\n|\r|\n)", output):
        escape = _ESCAPE.fullmatch(piece)
        if piece in {"\r\n", "\n"}:
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece == "\r":
            continue
        elif escape and escape[2] == "A":
            row -= int(escape[1] or 1)
        elif escape and escape[2] == "K":
            lines[row] = ""
        elif escape and escape[2] == "J":
            del lines[row + 1 :]
            lines[row] = ""
        elif piece:
            lines[row] += piece
        yield [line for line in lines if line.strip()]


def _write(screens: Sequence[Sequence[str]]) -> None:
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in [line for screen in screens for line in screen][:-1]:
        console.print(Text.from_ansi(line), overflow="fold", highlight=False)
    image = console.export_svg(title="stoker", unique_id="stoker")
    # Without rich's fonts of another host: the reader's own monospace font does.
    IMAGE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", image, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
