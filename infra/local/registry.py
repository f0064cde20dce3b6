"""The local stack's trainers: the built-in ones, and those of a registry of the user's own (``TRAINERS``)."""

import json
import os
from pathlib import Path
from typing import Any

from client.home import ROOT, home

BUILT_IN = ROOT / "infra/local/trainers.json"


def write(own: str) -> str:
    """Write the registry that the functions read, and return its path.

    ``own``: the user's registry, whose trainers are added, and replace built-in ones of the same name. If it cannot be
    read, its own path is returned: the functions' check of their settings then reports the error.
    """
    if not own:
        return str(BUILT_IN)
    path = Path(own).absolute()
    try:
        added = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return str(path)
    if not isinstance(added, dict) or not added:
        return str(path)
    built_in = json.loads(BUILT_IN.read_text(encoding="utf-8"))
    merged = _with_whole_paths(built_in, BUILT_IN.parent) | _with_whole_paths(added, path.parent)
    target = home() / "trainers.json"
    text = json.dumps(merged, indent=2) + "\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        part = target.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    return str(target)


def _with_whole_paths(registry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a registry that names files by their whole paths, since it moves to another folder."""
    return {name: _moved(trainer, folder) for name, trainer in registry.items()}


def _moved(trainer: Any, folder: Path) -> Any:
    if not isinstance(trainer, dict):
        return trainer
    if isinstance(declaration := trainer.get("declaration"), str):
        trainer = trainer | {"declaration": os.path.normpath(folder / declaration)}
    commands = trainer.get("command")
    if not isinstance(commands, dict):
        return trainer
    moved = {
        task: [_whole(word, folder) for word in words] if isinstance(words, list) else words
        for task, words in commands.items()
    }
    return trainer | {"command": moved}


def _whole(word: Any, folder: Path) -> Any:
    """Return a word of a command; one that names a file beside the registry becomes its whole path."""
    is_file = isinstance(word, str) and ("/" in word or (folder / word).is_file())
    # Not Path.resolve: a virtual environment's interpreter is a link, and its target is another environment.
    return os.path.normpath(folder / word) if is_file else word
