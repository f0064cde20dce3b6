"""The YAML file that describes a dataset: found wherever it is, read as it was meant, or refused with the fix."""

from pathlib import Path

import pytest
from reading import LINE, Files, read
from small_datasets import dataset as good

from utils import DatasetInvalidError

DATA = "train: images/train\nval: images/val\n"


def described(text: str | bytes, name: str = "data.yaml", **files: bytes) -> Files:
    """Return a good dataset with another description."""
    content = text.encode() if isinstance(text, str) else text
    return {other: data for other, data in good().items() if other != "data.yaml"} | {name: content} | files


def below(folder: str, files: Files) -> Files:
    return {f"{folder}/{name}": content for name, content in files.items()}


@pytest.mark.parametrize(
    "name",
    ["dataset.yaml", "custom_data.yml", "data.YAML", "data.yaml.txt", "deep/er/still/data.yaml", "config/my set.yaml"],
)
def test_a_description_is_found_by_its_content(tmp_path: Path, name: str) -> None:
    result = read(tmp_path, described(DATA + "names: [tall, wide]", name))

    assert result.names == ["tall", "wide"]
    assert (len(result.images("train")), len(result.images("val"))) == (8, 4)


def test_folders_around_all_and_files_beside_them_do_not_hide_a_dataset(tmp_path: Path) -> None:
    result = read(tmp_path, below("export/cats v2", good()) | {"README.txt": b"about cats", "export/license.txt": b"-"})

    assert result.images("val")[0] == "export/cats v2/images/val/1000.png"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp949"])
def test_a_description_is_read_in_the_encodings_of_windows(tmp_path: Path, encoding: str) -> None:
    text = (DATA + "names: [고양이, 강아지]\n").replace("\n", "\r\n")

    result = read(tmp_path, described(text.encode(encoding)))

    assert result.names == ["고양이", "강아지"]
    assert ("read as Korean (cp949)" in result.guesses) == (encoding == "cp949")


@pytest.mark.parametrize(
    ("encoding", "names"),
    [("cp932", ["ソファ", "ソース"]), ("gb18030", ["汽车", "自行车"]), ("cp949", ["신호등", "횡단보도"])],
)
def test_names_of_classes_are_read_in_the_older_encodings_of_asia(
    tmp_path: Path, encoding: str, names: list[str]
) -> None:
    result = read(tmp_path, described((DATA + f"names: [{', '.join(names)}]").encode(encoding)))

    assert result.names == names
    assert f"({encoding}): [{names[0]}" in result.guesses


def test_a_latin_encoding_is_not_taken_for_an_asian_one(tmp_path: Path) -> None:
    result = read(tmp_path, described((DATA + "names: [écran, façade]").encode("cp1252")))

    assert result.names == ["écran", "façade"]
    assert "cp1252" in result.guesses


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        ("names: {'0': tall, '1': wide}", ["tall", "wide"]),
        ("names: {1: wide, 0: tall}", ["tall", "wide"]),
        ("names: {tall: 0, wide: 1}", ["tall", "wide"]),
        ("names: [tall, wide]\nnc: '2'", ["tall", "wide"]),
        ("names: [tall, wide]\nnc: 2.0", ["tall", "wide"]),
        ("nc: '2'", ["class_0", "class_1"]),
        ("names:\nnc: 2", ["class_0", "class_1"]),
        ("names: [yes, no]", ["yes", "no"]),
        ("names: [null, none]", ["null", "none"]),
        ("names: [007, 1e3]", ["007", "1e3"]),
        ("names: [2024-01-01, 12:30]", ["2024-01-01", "12:30"]),
        (f"names: [{'long ' * 60}, b]", [("long " * 60).strip(), "b"]),
        ("Names: [tall, wide]\nTrain: images/train", ["tall", "wide"]),
        ("names: obj.names", ["tall", "wide"]),
    ],
)
def test_names_are_the_words_that_were_written(tmp_path: Path, names: str, meant: list[str]) -> None:
    assert read(tmp_path, described(DATA + names) | {"obj.names": b"tall\nwide\n"}).names == meant


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        ("names: {1: tall, 90: wide}", "2 classes up to 90: number them from 0"),
        ("names: {1: tall, 2: wide}", "leaves out: number the classes in names as in the labels"),
        ("names: {1: tall, 2: wide}\nnc: 4", "nc is 4, but names lists 2"),
        ("names: 'tall, wide'", "names: [tall, wide]"),
        ("names: [[a], b]", "must be a word"),
        ("names: {a: b}", "{0: cat, 1: dog}"),
        ("names: []", "names is missing"),
        ('names: ["tall\\e[31m", wide]', "control characters"),
        ("names: [tall, wide]\nnc: 3", "nc is 3, but names lists 2"),
        ("names: [tall, wide]\nnc: many", "nc must be the number"),
        ("names:\n\t0: tall", "line 4: a tab: use spaces"),
        ("names: [tall", "cannot be read: line"),
        ("names: [tall, wide]\nchannels: lots", "channels must be 1 or 3"),
    ],
)
def test_invalid_names_are_refused_with_the_correct_notation(tmp_path: Path, names: str, advice: str) -> None:
    with pytest.raises(DatasetInvalidError) as refusal:
        read(tmp_path, described(DATA + names))

    assert advice in str(refusal.value)


