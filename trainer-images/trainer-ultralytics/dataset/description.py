"""The YAML file that describes a dataset for YOLO (``names``, ``train``, ``val``), in any common notation.

Every value is read as a word: a class may be called ``no``, ``null`` or ``007``, and nothing in the file can be run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dataset import text
from dataset.contents import Contents
from dataset.report import Report, listed
from utils import DatasetInvalidError

SUFFIXES = (".yaml", ".yml", ".yaml.txt", ".yml.txt")
USUAL = ("data.yaml", "data.yml")
LIMIT_BYTES = 1_000_000
LIST_LIMIT_BYTES = 500_000_000  # of the names of images
CLASS_LIMIT = 100_000
GAPS = 3  # numbers for each class: COCO's 80 classes are numbered up to 90
EXAMPLES = {"kpt_shape": "[17, 3]", "flip_idx": "[0, 2, 1]"}
EMPTY = {"", "null", "Null", "NULL", "~"}


class Described(NamedTuple):
    """A description, and the file that it is in."""

    path: Path
    values: Mapping[str, Any]


def find(contents: Contents, report: Report) -> Described | None:
    """Return the one description of the dataset, or None if there is none.

    Raises:
        DatasetInvalidError: several files may be meant, or the only one cannot be read.
    """
    described, unreadable = list[Described](), list[DatasetInvalidError]()
    for path in contents.named(*SUFFIXES):
        try:
            values = _load(path, contents, report)
        except DatasetInvalidError as error:
            unreadable.append(error)
            continue
        if isinstance(values, dict):
            values = {str(key).lower(): value for key, value in values.items()}
        if isinstance(values, dict) and ({"names", "nc"} & values.keys()):
            described.append(Described(path, values))
        elif path.name.lower() in USUAL:
            unreadable.append(DatasetInvalidError(f"{contents.name(path)} must hold names, train and val"))
    if not described and unreadable:
        raise unreadable[0]
    return _chosen([one for one in described if one.values.get("train")] or described, contents, report)


def _chosen(described: list[Described], contents: Contents, report: Report) -> Described | None:
    """Return the description in the highest folder; of several there, data.yaml."""
    if len(described) <= 1:
        return described[0] if described else None
    highest = min(len(one.path.parts) for one in described)
    top = [one for one in described if len(one.path.parts) == highest]
    usual = [one for one in top if one.path.name.lower() in USUAL and one.path.parent == top[0].path.parent]
    usual = [one for one in top if one.path.name.lower() in USUAL]
    is_one_dataset = len({one.path.parent for one in top}) == 1
    alike = all(one.values == top[0].values for one in top)
    chosen = top if alike else usual if len(usual) == 1 else []
    chosen = chosen if is_one_dataset else []
    names = [contents.name(one.path) for one in described]
    if not chosen:
        raise DatasetInvalidError(f"{listed(names)} each describe a dataset: leave only one in the archive")
    others = [name for name in names if name != contents.name(chosen[0].path)]
    report.guess("several descriptions", f"{contents.name(chosen[0].path)} was used, and not {listed(others)}")
    return chosen[0]


def _load(path: Path, contents: Contents, report: Report) -> Any:
    name = contents.name(path)
    content = text.read(path, name, LIMIT_BYTES, report)
    try:
        values = yaml.load(content.text, yaml.BaseLoader)  # noqa: S506 -- words only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DatasetInvalidError(f"{name} cannot be read: {_reason(error, content.text)}") from error
    return values


def _reason(error: Exception, content: str) -> str:
    mark = getattr(error, "problem_mark", None)
    line = f"line {mark.line + 1}: " if mark else ""
    if mark and mark.line < len(content.splitlines()) and "\t" in content.splitlines()[mark.line]:
        return f"{line}a tab: use spaces"
    problem = str(getattr(error, "problem", None) or type(error).__name__)
    return f"{line}{problem}{': write / in place of backslashes' if 'escape' in problem else ''}"


def words(value: Any) -> list[str]:
    """Return one word, or a list of words, as a list without empty ones. Raises: ValueError for anything else."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values):
        raise ValueError(type(value).__name__)
    return [one for one in values if one not in EMPTY]


