"""The limits of a dataset, each of which an environment variable of the same name may change."""

import codecs
import math
import os

from utils import ConfigInvalidError

DEFAULTS = {
    "DATASET_FILE_LIMIT": 1_000_000,
    "DATASET_BYTES_LIMIT": 200_000_000_000,  # unpacked
    "DATASET_RATIO_LIMIT": 200,  # unpacked to packed, of a file and of the whole archive
    "DATASET_RATIO_FLOOR_BYTES": 10_000_000,  # smaller files and archives may have any ratio
    "DATASET_PIXEL_LIMIT": 100_000_000,  # of one image
    "DATASET_CACHE_BYTES": 100_000_000_000,  # of all datasets in DATASET_CACHE_DIR
    "DATASET_BROKEN_SHARE": 0.01,  # of the images: so many may be left out, and always one
}


def limit(name: str) -> int:
    """Return a limit. Raises: ConfigInvalidError, if it is not a whole number."""
    text = os.environ.get(name) or str(DEFAULTS[name])
    if not text.isdecimal():
        raise ConfigInvalidError(f"{name}={text!r} cannot be used: use a whole number")
    return int(text)


def share(name: str) -> float:
    """Return a share. Raises: ConfigInvalidError, if it is not between 0 and 1."""
    text = os.environ.get(name) or str(DEFAULTS[name])
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ConfigInvalidError(f"{name}={text!r} cannot be used: use a number from 0 to 1")
    return value


def encoding() -> str:
    """Return the encoding of an archive's names; empty: find out. Raises: ConfigInvalidError."""
    name = os.environ.get("DATASET_ENCODING", "")
    try:
        return name and codecs.lookup(name).name
    except LookupError:
        raise ConfigInvalidError(f"DATASET_ENCODING={name} cannot be used: use cp949, cp932, gb18030, …") from None
