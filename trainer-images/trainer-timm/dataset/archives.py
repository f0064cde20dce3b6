"""Archives: which kind a file is by its content, and the files in it. Whatever cannot be read names the fix."""

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

import inflate64

from dataset import decoding, names
from dataset.download import Archive
from dataset.limits import encoding, limit
from dataset.report import Report
from utils import DatasetInvalidError

CHUNK_BYTES = 1 << 20
HEADER_LIMIT_BYTES = 1 << 24  # of a header in a tar: tarfile reads it into memory
USE = "make a .zip, or a .tar.gz"
_DEFLATE64, _UNICODE_NAME, _UTF8_FLAG, _ENCRYPTED = 9, 0x7075, 0x800, 1
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, _DEFLATE64, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_TARS: dict[bytes, Callable[[Archive], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
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


class Entry(NamedTuple):
    """A file in an archive; ``path`` is checked."""

    path: PurePosixPath
    size_bytes: int
    packed_bytes: int | None  # None: the archive is compressed as a whole
    offset: int  # where it begins in the archive, or in what is compressed as a whole
    member: Any  # of zipfile or tarfile


class Listing(NamedTuple):
    """The files of an archive, without those that an operating system wrote for itself."""

    entries: list[Entry]
    total_bytes: int  # with ignored files
    reader: Callable[[Any], IO[bytes]]  # of a member
    zipped: zipfile.ZipFile | None  # None: a tar, which is read from the beginning to the end


@contextmanager
def opened(source: Archive, report: Report) -> Iterator[Listing]:
    """Open an archive and check the names in it; what is damaged raises also while a file is read.

    Raises:
        DatasetInvalidError: the message names the archive's kind and the fix, or the entry.
        ConfigInvalidError: DATASET_ENCODING is not an encoding.
    """
    try:
        if _is_zip(source):
            with zipfile.ZipFile(source) as zipped:
                yield _of_zip(zipped, source, report)
        else:
            with tarfile.open(fileobj=cast("Any", _Bounded(_unpacked_tar(source))), mode="r:") as tar:
                yield _of_tar(tar, report)
    except BrokenProcessPool:
        raise
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
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
    if at >= 0 and not start.startswith(tuple(_TARS)):
        disk, first_disk = struct.unpack("<HH", end[at + 4 : at + 8]) if len(end) >= at + 8 else (0, 0)
        if {disk, first_disk} - {0, 0xFFFF} or start.startswith(b"PK00"):
            raise DatasetInvalidError(
                "this is one part of a split zip archive: join its parts (zip -s 0 all.zip --out one.zip), or upload "
                "one that is not split"
            )
        return True
    if start.startswith((b"PK\x03\x04", b"PK00")):
        raise DatasetInvalidError("the end of this zip archive is missing: its upload was cut off, so upload it again")
    if start.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(_PAGES):
        raise DatasetInvalidError("this is a web page or a text, not an archive: the download was not the file itself")
    if start.startswith(tuple(_TARS)) or start[257:262] == b"ustar" or tarfile.is_tarfile(source):
        return False
    raise DatasetInvalidError(f"this is not an archive: {USE}")


# zip


def _of_zip(zipped: zipfile.ZipFile, source: Archive, report: Report) -> Listing:
    infos = zipped.infolist()
    checked_count(len(infos))
    if not all(0 <= info.header_offset < source.size for info in infos):
        raise zipfile.BadZipFile("an entry lies outside of it")
    found = _zip_names(infos, report)
    files = [
        Entry(path, info.file_size, info.compress_size, info.header_offset, info)
        for info, name, path in zip(infos, found, map(names.checked_path, found), strict=True)
        if not info.is_dir() and not name.endswith("\\")  # as .NET writes folders
    ]
    entries = _without_ignored(files)
    for entry in entries:
        _check_readable(entry.member, entry.path)
    return Listing(entries, sum(info.file_size for info in infos), partial(_open_entry, zipped, source.path), zipped)


def _without_ignored(files: list[Entry]) -> list[Entry]:
    """Return the files that no system or tool wrote for itself; a hidden folder around all files is none of these."""
    inner = (entry for entry in files if not names.is_ignored(PurePosixPath(*entry.path.parts[1:])))
    return [entry for entry in files if not names.is_ignored(entry.path)] or list(inner)


def _check_readable(info: zipfile.ZipInfo, name: PurePosixPath) -> None:
    if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
        raise DatasetInvalidError(f"{name}: a symbolic link or device: zip the files themselves (zip -r, without -y)")
    if info.flag_bits & _ENCRYPTED or info.compress_type == 99:  # noqa: PLR2004 -- AES
        raise DatasetInvalidError(f"{name}: encrypted: make the archive without a password")
    if info.compress_type not in _METHODS:
        raise DatasetInvalidError(f"{name}: compressed in a way that is not supported: use Deflate, as most tools do")


def _zip_names(infos: Iterable[zipfile.ZipInfo], report: Report) -> list[str]:
    """Return the names: marked as UTF-8, or in their Unicode field, or as all others decode."""
    known = [_known_name(info) for info in infos]
    unknown = [name for name in known if isinstance(name, bytes)]
    found = iter(decoding.decoded(unknown, encoding(), report))
    return [next(found) if isinstance(name, bytes) else name for name in known]


def _known_name(info: zipfile.ZipInfo) -> str | bytes:
    if info.flag_bits & _UTF8_FLAG:
        return info.orig_filename
    raw, extra = info.orig_filename.encode("cp437"), info.extra  # zipfile has read the bytes as cp437
    while len(extra) >= 4:  # noqa: PLR2004 -- a kind and a size
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_NAME and len(field) > 5 and struct.unpack("<L", field[1:5])[0] == zlib.crc32(raw):  # noqa: PLR2004
            return field[5:].decode()
    return raw


def _open_entry(zipped: zipfile.ZipFile, path: Path, info: zipfile.ZipInfo) -> IO[bytes]:
    return _deflate64(path, info) if info.compress_type == _DEFLATE64 else zipped.open(info)


def _deflate64(path: Path, info: zipfile.ZipInfo) -> IO[bytes]:
    """Return the content of an entry in Deflate64, which Windows Explorer uses above 2 GB, and zipfile lacks."""
    file = path.open("rb")
    file.seek(info.header_offset + 26)
    name_bytes, extra_bytes = struct.unpack("<HH", file.read(4))
    file.seek(name_bytes + extra_bytes, io.SEEK_CUR)
    return io.BufferedReader(_Inflating(file, info), CHUNK_BYTES)


class _Inflating(io.RawIOBase):
    """The unpacked bytes of an entry; as zipfile does, no more than declared, and with the right checksum."""

    def __init__(self, file: IO[bytes], info: zipfile.ZipInfo) -> None:
        self._file, self._info, self._packed_bytes = file, info, info.compress_size
        self._inflater, self._rest, self._bytes, self._crc = inflate64.Inflater(), b"", 0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        while not self._rest and self._packed_bytes:
            packed = self._file.read(min(self._packed_bytes, 1 << 14))
            if not packed:
                raise EOFError(f"{self._info.filename} ends early")
            self._packed_bytes -= len(packed)
            self._rest = self._inflater.inflate(packed)
            self._bytes, self._crc = self._bytes + len(self._rest), zlib.crc32(self._rest, self._crc)
            if self._bytes > self._info.file_size:
                raise zipfile.BadZipFile(f"{self._info.filename} is larger than declared")
        if not self._rest and (self._bytes, self._crc) != (self._info.file_size, self._info.CRC):
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {self._info.filename!r}")
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


# tar


def _unpacked_tar(source: Archive) -> IO[bytes]:
    start = source.read(6)
    source.seek(0)
    opener = next((opener for signature, opener in _TARS.items() if start.startswith(signature)), None)
    return opener(source) if opener else cast("IO[bytes]", source)


class _Bounded:
    """A tar's bytes, of which tarfile may not read a header of any size into memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= HEADER_LIMIT_BYTES:
            raise tarfile.ReadError("a header that is too large")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def close(self) -> None:
        self._stream.close()

    def tell(self) -> int:
        return self._stream.tell()


def _of_tar(tar: tarfile.TarFile, report: Report) -> Listing:
    members, count, total_bytes, bytes_limit = list[tarfile.TarInfo](), 0, 0, limit("DATASET_BYTES_LIMIT")
    for member in tar:  # checked one by one: reading on costs as much as unpacking
        count, total_bytes = count + 1, total_bytes + member.size
        checked_count(count)
        if total_bytes > bytes_limit:
            raise DatasetInvalidError(f"more than {bytes_limit} bytes unpacked (DATASET_BYTES_LIMIT)")
        members.append(member)
    raw = [member.name.encode("utf-8", "surrogateescape") for member in members]
    found = decoding.decoded(raw, encoding(), report)
    files = [
        Entry(path, member.size, None, member.offset, member)
        for member, path in zip(members, map(names.checked_path, found), strict=True)
        if not member.isdir()
    ]
    entries = _without_ignored(files)
    for entry in entries:
        if not entry.member.isreg() or entry.member.issparse():
            what = "a symbolic link or device: pack the files themselves (tar --dereference)"
            raise DatasetInvalidError(f"{entry.path}: {what}")
    return Listing(entries, total_bytes, partial(_open_member, tar), None)


def _open_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    if file is None:
        raise tarfile.ReadError(f"{member.name} has no content")
    return file


def checked_count(count: int) -> None:
    """Check the number of entries. Raises: DatasetInvalidError."""
    most = limit("DATASET_FILE_LIMIT")
    if count > most:
        raise DatasetInvalidError(f"{count} entries are more than {most} (DATASET_FILE_LIMIT)")
