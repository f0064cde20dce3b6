"""Files of the command: their names on every platform, archives, downloads; and what Windows lacks."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from client import downloads, local_check
from client.commands.servers import Shell, _export
from client.errors import CallError
from tests.conftest import ROOT

JOB = "6b08b6689851678c733f"


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (f"checkpoints/job-{JOB}/best.pt", "checkpoints/best.pt"),
        (f"results/job-{JOB}/plots/a b.png", "results/plots/a b.png"),
        (f"results/job-{JOB}/class: what?.csv", "results/class_ what_.csv"),
        (f"results/job-{JOB}/a\\..\\b", "results/a_.._b"),
        (f"results/job-{JOB}/ends with a dot. ", "results/ends with a dot"),
        (f"results/job-{JOB}/größe/고양이.png", "results/größe/고양이.png"),
    ],
)
def test_an_object_becomes_a_file_that_every_platform_allows(key: str, path: str) -> None:
    assert downloads.path_of(key, JOB) == PurePosixPath(path)


@pytest.mark.parametrize("key", [f"results/job-{JOB}/../../x", "/etc/passwd"])
def test_an_object_never_leaves_the_folder(key: str) -> None:
    with pytest.raises(CallError, match="leads out of the folder"):
        downloads.path_of(key, JOB)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("best.pt", ["best.pt"]),
        ("*.pt", ["best.pt", "last.pt"]),
        ("results", ["a.png", "metrics.csv"]),
        ("results/plots/*", ["a.png"]),
        ("results\\plots\\a.png", ["a.png"]),
        ("checkpoints/", ["best.pt", "last.pt"]),
    ],
)
def test_patterns_choose_files_by_name_path_or_folder(pattern: str, names: list[str]) -> None:
    keys = ["checkpoints/job-{}/best.pt", "checkpoints/job-{}/last.pt", "results/job-{}/plots/a.png",
            "results/job-{}/metrics.csv"]  # fmt: skip
    artifacts = [{"key": key.format(JOB), "size_bytes": 1, "url": ""} for key in keys]

    chosen = downloads.chosen(artifacts, JOB, [pattern])
    assert sorted(path.name for _, path in chosen) == names


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        (["best.pt"], ["best.pt"]),
        (["*.pt", "results"], ["best.pt", "last.pt", "results/a.png", "results/plots/a.png"]),
        (["*.png"], ["results/a.png", "results/plots/a.png"]),
        (["checkpoints/best.pt"], ["checkpoints/best.pt"]),
        (["*"], ["checkpoints/best.pt", "checkpoints/last.pt", "results/a.png", "results/plots/a.png"]),
        ([], ["checkpoints/best.pt", "checkpoints/last.pt", "results/a.png", "results/plots/a.png"]),
    ],
)
def test_a_file_that_is_named_leaves_its_folder_unless_two_have_its_name(patterns: list[str], paths: list[str]) -> None:
    keys = ["checkpoints/job-{}/best.pt", "checkpoints/job-{}/last.pt", "results/job-{}/plots/a.png",
            "results/job-{}/a.png"]  # fmt: skip
    artifacts = [{"key": key.format(JOB), "size_bytes": 1, "url": ""} for key in keys]

    assert sorted(str(path) for _, path in downloads.chosen(artifacts, JOB, patterns)) == paths


def test_what_people_want_is_listed_first_and_many_samples_are_one_line() -> None:
    names = ["logs/attempt-1.log", "results/labels.jpg", "results/report.html", "results/plots/a.png",
             *(f"results/samples/images/{number}.jpg" for number in range(4)), "results/samples/epoch-1.json",
             "checkpoints/last.pt", "checkpoints/best.pt"]  # fmt: skip
    rows = downloads.listing((PurePosixPath(name), 10) for name in names)

    assert [(str(row.path), row.files, row.bytes) for row in rows] == [
        ("checkpoints/best.pt", 1, 10),
        ("results/report.html", 1, 10),
        ("checkpoints/last.pt", 1, 10),
        ("logs/attempt-1.log", 1, 10),
        ("results/labels.jpg", 1, 10),
        ("results/plots/a.png", 1, 10),
        ("results/samples", 5, 50),
    ]
    artifacts = [{"key": f"{name.partition('/')[0]}/job-{JOB}/{name.partition('/')[2]}"} for name in names]
    with pytest.raises(CallError, match=r"it has best\.pt, report\.html, .*a\.png, samples/$"):
        downloads.chosen(artifacts, JOB, ["nothing"])


#: as a training stores them
STORED = ["checkpoints/job-{}/best.pt", "results/job-{}/metrics.csv", "results/job-{}/samples/epoch-1/0.jpg",
          "results/job-{}/samples/truth.json", "results/job-{}/plots/curves/a.png", "models/job-{}/plots/b.png"]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("samples", ["results/samples/epoch-1/0.jpg", "results/samples/truth.json"]),
        ("samples/", ["results/samples/epoch-1/0.jpg", "results/samples/truth.json"]),
        ("samples\\epoch-1", ["results/samples/epoch-1/0.jpg"]),
        ("samples/*.json", ["results/samples/truth.json"]),
        ("epoch-1/0.jpg", ["results/samples/epoch-1/0.jpg"]),
        ("curves", ["results/plots/curves/a.png"]),
        ("results/plots", ["results/plots/curves/a.png"]),
    ],
)
def test_a_path_may_begin_at_any_folder(pattern: str, paths: list[str]) -> None:
    artifacts = [{"key": key.format(JOB), "size_bytes": 1, "url": ""} for key in STORED]

    assert sorted(str(path) for _, path in downloads.chosen(artifacts, JOB, [pattern])) == paths


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("plots", "has several plots: models/plots, results/plots; name one of them"),
        ("sample", "has stored no sample; did you mean samples?"),
        ("results/sampels", "has stored no results/sampels; did you mean results/samples?"),
        ("metrics.cvs", "has stored no metrics.cvs; did you mean metrics.csv?"),
        ("last.onnx", "has stored no last.onnx; it has best.pt, metrics.csv, b.png, a.png, 0.jpg, truth.json"),
    ],
)
def test_what_is_not_stored_is_refused_with_the_nearest_name(pattern: str, message: str) -> None:
    artifacts = [{"key": key.format(JOB), "size_bytes": 1, "url": ""} for key in STORED]

    with pytest.raises(CallError, match=re.escape(message)):
        downloads.chosen(artifacts, JOB, [pattern])


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("cats.tar.gz", "cats"),
        ("cats.TGZ", "cats"),
        (".zip", ".zip"),
        ("cats.zip", "cats"),
        ("Cats (1).ZIP", "Cats (1)"),
        ("cafe\u0301.zip", "caf\u00e9"),
        ("a.b.zip", "a.b"),
    ],
)
def test_a_dataset_is_named_after_its_file_in_composed_form(tmp_path: Path, name: str, dataset: str) -> None:
    (tmp_path / name).write_bytes(b"")

    assert local_check.dataset_name(tmp_path / name) == dataset
    (tmp_path / "folder.zip").mkdir()
    assert local_check.dataset_name(tmp_path / "folder.zip") == "folder.zip"


def test_names_in_an_archive_have_forward_slashes_and_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/1.jpg", "a.jpg", "b/.git/x", "b/Thumbs.db", "__MACOSX/b/1.jpg"):
        (tmp_path / "cats" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cats" / name).write_bytes(b"x")

    assert [member.name for member in local_check.members(tmp_path / "cats")] == ["a.jpg", "b/1.jpg", "b/2.jpg"]


@pytest.mark.parametrize(
    ("names", "summary"),
    [
        (
            ["data.yaml", "images/train/1.jpg", "labels/train/1.txt"],
            "1 images and 1 label files, it seems for detection",
        ),
        (["train/cat/1.jpg", "train/dog/2.PNG", "val/cat/3.webp"], "3 images in 2 folders: cat, dog"),
        (["1.jpg", "2.jpg"], "2 images"),
        (["train\\cat\\1.jpg", "train\\dog\\2.jpg"], "2 images in 2 folders: cat, dog"),
    ],
)
def test_what_a_dataset_seems_to_be_is_said_in_one_line(tmp_path: Path, names: list[str], summary: str) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"x")

    assert local_check.summary(tmp_path / "d.zip") == f"{tmp_path / 'd.zip'}: {summary}"


def test_the_command_imports_nothing_that_windows_lacks_and_nothing_of_the_servers() -> None:
    lacking = [
        "fcntl",
        "pwd",
        "grp",
        "termios",
        "resource",
        "pty",
        "functions",
        "infra",
        "boto3",
        "sqlalchemy",
        "msgspec",
    ]
    modules = [f"client.{path.stem}" for path in (ROOT / "client").glob("*.py") if path.stem != "__init__"]
    modules += [f"client.commands.{path.stem}" for path in (ROOT / "client/commands").glob("[a-z]*.py")]
    code = f"import sys\nfor name in {lacking}: sys.modules[name] = None\nimport {', '.join(sorted(modules))}"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.stderr == ""


def test_the_list_of_commands_needs_neither_http_nor_yaml() -> None:
    code = "import sys, client.cli; print({'httpx', 'yaml', 'rich.live', 'http.server'} & set(sys.modules))"

    assert subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout == ("set()\n")


def test_an_interrupt_before_the_modules_are_there_ends_the_command_in_silence() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'client.running': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from client.__main__ import main\n"
        "main()"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


def test_variables_are_quoted_for_each_shell() -> None:
    assert _export(Shell.BASH, "A", "it's") == "export A='it'\"'\"'s'"
    assert _export(Shell.FISH, "A", "x") == "set -gx A x"
    assert _export(Shell.POWERSHELL, "A", "it's") == "$Env:A = 'it''s'"


@pytest.mark.parametrize("command", ["", "train", "submit", "jobs", "logs", "download", "login"])
def test_the_help_fits_80_columns_and_shows_an_example(command: str) -> None:
    words = [sys.executable, "-m", "client", *command.split(), "--help"]
    result = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=True, env={"COLUMNS": "80", "PATH": "", "NO_COLOR": "1"}
    )

    lines = result.stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert any(line.strip().startswith(f"stoker {command}") or "stoker train ./cats" in line for line in lines)
    assert "\x1b" not in result.stdout
