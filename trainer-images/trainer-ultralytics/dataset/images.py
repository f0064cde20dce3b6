"""Images: which formats are read, the check of each one, and decoding to 8 bits a sample."""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import chain
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pi_heif
from PIL import Image, ImageOps, UnidentifiedImageError

from dataset.limits import limit
from dataset.processes import spread
from dataset.report import Report, counted
from dataset.wholeness import completed, is_whole

SUFFIXES = {
    *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}
#: images that are not compressed, mostly
BITMAP_SUFFIXES = {".bmp", ".dib", ".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff"}
#: formats that are not read: such files are reported as images that are left out, not as other files
FOREIGN_SUFFIXES = {
    *(".arw", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".hdr", ".ico", ".jxl", ".nef", ".nii", ".orf", ".psd", ".raf"),
    *(".rw2", ".svg", ".tga", ".xcf"),
}
_ANY_SUFFIX = SUFFIXES | FOREIGN_SUFFIXES
QUICK_FORMATS = ("JPEG", "PNG")  # whose files say whether they are whole
BATCH_FILES = 64  # for a process at a time
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_EXIF = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}  # of Pillow's ``info``
_ORIENTATION, _TURNED = 274, {5, 6, 7, 8}
_SIGNATURES = {
    b"<": "an HTML or XML page",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"8BPS": "a Photoshop file",
}


NOTHING: "Inspections" = MappingProxyType({})


class Rules(NamedTuple):
    """What a framework can read; other images are rewritten as PNG, or get the suffix of their format."""

    pixel_limit: int
    smallest_side: int = 1
    wide_tiff: bool = True  # TIFF of 32 bits a sample
    formats: frozenset[str] | None = None  # Pillow's names; None: whatever Pillow reads
    suffixes: frozenset[str] = frozenset(SUFFIXES)
    known: "Inspections" = NOTHING  # what images were inspected while they were unpacked


class Levels(NamedTuple):
    """The samples of more than 8 bits that become black and white, alike in all images of a dataset."""

    black: float = 0.0
    white: float = 65_535.0


class Inspected(NamedTuple):
    """What the check of one image says; an empty problem means that it can be used."""

    width: int = 0
    height: int = 0
    problem: str = ""
    frames: int = 1
    levels: Levels | None = None  # the lowest and the highest sample, if samples have more than 8 bits
    is_turned: bool | None = None  # whether its EXIF data turn it by 90 degrees; None: unknown
    moved_to: str = ""  # its path, if it was rewritten under another name
    is_completed: bool = False  # it was a JPEG without its end marker


#: of images, by their name: the path below the folder of the dataset
Inspections = Mapping[str, Inspected]


class Checked(NamedTuple):
    """The images that can be used, by their path before the check, and the levels that all of them share."""

    paths: dict[Path, Path]
    levels: Levels


def rules(**framework: Any) -> Rules:
    """Return a framework's rules within the limits of the environment. Raises: ConfigInvalidError."""
    return Rules(limit("DATASET_PIXEL_LIMIT"), **framework)


def is_image(path: PurePath | str) -> bool:
    """Return whether a file counts as an image by its suffix, be it one that can be read or not."""
    return PurePath(path).suffix.lower() in _ANY_SUFFIX


