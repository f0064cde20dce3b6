"""Whether an image is whole, by the structure of its file: a small part of the time that decoding takes.

Unusual files count as incomplete; decoding them then decides whether they are usable.
"""

import hashlib
import io
import re
import zlib

from PIL import Image

END_MARKER = b"\xff\xd9"
_NOISE = [hashlib.blake2b(bytes([number])).digest().replace(b"\xff", b"\x00") for number in range(8)]
#: what follows complete data, changes no pixel: compressed data of many kinds, also after each restart marker
_TAILS = (b"", *_NOISE, *(bytes([0xFF, 0xD0 + number]) + noise for number, noise in enumerate(_NOISE)))
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")  # what ends a JPEG's compressed data
_END, _SCAN, _HUFFMAN, _QUANTIZATION = 0xD9, 0xDA, 0xC4, 0xDB
_FRAMES = {0xC0, 0xC1}  # baseline and extended; progressive ones may break in more ways
_TABLES = {_HUFFMAN, _QUANTIZATION, 0xDD}
_OTHERS = {0xFE, *range(0xE0, 0xF0)}  # comments and what applications add
_PNG_START, _CHUNK_BYTES = 8, 12  # its signature; a chunk's length, type and checksum

_decoded = set[bytes]()  # tables of JPEGs that were decoded in this process
_DECODED_LIMIT = 1_000


def is_whole(content: bytes, image: Image.Image) -> bool:
    """Return whether an opened JPEG or PNG is certainly complete, without decoding it. Raises what decoding raises."""
    if image.format == "PNG":
        return _is_whole_png(content)
    tables = _tables_of_whole(content) if image.format == "JPEG" else b""
    if tables and tables not in _decoded:  # most cameras and programs use the same tables for all images
        image.draft("RGB", (64, 64))
        image.load()
        if len(_decoded) < _DECODED_LIMIT:
            _decoded.add(tables)
    return bool(tables)


def _tables_of_whole(content: bytes) -> bytes:
    """Return a JPEG's tables if its one frame, one scan and end marker follow each other exactly; else nothing."""
    tables, frames, position = b"", 0, 2
    while content[position : position + 1] == b"\xff" and position + 4 <= len(content):
        marker = content[position + 1]
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4])
        if marker == _SCAN:
            following = _MARKER.search(content, end)
            is_ended = following is not None and following[0][1] == _END and frames == 1
            return tables + content[position:end] if is_ended and tables else b""
        if marker in _TABLES:
            tables += content[position:end]
        elif marker in _FRAMES:
            tables += content[position:end][:5] + content[position:end][9:]  # without the height and the width
            frames += 1
        elif marker not in _OTHERS:
            return b""
        position = end
    return b""


def completed(content: bytes) -> bytes | None:
    """Return a JPEG with its end marker, as ultralytics repairs it; None if anything else is missing, too."""
    body = content.removesuffix(b"\xff")
    whole = body + END_MARKER
    if not body.startswith(b"\xff\xd8") or body.endswith(END_MARKER) or not _tables_of_whole(whole):
        return None
    try:
        pixels = {_pixels(body + tail + END_MARKER) for tail in _TAILS}
    except (OSError, SyntaxError, ValueError):
        return None
    return whole if len(pixels) == 1 else None


def _pixels(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
        return hashlib.blake2b(image.tobytes()).digest()


def _is_whole_png(content: bytes) -> bool:
    """Check all chunks up to the last one by their checksums."""
    kinds, position = set[bytes](), _PNG_START
    while position + _CHUNK_BYTES <= len(content):
        end = position + 8 + int.from_bytes(content[position : position + 4])
        kind = content[position + 4 : position + 8]
        if zlib.crc32(memoryview(content)[position + 4 : end]) != int.from_bytes(content[end : end + 4]):
            return False
        kinds.add(kind)
        if kind == b"IEND":
            return kinds >= {b"IHDR", b"IDAT"}
        position = end + 4
    return False