def names_of(described: Described, contents: Contents) -> list[str | None]:
    """Return the names of the classes by their numbers; None: no class has this one. Raises: DatasetInvalidError."""
    file, values = contents.name(described.path), described.values
    names, count = values.get("names"), _count(values.get("nc"), file)
    if names in (None, "", [], {}):
        if not count:
            raise DatasetInvalidError(f"{file}: names is missing: list the classes, as in names: [cat, dog]")
        return [f"class_{number}" for number in range(count)]
    if isinstance(names, str):
        names = _names_in_file(names, described, contents)
    if isinstance(names, dict):
        names = _numbered(names, file)
    if len(names) > CLASS_LIMIT or not all(isinstance(name, str | None) for name in names):
        raise DatasetInvalidError(f"{file}: each of names must be a word, as in names: [cat, dog]")
    known = sum(name is not None for name in names)
    if count is not None and count not in {known, len(names)}:
        raise DatasetInvalidError(f"{file}: nc is {count}, but names lists {known} classes: correct one of them")
    missing = [str(number) for number, name in enumerate(names) if name is None]
    if missing:
        text = (
            f"names has no class {listed(missing)}, which is taken as an unused number, as the classes have the others"
        )
        contents.report.guess("classes", f"{file}: {text}")
    return list(names)


def _count(value: Any, file: str) -> int | None:
    if value is None or value in EMPTY:
        return None
    try:
        count = float(value)
    except (TypeError, ValueError):
        count = 0.5
    if count % 1 or not 0 < count <= CLASS_LIMIT:
        raise DatasetInvalidError(f"{file}: nc must be the number of classes, or left out")
    return int(count)


def _names_in_file(name: str, described: Described, contents: Contents) -> list[str]:
    """Return the names in a file of lines, as old versions of YOLO take them."""
    path = contents.other(name, described.path.parent, what=f"{contents.name(described.path)}: names")
    if path is None:
        example = ", ".join(word.strip() for word in name.split(","))
        raise DatasetInvalidError(
            f"{contents.name(described.path)}: names is the text {name!r}: write a list, as in names: [{example}]"
        )
    return lines(path, contents)


def lines(path: Path, contents: Contents) -> list[str]:
    """Return the lines of a text file that are not blank. Raises: DatasetInvalidError."""
    content = text.read(path, contents.name(path), LIST_LIMIT_BYTES, contents.report)
    return [line.strip() for line in content.text.splitlines() if line.strip()]


def _numbered(names: Mapping[Any, Any], file: str) -> list[Any]:
    numbers = {_number(key): name for key, name in names.items()}
    if None in numbers and all(_number(value) is not None for value in names.values()):  # {cat: 0, dog: 1}
        numbers = {_number(value): key for key, value in names.items()}
    if len(numbers) != len(names) or None in numbers:
        raise DatasetInvalidError(f"{file}: names must give each class its number, as in names: {{0: cat, 1: dog}}")
    by_number = {number: name for number, name in numbers.items() if number is not None}
    last = max(by_number)
    if last > GAPS * len(numbers) + GAPS:
        raise DatasetInvalidError(
            f"{file}: names has {len(numbers)} classes up to {last}: number them from 0 without gaps"
        )
    return [by_number.get(number) for number in range(last + 1)]


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) <= len(str(CLASS_LIMIT)) else None


def numbers_of(described: Described, contents: Contents, key: str) -> list[int] | None:
    """Return a list of whole numbers, such as ``kpt_shape``; None if it is missing. Raises: DatasetInvalidError."""
    value = described.values.get(key)
    if value is None or (isinstance(value, str) and value in EMPTY):
        return None
    numbers = [_number(one) for one in value] if isinstance(value, list) else [None]
    if None in numbers:
        raise DatasetInvalidError(
            f"{contents.name(described.path)}: {key} must be a list of whole numbers, as in {key}: {EXAMPLES[key]}"
        )
    return [number for number in numbers if number is not None]