def check_images(paths: Iterable[Path], root: Path, rules: Rules, report: Report, check: Callable[[], None]) -> Checked:
    """Return the images that can be decoded; the report names the others."""
    paths, usable, levels = list(paths), dict[Path, Path](), list[Levels]()
    animated, completed = list[str](), list[str]()
    start = len(str(root)) + 1  # of names within paths
    for path, image in zip(paths, _inspected(paths, start, rules, check), strict=True):
        if image.problem:
            report.problem("broken images", str(path)[start:], image.problem)
            continue
        usable[path] = Path(image.moved_to) if image.moved_to else path
        report.image_size(image.width, image.height)
        if image.frames > 1:
            animated.append(str(path)[start:])
        if image.is_completed:
            completed.append(str(path)[start:])
        if image.levels:
            levels.append(image.levels)
    if animated:
        text = f"{counted(len(animated), 'images')} with several frames, such as {animated[0]}: the first is used"
        report.guess("frames", text)
    if completed:
        text = f"{counted(len(completed), 'JPEG images')} without an end marker, such as {completed[0]}: it was added"
        report.guess("end markers", f"{text}, since nothing else is missing")
    shared = shared_levels(levels)
    if levels:
        text = f"samples of more than 8 bits are scaled: {shared.black:g} is black, and {shared.white:g} is white"
        report.guess("levels", text)
    return Checked(usable, shared)


def _inspected(paths: Sequence[Path], start: int, rules: Rules, check: Callable[[], None]) -> Iterator[Inspected]:
    """Yield the images that were inspected while unpacking, and inspect the others on all cores."""
    known = [rules.known.get(str(path)[start:]) for path in paths]
    others = [path for path, image in zip(paths, known, strict=True) if image is None]
    inspecting = partial(_inspect_some, rules=rules._replace(known=NOTHING))
    batches = (others[at : at + BATCH_FILES] for at in range(0, len(others), BATCH_FILES))
    results = chain.from_iterable(spread(inspecting, batches, check)) if others else iter(())
    yield from (image if image is not None else next(results) for image in known)


def _inspect_some(paths: Sequence[Path], rules: Rules) -> list[Inspected]:
    return [inspect(path, rules) for path in paths]


def inspect_unpacked(path: str, content: bytes | None, rules: Rules) -> Inspected | None:
    """Return the inspection of an unpacked file if it is certainly complete and the framework can read it unchanged."""
    if content is None or PurePath(path).suffix.lower() not in rules.suffixes:
        return None
    prepare()
    try:
        with Image.open(io.BytesIO(content), formats=QUICK_FORMATS) as image:
            is_read = rules.formats is None or image.format in rules.formats
            if not is_read or _problem(image, rules) or is_wide(image) or not is_whole(content, image):
                return None
            return Inspected(*image.size, frames=getattr(image, "n_frames", 1), is_turned=_is_turned(image))
    except Exception:  # noqa: BLE001 -- ``inspect`` says what it is, if the image is used
        return None


def _is_turned(image: Image.Image) -> bool | None:
    """Return whether EXIF data turn a JPEG or PNG by 90 degrees; None if only decoding can tell."""
    if not _EXIF & image.info.keys():
        return False
    return image.getexif().get(_ORIENTATION) in _TURNED if image.format == "JPEG" or "exif" in image.info else None


def inspect(path: Path, rules: Rules) -> Inspected:
    """Decode an image at a small scale; this function may run in another thread or process."""
    prepare()
    if path.suffix.lower() in FOREIGN_SUFFIXES:
        return Inspected(problem=f"{path.suffix.lower()} images are not supported: save it as JPEG or PNG")
    try:
        with Image.open(path, formats=FORMATS) as image:
            problem = _problem(image, rules)
            if problem:
                return Inspected(problem=problem)
            size, image_format = image.size, image.format or ""
            if rules.formats is None or image_format in rules.formats:
                image.draft("RGB", (64, 64))  # a JPEG is read completely, but decoded at a small scale
            image.load()
            frames = 1 if image_format == "MPO" else getattr(image, "n_frames", 1)
            levels = _levels(image)
            now = _adapted(path, image, rules)
            return Inspected(*size, frames=frames, levels=levels, moved_to="" if now == path else str(now))
    # ultralytics replaces Image.open by a function that raises ImportError for an unknown image, to ask for a plug-in.
    except (UnidentifiedImageError, ImportError):
        return Inspected(problem=_what_it_is(path))
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError) as error:
        if _complete(path):
            return inspect(path, rules)._replace(is_completed=True)
        return Inspected(problem=f"broken or truncated: {error}")


