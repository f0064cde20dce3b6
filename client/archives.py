"""The files in an archive, of the kinds that trainers read: zip, and tar with any of its compressions."""

import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from lzma import LZMAError
from pathlib import Path
from typing import Literal, NamedTuple

from client.errors import DATASET, CallError, invalid

#: suffixes that are removed from a dataset's name
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
#: also those that no trainer reads
ANY_SUFFIXES = (*SUFFIXES, ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".lz4")
#: how compressed tar files begin, and how they are opened
_COMPRESSED: Mapping[bytes, Literal["r:gz", "r:bz2", "r:xz"]] = {
    b"\x1f\x8b": "r:gz",
    b"BZh": "r:bz2",
    b"\xfd7zXZ\0": "r:xz",
}
#: a compressed tar has no list of its files, and reading more of it would take long
_READ_BYTES = 64 << 20
_UNPACK = "unpack it, and name the folder"


class Listing(NamedTuple):
    """The paths of an archive's files."""

    names: list[str]
    #: whether the list is complete
    is_complete: bool = True


def stem(name: str) -> str:
    """Return an archive's name without its suffix; any other name as it is."""
    suffix = max((each for each in SUFFIXES if name.lower().endswith(each)), key=len, default="")
    return name[: -len(suffix)] if suffix and len(name) > len(suffix) else name


def listed(path: Path) -> Listing:
    """Return the paths of the files in an archive; its kind is detected by content, not by name.

    Raises:
        CallError: it is no archive that trainers read, or it is damaged; the message says what to do.
    """
    try:
        with path.open("rb") as file:
            start = file.read(6)
        if start.startswith(b"PK"):
            return _in_zip(path)
        mode = next((mode for magic, mode in _COMPRESSED.items() if start.startswith(magic)), None)
        if mode or tarfile.is_tarfile(path):
            return _in_tar(path, mode)
        is_zip = zipfile.is_zipfile(path)  # such as a self-extracting one
    except OSError as error:
        raise invalid(f"{path} cannot be read: {error.strerror or error}") from error
    if is_zip:
        return _in_zip(path)
    if not start:
        raise refused(path, "the file is empty")
    raise refused(path, f"this is neither a zip nor a tar file: {_UNPACK}")


def _in_zip(path: Path) -> Listing:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except zipfile.BadZipFile as error:
        raise refused(path, f"this is no complete zip file ({error}): zip it again, or name its folder") from error
    if any(entry.flag_bits & 1 for entry in entries):
        raise refused(path, "this zip file has a password: zip it again without one")
    return Listing([entry.filename for entry in entries])


def _in_tar(path: Path, mode: Literal["r:gz", "r:bz2", "r:xz"] | None) -> Listing:
    names = []
    try:
        with tarfile.open(path, mode or "r:") as archive:
            for entry in archive:
                if entry.isfile():
                    names.append(entry.name.removeprefix("./"))
                if mode and entry.offset_data > _READ_BYTES:
                    return Listing(names, is_complete=False)
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # gzip and bz2 raise those without a number
            raise
        raise refused(path, f"this is no complete tar file ({error}): pack it again, or name its folder") from error
    return Listing(names)


def refused(path: Path, why: str) -> CallError:
    """Return the error for a dataset that can never be trained on."""
    return CallError(f"{path}: {why}", {"title": "dataset invalid"}, exit_code=DATASET)
