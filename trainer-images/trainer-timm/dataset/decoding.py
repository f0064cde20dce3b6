"""The encoding of names that are stored as bytes, as Windows writes them in Korea, Japan, China and Europe."""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from dataset.report import Report, listed
from utils import DatasetInvalidError

MARGIN = 1.5  # of two readings' logarithms: closer ones are refused
MIXED = 7.0  # penalty for names in UTF-8 beside names in another encoding: few archives are made by two tools
PARTS_LIMIT = 2_000  # so many distinct names decide the encoding
_WORD = re.compile(r"[^\W\d_]+")


class Reading(NamedTuple):
    """The bytes of names read in one encoding; the score is the logarithm of its probability."""

    encoding: str
    score: float
    decode: Callable[[bytes], str]


def decoded(raw: Sequence[bytes], encoding: str, report: Report) -> list[str]:
    """Decode names whose encoding the archive does not declare; "" detects it, and the report notes the guess.

    Raises:
        DatasetInvalidError: two encodings are equally plausible, or ``encoding`` does not fit.
    """
    odd = [name for name in dict.fromkeys(raw) if not name.isascii()]
    parts = list(dict.fromkeys(part for name in odd for part in name.split(b"/") if not part.isascii()))[:PARTS_LIMIT]
    if encoding:
        try:
            return [name.decode(encoding) for name in raw]
        except UnicodeDecodeError as error:
            raise DatasetInvalidError(f"names cannot be read as DATASET_ENCODING={encoding}: {error}") from error
    if all(_is_utf8(name) for name in odd):
        return [name.decode() for name in raw]
    readings = sorted(_readings(parts), key=lambda reading: -reading.score)
    if not readings:
        shown = listed([part.decode("cp437") for part in parts], 3)
        report.guess(
            "encoding",
            f"names in an unknown encoding, such as {shown}: zip in UTF-8, or ask the operator to set DATASET_ENCODING",
        )
        return [name.decode("cp437") for name in raw]
    best = readings[0]
    shown = _shown(parts, best)
    texts = [best.decode(part) for part in parts]
    others = (one for one in readings if [one.decode(part) for part in parts] != texts)
    other = next(others, None)
    if other and best.score - other.score < MARGIN:
        raise DatasetInvalidError(
            f"names may be {shown} ({best.encoding}) or {_shown(parts, other)} ({other.encoding}): zip with "
            "names in UTF-8, or ask the operator to set DATASET_ENCODING to one of them"
        )
    text = (
        f"the encoding of names is not marked; they are read as {_LANGUAGES[best.encoding]} ({best.encoding}): {shown}"
    )
    report.guess("encoding", f"{text}. If that is wrong, zip in UTF-8, or ask the operator to set DATASET_ENCODING")
    return [best.decode(name) for name in raw]


def _readings(parts: Sequence[bytes]) -> Iterable[Reading]:
    """Yield the possible readings: all names in one encoding, or those that are valid UTF-8 in UTF-8."""
    utf8 = {part for part in parts if _is_utf8(part)}
    for encoding, is_plausible in _SCRIPTS.items():

        def all_in_one(name: bytes, encoding: str = encoding) -> str:
            return name.decode(encoding)

        def mixed(name: bytes, encoding: str = encoding) -> str:
            return name.decode("utf-8" if _is_utf8(name) else encoding)

        for decode in (all_in_one, mixed) if utf8 else (all_in_one,):
            try:
                texts = [decode(part) for part in parts]
            except UnicodeDecodeError:
                continue
            own = [text for text, part in zip(texts, parts, strict=True) if decode is all_in_one or part not in utf8]
            if all(map(is_plausible, own)):
                score = sum(_score(text, encoding) for text in own)
                score += sum(_utf8_score(part.decode()) for part in utf8) - MIXED if decode is mixed else 0.0
                yield Reading(encoding, score, decode)


def _utf8_score(text: str) -> float:
    """Return the score of what is valid UTF-8, but may be so by chance."""
    scores = [_score(text, encoding) for encoding, is_plausible in _SCRIPTS.items() if is_plausible(text)]
    return max(scores, default=-math.inf)


