"""YOLO datasets: read in any usual format, and written so that ultralytics reads them without guessing."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import yaml

from dataset import duplicates, formats, images, label_cache, labels, splits, text_labels
from dataset.contents import Contents
from dataset.description import SUFFIXES as YAML_SUFFIXES
from dataset.images import FOREIGN_SUFFIXES, Inspected
from dataset.images import SUFFIXES as IMAGE_SUFFIXES
from dataset.label_cache import LabelCache, Size
from dataset.labels import Labels, Problem, Rules
from dataset.layout import Layout
from dataset.report import Report, Split, counted, listed
from dataset.splits import Splits
from utils import ConfigInvalidError, DatasetInvalidError

#: files that describe a dataset: no others are unpacked, above all no .cache, which ultralytics loads as a pickle
DESCRIBING = (*YAML_SUFFIXES, ".txt", ".json", ".xml", ".names", ".data", ".labels", ".csv", ".tsv")
OURS = "stoker"  # the folder of what we write for ultralytics


#: the class of each object of an image; None: it has no label file
Classes = tuple[int, ...] | None


def is_wanted(path: PurePosixPath) -> bool:
    """Return whether a file of the archive is unpacked."""
    name = path.name.lower()
    return name.endswith(DESCRIBING) or PurePosixPath(name).suffix in IMAGE_SUFFIXES | FOREIGN_SUFFIXES


def read(  # noqa: PLR0913 -- what is read, and how
    folder: Path,
    report: Report,
    check: Callable[[], None],
    rules: images.Rules,
    *,
    task: str,
    seed: int = 0,
    is_cached: bool = False,
) -> Path:
    """Return the ``data`` argument of ``YOLO.train``: a YAML file that we wrote; ``is_cached``: and ``.cache`` files.

    Raises:
        DatasetInvalidError: the message names what to change.
        ConfigInvalidError: SCRATCH_DIR cannot be used.
    """
    if "/images/" in f"{folder}/":
        raise ConfigInvalidError(
            "SCRATCH_DIR is below a folder called images: ultralytics would look for labels elsewhere"
        )
    contents = Contents(folder, IMAGE_SUFFIXES | FOREIGN_SUFFIXES, report)
    layout = formats.read(contents, task)
    report.format, report.classes = layout.format, layout.names
    contents.report_tails()
    wanted = splits.with_validation(layout.splits, seed, report)
    row_rules = _row_rules(layout, task)
    paths = list(dict.fromkeys(image for of_split in wanted.values() for image in of_split))
    usable = images.check_images(paths, folder, rules, report, check).paths
    if layout.text_labels:
        text_labels.check_unmatched(layout.text_labels, report)
    cache = LabelCache(layout.kpt_shape if task == "pose" else None, len(layout.names)) if is_cached else None
    sizes = {now: _size(rules.known.get(contents.name(image))) for image, now in usable.items()} if cache else {}
    checked = _check_labels(usable, layout, row_rules, report, check, cache, sizes)
    kept = {split: [image for image in of_split if image in checked] for split, of_split in wanted.items()}
    _count(kept, checked, layout, report)
    kept = {split: [usable[image] for image in of_split] for split, of_split in kept.items()}
    duplicates.compare(kept["train"], kept["val"], contents.name, report)
    report.check()
    empty = [split for split, of_split in kept.items() if not of_split]
    if empty:
        raise DatasetInvalidError(f"{empty[0]}: none of its images can be used; {report.message}")
    if cache:
        cache.write(kept)
    return _write(folder, kept, layout, task)


def _size(image: Inspected | None) -> Size | None:
    """Return an image's width and height as it is shown, if they are known."""
    if image is None or image.is_turned is None:
        return None
    return (image.height, image.width) if image.is_turned else (image.width, image.height)


def _row_rules(layout: Layout, task: str) -> Rules:
    """Return what a row of labels holds. Raises: DatasetInvalidError."""
    shape, flip = layout.kpt_shape, layout.flip_idx
    is_shape = shape is not None and len(shape) == 2 and 0 < shape[0] <= labels.MOST_KEYPOINTS and shape[1] in {2, 3}  # noqa: PLR2004
    if shape is not None and is_shape:
        if task == "pose" and flip is not None and sorted(flip) != list(range(shape[0])):
            raise DatasetInvalidError(f"flip_idx must hold each of 0 to {shape[0] - 1} once")
        return Rules(task, tuple(layout.names), shape[0], shape[1], layout.unused)
    if task == "pose":
        raise DatasetInvalidError(
            "a pose model needs kpt_shape in data.yaml: [number of keypoints, 2 or 3], as in kpt_shape: [17, 3]"
        )
    return Rules(task, tuple(layout.names), unused=layout.unused)


