"""A job's description: its name, tags and notes, which people can change later."""

import re
import unicodedata
from collections.abc import Iterable
from itertools import count
from typing import Annotated

from msgspec import Meta

from functions.domain import names

_NUMBER, _NUMBER_LENGTH = re.compile(r" \(\d{1,9}\)\Z"), 12
TAG_LENGTH, TAG_LIMIT, NOTES_LENGTH = 50, 20, 4_000

Tag = Annotated[
    str,
    Meta(
        pattern=rf"^[^\s,{names.HIDDEN}][^,{names.HIDDEN}]*\Z",
        max_length=TAG_LENGTH,
        description=f"a tag of 1 to {TAG_LENGTH} printable characters, without commas, whose first is no space",
    ),
]
Tags = Annotated[list[Tag], Meta(max_length=TAG_LIMIT)]

#: unlike names, notes may have several lines
Notes = Annotated[
    str,
    Meta(
        pattern=rf"^(?:[\t\n\r]|[^{names.HIDDEN}])*\Z",
        max_length=NOTES_LENGTH,
        description=f"text of at most {NOTES_LENGTH:,} characters; of control characters, only tabs and line breaks",
    ),
]


def normalised_notes(notes: str) -> str:
    """Return notes in Unicode's composed form, with Unix line breaks."""
    return unicodedata.normalize("NFC", notes.replace("\r\n", "\n").replace("\r", "\n"))


def normalised_tags(tags: Iterable[str]) -> list[str]:
    """Return tags in Unicode's composed form, each once, in their order."""
    return list(dict.fromkeys(names.normalised(tag).strip() for tag in tags))


def base_name(name: str) -> str:
    """Return a name without the number that ``next_name`` has added, and with room for one."""
    return _NUMBER.sub("", name)[: names.NAME_LENGTH - _NUMBER_LENGTH].rstrip()


def next_name(name: str, used: Iterable[str]) -> str:
    """Return the name with the next number, such as ``cats (2)``, for a job that is resumed or cloned.

    ``used``: the search keys of the names with the same base.
    """
    base, taken = base_name(name), set(used)
    numbered = (f"{base} ({number})" for number in count(2))
    return next(one for one in numbered if search_key(one) not in taken)


def search_key(name: str) -> str:
    """Return the form of a name that searches compare: regardless of case."""
    return names.normalised(names.normalised(name).casefold())