def _shown(parts: Sequence[bytes], reading: Reading) -> str:
    return listed([reading.decode(part) for part in parts], 3)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _score(text: str, encoding: str) -> float:
    """Return the logarithm of a text's probability: frequent letters are likely, foreign ones within a word are not."""
    score, before = _PRIORS.get(encoding, 0.0), ""
    for letter in text:
        score -= math.log(_rarity(letter, encoding))
        is_foreign = letter.isalpha() and before.isascii() != letter.isascii() and encoding not in _LETTERS
        if before.isalpha() and (is_foreign or letter in _SYMBOLS):
            score -= math.log(20)
        before = letter
    return score


def _rarity(letter: str, encoding: str) -> float:
    """Return how many letters of a text there are, about, for one of these."""
    if letter.isascii():
        return 40 if letter.isalnum() or letter in " ._-()" else 2_000
    if encoding in _LETTERS:
        rarity = next((rarity for rarity, letters in _LETTERS[encoding] if letter.casefold() in letters), 3_000)
        return 300 if letter in _SYMBOLS else rarity if letter.islower() else rarity * 4
    rank = _ranks(encoding).get(letter)
    return 6.0 * (rank + 10) if rank is not None else _rarity_of_others(letter, encoding)


def _rarity_of_others(letter: str, encoding: str) -> float:
    try:
        code = letter.encode(_STANDARD[encoding])
    except UnicodeEncodeError:
        return 3_000_000
    if len(code) != 2:  # noqa: PLR2004 -- a syllable outside the standard is written as four letters
        return 3_000_000
    return 60_000 if code[0] < _SECOND_LEVEL.get(encoding, 0xFF) else 600_000


@cache
def _ranks(encoding: str) -> dict[str, int]:
    """Return the most frequent letters of names by their rank: from the names in Unicode's CLDR, in four languages."""
    lines = (Path(__file__).parent / "characters.txt").read_text(encoding="utf-8").splitlines()
    letters = dict(line.split() for line in lines)[encoding]
    return {letter: rank for rank, letter in enumerate(letters)}


def _only(*scripts: str, symbols: str = "PZNS") -> Callable[[str], bool]:
    """Return a check for text of these scripts; ``symbols`` are the categories of other characters."""

    def is_plausible(text: str) -> bool:
        return all(
            letter.isascii()
            or unicodedata.name(letter, "").split("-")[0].split(" ")[0] in scripts
            or unicodedata.category(letter)[0] in symbols
            or letter in _SYMBOLS
            for letter in text
        )

    return is_plausible


def _cased(script: str) -> Callable[[str], bool]:
    """Return a check for words of one script, which begin with a capital at most; boxes and blocks are none."""
    is_of_script = _only(script, symbols="PZ")

    def is_plausible(text: str) -> bool:
        words = [word for word in _WORD.findall(text) if not word.isascii()]
        is_mixed = script != "LATIN" and any(letter.isascii() for word in words for letter in word)
        return not is_mixed and all(word.isupper() or word[1:].islower() or len(word) == 1 for word in words)

    return lambda text: is_of_script(text) and is_plausible(text)


_LANGUAGES = {
    "cp949": "Korean",
    "cp932": "Japanese",
    "gb18030": "Chinese",
    "big5": "Chinese of Taiwan",
    "cp850": "western European",
    "cp1252": "western European",
    "cp866": "Russian",
}
_SYMBOLS = "°±²³µ·§©®"
_WESTERN = [(60, "é"), (80, "äöü"), (100, "èàçñáíó"), (150, "êâôîãëïûúß"), (250, "åæøõùìòœ"), (700, "ýþðÿ")]
#: of scripts with few letters: how rare these are, in lower case
_LETTERS = {"cp850": _WESTERN, "cp1252": _WESTERN, "cp866": [(40, "абвгдеёжзийклмнопрстуфхцчшщъыьэюя")]}
_PRIORS = {"cp1252": -2.0}  # Windows writes names in the encoding of its console
_STANDARD = {"cp949": "euc_kr", "gb18030": "gb2312", "big5": "big5", "cp932": "shift_jis"}
_SECOND_LEVEL = {"gb18030": 0xD8, "big5": 0xC9, "cp932": 0x98}  # the first byte of the rarer characters
_SCRIPTS: dict[str, Callable[[str], bool]] = {
    "cp949": _only("HANGUL"),
    "gb18030": _only("CJK", "FULLWIDTH"),
    "big5": _only("CJK", "FULLWIDTH"),
    "cp932": _only("HIRAGANA", "KATAKANA", "CJK", "FULLWIDTH"),
    "cp850": _cased("LATIN"),
    "cp1252": _cased("LATIN"),
    "cp866": _cased("CYRILLIC"),
}
