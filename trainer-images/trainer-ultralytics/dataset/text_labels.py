"""Where YOLO's label files are: as ultralytics looks for them, but without regard to how their names are spelled."""

from collections import defaultdict
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

from dataset.contents import Contents, normal
from dataset.report import Report, listed

PROBE_BYTES = 200
COLUMNS = 5
AMBIGUOUS = "images with two label files"


class TextLabels:
    """The label files of an archive, by image."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self._files = {contents.name(path): path for path in contents.named(".txt")}
        self._of = {image: self._find(image) for image in contents.images}

    def of(self, image: Path) -> Path | None:
        """Return the label file of an image, or None."""
        return self._of.get(image)

    def source_of(self, image: Path) -> str:
        """Return the name of the label file of an image: the one that it has, or should have."""
        path = self._of.get(image)
        return self.contents.name(path) if path else self.expected(image)[0]

    def expected(self, image: Path) -> list[str]:
        """Return the names that an image's label file may have: below labels/ in place of images/, or beside it."""
        folder, _, file = self.contents.name(image).rpartition("/")
        file = PurePosixPath(file).with_suffix(".txt").name
        return [f"{place}/{file}" if place else file for place in _label_folders(folder)]

    def label_files(self) -> list[Path]:
        """Return the text files that hold labels."""
        return [path for path in self._files.values() if _is_label(path)]

    def unmatched(self) -> list[Path]:
        """Return the label files that belong to no image of the archive."""
        used = set(self._of.values())
        return [path for path in self._files.values() if path not in used and _is_label(path)]

    @cached_property
    def _by_normal_name(self) -> dict[str, list[Path]]:
        by_name = defaultdict[str, list[Path]](list)
        for name, path in self._files.items():
            by_name[normal(name)].append(path)
        return by_name

    def _find(self, image: Path) -> Path | None:
        expected = self.expected(image)
        exact = next((self._files[name] for name in expected if name in self._files), None)
        if exact:
            return exact
        for name in expected:
            paths = self._by_normal_name.get(normal(name), [])
            if len(paths) > 1:
                names = listed([self.contents.name(path) for path in paths])
                self.contents.report.problem(AMBIGUOUS, self.contents.name(image), names)
            elif paths:
                return paths[0]
        return None


@cache
def _label_folders(folder: str) -> list[str]:
    parts = folder.split("/")
    last = next((number for number in reversed(range(len(parts))) if normal(parts[number]) == "images"), None)
    return [folder] if last is None else ["/".join([*parts[:last], "labels", *parts[last + 1 :]]), folder]


def _is_label(path: Path) -> bool:
    """Return whether a text file begins as labels do."""
    with path.open("rb") as file:
        words = file.read(PROBE_BYTES).split(b"\n")[0].replace(b"\0", b"").split()
    return len(words) >= COLUMNS and words[1].replace(b".", b"", 1).isdigit()


def check_unmatched(labels: TextLabels, report: Report) -> None:
    """Report the label files that belong to no image; refuse if their images seem to be there by other names."""
    unmatched = labels.unmatched()
    if not unmatched:
        return
    contents = labels.contents
    without = [image for image in contents.images if labels.of(image) is None]
    names = listed([contents.name(path) for path in unmatched], 3)
    text = f"{len(unmatched)} label files match no image ({names})"
    if len(without) > 1 and len(unmatched) > 1 and len(without) * 10 >= len(contents.images):
        place = labels.expected(without[0])[0]
        report.refuse(
            "label files without an image",
            f"{text}, and {len(without)} images have no label file: the labels of {contents.name(without[0])} are "
            f"looked for at {place}. Give them the image's name, in a folder labels/ beside images/",
        )
        return
    report.guess("label files without an image", f"{text}; they were not used")
    for path in unmatched:
        report.skip("label files without an image", contents.name(path), "no such image")
