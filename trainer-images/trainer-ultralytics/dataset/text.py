"""Text files as people have them: UTF-8 with or without a mark, UTF-16, or an older encoding of their system."""

import codecs
import re
from pathlib import Path
from typing import NamedTuple

from utils import DatasetInvalidError

MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PAIR = re.compile(rb"[\x80-\xff]{2}")  # letters of Asia are pairs of bytes; Europe's accented letters stand alone
#: tried in this order for what is not UTF-8; the first that can read all of it is a guess
OLDER = ("cp949", "cp932", "gb18030", "big5", "cp1252")


class Text(NamedTuple):
    """The text of a file, and how it was encoded."""

    text: str
    encoding: str

    @property
    def is_utf8(self) -> bool:
        """Whether the file is UTF-8, with or without a mark."""
        return self.encoding.startswith("utf-8")

    @property
    def is_guess(self) -> bool:
        """Whether other encodings could read the file, too."""
        return self.encoding in OLDER


def read(path: Path, name: str, limit_bytes: int) -> Text:
    """Return a file's text. Raises: DatasetInvalidError, which says what to do."""
    if path.stat().st_size > limit_bytes:
        raise DatasetInvalidError(f"{name} is larger than {limit_bytes} bytes")
    return decoded(path.read_bytes(), name)


def decoded(content: bytes, name: str) -> Text:
    """Return the text of some bytes. Raises: DatasetInvalidError."""
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "")
    if not encoding and b"\0" in content[:100]:
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    older = OLDER if _PAIR.search(content) else OLDER[::-1]
    for one in [encoding] if encoding else ["utf-8", *older]:
        try:
            return Text(content.decode(one), one)
        except UnicodeDecodeError:
            continue
    raise DatasetInvalidError(f"{name} is not readable as text: save it as UTF-8")
