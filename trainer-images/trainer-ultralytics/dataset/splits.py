"""Which images train and val hold: as a description names them, by the names of folders, or a share by the seed."""

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dataset import description
from dataset.contents import Contents, are_alone, parts_of, split_of
from dataset.description import Described
from dataset.report import Report, listed
from utils import DatasetInvalidError

VAL_SHARE = 0.2
Splits = dict[str, list[Path]]
KEYS = {"train": ("train",), "val": ("val", "validation", "valid")}
NOT_IN_ARCHIVE = "images that a list names and the archive lacks"


def described(described: Described, contents: Contents) -> Splits:
    """Return the images of train and val that a description names; without train, by the names of folders.

    Raises:
        DatasetInvalidError: the message lists the described files that the archive lacks.
    """
    if not any(described.values.get(key) for keys in KEYS.values() for key in keys):
        return by_folders(contents.images, contents)
    file, folder = contents.name(described.path), described.path.parent
    bases = [folder]
    path = described.values.get("path")
    if isinstance(path, str) and path not in description.EMPTY and parts_of(path):
        base = contents.folder(path, folder, what=f"{file}: path")
        if base is None:
            contents.report.guess("paths", f"{file}: path: {path} is not in the archive and was ignored")
        else:
            bases.insert(0, base)
    splits: Splits = {}
    for split, keys in KEYS.items():
        value = next((described.values[key] for key in keys if described.values.get(key)), "")
        try:
            places = description.words(value)
        except ValueError:
            raise DatasetInvalidError(f"{file}: {split} must be the name of a folder, or a list of them") from None
        found = [image for place in places for image in _images(place, bases, contents, f"{file}: {split}")]
        if places:
            splits[split] = list(dict.fromkeys(found))
    if "train" not in splits:
        raise DatasetInvalidError(f"{file}: train is missing: name the folder of its images")
    return splits


def _images(place: str, bases: Sequence[Path], contents: Contents, what: str) -> list[Path]:
    """Return the images in a folder, in a list, or one image."""
    folder = contents.folder(place.split("*", maxsplit=1)[0], *bases, what=what)
    if folder is not None:
        images = contents.in_folder(folder)
        if not images:
            raise DatasetInvalidError(f"{what}: there are no images in {place}; {_what_there_is(contents)}")
        return images
    file = contents.other(place, *bases, what=what)
    if file is not None and file.suffix.lower() != ".txt":
        raise DatasetInvalidError(f"{what}: {place} is neither a folder nor a .txt list of images")
    if file is not None:
        return in_list(file, bases, contents)
    image = contents.image(place, *bases, what=what)
    if image is None:
        advice = (
            ": add it, or leave val out of the file, and a share of train validates" if what.endswith(": val") else ""
        )
        raise DatasetInvalidError(f"{what}: {place} is not in the archive; {_what_there_is(contents)}{advice}")
    return [image]


def _what_there_is(contents: Contents) -> str:
    if not contents.images:
        return "the archive holds no images at all: export the dataset with its images"
    folders = sorted({contents.name(image.parent) for image in contents.images})
    return f"its images are in {listed(folders)}"


def in_list(file: Path, bases: Sequence[Path], contents: Contents) -> list[Path]:
    """Return the images that a text file lists. Raises: DatasetInvalidError, if none of them is in the archive."""
    name, images, missing = contents.name(file), list[Path](), list[tuple[int, str]]()
    lines = description.lines(file, contents)
    is_alone = are_alone(lines)
    for number, line in enumerate(lines, start=1):
        image = contents.image(line, file.parent, *bases, what=name, is_alone=is_alone)
        if image is None:
            missing.append((number, line))
        else:
            images.append(image)
    if not images:
        example = f", such as {missing[0][1]}" if missing else ""
        raise DatasetInvalidError(f"{name}: none of its {len(missing)} images is in the archive{example}: "
                                  "export the dataset with its images (in CVAT: Save images)")  # fmt: skip
    for number, line in missing:
        contents.report.problem(NOT_IN_ARCHIVE, f"{name}:{number}", line)
    return images


def by_folders(images: Iterable[Path], contents: Contents) -> Splits:
    """Return the images by folders such as train/ and valid/; all of them are train if no folder is called so."""
    splits: dict[str, list[Path]] = {"train": [], "val": [], "test": [], "": []}
    for image in images:
        splits[next(reversed(contents.split_words(image)), "")].append(image)
    if not splits["train"]:
        splits["train"], splits[""] = splits["train"] + splits[""], []
    for image in splits[""]:
        contents.report.skip("images outside of the folders of train and val", contents.name(image), "not used")
    found = {name: paths for name, paths in splits.items() if name in KEYS and paths}
    if not found.get("train"):
        raise DatasetInvalidError(f"no images to train on; {_what_there_is(contents)}")
    is_named = all(name in path.relative_to(contents.root).parts for name, paths in found.items() for path in paths)
    if len(found) > 1 and not is_named:
        folders = {name: sorted({contents.name(path.parent) for path in paths}) for name, paths in found.items()}
        text = "; ".join(f"{name}: {listed(of_split, 3)}" for name, of_split in folders.items())
        contents.report.guess("split names", f"train and val were recognised by the names of folders: {text}")
    return found


def of_file(path: Path, contents: Contents) -> str:
    """Return the split of a file with annotations, by its name or its folder: train for instances_train2017.json."""
    for part in reversed(path.relative_to(contents.root).parts):
        words = "".join(letter if letter.isalpha() else " " for letter in part).split()
        found = {split for split in map(split_of, words) if split}
        if len(found) == 1:
            return found.pop()
    return ""


def by_files(images: Mapping[str, list[Path]], contents: Contents) -> Splits:
    """Return the images by the splits of the files that annotate them; "": of all splits. Raises: DatasetInvalidError.

    A file of train beside one without a split leaves no images to validate on, but a share of train.
    """
    of_split = {split: list(dict.fromkeys(paths)) for split, paths in images.items() if paths}
    if set(of_split) == {""}:  # one file for all splits
        return by_folders(of_split[""], contents)
    if not of_split.get("train") and of_split.get(""):
        of_split["train"] = of_split.pop("")
        contents.report.guess("split names", "the files of labels whose names tell no split are used to train")
    for image in of_split.get("", ()):
        contents.report.skip("images of a file whose name tells no split", contents.name(image), "not used")
    if not of_split.get("train"):
        raise DatasetInvalidError("no file of labels is for train: call one of them train, as in train.json")
    return {split: paths for split, paths in of_split.items() if split in KEYS}


def with_validation(splits: Splits, seed: int, report: Report) -> Splits:
    """Return train and val; without val, a share of train by the seed. Raises: DatasetInvalidError."""
    if splits.get("val"):
        return {"train": splits["train"], "val": splits["val"]}
    images = sorted(splits["train"])
    if len(images) < 2:  # noqa: PLR2004 -- one of each
        raise DatasetInvalidError("there is no val, and train has too few images to hold some back: add a val folder")
    val = set(random.Random(seed).sample(images, max(1, round(len(images) * VAL_SHARE))))  # noqa: S311 -- reproducible
    report.guess("val share", f"there is no val: {len(val)} of the {len(images)} images, chosen by SEED, validate")
    return {"train": [image for image in images if image not in val], "val": sorted(val)}
