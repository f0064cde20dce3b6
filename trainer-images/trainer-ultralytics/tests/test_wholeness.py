"""Files of images that are whole by their structure, or not: where it says whole, a decoder finds nothing missing."""

import io
import random
from contextlib import suppress
from typing import Any

import pytest
from PIL import Image

from dataset import wholeness
from dataset.wholeness import completed, is_whole


def encoded(image_format: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    noise = random.Random(0).randbytes(40 * 24)  # the same images in each run
    image = Image.frombytes("L", (40, 24), noise).convert("RGB").convert(mode)
    image.save(file, image_format, **options)
    return file.getvalue()


WHOLE = {
    "jpeg": encoded("JPEG"),
    "grey": encoded("JPEG", "L"),
    "cmyk": encoded("JPEG", "CMYK"),
    "with restart markers": encoded("JPEG", restart_marker_blocks=2),
    "with a comment and EXIF": encoded("JPEG", comment=b"\xff\xd9" * 9, exif=b"Exif\x00\x00" + bytes(30)),
    "with tables of its own": encoded("JPEG", optimize=True),
    "png": encoded("PNG"),
    "png of a palette": encoded("PNG", "P"),
}
NEVER = {"progressive": encoded("JPEG", progressive=True), "webp": encoded("WEBP"), "bmp": encoded("BMP")}


def whole(content: bytes) -> bool:
    with Image.open(io.BytesIO(content)) as image:
        return is_whole(content, image)


@pytest.fixture(autouse=True)
def nothing_decoded_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    wholeness._decoded.clear()
    # Damage may claim 65,535 x 65,535 pixels, and tests that read a dataset remove the limit of Pillow.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_images_are_recognised(name: str) -> None:
    assert whole(WHOLE[name])
    assert whole(WHOLE[name] + bytes(100)) or not name.startswith("png")


@pytest.mark.parametrize("name", NEVER)
def test_other_formats_are_left_to_their_decoding(name: str) -> None:
    assert not whole(NEVER[name])


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("rest", [0, 500])
def test_truncated_images_are_not_whole_wherever_they_break_off(name: str, rest: int) -> None:
    content = WHOLE[name]
    assert whole(content)  # and its tables are known
    for size in range(0, len(content) - 1, 2):
        with suppress(OSError, SyntaxError, Image.DecompressionBombError):  # a broken header
            assert not whole(content[:size] + bytes(rest))


@pytest.mark.parametrize("name", WHOLE)
def test_images_that_count_as_complete_can_be_decoded(name: str) -> None:
    """Changed bytes anywhere in the file: a decoder must agree, or it is left to the decoder."""
    content, chance = WHOLE[name], random.Random(name)
    assert whole(content)
    for _ in range(300):
        place = chance.randrange(len(content))
        damaged = content[:place] + chance.randbytes(4) + content[place + 4 :]
        with suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            if whole(damaged):
                Image.open(io.BytesIO(damaged)).verify()
                pixels(damaged)


JPEGS = [name for name in WHOLE if not name.startswith("png")]


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_marker_is_completed(name: str, missing: int) -> None:
    assert completed(WHOLE[name][:-missing]) == WHOLE[name]


@pytest.mark.parametrize("name", [*JPEGS, "progressive", "png"])
def test_a_jpeg_that_lacks_pixels_is_not(name: str) -> None:
    content = (WHOLE | NEVER)[name]
    assert completed(content) is None
    for size in (*range(0, len(content) - 8, 7), len(content) - 8):
        repaired = completed(content[:size])
        assert repaired is None or pixels(repaired) == pixels(content)  # the last bytes may change no pixel


def pixels(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as image:
        try:
            return image.tobytes()
        except OSError as error:
            pytest.fail(f"it counts as whole, and cannot be decoded: {error}")
