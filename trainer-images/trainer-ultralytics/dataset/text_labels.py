"""Where YOLO's label files are: as ultralytics looks for them, but without regard to how their names are spelled."""

from collections import defaultdict
from pathlib import Path

from dataset.contents import Contents, Parts, normal
from dataset.report import Report, listed

PROBE_BYTES = 200
COLUMNS = 5
AMBIGUOUS = "images with two label files"


class TextLabels:
    """The label files of an archive, by image."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self._files = defaultdict[Parts, list[Path]](list)
        for path in contents.named(".txt"):
            self._files[self._key(path.with_suffix(""))].append(path)
        self._of = {image: self._find(image) for image in contents.images}

    def of(self, image: Path) -> Path | None:
        """Return the label file of an image, or None."""
        return self._of.get(image)

    def source_of(self, image: Path) -> str:
        """Return the name of the label file of an image."""
        return self.contents.name(self._of.get(image) or self.expected(image)[0])

    def expected(self, image: Path) -> list[Path]:
        """Return where an image's labels may be: below labels/ in place of the last images/, or beside it."""
        parts = image.relative_to(self.contents.root).parts
        folders = [number for number, part in enumerate(parts[:-1]) if normal(part) == "images"]
        beside = image.with_suffix(".txt")
        if not folders:
            return [beside]
        last = folders[-1]
        label = self.contents.root.joinpath(*parts[:last], "labels", *parts[last + 1 :]).with_suffix(".txt")
        return [label, beside]

    def label_files(self) -> list[Path]:
        """Return the text files that hold labels."""
        return [path for paths in self._files.values() for path in paths if _is_label(path)]

    def unmatched(self) -> list[Path]:
        """Return the label files that belong to no image of the archive."""
        used = {path for path in self._of.values() if path is not None}
        return [path for paths in self._files.values() for path in paths if path not in used and _is_label(path)]

    def _find(self, image: Path) -> Path | None:
        expected = self.expected(image)
        for place in expected:
            paths = self._files.get(self._key(place.with_suffix("")), [])
            if place in paths or len(paths) == 1:
                return place if place in paths else paths[0]
            if paths:
                names = listed([self.contents.name(path) for path in paths])
                self.contents.report.problem(AMBIGUOUS, self.contents.name(image), names)
        return None

    def _key(self, path: Path) -> Parts:
        return tuple(normal(part) for part in path.relative_to(self.contents.root).parts)


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
        place = contents.name(labels.expected(without[0])[0])
        report.refuse(
            "label files without an image",
            f"{text}, and {len(without)} images have no label file: the labels of {contents.name(without[0])} are "
            f"looked for at {place}. Give them the image's name, in a folder labels/ beside images/",
        )
        return
    report.guess("label files without an image", f"{text}; they were not used")
    for path in unmatched:
        report.skip("label files without an image", contents.name(path), "no such image")