@pytest.mark.parametrize(
    "folders",
    [
        "path: /content/drive/MyDrive/ds\ntrain: images/train\nval: images/val",
        "path: C:\\Users\\me\\ds\ntrain: images\\train\nval: .\\images\\val\\",
        "train: /home/me/ds/images/train\nval: D:\\ds\\images\\val",
        "train: ../images/train\nval: ./images/val/",
        "train: /images/train\nval: /images/val",
        "train: Images/TRAIN\nval: images/Val",
        "train: ./data/images/train\nval: data/images/val",
        "train: images/training\nval: images/validation",
        "train: images/train\nvalidation: images/val",
        "train: images/train\nvalid: images/val",
        "train: images/train/*.png\nval: images/val/*",
        "train: [images/train]\nval:\n- images/val",
        "train: train\nval: val",
    ],
)
def test_folders_of_the_authors_machine_are_matched_by_their_tails(tmp_path: Path, folders: str) -> None:
    result = read(tmp_path, described(f"{folders}\nnames: [tall, wide]"))

    assert (len(result.images("train")), len(result.images("val"))) == (8, 4)
    assert result.images("val")[0] == "images/val/1000.png"


def test_a_matched_tail_is_reported(tmp_path: Path) -> None:
    result = read(tmp_path, described("train: /home/me/images/train\nval: images/val\nnames: [a, b]"))

    assert "data.yaml: train: /home/me/images/train was read as images/train" in result.guesses


def test_folders_are_matched_without_regard_to_case_and_normal_form(tmp_path: Path) -> None:
    files = {
        name.replace("images/train", "Cafe\u0301/Train").replace("labels/train", "Cafe\u0301/Train"): content
        for name, content in good().items()
    }
    files["data.yaml"] = "train: caf\u00e9/train\nval: images/val\nnames: [a, b]".encode()

    assert len(read(tmp_path, files).images("train")) == 8


def test_two_candidate_folders_are_both_named(tmp_path: Path) -> None:
    files = below("a", good()) | below("b", good())
    files = {name: content for name, content in files.items() if not name.endswith("data.yaml")}
    files["data.yaml"] = b"train: images/train\nval: images/val\nnames: [tall, wide]"

    with pytest.raises(DatasetInvalidError, match=r"images/train may be a/images/train or b/images/train"):
        read(tmp_path, files)


def test_an_image_of_another_split_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    files = described("train: train.txt\nval: images/val\nnames: [tall, wide]")
    files["train.txt"] = b"images/train/0.png\nimages/train/1000.png\n"

    result = read(tmp_path, files)

    assert result.images("train") == ["images/train/0.png"]
    assert "train.txt:2" in result.report.message


@pytest.mark.parametrize(
    ("folders", "advice"),
    [
        ("train: nowhere\nval: images/val", "train: nowhere is not in the archive; its images are in images/train"),
        ("train: /etc\nval: images/val", "/etc is not in the archive"),
        ("train: ../../../../etc\nval: images/val", "not in the archive"),
        ("train: labels/train/0.txt\nval: images/val", "none of its 1 images is in the archive"),
        ("train: data.yaml\nval: images/val", "neither a folder nor a .txt list"),
        ("train: {a: b}\nval: images/val", "the name of a folder"),
        ("val: images/val", "train is missing"),
        ("train: images/train\nval: ../valid/images", "val: ../valid/images is not in the archive; its images are in"),
        ("train: images/train\nval: ../valid/images", "leave val out of the file, and a share of train validates"),
        ('train: images\nval: images/val\npath: "C:\\images"', "write / in place of backslashes"),
    ],
)
def test_missing_folders_are_named_with_the_existing_ones(tmp_path: Path, folders: str, advice: str) -> None:
    with pytest.raises(DatasetInvalidError) as refusal:
        read(tmp_path, described(f"{folders}\nnames: [tall, wide]"))

    assert advice in str(refusal.value)


