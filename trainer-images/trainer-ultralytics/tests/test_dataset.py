"""Untrusted datasets: each is invalid in one way, which the message names."""

import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import yaml
from PIL import Image
from small_datasets import dataset as good
from small_datasets import draw, zipped

import dataset
from dataset import labels
from dataset.report import Report
from dataset.unpacking import unpack
from utils import DatasetInvalidError

Files = dict[str, bytes]


class Quiet:
    """A contract with a local dataset that only records its calls."""

    def __init__(self, folder: Path, archive: Path) -> None:
        self.scratch, self.archive, self.storage = folder, archive, self
        self.settings = SimpleNamespace(dataset_id="d", dataset_etag="", seed=0)
        self.told: list[str] = []
        self.report: dict[str, Any] = {}

    def phase(self, _name: str) -> None:
        pass

    def check(self) -> None:
        pass

    def warn_once(self, message: str) -> None:
        self.told.append(message)

    def event(self, _kind: str, message: str = "", **_data: Any) -> None:
        self.told.append(message)

    def save_result(self, path: Path) -> None:
        self.report = json.loads(path.read_text())

    def insist(self, action: Callable[..., Any], *_what: str, **_options: Any) -> Any:
        return action()

    def get(self, _key: str, _etag: str = "", first: int = 0, last: int | None = None) -> requests.Response:
        content, response = self.archive.read_bytes(), requests.Response()
        part = content[first:] if last is None else content[first : last + 1]
        response.status_code, response.raw = 200 if last is None else 206, io.BytesIO(part)
        response.headers["Content-Length"] = str(len(part))
        return response


def fetch(folder: Path, files: Files, task: str = "detect") -> tuple[Path, Quiet]:
    folder.mkdir(exist_ok=True)
    contract: Any = Quiet(folder, zipped(files, folder / "given.zip"))
    return dataset.fetch(contract, SimpleNamespace(task=task))[0], contract


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.create_system = 3
    return info


def everything(_path: PurePosixPath) -> bool:
    return True


def jpeg(side: int = 64) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((side, side), 90).save(file, "JPEG")
    return file.getvalue()


def tiff_of_floats() -> bytes:
    file = io.BytesIO()
    Image.new("F", (64, 64), 0.5).save(file, "TIFF")
    return file.getvalue()


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "classify"])
def test_good_datasets_are_accepted(tmp_path: Path, task: str) -> None:
    path, contract = fetch(tmp_path, good(task), task)

    assert path.exists()
    assert not contract.told


def test_a_single_folder_around_all_is_seen_through(tmp_path: Path) -> None:
    path, _ = fetch(tmp_path, {f"cats/{name}": content for name, content in good().items()})

    listed = Path(yaml.safe_load(path.read_text())["val"]).read_text().splitlines()
    assert listed[0] == str(tmp_path / "dataset/cats/images/val/1000.png")


@pytest.mark.parametrize(
    "described",
    [
        "train: images/train\nval: images/val\nnames: [a, b]",
        "path: datasets/cats8\ntrain: images/train\nval: images/val\nnames: {0: a, 1: b}",
        "train: ../images/train\nval: ../images/val\nnc: 2",
        "train: [images/train]\nvalidation: images/val\nnames: [a, b]\nnc: 2",
        "train: train.txt\nval: images/val\nnames: [a, b]",
    ],
)
def test_the_usual_ways_to_name_folders_are_understood(tmp_path: Path, described: str) -> None:
    listed = "\n".join(f"./images/train/{number}.png" for number in range(8)).encode()

    path, _ = fetch(tmp_path, good() | {"data.yaml": described.encode(), "train.txt": listed})

    written = yaml.safe_load(path.read_text())
    images = [Path(written[split]).read_text().splitlines() for split in ("train", "val")]
    assert [len(paths) for paths in images] == [8, 4]
    assert all(Path(image).exists() for paths in images for image in paths)
    assert len(written["names"]) == 2


def test_code_that_ultralytics_would_run_never_reaches_it(tmp_path: Path) -> None:
    files = good()
    files["data.yaml"] += b"download: |\n  import os; os.system('touch /tmp/owned')\n"
    files["labels/train.cache"] = b"a pickle"
    files["images/train/0.npy"] = b"an array"

    path, contract = fetch(tmp_path, files)

    assert "download" not in yaml.safe_load(path.read_text())
    assert not [one for one in (tmp_path / "dataset").rglob("*") if one.suffix in {".cache", ".npy"}]
    assert contract.told == ["files that are no data of the dataset were skipped: 1 .cache, 1 .npy"]


