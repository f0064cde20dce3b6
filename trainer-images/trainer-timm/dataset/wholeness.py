"""Whether an image is whole, by the structure of its file: a small part of the time that decoding takes.

What is odd in any way counts as not whole; it is for its decoding to say what is wrong, or that it is usable.
"""

import re
import zlib

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the next one in a JPEG's compressed data, but restart markers
_END, _SCAN, _HUFFMAN, _QUANTIZATION = 0xD9, 0xDA, 0xC4, 0xDB
_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_SEGMENTS = {_SCAN, _HUFFMAN, _QUANTIZATION, 0xDD, 0xFE, *_FRAMES, *range(0xE0, 0xF0)}
_PNG, _CHUNK_BYTES = b"\x89PNG\r\n\x1a\n", 12  # a chunk's length, type and checksum


def is_whole(content: bytes, image_format: str) -> bool:
    """Return whether a JPEG or PNG surely is whole."""
    return (image_format == "JPEG" and _is_whole_jpeg(content)) or (image_format == "PNG" and _is_whole_png(content))


def _is_whole_jpeg(content: bytes) -> bool:
    """Look for tables, one frame, its scans and the end marker, each where the one before says."""
    seen, position = set[int](), 2
    while content[position : position + 1] == b"\xff":
        marker = content[position + 1]
        if marker == _END:
            return seen >= {_SCAN, _HUFFMAN, _QUANTIZATION} and len(seen & _FRAMES) == 1
        if marker not in _SEGMENTS or (marker in _FRAMES and seen & _FRAMES):
            return False
        seen.add(marker)
        position += 2 + int.from_bytes(content[position + 2 : position + 4])
        if marker == _SCAN:
            following = _MARKER.search(content, position)
            if not following:
                return False
            position = following.start()
    return False


def _is_whole_png(content: bytes) -> bool:
    """Check all chunks up to the last one by their checksums."""
    seen, position = set[bytes](), len(_PNG)
    while position + _CHUNK_BYTES <= len(content):
        end = position + 8 + int.from_bytes(content[position : position + 4])
        kind = content[position + 4 : position + 8]
        if zlib.crc32(memoryview(content)[position + 4 : end]) != int.from_bytes(content[end : end + 4]):
            return False
        seen.add(kind)
        if kind == b"IEND":
            return seen >= {b"IHDR", b"IDAT"}
        position = end + 4
    return False
