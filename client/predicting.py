"""Predictions: the images to send, the table of predictions, and the paths of downloaded files."""

import json
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import httpx

from client import archives, downloads, local_check, show
from client.api import Api, Json
from client.artifacts import artifacts_of
from client.errors import CallError, invalid
from client.local_check import Member
from client.output import Column
from client.uploads import Source, fingerprint_of

TABLE = "predictions.jsonl"
COLUMNS = (
    Column("IMAGE", is_name=True),
    Column("CLASS", is_flexible=True),
    Column("CONFIDENCE", is_number=True),
    Column("BOX (x1, y1, x2, y2)", optional=1),
)
_NAME_LENGTH = 40
_TIMEOUT_SECONDS = 60.0


def images(paths: Sequence[Path]) -> Source:
    """Return the images to send: files, folders, or one archive.

    Raises:
        CallError: a path does not exist, or is no image; nothing has been sent.
    """
    for path in paths:
        if not path.exists():
            raise local_check.missing(path)
    first = paths[0]
    if len(paths) == 1 and first.is_file() and not local_check.is_image(first.name):
        local_check.content(first)
        return Source(first, None)
    files = [path for each in paths for path in _images(each)]
    base = _common_folder([path for path, _ in files])
    members = {}
    for path, name in files:
        details = path.stat()
        if not details.st_size:
            raise invalid(f"{path} is empty")
        inner = path.relative_to(base).as_posix() if base else name
        members[inner] = Member(inner, path, details.st_size, details.st_mtime_ns)
    return Source(first, sorted(members.values()))


def _images(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the images of a folder, or an image, each with its name. Raises: CallError: there is none."""
    if path.is_dir():
        local_check.content(path)  # refuses a folder without images
        yield from (
            (Path(os.path.abspath(member.path)), member.name)  # noqa: PTH100 -- links keep their names
            for member in local_check.members(path)
            if local_check.is_image(member.name)
        )
    elif local_check.is_image(path.name):
        yield Path(os.path.abspath(path)), path.name  # noqa: PTH100 -- as above
    elif path.name.lower().endswith(archives.ANY_SUFFIXES):
        raise invalid(f"{path} is an archive: name it alone, or name images and folders")
    else:
        raise invalid(f"{path} is no image; a prediction takes images, folders, or one archive of them")


def _common_folder(paths: Sequence[Path]) -> Path | None:
    """Return the folder below which all are; None on several drives of Windows."""
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:
        return None


def dataset_name(source: Source) -> str:
    """Return a unique name for the dataset, so that no other dataset is overwritten."""
    name = archives.stem(source.path.resolve().name) if source.path.is_file() else source.path.resolve().name
    short = unicodedata.normalize("NFC", name)[:_NAME_LENGTH].rstrip(". ")
    return f"predict-{short}-{fingerprint_of(source)[:8]}"


def stored(api: Api, job_id: str) -> tuple[list[Json], list[Json]]:
    """Return the predictions of a job, one for each image, and its artifacts; no predictions if it stored no table.

    Raises:
        CallError: they cannot be read.
    """
    artifacts = artifacts_of(api, job_id)
    link = next((each["url"] for each in artifacts if each["key"] == f"results/job-{job_id}/{TABLE}"), None)
    if link is None:
        return [], artifacts
    try:
        text = httpx.get(link, timeout=_TIMEOUT_SECONDS).raise_for_status().text
        lines = [json.loads(line) for line in text.split("\n") if line.strip()]
        return [line for line in lines if isinstance(line, dict)], artifacts
    except (httpx.HTTPError, ValueError) as error:
        raise CallError(f"{TABLE} cannot be read ({error}); stoker download {job_id} {TABLE}") from error


def rows(predictions: Sequence[Json]) -> Iterator[list[str]]:
    """Yield a row of the table for each box, or for the likeliest class; of a single image, for each of its classes.

    Tables in an unknown format have no rows.
    """
    for each in predictions:
        name = show.plain(str(each.get("file", "")))
        classes = each.get("probs") or each.get("top") or []
        objects = classes[: None if len(predictions) == 1 else 1] if classes else each.get("boxes") or []
        for one in objects:
            yield [name, _class(one), _confidence(one), _box(one)]
        if not objects and "boxes" in each:
            yield [name, "nothing", "", ""]


def _is_drawn(prediction: Json, by_key: Mapping[str, Json]) -> bool:
    return "file" in prediction and str(prediction.get("image")) in by_key


def _class(one: Json) -> str:
    return show.plain(str(one.get("name", one.get("class", ""))))


def _confidence(one: Json) -> str:
    return f"{one.get('confidence', one.get('probability', 0)):.3f}"


def _box(one: Json) -> str:
    """Return a box in pixels; of a rotated one, the upright box around its corners."""
    corners = one.get("corners") or []
    box = one.get("xyxy") or [f(point[axis] for point in corners) for f in (min, max) for axis in (0, 1) if corners]
    return ", ".join(f"{value:.0f}" for value in box)


def targets(
    predictions: Sequence[Json], artifacts: Sequence[Json], job_id: str, *, is_table_only: bool
) -> list[downloads.Target]:
    """Return the files to download: the table, and the images that show the predictions by the images' own names."""
    table = [each for each in artifacts if each["key"] == f"results/job-{job_id}/{TABLE}"]
    if is_table_only:
        return [(each, PurePosixPath(TABLE)) for each in table]
    by_key = {each["key"]: each for each in artifacts}
    drawn = [(by_key[each["image"]], str(each["file"])) for each in predictions if _is_drawn(each, by_key)]
    names = [PurePosixPath(name).with_suffix(PurePosixPath(each["key"]).suffix) for each, name in drawn]
    unique = len({str(name).casefold() for name in names}) == len(names)
    paths = [
        name if unique else PurePosixPath(f"{file}{name.suffix}") for (_, file), name in zip(drawn, names, strict=True)
    ]
    shown = [(each, downloads.path_of(str(path), job_id)) for (each, _), path in zip(drawn, paths, strict=True)]
    return [*((each, PurePosixPath(TABLE)) for each in table), *shown]
