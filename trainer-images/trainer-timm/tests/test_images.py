"""Images as people have them: read in any format, with all of their range, or left out by name."""

import base64
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset import images
from dataset.images import Levels, Rules, check_images, decode
from dataset.report import Report

RULES = Rules(pixel_limit=10_000)
#: 64 x 64 pixels of red, by libheif
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAAABkAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xy"
    "bmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAACFt"
    "ZGF0AAAAFSgBrwtg+sbB1//7Pfv2oEHU3e07cA=="
)
RAMP = np.arange(1024).reshape(32, 32)


def saved(folder: Path, name: str, pixels: Image.Image, image_format: str = "", **options: object) -> Path:
    images.prepare()
    path = folder / name
    pixels.save(path, image_format or None, **options)
    return path


def checked(*paths: Path, rules: Rules = RULES) -> tuple[images.Checked, Report]:
    report = Report("cats.zip")
    return check_images(paths, paths[0].parent, rules, report, lambda: None), report


@pytest.mark.parametrize(
    ("name", "dtype", "top"),
    [
        ("x.png", np.uint16, 65_535),
        ("x.tif", np.uint16, 65_535),
        ("x.tif", ">u2", 65_535),
        ("x.png", np.uint16, 4_095),
        ("x.tif", np.int32, 1_000_000),
        ("x.tif", np.float32, 1.0),
        ("x.tif", np.float32, 37.5),
        ("x.pgm", np.uint16, 65_535),
    ],
)
def test_samples_of_more_than_8_bits_are_scaled_and_not_clipped(
    tmp_path: Path, name: str, dtype: type, top: float
) -> None:
    wide = Image.fromarray((RAMP / 1023 * top).astype(dtype))
    result, report = checked(saved(tmp_path, name, wide))

    [path] = result.paths.values()
    for mode in ("L", "RGB"):
        pixels = np.asarray(decode(path, mode, result.levels)).reshape(1024, -1)[:, 0].astype(int)
        assert abs(pixels - RAMP.ravel() / 1023 * 255).max() <= 1.5
    assert not report.problems


def test_all_images_of_a_dataset_share_their_levels(tmp_path: Path) -> None:
    dark = saved(tmp_path, "dark.png", Image.fromarray(np.full((20, 20), 1_000, np.uint16)))
    bright = saved(tmp_path, "bright.png", Image.fromarray(np.full((20, 20), 4_000, np.uint16)))

    result, _ = checked(dark, bright)

    assert result.levels == Levels(0, 4_095)
    assert np.asarray(decode(dark, "L", result.levels)).max() == 62
    assert np.asarray(decode(bright, "L", result.levels)).max() == 249


