"""Names of datasets, frameworks and objects: printable Unicode without path separators."""

import re
import unicodedata

#: the most characters of a name and of a key
NAME_LENGTH, KEY_LENGTH = 200, 900
#: S3's limit, in UTF-8
KEY_BYTES = 1_024
# Control, format and noncharacters. U+200C and U+200D are allowed: Indic and Persian words and emoji need them.
HIDDEN = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\ufffe\uffff"
)
_HIDDEN_CHARACTER = re.compile(f"[{HIDDEN}]")
#: one name, which may become a part of a key; a dot at its end and that of ".zip" would be the ".." that no key has
NAME = rf"^(?![.\s-])(?:[^./\\{HIDDEN}]|\.(?![.]|\Z))+\Z"
#: names joined by single slashes
KEY = rf"^(?![.\s/-])(?:[^./\\{HIDDEN}]|\.(?!\.)|/(?![./\s-]|\Z))+\Z"
_BUT = "without .., backslashes or control characters, that does not begin with a dot, a dash or a space"
NAME_RULES = f"a name of 1 to {NAME_LENGTH} characters, without slashes, {_BUT}, or end with a dot"
KEY_RULES = f"a key of 1 to {KEY_LENGTH} characters, names joined by single slashes, {_BUT}"


def normalised(name: str) -> str:
    """Return a name in Unicode's composed form: a Mac writes é as two characters, other systems as one."""
    return unicodedata.normalize("NFC", name)


def forms(name: str) -> tuple[str, ...]:
    """Return the Unicode forms in which systems write a name, the composed form first."""
    return tuple(dict.fromkeys(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))


def is_name(name: str) -> bool:
    """Whether a name can be used; ``NAME_RULES`` describes usable names."""
    return len(name) <= NAME_LENGTH and re.match(NAME, name) is not None


def printable(name: str) -> str:
    """Return an untrusted name for a message: shortened, without characters that hide or reorder other text."""
    return _HIDDEN_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", name[:NAME_LENGTH])