def test_without_val_a_share_is_used_for_validation_by_the_seed(tmp_path: Path) -> None:
    files = described("train: images/train\nnames: [tall, wide]")

    first, again, other = (
        read(tmp_path / name, files, seed=seed).images("val") for name, seed in (("a", 1), ("b", 1), ("c", 5))
    )

    assert first == again != other
    result = read(tmp_path / "d", files, seed=1)
    assert not set(result.images("train")) & set(result.images("val"))
    assert "there is no val: 2 of the 8 images" in result.guesses


def test_of_two_descriptions_the_higher_one_is_used_and_both_are_named(tmp_path: Path) -> None:
    result = read(tmp_path, good() | {"old/data.yaml": b"train: x\nval: y\nnames: [a]"})

    assert result.names == ["tall", "wide"]
    assert "data.yaml was used, and not old/data.yaml" in result.guesses


def test_two_descriptions_of_equal_rank_are_refused_and_both_named(tmp_path: Path) -> None:
    files = described(DATA + "names: [tall, wide]", "cats.yaml") | {"dogs.yaml": (DATA + "names: [a, b]").encode()}

    with pytest.raises(DatasetInvalidError, match=r"cats\.yaml, dogs\.yaml each describe a dataset"):
        read(tmp_path, files)


def test_two_datasets_whose_descriptions_are_alike_are_refused(tmp_path: Path) -> None:
    files = {f"{folder}/{name}": content for folder in ("site a", "site b") for name, content in good().items()}

    with pytest.raises(DatasetInvalidError, match=r"site a/data\.yaml, site b/data\.yaml each describe a dataset"):
        read(tmp_path, files)


def test_a_list_may_name_the_folders_of_its_authors_machine(tmp_path: Path) -> None:
    names = [name for name in good() if name.startswith("images/train/")]
    lines = "".join(f"/media/disk/export_7/{name.rpartition('/')[2]}\n" for name in names)
    files = described("train: train.txt\nval: images/val\nnames: [tall, wide]") | {"train.txt": lines.encode()}

    result = read(tmp_path, files)

    assert result.images("train") == sorted(names)
    assert "/media/disk/export_7" in result.guesses or "was read as images/train" in result.guesses


def test_a_missing_image_of_another_folder_is_not_one_of_the_same_name(tmp_path: Path) -> None:
    lines = b"images/train/0.png\nother/0.png\n"
    files = described("train: train.txt\nval: images/val\nnames: [tall, wide]") | {"train.txt": lines}

    result = read(tmp_path, files)

    assert result.images("train") == ["images/train/0.png"]


def test_other_yaml_files_are_no_descriptions(tmp_path: Path) -> None:
    hyperparameters = {"hyp.yaml": b"lr0: 0.01\nmosaic: 1.0", ".github/ci.yml": b"on: push"}

    assert read(tmp_path, good() | hyperparameters).names == ["tall", "wide"]


def test_grey_images_are_read_with_one_channel(tmp_path: Path) -> None:
    assert read(tmp_path, described(DATA + "names: [a, b]\nchannels: 1")).data["channels"] == 1


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "./{}",
        "data/{}",
        "/home/me/yolo/{}",
        "C:\\Users\\me\\{}",
        "../datasets/x/{}",
        "{}\r",
    ],
)
def test_lists_of_images_are_matched_by_their_tails(tmp_path: Path, line: str) -> None:
    names = [f"images/train/{number}.png" for number in range(8)]
    lines = [line.format(name.replace("/", "\\") if "\\" in line else name) for name in names]
    files = described("train: train.txt\nval: images/val\nnames: [tall, wide]")

    result = read(tmp_path, files | {"train.txt": "\n".join(lines).encode()})

    assert result.images("train") == names


def test_a_list_whose_images_were_not_exported_says_so(tmp_path: Path) -> None:
    files = {"data.yaml": b"train: train.txt\nnames: [a, b]", "train.txt": b"images/a.jpg\n", "labels/a.txt": LINE}

    with pytest.raises(DatasetInvalidError, match="Save images"):
        read(tmp_path, files)


@pytest.mark.parametrize("names", ["{1: tall, 2: wide}", "{1: tall, 2: wide}\nnc: 2"])
def test_classes_may_be_numbered_from_one_in_names_and_in_the_labels(tmp_path: Path, names: str) -> None:
    files = described(DATA + f"names: {names}")
    for name in [name for name in files if name.startswith("labels/")]:
        number, _, rest = files[name].partition(b" ")
        files[name] = b"%d %s" % (int(number) + 1, rest)

    result = read(tmp_path, files)

    assert result.names == ["unused_0", "tall", "wide"]
    assert set(result.report.splits["train"].classes) == {"tall", "wide"}
    assert "names has no class 0" in result.guesses