def without(*names: str) -> Callable[[Files], Files]:
    return lambda files: {name: content for name, content in files.items() if name not in names}


def with_(name: str, content: bytes | str) -> Callable[[Files], Files]:
    return lambda files: files | {name: content.encode() if isinstance(content, str) else content}


LINE = "labels/train/0.txt"
PICTURE = "images/train/0.png"
DATA = "train: images/train\nval: images/val\n"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("data.yaml"), "nothing names their classes: add data.yaml"),
        (with_("data.yaml", "- a list"), "data.yaml must hold"),
        (with_("data.yaml", "!!python/object/apply:os.system ['true']"), "data.yaml must hold"),
        (with_("data.yaml", DATA), "data.yaml must hold names"),
        (with_("data.yaml", "train: /etc\nval: images/val\nnames: [a, b]"), "/etc is not in the archive"),
        (with_("data.yaml", "train: ../../x\nval: images/val\nnames: [a, b]"), "../../x is not in the archive"),
        (with_("data.yaml", "train: labels\nval: images/val\nnames: [a, b]"), "labels is not in the archive"),
    ],
)
def test_a_dataset_without_a_meaning_is_refused(tmp_path: Path, change: Callable[[Files], Files], named: str) -> None:
    with pytest.raises(DatasetInvalidError) as refusal:
        fetch(tmp_path, change(good()))

    assert named in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda files: {n: c for n, c in files.items() if "train/wide" not in n}, "only one class folder"),
        (lambda files: {f"{n.split('/')[0]}/{n.split('/')[2]}": c for n, c in files.items()}, "lie in train/ itself"),
    ],
)
def test_class_folders_have_their_own_rules(tmp_path: Path, change: Callable[[Files], Files], named: str) -> None:
    with pytest.raises(DatasetInvalidError) as refusal:
        fetch(tmp_path, change(good("classify")), "classify")

    assert named in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("images/train/x.png", b"no image", "not an image"),
        ("images/train/x.png", b"", "empty"),
        ("images/train/x.png", draw(1)[0][:500], "broken or truncated"),
        ("images/train/x.jpg", jpeg()[:-300], "broken or truncated"),
        ("images/train/x.tif", tiff_of_floats(), "a TIFF of 32 bits"),
    ],
)
def test_one_broken_image_is_left_out_and_two_are_too_many(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    _, contract = fetch(tmp_path, good() | {name: content})

    [problem] = contract.report["problems"]
    assert (problem["count"], problem["refused"], problem["files"][0]["file"]) == (1, False, name)
    assert reason in problem["files"][0]["reason"]
    assert any(name in message for message in contract.told)

    with pytest.raises(DatasetInvalidError, match="2 broken images") as refusal:
        fetch(tmp_path / "again", good() | {name: content, "images/val/y.png": b""})
    assert name in str(refusal.value)
    assert "images/val/y.png" in str(refusal.value)


def test_a_dataset_to_detect_is_named_to_a_model_that_classifies(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalidError, match="looks like a dataset for object detection"):
        fetch(tmp_path, good(), "classify")


def test_class_folders_are_arranged_as_ultralytics_scans_them(tmp_path: Path) -> None:
    files = {f"set/{name.split('/')[1]}/{number}.jfif": jpeg() for number, name in enumerate(good("classify"))}

    path, contract = fetch(tmp_path, files, "classify")

    placed = [one.relative_to(path) for one in path.rglob("*.jpg")]
    assert {one.parts[0] for one in placed} == {"train", "val"}
    assert {one.parts[1] for one in placed} == {"tall", "wide"}
    assert len(placed) == len(files)
    assert contract.told == ["there is no val/: 2 of 12 images are kept for validation"]


def test_splits_in_folders_of_their_own_names_are_no_guess(tmp_path: Path) -> None:
    def with_names_alone(files: Files) -> Files:
        return {name: b"names: [a, b]\n" if name == "data.yaml" else content for name, content in files.items()}

    _, contract = fetch(tmp_path, with_names_alone(good()))

    assert contract.told == []
    assert contract.report["splits"].keys() == {"train", "val"}


def test_images_without_a_label_are_background_and_counted(tmp_path: Path) -> None:
    _, contract = fetch(tmp_path, without(LINE)(good()))

    assert contract.told == ["train: 1 image without a label file: background"]


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASET_PIXEL_LIMIT", "4000")

    with pytest.raises(DatasetInvalidError, match="64x64 pixels are more than 4000"):
        fetch(tmp_path, good())


@pytest.mark.parametrize(
    ("name", "mode", "named"),
    [
        ("../evil.txt", 0, "outside"),
        ("a/../../evil.txt", 0, "outside"),
        ("..\\evil.txt", 0, "outside"),
        ("/etc/evil.txt", 0, "absolute"),
        ("C:\\evil.txt", 0, "absolute"),
        ("link.txt", stat.S_IFLNK | 0o777, "symbolic link"),
        ("pipe.txt", stat.S_IFIFO | 0o644, "symbolic link or device"),
        ("new\nline.txt", 0, "control characters"),
        ("d/" * 600 + "x.txt", 0, "too long for a file system"),
    ],
)
def test_entries_that_lead_outside_are_refused_and_nothing_is_written(
    tmp_path: Path, name: str, mode: int, named: str
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.txt", "x")
        archive.writestr(entry(name, mode), "/etc/passwd")

    with pytest.raises(DatasetInvalidError, match=named):
        unpack(tmp_path / "a.zip", tmp_path / "out", everything, Report(), lambda: None)

    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "named"),
    [(["a", "a/b"], "folder"), (["e\u0301", "\u00e9/b"], "folder")],
)
def test_names_that_collide_are_refused(tmp_path: Path, names: list[str], named: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "x")

    with pytest.raises(DatasetInvalidError, match=named):
        unpack(tmp_path / "a.zip", tmp_path / "out", everything, Report(), lambda: None)


