"""Text files in common encodings: UTF-8 with or without a mark, UTF-16, or an older encoding of a system."""

import codecs
import re
from pathlib import Path
from typing import NamedTuple

from dataset import decoding
from dataset.limits import encoding
from dataset.report import Report
from utils import DatasetInvalidError

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WESTERN = "cp1252"
_BETWEEN = re.compile(rb"([\s,:'\"]+)")  # none of these is a part of a letter in an encoding of Asia
_WORD = re.compile(r"[^\W\d_]+")


class Text(NamedTuple):
    """The text of a file, and how it was encoded."""

    text: str
    encoding: str

    @property
    def is_utf8(self) -> bool:
        """Whether the file is UTF-8, with or without a mark."""
        return self.encoding.startswith("utf-8")


def read(path: Path, name: str, limit_bytes: int, report: Report | None = None) -> Text:
    """Return a file's text; without a report only what is ASCII matters. Raises: DatasetInvalidError."""
    if path.stat().st_size > limit_bytes:
        raise DatasetInvalidError(f"{name} is larger than {limit_bytes} bytes")
    content = path.read_bytes()
    known = next((of_mark for mark, of_mark in MARKS.items() if content.startswith(mark)), "utf-8")
    if known == "utf-8" and b"\0" in content[:100]:
        known = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        return Text(content.decode(known), known)
    except UnicodeDecodeError as error:
        if known != "utf-8":
            raise DatasetInvalidError(f"{name} cannot be read as {known}: save it as UTF-8") from error
    return Text(_older(content, name, report) if report else content.decode("latin-1"), "older")


def _older(content: bytes, name: str, report: Report) -> str:
    """Decode text whose encoding the file does not declare. Raises: DatasetInvalidError, if two are likely."""
    if not encoding() and _is_western(text := content.decode(WESTERN, errors="replace")):
        report.guess("encoding", f"{name} is not UTF-8 and was read as {WESTERN}")
        return text
    pieces = _BETWEEN.split(content)
    odd = list(dict.fromkeys(piece for piece in pieces if not piece.isascii()))
    texts = dict(zip(odd, decoding.decoded(odd, encoding(), report), strict=True))
    report.guess("encoding", f"{name} is not UTF-8: save it as UTF-8, or set DATASET_ENCODING")
    return "".join(texts[piece] if piece in texts else piece.decode() for piece in pieces)


def _is_western(text: str) -> bool:
    """Return whether letters that are not ASCII stand in words of Latin letters, as accents do."""
    words = [word for word in text.split() if not word.isascii()]
    letters = [word for each in words for word in _WORD.findall(each) if not word.isascii()]
    signs = any(not letter.isascii() and not letter.isalpha() for word in words for letter in word)
    return not signs and all(
        (word[1:].islower() or word.isupper()) and any(letter.isascii() for letter in word) for word in letters
    )
