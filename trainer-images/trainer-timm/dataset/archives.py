"""Archives: detect the kind of a file by its content, and list its files. Errors name the fix."""

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from dataset import tars, zips
from dataset.download import Archive
from dataset.entries import Listing
from dataset.report import Report
from utils import DatasetInvalidError

USE = "make a .zip, or a .tar.gz"
_FOREIGN = {
    b"7z\xbc\xaf\x27\x1c": f"a 7-Zip archive, not a zip: {USE}, with 7-Zip's format zip",
    b"Rar!\x1a\x07": f"a RAR archive, not a zip: {USE}",
    b"\x28\xb5\x2f\xfd": f"compressed with zstd: {USE}",
    b"\x04\x22\x4d\x18": f"compressed with lz4: {USE}",
    b"PK\x07\x08": "the first part of a split zip archive: join its parts (zip -s 0), or upload one that is not split",
    b"\xff\xd8\xff": f"one JPEG image, not an archive of images: {USE}",
    b"\x89PNG": f"one PNG image, not an archive of images: {USE}",
    b"%PDF": f"a PDF: {USE}",
    b"\x89HDF": f"an HDF5 file: save the images as files, and {USE}",
    b"PAR1": f"a Parquet file: save the images as files, and {USE}",
    b"SQLite format 3": f"an SQLite database: save the images as files, and {USE}",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself: run git lfs pull, and upload the file",
}
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"{", b"<head")


@contextmanager
def opened(source: Archive, report: Report) -> Iterator[Listing]:
    """Open an archive and check the names in it; damaged archives may raise later, when a file is read.

    Raises:
        DatasetInvalidError: the message names the archive's kind and the fix, or the entry.
        ConfigInvalidError: DATASET_ENCODING is not an encoding.
    """
    try:
        yield (zips if _is_zip(source) else tars).listed(source, report)
    except BrokenProcessPool:
        raise
    except zipfile.BadZipFile as error:
        raise DatasetInvalidError(
            f"the archive is damaged, its upload was cut off, or it is one of several parts to join: {error}"
        ) from error
    except (tarfile.TarError, zlib.error, zips.InflateError, lzma.LZMAError, EOFError) as error:
        raise DatasetInvalidError(f"the archive is damaged, or its upload was cut off: {error}") from error
    except OSError as error:
        if error.errno is not None:  # of the file system, and not of gzip or bz2
            raise
        raise DatasetInvalidError(f"the archive is damaged, or its upload was cut off: {error}") from error
    except UnicodeDecodeError as error:
        raise DatasetInvalidError(
            "a name is marked as UTF-8, but is not: make the archive with another tool"
        ) from error
    except (NotImplementedError, RuntimeError, ValueError, struct.error) as error:
        raise DatasetInvalidError(f"the archive cannot be read: {error}") from error


def _is_zip(source: Archive) -> bool:
    """Return whether a file is a zip archive, or else a tar. Raises: DatasetInvalidError, for anything else."""
    start = source.read(1024)
    source.seek(max(source.size - (1 << 16) - 22, 0))
    end = source.read()
    source.seek(0)
    if not start:
        raise DatasetInvalidError("the file is empty (0 bytes): upload it again")
    for signature, what in _FOREIGN.items():
        if start.startswith(signature):
            raise DatasetInvalidError(f"this is {what}")
    at = end.rfind(b"PK\x05\x06")
    if at >= 0 and not start.startswith(tuple(tars.OPENERS)):
        disk, first_disk = struct.unpack("<HH", end[at + 4 : at + 8]) if len(end) >= at + 8 else (0, 0)
        if {disk, first_disk} - {0, 0xFFFF} or start.startswith(b"PK00"):
            raise DatasetInvalidError(
                "this is one part of a split zip archive: join its parts (zip -s 0 all.zip --out one.zip), or upload "
                "one that is not split"
            )
        return True
    if start.startswith((b"PK\x03\x04", b"PK00")):
        raise DatasetInvalidError(
            "the end of this zip archive is missing: its upload was cut off, so upload it again; or it is the first of "
            "several parts (.zip.001): join them (cat x.zip.* > x.zip)"
        )
    if start.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(_PAGES):
        raise DatasetInvalidError("this is a web page or a text, not an archive: the download was not the file itself")
    is_tar = start[257:262] == b"ustar" or (any(start) and tarfile.is_tarfile(source))  # of zeros is an empty one
    if start.startswith(tuple(tars.OPENERS)) or is_tar:
        return False
    raise DatasetInvalidError(f"this is not an archive: {USE}")