def test_not_a_number_is_black(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    values[0, 0] = np.nan

    result, _ = checked(saved(tmp_path, "x.tif", Image.fromarray(values)))

    [path] = result.paths
    assert np.asarray(decode(path, "L", result.levels))[0, 0] == 0


@pytest.mark.parametrize(
    ("name", "image_format"),
    [
        ("x.avif", "AVIF"),
        ("x.jp2", "JPEG2000"),
        ("x.jfif", "JPEG"),
        ("x.jpe", "JPEG"),
        ("x.ppm", "PPM"),
        ("x.gif", "GIF"),
        ("x.webp", "WEBP"),
        ("x.dib", "DIB"),
        ("wrong.jpg", "PNG"),
        ("wrong.jpg", "AVIF"),
        ("wrong.png", "GIF"),
        ("wrong.bmp", "TIFF"),
    ],
)
def test_formats_are_read_whatever_the_suffix_says(tmp_path: Path, name: str, image_format: str) -> None:
    path = saved(tmp_path, name, Image.new("RGB", (40, 30), (200, 10, 10)), image_format)

    result, report = checked(path)

    assert result.paths == {path: path}
    assert decode(path, "RGB", result.levels).size == (40, 30)
    assert not report.problems


def test_heic_is_read(tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(HEIC)

    result, report = checked(path)

    assert list(result.paths) == [path], report.message
    assert decode(path, "RGB", result.levels).size == (64, 64)


def test_the_first_frame_of_an_animation_is_used_with_a_warning(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, "x.gif", frames[0], save_all=True, append_images=frames[1:])

    result, report = checked(path)

    assert decode(path, "RGB", result.levels).getpixel((5, 5)) == (255, 0, 0)
    assert "x.gif" in report.guesses[0]["message"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.jpg", b"", "empty (0 bytes)"),
        ("x.jpg", b"<!DOCTYPE html><html>", "an HTML or XML page"),
        ("x.png", b"hello", "not an image of these formats"),
        ("x.dcm", b"\0" * 128 + b"DICM", ".dcm images are not supported: save it as JPEG or PNG"),
        ("x.psd", b"8BPS", ".psd images are not supported"),
    ],
)
def test_files_that_are_no_images_are_left_out_by_name(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)

    result, report = checked(tmp_path / name)

    assert not result.paths
    assert report.problems["broken images"].files == [{"file": name, "reason": report.message.split(": ", 2)[2][:-1]}]
    assert reason in report.message


def test_a_jpeg_that_lacks_only_its_end_marker_is_used_which_the_report_says(tmp_path: Path) -> None:
    shared = saved(tmp_path, "shared", Image.effect_noise((40, 24), 90), "JPEG")
    whole = shared.read_bytes()
    shared.write_bytes(whole[:-2])
    path = tmp_path / "x.jpg"
    path.symlink_to(shared)

    result, report = checked(path)

    assert result.paths == {path: path}
    assert path.read_bytes() == whole
    assert shared.read_bytes() == whole[:-2]
    assert [guess["message"] for guess in report.guesses] == [
        "1 JPEG image without an end marker, such as x.jpg: it was added, since nothing else is missing"
    ]


def test_a_truncated_and_a_huge_image_are_left_out(tmp_path: Path) -> None:
    whole = saved(tmp_path, "whole.jpg", Image.effect_noise((90, 90), 50))
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:-200])
    huge = saved(tmp_path, "huge.png", Image.new("1", (101, 100)))

    result, report = checked(whole, cut, huge)

    assert list(result.paths) == [whole]
    reasons = {file["file"]: file["reason"] for file in report.problems["broken images"].files}
    assert "truncated" in reasons["cut.jpg"]
    assert "101x100 pixels are more than 10000: shrink it (DATASET_PIXEL_LIMIT)" in reasons["huge.png"]


def test_unsupported_images_are_rewritten_and_their_labels_still_match(tmp_path: Path) -> None:
    own = Rules(10_000, formats=frozenset({"JPEG", "PNG"}), suffixes=frozenset({".jpg", ".png"}))
    colour = Image.new("RGB", (40, 30), (200, 10, 10))
    turned = Image.Exif()
    turned[274] = 6  # turned by 90 degrees
    paths = [
        saved(tmp_path, "1.jfif", colour, "JPEG"),
        saved(tmp_path, "2.avif", colour, exif=turned),
        saved(tmp_path, "3.gif", colour),
        saved(tmp_path, "4.jpg", colour),
        saved(tmp_path, "5.pgm", Image.fromarray((RAMP * 60).astype(np.uint16))),
    ]

    result, _ = checked(*paths, rules=own)

    now = list(result.paths.values())
    assert [path.name for path in now] == ["1.jpg", "2.png", "3.png", "4.jpg", "5.png"]
    assert [Image.open(path).format for path in now] == ["JPEG", "PNG", "PNG", "JPEG", "PNG"]
    assert Image.open(now[1]).size == (30, 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in now]
    assert np.asarray(Image.open(now[4])).max() > 60_000


def test_a_format_that_attacks_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\n")

    result, _ = checked(path)

    assert not result.paths
