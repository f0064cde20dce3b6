"""Zip archives: the files in them, and the content of one."""

import bz2
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, cast

import inflate64
from isal import isal_zlib

from dataset import decoding, names
from dataset.download import Archive
from dataset.entries import CHUNK_BYTES, Entry, Listing, checked_count, without_ignored
from dataset.limits import encoding
from dataset.report import Report
from utils import DatasetInvalidError

WHOLE_BYTES = 32 << 20  # a file of at most this size is unpacked in memory
READ_BYTES = 1 << 14  # of a larger one at a time: unpacked, it may be a thousand times as much
NAME_BYTES = 512  # read with the content, and enough for almost all names and extra fields
InflateError = cast("type[Exception]", isal_zlib.error)
HEADER = struct.Struct("<4s22xHH")
_SIGNATURE = b"PK\x03\x04"
_DEFLATE64, _UNICODE_NAME, _UTF8_FLAG, _ENCRYPTED, _AES = 9, 0x7075, 0x800, 1, 99
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, _DEFLATE64, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


def listed(source: Archive, report: Report) -> Listing:
    """Return the files of a zip. Raises: DatasetInvalidError, zipfile.BadZipFile."""
    with zipfile.ZipFile(source) as zipped:
        infos = zipped.infolist()
    checked_count(len(infos))
    if not all(0 <= info.header_offset < source.size for info in infos):
        raise zipfile.BadZipFile("an entry lies outside of it")
    files, problems = list[Entry](), dict[str, str]()
    for info, name in zip(infos, _names(infos, report), strict=True):
        if info.is_dir() or name.endswith("\\"):  # as .NET writes folders
            continue
        path = names.checked_path(name)
        sizes = info.file_size, info.compress_size, info.header_offset
        files.append(Entry(path, *sizes, info.compress_type, info.CRC))
        if problem := _problem(info):
            problems[path] = problem
    total_bytes = sum(info.file_size for info in infos)
    entries = without_ignored(files)
    for path in (entry.path for entry in entries if entry.path in problems):
        raise DatasetInvalidError(f"{path}: {problems[path]}")
    return Listing(entries, total_bytes)


def _problem(info: zipfile.ZipInfo) -> str:
    if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
        return "a symbolic link or device: zip the files themselves (zip -r, without -y)"
    if info.flag_bits & _ENCRYPTED or info.compress_type == _AES:
        return "encrypted: make the archive without a password"
    if info.compress_type not in _METHODS:
        return "compressed in a way that is not supported: use Deflate, as most tools do"
    return ""


def _names(infos: Iterable[zipfile.ZipInfo], report: Report) -> list[str]:
    """Return the names: marked as UTF-8, or in their Unicode field, or as all others decode."""
    known = [_known_name(info) for info in infos]
    unknown = [name for name in known if isinstance(name, bytes)]
    decoded = iter(decoding.decoded(unknown, encoding(), report))
    return [next(decoded) if isinstance(name, bytes) else name for name in known]


def _known_name(info: zipfile.ZipInfo) -> str | bytes:
    if info.flag_bits & _UTF8_FLAG or (not info.extra and info.orig_filename.isascii()):
        return info.orig_filename
    raw, extra = info.orig_filename.encode("cp437"), info.extra  # zipfile has read the bytes as cp437
    while len(extra) >= 4:  # noqa: PLR2004 -- a kind and a size
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_NAME and len(field) > 5 and struct.unpack("<L", field[1:5])[0] == zlib.crc32(raw):  # noqa: PLR2004
            return field[5:].decode()
    return raw


def content(file: int, entry: Entry) -> Iterator[bytes]:
    """Yield the content of one file, of an archive's descriptor: in one piece if it is small.

    It has the declared size and checksum. Raises: zipfile.BadZipFile, EOFError, and what decompressing raises.
    """
    size = min(entry.packed_bytes or 0, READ_BYTES if entry.size_bytes > WHOLE_BYTES else WHOLE_BYTES)
    start = os.pread(file, HEADER.size + NAME_BYTES + size, entry.offset)
    signature, name_bytes, extra_bytes = HEADER.unpack_from(start.ljust(HEADER.size))
    if signature != _SIGNATURE:
        raise zipfile.BadZipFile("Bad magic number for file header")
    begin = HEADER.size + name_bytes + extra_bytes
    if entry.method == zipfile.ZIP_DEFLATED and entry.size_bytes <= WHOLE_BYTES and size == entry.packed_bytes:
        packed = start[begin : begin + size]
        if len(packed) < size:
            packed = os.pread(file, size, entry.offset + begin)
        whole = isal_zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, entry.size_bytes + 1)
        yield _checked(entry, whole, isal_zlib.crc32(whole), len(whole))
    else:
        yield from _in_parts(file, entry, entry.offset + begin)


def _in_parts(file: int, entry: Entry, offset: int) -> Iterator[bytes]:
    decompressor, checksum, size_bytes = _decompressor(entry.method), 0, 0
    end = offset + (entry.packed_bytes or 0)
    parts = list[bytes]()
    for position in range(offset, end, READ_BYTES):
        packed = os.pread(file, min(READ_BYTES, end - position), position)
        if not packed:
            raise EOFError(f"{entry.path} ends early")
        part = decompressor(packed)
        checksum, size_bytes = isal_zlib.crc32(part, checksum), size_bytes + len(part)
        if size_bytes > entry.size_bytes:
            raise zipfile.BadZipFile(f"{entry.path} is larger than declared")
        parts.append(part)
        if entry.size_bytes > WHOLE_BYTES and sum(map(len, parts)) >= CHUNK_BYTES:
            yield b"".join(parts)
            parts = []
    yield _checked(entry, b"".join(parts), checksum, size_bytes)


def _checked(entry: Entry, part: bytes, checksum: int, size_bytes: int) -> bytes:
    if (size_bytes, checksum) != (entry.size_bytes, entry.checksum):
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {entry.path!r}")
    return part


def _decompressor(method: int) -> Any:
    """Return a function from the packed bytes of a file, part by part, to unpacked bytes."""
    if method == zipfile.ZIP_STORED:
        return bytes
    if method == zipfile.ZIP_DEFLATED:
        return isal_zlib.decompressobj(-zlib.MAX_WBITS).decompress
    if method == _DEFLATE64:
        return inflate64.Inflater().inflate
    if method == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress
    return cast("Any", zipfile).LZMADecompressor().decompress