def _check_labels(  # noqa: PLR0913, PLR0917 -- what is read, and how
    paths: Mapping[Path, Path],
    layout: Layout,
    rules: Rules,
    report: Report,
    check: Callable[[], None],
    cache: LabelCache | None,
    sizes: Mapping[Path, Size | None],
) -> dict[Path, Classes]:
    """Return the images whose labels can be used; repaired labels are written where ultralytics looks for them.

    ``paths`` has the current path of each image: it may have been rewritten in another format. ``cache`` gets the
    labels of all images, whose ``sizes`` are by their current path.
    """
    checked: dict[Path, Classes] = {}
    problems: dict[Path, Problem] = {}
    repairs = defaultdict[str, list[str]](list)
    columns = Counter[int]()
    for image, now in paths.items():
        check()
        source, target = layout.labels_of(image), labels.label_of(now)
        found = labels.read(source, rules) if source else Labels()
        if found.problem:
            problems[image] = found.problem
            continue
        is_written = bool(source and (found.repairs or source != target))
        if is_written:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(found.text(), encoding="utf-8")
        for kind in found.repairs:
            repairs[kind].append(layout.source_of(image))
        columns.update(len(row) for row in found.rows)
        checked[image] = tuple(int(row[0]) for row in found.rows) if source else None
        if cache:
            cache.add(now, label_cache.label(sizes[now], found if source else None, is_written=is_written))
    _report_problems(problems, checked, layout, report)
    for kind, names in repairs.items():
        report.guess("repaired labels", f"{kind}: in {len(names)} label files ({listed(names, 3)})")
    if rules.task == "detect" and columns and not columns[labels.BOX]:
        shape, model = ("four corners", "obb") if set(columns) == {labels.CORNERS} else ("polygons", "seg")
        text = f"the labels are {shape}, and the model detects: upright boxes around them are used; see yolo11n-{model}"
        report.guess("labels of another kind", text)
    return checked


def _report_problems(
    problems: Mapping[Path, Problem], checked: Mapping[Path, Classes], layout: Layout, report: Report
) -> None:
    unused = next((image for image, (kind, _) in problems.items() if kind == labels.UNUSED), None)
    if unused is not None:  # also if it is one file only: all others may mean other classes, too
        report.refuse("classes", f"{labels.UNUSED} ({problems[unused].reason})", layout.source_of(unused))
    seen = {number for classes in checked.values() for number in classes or ()}
    unknown = {problem.reason for problem in problems.values() if problem.kind == labels.UNKNOWN}
    last = f"class {len(layout.names)}; "
    is_from_one = bool(unknown) and 0 not in seen and all(last in reason for reason in unknown)
    for image, (kind, reason) in problems.items():
        shown = labels.FROM_ONE if is_from_one and kind == labels.UNKNOWN else kind
        report.label_problem(shown, layout.source_of(image), reason)


def _count(kept: Splits, checked: Mapping[Path, Classes], layout: Layout, report: Report) -> None:
    """Note what each split holds; refuse a train without objects."""
    for split, paths in kept.items():
        classes = Counter[int]()
        for image in paths:
            classes.update(checked[image] or ())
        background = [image for image in paths if not checked[image]]
        without = [image for image in background if checked[image] is None]
        counts = {layout.names[number]: count for number, count in sorted(classes.items())}
        report.splits[split] = Split(len(paths), classes.total(), len(background), counts)
        if paths and not classes and split == "train":
            _refuse_background(without, layout, report)
        elif paths and not classes:
            report.guess(
                "background", f"{split}: none of its {len(paths)} images has an object, so it measures nothing"
            )
        elif without:
            report.guess("background", f"{split}: {counted(len(without), 'images')} without a label file: background")
    train, val = (set(report.splits[split].classes) for split in ("train", "val"))
    report.classes_in_one_split = {"train": sorted(train - val), "val": sorted(val - train)}


def _refuse_background(without: list[Path], layout: Layout, report: Report) -> None:
    if without:
        report.refuse("no labels", f"train: none of its images has a label; {layout.source_of(without[0])} is missing")
    else:
        report.refuse("no labels", "train: the label files are there, but all of them are empty: label the images")


def _write(folder: Path, kept: Splits, layout: Layout, task: str) -> Path:
    """Write lists of images and a YAML file with the checked fields only."""
    ours = folder / OURS
    ours.mkdir(exist_ok=True)
    data: dict[str, object] = {"path": str(ours), "names": dict(enumerate(layout.names)), "channels": layout.channels}
    for split, paths in kept.items():
        (ours / f"{split}.txt").write_text("".join(f"{image}\n" for image in paths), encoding="utf-8")
        data[split] = str(ours / f"{split}.txt")
    if task == "pose":
        data["kpt_shape"] = layout.kpt_shape
        data |= {"flip_idx": layout.flip_idx} if layout.flip_idx is not None else {}
    path = ours / "stoker.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return path