@pytest.mark.parametrize(
    ("limit", "value", "named"),
    [
        ("DATASET_FILE_LIMIT", "2", "3 entries are more than 2"),
        ("DATASET_BYTES_LIMIT", "20000000", "bytes unpacked are more than 20000000"),
        ("DATASET_RATIO_LIMIT", "200", "big.txt: 1[0-9]{3} times larger unpacked"),
    ],
)
def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: str, named: str) -> None:
    monkeypatch.setenv(limit, value)
    archive = zipped({"a": b"x", "b": b"y", "big.txt": bytes(21_000_000)}, tmp_path / "a.zip")

    with pytest.raises(DatasetInvalidError, match=named):
        unpack(archive, tmp_path / "out", everything, Report(), lambda: None)


def test_many_small_bombs_are_a_large_one(tmp_path: Path) -> None:
    archive = zipped({f"{number}.txt": bytes(9_900_000) for number in range(3)}, tmp_path / "a.zip")

    with pytest.raises(DatasetInvalidError, match="29700000 bytes unpacked"):
        unpack(archive, tmp_path / "out", everything, Report(), lambda: None)
    assert not (tmp_path / "out").exists()


def test_a_zip_within_the_zip_stays_packed(tmp_path: Path) -> None:
    inner = zipped({"x.txt": b"x"}, tmp_path / "inner.zip").read_bytes()
    archive = zipped({"inner.zip": inner}, tmp_path / "a.zip")

    unpack(archive, tmp_path / "out", everything, Report(), lambda: None)

    assert [one.name for one in (tmp_path / "out").rglob("*")] == ["inner.zip"]


@pytest.mark.parametrize("damage", ["truncated", "no zip", "bit flipped", "empty", "encrypted"])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: str) -> None:
    path = zipped({"a.txt": b"some words" * 50}, tmp_path / "a.zip")
    content = path.read_bytes()
    damaged = {
        "truncated": content[:-30],
        "no zip": b"<html>",
        "empty": b"",
        "bit flipped": content[:40] + bytes([content[40] ^ 0xFF]) + content[41:],
        "encrypted": content.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01").replace(
            b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
        ),
    }[damage]
    assert damaged != content
    path.write_bytes(damaged)

    with pytest.raises(DatasetInvalidError):
        unpack(path, tmp_path / "out", everything, Report(), lambda: None)


def test_labels_are_looked_for_where_ultralytics_does() -> None:
    assert labels.label_of(Path("/d/images/train/images/1.png")) == Path("/d/images/train/labels/1.txt")
    assert labels.label_of(Path("/d/train/1.png")) == Path("/d/train/1.txt")
