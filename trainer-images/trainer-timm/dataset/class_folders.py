"""Class folders: ``train/<class>/…`` and ``val/<class>/…``, or ``<class>/…`` alone, split by the seed."""

import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dataset import duplicates
from dataset.report import Report, Split, listed

FEWEST = 2
PAIRED_LIMIT = 10  # folders, of which two may be images and masks
_FOLD = re.compile(r"(k?fold|part|batch|chunk|group|subset|cv|set)[\W_]*\d+")
_WRAPPERS = {"images", "image", "imgs", "data", "dataset", "classes"}  # folders in a split that are no class
_PIXELS = {"images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "image_2", "rgb"}
_TARGETS = {
    *("annotations", "gt", "gtcoarse", "gtfine", "ground_truth", "groundtruth", "instance", "label", "labels", "mask"),
    *("masks", "segmentation", "segmentationclass", "semantic", "semantic_rgb"),
}
_SPLIT = re.compile(
    r"(?P<prefix>.*[\W_])?(?:(?P<train>train(?:ing)?|学習|训练|訓練|학습|훈련)"
    r"|(?P<val>val(?:id(?:at(?:e|ion))?)?|dev|検証|验证|驗證|검증)"
    r"|(?P<test>test(?:ing)?|eval(?:uation)?|holdout|测试|測試|테스트|시험))"
    r"[\W_]*(?:set|data|dataset|images?|imgs?|split)?[\W_]*\d*"
)
USUAL = {"train", "val", "validation", "valid", "test"}
Parts = tuple[str, ...]
Sample = tuple[Path, int]
Files = list[tuple[Parts, Path]]  # the names below the current folder, and the path


class Data(NamedTuple):
    """Images with the index of their class, and the names of the classes."""

    train: list[Sample]
    val: list[Sample]
    classes: list[str]


class Splits(NamedTuple):
    """The images of each split, whose first name is their class; no val: a share of train."""

    train: Files
    val: Files | None


def arranged(images: Iterable[Path], root: Path, report: Report, *, val_share: float, seed: int) -> Data:
    """Return the samples below a folder: the same list for the same seed. The report has what was guessed.

    Raises:
        DatasetInvalidError: the message names the folders.
    """
    images = list(images)
    if not images:
        held = listed([f"{count} {suffix}" for suffix, count in report.skipped.most_common()], 8)
        text = f"there are no images in it, but {held}: upload the images themselves, one file each"
        report.refuse("images", text if held else "the archive holds no files")
    report.check()
    files = _unwrapped([(path.relative_to(root).parts, path) for path in sorted(images)], report)
    splits = _splits(files, report)
    report.check()
    return of_splits(splits, root, report, val_share=val_share, seed=seed)


def of_splits(splits: Splits, root: Path, report: Report, *, val_share: float, seed: int) -> Data:
    """Return the samples of both splits, whose first name is their class. Raises: DatasetInvalidError."""
    files = splits.train
    train, val = (_of_classes(part, root, report) if part is not None else None for part in splits)
    classes = sorted(train or ())
    _refuse_masks(classes, train or {}, report)
    _refuse_folds(classes, train or {}, report)
    if len(classes) >= FEWEST and all(split_of(name) and not _is_prefixed(name) for name in classes):
        report.refuse("splits", f"{_folders(classes)} may be splits or classes: {SHAPE}")
    if len(classes) < FEWEST:
        folders = f"only one class folder, {classes[0]}/" if classes else "no class folders with images"
        report.refuse("classes", f"{folders}; {FEWEST} or more are needed: {SHAPE}{_hint(files, report)}")
    report.check()
    if val is None:
        return _split(train or {}, classes, report, val_share=val_share, seed=seed)
    val = _matched(val, classes, report)
    if not any(val.values()):
        report.refuse("classes", f"no class of the validation images is in train/, which has {listed(classes)}")
    report.check()
    return Data(_samples(train or {}, classes), _samples(val, classes), classes)


SHAPE = "train/<class>/ and val/<class>/, or <class>/ alone"


def split_of(name: str) -> str | None:
    """Return train, val or test for a folder that is called so, in any case or in the usual variants."""
    match = _SPLIT.fullmatch(_normal(name))
    return match and match.lastgroup


def _is_prefixed(name: str) -> bool:
    match = _SPLIT.fullmatch(_normal(name))
    return bool(match and match["prefix"])


def usable(data: Data, paths: Mapping[Path, Path], report: Report) -> Data:
    """Return the samples that can be used, and the classes that still have one; ``paths`` says where they are now.

    Raises:
        DatasetInvalidError: too few are left.
    """
    train = [(paths[path], number) for path, number in data.train if path in paths]
    val = [(paths[path], number) for path, number in data.val if path in paths]
    remaining = sorted({number for _, number in train})
    if len(remaining) < FEWEST or not val:
        report.refuse("classes", f"too few usable images: {len(train)} to train on and {len(val)} to validate on")
    report.check()
    index = {old: new for new, old in enumerate(remaining)}
    classes = [data.classes[old] for old in remaining]
    train, val = ([(path, index[number]) for path, number in part if number in index] for part in (train, val))
    return Data(train, val, classes)


def placed(data: Data, folder: Path) -> Path:
    """Move the images to ``train/<class>/`` and ``val/<class>/`` in a new folder, for frameworks that scan one."""
    for split, samples in (("train", data.train), ("val", data.val)):
        for number, (path, label) in enumerate(samples):
            target = folder / split / data.classes[label] / path.name
            if target.exists():  # from another folder of the class
                target = target.with_name(f"{number}-{path.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    return folder


def report_content(data: Data, root: Path, report: Report) -> None:
    """Note the images of each split and class, the classes that only one split has, and images that both have."""
    count(data, report)
    train, val = ([path for path, _ in part] for part in (data.train, data.val))
    duplicates.compare(train, val, lambda path: str(path.relative_to(root)), report)


def count(data: Data, report: Report) -> None:
    """Note the images of each split and class, and the classes that only one split has."""
    report.classes = data.classes
    for name, samples in (("train", data.train), ("val", data.val)):
        of_classes = Counter(data.classes[number] for _, number in samples)
        report.splits[name] = Split(len(samples), classes=dict(of_classes))
    lacking = [name for name in data.classes if name not in report.splits["val"].classes]
    if lacking:
        report.classes_in_one_split.setdefault("train", lacking)
        report.guess("classes", f"classes without an image to validate on: {listed(lacking)}")


def _unwrapped(files: Files, report: Report) -> Files:
    """Remove the folders around all images; images beside the only folder are left out."""
    while files:
        tops = {parts[0] for parts, _ in files if len(parts) > 1}
        inside = [(parts[1:], path) for parts, path in files if len(parts) > 1]
        has_splits = any(len(parts) > 1 and split_of(parts[0]) == "train" for parts, _ in inside)
        if len(tops) != 1 or (split_of(*tops) and not has_splits):
            return files
        if not any(len(parts) > 1 for parts, _ in inside):
            return files  # the only folder is a class
        for _, path in [file for file in files if len(file[0]) == 1]:
            report.skip("images in no class folder", path.name, "it lies beside the folder of the dataset")
        files = inside
    return files


def _splits(files: Files, report: Report) -> Splits:
    folders = defaultdict[str, Files](list)
    for parts, path in files:
        if len(parts) > 1:
            folders[parts[0]].append((parts[1:], path))
    kinds: dict[str, list[str]] = {"train": [], "val": [], "test": [], "": []}
    for name in sorted(folders):
        kinds[split_of(name) or ""].append(name)
    trains, others = kinds["train"], kinds["val"] + kinds["test"]
    like_splits = trains + others
    is_any_prefixed = not trains and any(_is_prefixed(name) for name in like_splits)  # blood test/ and rapid test/
    are_classes = (kinds[""] and not (trains and others)) or is_any_prefixed
    if are_classes and not any(_has_folders(folders[name]) for name in like_splits):
        if like_splits:  # such as bus/, car/ and train/
            beside = f", like {_folders(kinds[''])}" if kinds[""] else ""
            report.guess("splits", f"{_folders(like_splits)}: taken for classes{beside}")
        return _of_flat(files, folders, report)
    if not like_splits:
        return _of_flat(files, folders, report)
    if len(trains) != 1:
        lacking = "none" if not trains else "more than one"
        reason = f"{_folders(sorted(folders))} may be splits, but {lacking} of them is train/; or classes"
        report.refuse("splits", f"{reason}. Rename one to train/ and another to val/, or give the classes other names")
        return Splits([], None)
    return _of_splits(files, folders, kinds, report)


def _folders(names: Sequence[str]) -> str:
    return listed([f"{name}/" for name in names])


def _of_splits(files: Files, folders: Mapping[str, Files], kinds: Mapping[str, list[str]], report: Report) -> Splits:
    [train], tests = kinds["train"], kinds["test"]
    val = _validation(kinds["val"], tests, folders, report)
    if val and not {train, val} <= USUAL:
        report.guess("splits", f"{train}/ is used to train and {val}/ to validate")
    elif val and val in tests:
        report.guess("splits", f"there is no val/: {val}/ is used to validate")
    for name in tests:
        if name != val:
            report.splits["test"] = Split(len(folders[name]))
    unused = [f"{name}/{path.name}" for name in kinds[""] for _, path in folders[name]]
    for name in unused:
        report.skip("images outside train/ and val/", name, "not used")
    for path in (path for parts, path in files if len(parts) == 1):
        report.skip("images in no class folder", path.name, "not used")
    for name in (name for name in (train, val) if name and not _has_folders(folders[name])):
        lying = f"the images lie in {name}/ itself, not in folders of classes"
        report.refuse("classes", f"{lying}: {SHAPE}{_hint(folders[name], report) if name == train else ''}")
    return Splits(_classes_of(train, folders), _classes_of(val, folders) if val else None)


def _validation(vals: list[str], tests: list[str], folders: Mapping[str, Files], report: Report) -> str | None:
    """Return the folder to validate on; a test/ without classes, as competitions have it, is none."""
    vals = sorted(vals, key=lambda name: (_normal(name) != "val", name))
    if len(vals) > 1:
        report.refuse("splits", f"{_folders(vals)} all look like val/: keep one")
    return next(iter([*vals, *(name for name in tests if _has_folders(folders[name]))]), None)


def _classes_of(split: str, folders: Mapping[str, Files]) -> Files:
    """Return the images of a split by their class, without a folder such as train/train/ or train/images/."""
    files = folders[split]
    tops = {parts[0] for parts, _ in files if len(parts) > 1}
    is_wrapped = len(tops) == 1 and (_normal(*tops) in _WRAPPERS or split_of(*tops) == split_of(split))
    inside = [(parts[1:], path) for parts, path in files if len(parts) > 1]
    return inside if is_wrapped and _has_folders(inside) else files


def _of_flat(files: Files, folders: Mapping[str, Files], report: Report) -> Splits:
    """Return flat class folders as they are; ``<class>/train/…`` and ``<class>/val/…`` by their splits."""
    inner = {top: {split_of(parts[0]) if len(parts) > 1 else None for parts, _ in folders[top]} for top in folders}
    if len(folders) < FEWEST or not all("train" in splits and None not in splits for splits in inner.values()):
        return Splits(files, None)
    deepest = max(len(parts) for top in folders for parts, _ in folders[top])
    if deepest > FEWEST:
        several = f"{_folders(list(folders))} each hold a train/ with folders: several datasets, or classes?"
        report.refuse("splits", f"{several} Use one dataset: {SHAPE}")
    report.guess("splits", f"{_folders(list(folders))} are classes, which hold the splits")
    parts_of = defaultdict[str, Files](list)
    for top, inside in folders.items():
        for parts, path in inside:
            parts_of[split_of(parts[0]) or ""].append(((top, *parts[1:]), path))
    return Splits(parts_of["train"], parts_of["val"] or parts_of["test"] or None)


def _refuse_masks(classes: Sequence[str], train: Mapping[str, list[Path]], report: Report) -> None:
    """Refuse images and the masks that belong to them: as classes they would train nonsense."""
    normal = {_normal(name) for name in classes}
    if normal & _PIXELS and normal & _TARGETS:
        report.refuse("classes", f"{_folders(classes)} are no classes, but images and what belongs to them: {SHAPE}")
        return
    of_stems: dict[frozenset[str], str] = {}
    for name in classes if len(classes) <= PAIRED_LIMIT else ():
        stems = frozenset(path.stem for path in train[name])
        other = of_stems.setdefault(stems, name)
        suffixes = [{path.suffix.lower() for path in train[one]} for one in (other, name)]
        if len(stems) > FEWEST and not suffixes[0] & suffixes[1]:
            same = f"{_folders([other, name])} hold the same names, as {listed(sorted(suffixes[0] | suffixes[1]))}"
            report.refuse("classes", f"{same}: images and masks? For classes use {SHAPE}")


def _refuse_folds(classes: Sequence[str], train: Mapping[str, list[Path]], report: Report) -> None:
    """Refuse fold1/, fold2/, …, which all hold the same folders: these are the classes, or those."""
    inner = [{path.parent.name for path in train[name]} for name in classes]
    if all(map(_FOLD.fullmatch, map(_normal, classes))) and inner and len(inner[0]) > 1 and inner.count(inner[0]) > 1:
        either = f"the classes may be {_folders(classes)} or {_folders(sorted(inner[0]))}"
        report.refuse("classes", f"{either}, which each of them holds: use {SHAPE}")
    times = Counter(map(_normal, classes))
    alike = [name for name in classes if times[_normal(name)] > 1]
    if alike:
        report.guess("classes", f"{_folders(alike)} are separate classes, though their names differ in case only")


def _hint(files: Files, report: Report) -> str:
    """Return what such an archive usually is, and what to do."""
    starts = Counter(match[0].casefold() for _, path in files if (match := re.match(r"[^\W\d_]+", path.name)))
    prefixes = [start for start, times in starts.most_common() if times > 1]
    table = "labels.csv, with the columns image and label"
    unread = (".xlsx", ".jsonl", ".mat", ".cls", "train.txt", "labels.txt")
    name = next((name for name in report.skipped_names if name.lower().endswith(unread)), "")
    is_yaml = {".yaml", ".yml"} & report.skipped.keys()
    if is_yaml or report.skipped.get(".txt", 0) >= max(len(files) // 2, 1) + bool(name):
        return ". It looks like a dataset for object detection: use the framework ultralytics, such as model yolo11n.pt"
    if name:
        return f". The classes in {name} are not read: save them as {table}"
    if {".json", ".xml"} & report.skipped.keys():
        return f". Annotations in .json or .xml are for object detection: use the framework ultralytics, or add {table}"
    if len(prefixes) >= FEWEST:
        return f". The files' names seem to hold the class ({listed(prefixes, 3)}): sort them into one folder for each"
    return ""


def _has_folders(files: Files) -> bool:
    return any(len(parts) > 1 for parts, _ in files)


def _of_classes(files: Files, root: Path, report: Report) -> dict[str, list[Path]]:
    classes, nested = defaultdict[str, list[Path]](list), dict[str, None]()
    for parts, path in files:
        if len(parts) == 1:
            report.skip("images in no class folder", str(path.relative_to(root)), "not used")
            continue
        classes[parts[0]].append(path)
        if len(parts) > FEWEST:
            nested[f"{parts[0]}/{parts[1]}/"] = None
    if nested:
        report.guess("folders", f"folders within a class belong to it, such as {listed(list(nested), 3)}")
    return dict(classes)


def _matched(val: Mapping[str, list[Path]], classes: Sequence[str], report: Report) -> dict[str, list[Path]]:
    """Return the images of val by train's classes, whose names may differ in case or in their normal form."""
    normal = {_normal(name): name for name in classes}
    matched, unknown = defaultdict[str, list[Path]](list), list[str]()
    for name, paths in val.items():
        known = name if name in classes else normal.get(_normal(name))
        if known is None:
            unknown.append(name)
            for path in paths:
                report.skip("images of a class that train/ does not have", f"{name}/{path.name}", "not used")
            continue
        if known.casefold() == name.casefold() and known != name:
            report.guess("classes", f"{name}/ of the validation images is taken for the class {known}")
        matched[known] += paths
    if unknown:
        report.classes_in_one_split["val"] = unknown
    return dict(matched)


def _samples(paths: Mapping[str, list[Path]], classes: Sequence[str]) -> list[Sample]:
    return [(path, number) for number, name in enumerate(classes) for path in sorted(paths.get(name, ()))]


def _split(paths: Mapping[str, list[Path]], classes: list[str], report: Report, *, val_share: float, seed: int) -> Data:
    """Split off a share of each class for validation, at least one image, unless there is only one."""
    train, val = list[Sample](), list[Sample]()
    for number, name in enumerate(classes):
        mine = [(path, number) for path in sorted(paths[name])]
        random.Random(f"{seed}/{number}").shuffle(mine)  # noqa: S311 -- a reproducible choice
        most = min(max(round(len(mine) * val_share), 1), len(mine) - 1)
        val += mine[:most]
        train += mine[most:]
    if not val:
        report.refuse("splits", "each class has only one image: none is left for validation")
    report.check()
    report.guess("splits", f"there is no val/: {len(val)} of {len(train) + len(val)} images are kept for validation")
    return Data(sorted(train), sorted(val), classes)


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().strip()
