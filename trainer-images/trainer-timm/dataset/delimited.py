"""Text with a row on each line, and its words."""

import csv
from collections.abc import Sequence

_DELIMITERS = ",;\t|"


def rows(lines: Sequence[str]) -> list[list[str]]:
    """Return the rows of a table, by the delimiter that its first line has most often. Raises: csv.Error."""
    first = lines[0] if lines else ""
    return list(csv.reader(lines, delimiter=max(_DELIMITERS, key=first.count)))


def is_number(word: str) -> bool:
    """Return whether a word is a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True
