"""Where YOLO's label files are: as ultralytics looks for them, but without regard to how their names are spelled."""

from collections import defaultdict
from functools import cache, cached_property
from pathlib import Path

from dataset.contents import Contents, normal
from dataset.report import Report, listed

PROBE_BYTES = 200
COLUMNS = 5
AMBIGUOUS = "images with two label files"


class TextLabels:
    """The label files of an archive, by image."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self._names = set(contents.names(".txt"))
        self.ambiguous: dict[Path, list[str]] = {}

    def of(self, image: Path) -> Path | None:
        """Return the label file of an image, or None."""
        name = self._name_of(image)
        return self.contents.root / name if name else None

    def source_of(self, image: Path) -> str:
        """Return the name of the label file of an image: the one that it has, or should have."""
        return self._name_of(image) or self.expected(image)[0]

    def expected(self, image: Path) -> list[str]:
        """Return the names that an image's label file may have: below labels/ in place of images/, or beside it."""
        folder, _, file = self.contents.name(image).rpartition("/")
        file = f"{file.rpartition('.')[0] or file}.txt"
        return [f"{place}/{file}" if place else file for place in _label_folders(folder)]

    def first(self) -> Path | None:
        """Return a text file that holds labels, or None if there is none."""
        return next((path for path in map(self.contents.root.joinpath, sorted(self._names)) if _is_label(path)), None)

    def unmatched(self) -> list[Path]:
        """Return the label files that belong to no image of the archive."""
        names = self._names - {self._name_of(image) for image in self.contents.images}
        return [path for path in map(self.contents.root.joinpath, sorted(names)) if _is_label(path)]

    @cached_property
    def _by_normal_name(self) -> dict[str, list[str]]:
        by_name = defaultdict[str, list[str]](list)
        for name in sorted(self._names):
            by_name[normal(name)].append(name)
        return by_name

    def _name_of(self, image: Path) -> str | None:
        expected = self.expected(image)
        exact = next((name for name in expected if name in self._names), None)
        if exact:
            return exact
        for name in expected:
            names = self._by_normal_name.get(normal(name), [])
            if len(names) > 1:
                self.ambiguous[image] = names
            elif names:
                return names[0]
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
    """Report the label files that belong to no image; refuse the dataset if their images seem to have other names."""
    unmatched, contents = labels.unmatched(), labels.contents
    for image, several in labels.ambiguous.items():
        report.label_problem(AMBIGUOUS, contents.name(image), listed(several))
    if not unmatched:
        return
    without = [image for image in contents.images if labels.of(image) is None]
    names = listed([contents.name(path) for path in unmatched], 3)
    text = f"{len(unmatched)} label files match no image ({names})"
    if len(without) > 1 and len(unmatched) > 1 and len(without) * 10 >= len(contents.images):
        place, stems = labels.expected(without[0])[0], {normal(path.stem) for path in unmatched}
        advice = (
            "Rename the folder of the images to images/, and that of the labels to labels/"
            if any(normal(image.stem) in stems for image in without)
            else "Give them the image's name, in a folder labels/ beside images/"
        )
        report.refuse(
            "label files without an image",
            f"{text}, and {len(without)} images have no label file: the labels of {contents.name(without[0])} are "
            f"looked for at {place}. {advice}",
        )
        return
    report.guess("label files without an image", f"{text}; they were not used")
    for path in unmatched:
        report.skip("label files without an image", contents.name(path), "no such image")