def _complete(path: Path) -> bool:
    """Add the end marker to a JPEG that lacks nothing else; return whether that was possible."""
    content = completed(path.read_bytes())
    if content is None:
        return False
    path.unlink()  # it may be a link to what jobs share
    path.write_bytes(content)
    return True


def _problem(image: Image.Image, rules: Rules) -> str:
    width, height = image.size
    if width * height > rules.pixel_limit:
        return f"{width}x{height} pixels are more than {rules.pixel_limit}: shrink it (DATASET_PIXEL_LIMIT)"
    if min(width, height) < rules.smallest_side:
        return f"{width}x{height} pixels; a side needs {rules.smallest_side} or more"
    if image.format == "TIFF" and image.mode in {"F", "I"} and not rules.wide_tiff:
        return "a TIFF of 32 bits a sample; use 8 or 16"
    return ""


def _adapted(path: Path, image: Image.Image, rules: Rules) -> Path:
    """Rewrite or rename an image that the framework would not read, and return its path."""
    is_read = rules.formats is None or image.format in rules.formats
    if is_read and path.suffix.lower() in rules.suffixes:
        return path
    suffix = (".jpg" if image.format in {"JPEG", "MPO"} else f".{str(image.format).lower()}") if is_read else ".png"
    target = path.with_suffix(suffix)
    try:
        target.touch(exist_ok=False)
    except FileExistsError:  # the name of another image
        target = path.with_name(f"{path.name}{suffix}")
    if is_read:
        return path.rename(target)
    upright = ImageOps.exif_transpose(image)
    modes = {"1": "L", "L": "L", "I;16": "I;16", "I": "I;16"}  # of PNG; a PGM of 16 bits is I
    upright.convert(modes.get(upright.mode, "RGB")).save(target)
    path.unlink()
    return target


def decode(path: Path, mode: str, levels: Levels) -> Image.Image:
    """Return an image with 8 bits a sample, in mode RGB or L: the same pixels in training, validation, prediction."""
    prepare()
    with Image.open(path, formats=FORMATS) as image:
        return (_narrowed(image, levels) if is_wide(image) else image).convert(mode)


def is_wide(image: Image.Image) -> bool:
    """Return whether samples have more than 8 bits, which Pillow would clip; it scales 16-bit colours by itself."""
    return image.mode in {"I", "F"} or image.mode.startswith("I;16")


def shared_levels(each: Sequence[Levels]) -> Levels:
    """Return the levels of a dataset: of whole numbers the range of their bits, of others the range that is used."""
    if not each:
        return Levels()
    black, white = min(levels.black for levels in each), max(levels.white for levels in each)
    if black < 0 or black % 1 or white % 1 or white <= 1:
        return Levels(black, white if white > black else black + 1)
    return Levels(0.0, next((float(top) for top in (255, 1_023, 4_095, 16_383, 65_535) if white <= top), white))


@cache
def prepare() -> None:
    """Register Pillow's rarer formats and HEIF, once in a process."""
    Image.init()
    pi_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None  # our own limit's message names the file
    warnings.filterwarnings("ignore", module="PIL")  # about what is odd, but can be read


def _levels(image: Image.Image) -> Levels | None:
    if not is_wide(image):
        return None
    values = np.asarray(image)
    finite = values[np.isfinite(values)]
    return Levels(float(finite.min()), float(finite.max())) if finite.size else Levels(0.0, 0.0)


def _narrowed(image: Image.Image, levels: Levels) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=levels.black)
    scaled = (values - levels.black) * (255 / (levels.white - levels.black))
    return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(512).lstrip()
    if not start:
        return "empty (0 bytes)"
    text = next((text for signature, text in _SIGNATURES.items() if start.startswith(signature)), "")
    return f"{text}, not an image" if text else f"not an image of these formats: {', '.join(FORMATS)}"
