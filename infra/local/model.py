"""The pretrained weights in the local stack's bucket: ``python -m infra.local.model --put FILE``, or ``--list``.

A trainer takes weights from ``models/`` before it downloads any. Whoever may write there is trusted with what a model
predicts; the files cannot run code, because trainers load tensors only.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from client import show
from client.home import read_environment
from client.output import Column, print_table
from infra.local import bucket

SUFFIXES = (".pt", ".pth", ".safetensors", ".bin")
PREFIX = "models/"


def main(arguments: list[str]) -> int:
    """Put or list weights; return the exit code."""
    parser = argparse.ArgumentParser(prog="./taskw model")
    parser.add_argument("--put", metavar="FILE", help="the file of weights; its name becomes the model's name")
    parser.add_argument("--list", action="store_true", help="list the weights (the default)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        if options.put:
            put(options.put, as_json=options.json)
        else:
            print_list(as_json=options.json)
    except OSError as error:
        print(f"stoker: {error}", file=sys.stderr)
        return 1
    return 0


def put(name: str, *, as_json: bool) -> None:
    """Upload a file of weights. Raises: OSError: the file cannot be used, or the storage is unavailable."""
    path = Path(os.environ.get("CALLED_FROM", ".")) / name
    check(path)
    _reach()
    key = f"{PREFIX}{path.name}"
    bucket.upload(path, key, {})
    size = path.stat().st_size
    print(json.dumps({"key": key, "size_bytes": size}) if as_json else f"{key} ({show.size(size)})")


def check(path: Path) -> None:
    """Check that a file can be one of weights. Raises: OSError: the message says what is wrong."""
    if path.suffix.lower() not in SUFFIXES:
        raise OSError(f"{path.name} is no file of weights; use {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise OSError(f"there is no file {path}; download {path.name} first, from where it is published")
    with path.open("rb") as file:
        begin = file.read(64)
    if not begin.strip() or begin.lstrip().startswith((b"<", b"version https://git-lfs")):
        raise OSError(
            f"{path.name} holds no weights, but {'a page' if begin.strip() else 'nothing'}: download it again"
        )


def print_list(*, as_json: bool) -> None:
    """Print the weights in the bucket, but not those that jobs have exported. Raises: OSError."""
    _reach()
    every = ((key.removeprefix(PREFIX), size, modified) for key, size, modified in bucket.objects(PREFIX))
    rows = [row for row in every if not row[0].startswith("job-")]
    if as_json:
        items = [{"name": name, "size_bytes": size, "modified_at": at.isoformat()} for name, size, at in rows]
        print(json.dumps({"models": items}))
    elif not rows:
        print("no weights in the bucket; put some there with ./taskw model PUT=yolo11n.pt")
    else:
        columns = (Column("NAME"), Column("SIZE", is_number=True), Column("MODIFIED"))
        print_table(columns, ([name, show.size(size), show.local_time(at.isoformat())] for name, size, at in rows))


def _reach() -> None:
    """Check that there is a bucket. Raises: OSError."""
    if not read_environment() or not bucket.exists():
        raise OSError("the local stack's bucket cannot be reached; start it with ./taskw up")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
