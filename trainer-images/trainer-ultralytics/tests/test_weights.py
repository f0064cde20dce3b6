"""Where the weights of a job come from: the bucket, ultralytics' releases, or nowhere."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_storage import Bucket
from fixtures_trainer import Trainer
from publisher import Publisher, publishing
from small_datasets import dataset

import download
import yolo
from download import DownloadError
from utils import ConfigInvalidError, Contract

NAME = "yolo11n.pt"
PUBLISHED = f"{NAME}, published by ultralytics"
CONTENT = bytes(range(256)) * 8_000  # of more than one chunk


def whole() -> None:
    """Check nothing."""


@pytest.fixture(scope="module")
def pretrained(_prepared: None, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Weights as ultralytics publishes them: a checkpoint without the state of an optimizer, in half precision."""
    from ultralytics import YOLO

    path = tmp_path_factory.mktemp("weights") / NAME
    model = YOLO("yolo11n.yaml").model.half()
    torch.save({"model": model, "epoch": -1, "optimizer": None, "train_args": {"task": "detect"}}, path)
    return path.read_bytes()


@pytest.fixture
def publisher(pretrained: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    with publishing(yolo11n_pt=pretrained) as publisher:
        monkeypatch.setenv("MODEL_HUB_URL", publisher.url)
        yield publisher


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def stored(bucket: Bucket) -> Iterator[Any]:
    """Put a file into models/ until the end of the test."""
    keys = []

    def put(name: str, content: bytes) -> None:
        keys.append(f"models/{name}")
        bucket.put(keys[-1], content)

    yield put
    for key in keys:
        bucket.client.delete_object(Bucket="stoker", Key=key)


def start(contract: Contract, name: str, *, is_on: bool = True) -> str:
    """Load the model of a job by the name of its weights; return where they come from."""
    contract.settings = contract.settings.model_copy(update={"model_name": name, "model_download": is_on})
    sources = list[str]()
    contract.event = lambda _kind, _message, **data: sources.append(data["weights"])  # type: ignore[method-assign]
    assert yolo.model(contract).task == "detect"
    return sources[0]


def test_weights_by_their_usual_name_are_downloaded_and_trained_on(trainer: Trainer, publisher: Publisher) -> None:
    trainer.upload(dataset())

    assert trainer.run(EPOCHS="1", MODEL_NAME=NAME, MODEL_HUB_URL=f"{publisher.url}/mirror/") == 0, trainer.output

    assert publisher.requests == [(f"/mirror/{NAME}", "")]
    events = trainer.functions.bodies("event")
    assert [body["data"]["weights"] for body in events if "weights" in body.get("data", {})] == [PUBLISHED]
    assert "Transferred" in trainer.output  # ultralytics' own line about the tensors that it uses


def test_missing_weights_end_the_job_before_its_dataset_is_read(trainer: Trainer) -> None:
    assert trainer.run(MODEL_NAME=NAME, MODEL_DOWNLOAD="false") == 78, trainer.output

    error = trainer.functions.calls[-1].body["error"]
    assert error["reason"] == "config_invalid"
    for words in ("MODEL_DOWNLOAD is off", "./taskw model PUT=yolo11n.pt", "from scratch with yolo11n.yaml"):
        assert words in error["message"]
    assert len(error["message"]) <= 500


def test_the_bucket_comes_first(contract: Contract, publisher: Publisher, pretrained: bytes, stored: Any) -> None:
    stored(NAME, pretrained)

    assert start(contract, NAME) == f"models/{NAME}"
    assert publisher.requests == []


def test_a_name_that_ultralytics_has_replaced_gets_the_new_file(contract: Contract, publisher: Publisher) -> None:
    publisher.files["yolov5nu.pt"] = publisher.files[NAME]

    assert start(contract, "yolov5n.pt") == "yolov5nu.pt, published by ultralytics"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (NAME, ["127.0.0.1 answered 404", "./taskw model PUT=yolo11n.pt", "from scratch with yolo11n.yaml"]),
        ("yolo11k.pt", ["models/yolo11k.pt is not in the bucket", "yolo11x.pt"]),
        ("nobodys.pt", ["ultralytics publishes none of this name", "./taskw model PUT=nobodys.pt"]),
    ],
)
def test_the_message_about_missing_weights_names_the_fix(
    contract: Contract, publisher: Publisher, name: str, words: list[str]
) -> None:
    publisher.files.clear()

    with pytest.raises(ConfigInvalidError) as refusal:
        start(contract, name)

    assert all(word in str(refusal.value) for word in words), refusal.value


def test_a_place_that_is_out_of_reach_is_named(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_HUB_URL", "http://user:secret-word@127.0.0.1:9/assets")

    with pytest.raises(ConfigInvalidError, match=r"127\.0\.0\.1: it cannot be reached") as refusal:
        start(contract, NAME)

    assert "secret-word" not in str(refusal.value)


def test_a_mirrors_page_in_place_of_the_file_is_refused(contract: Contract, publisher: Publisher) -> None:
    publisher.files[NAME] = b"<html>log in first</html>"

    with pytest.raises(ConfigInvalidError, match=r"not a \.pt file"):
        start(contract, NAME)


def test_published_weights_that_would_run_code_are_refused(
    contract: Contract, publisher: Publisher, tmp_path: Path
) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.mkdir, (tmp_path / "owned",)

    file = io.BytesIO()
    torch.save({"model": Hostile(), "epoch": 1}, file)
    publisher.files[NAME] = file.getvalue()

    with pytest.raises(ConfigInvalidError, match="no weights that ultralytics can load"):
        start(contract, NAME)

    assert not (tmp_path / "owned").exists()


def test_a_prediction_takes_published_weights_too(trainer: Trainer, publisher: Publisher) -> None:
    trainer.upload({name: content for name, content in dataset().items() if name.startswith("images/val")})
    variables: dict[str, str | None] = {"HYPERPARAMETERS": "{}", "TASK": "predict", "MODEL_HUB_URL": publisher.url}

    assert trainer.run(variables, script="predict.py", MODEL_NAME=NAME) == 0, trainer.output

    assert trainer.stored("results/job-{id}/predictions.jsonl")


def test_a_download_goes_on_where_the_connection_broke(tmp_path: Path) -> None:
    with publishing(a_pt=CONTENT) as publisher:
        publisher.breaks = [1_500_000, 200_000]

        download.download(f"{publisher.url}/a.pt", tmp_path / "a.pt", whole)

    assert (tmp_path / "a.pt").read_bytes() == CONTENT
    ranges = [wanted for _, wanted in publisher.requests]
    assert ranges[0] == ""
    assert all(wanted.startswith("bytes=") for wanted in ranges[1:])
    assert len(ranges) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_file_that_was_replaced_meanwhile_is_downloaded_from_its_beginning(tmp_path: Path) -> None:
    with publishing(a_pt=CONTENT) as publisher:
        publisher.breaks = [1_500_000]

        def replace() -> None:
            if publisher.requests:
                publisher.files["a.pt"] = CONTENT[::-1]

        download.download(f"{publisher.url}/a.pt", tmp_path / "a.pt", replace)

    assert (tmp_path / "a.pt").read_bytes() == CONTENT[::-1]


def test_a_server_that_is_busy_is_tried_again(tmp_path: Path) -> None:
    with publishing(a_pt=CONTENT) as publisher:
        publisher.statuses = [503, 429]

        download.download(f"{publisher.url}/a.pt", tmp_path / "a.pt", whole)

    assert (tmp_path / "a.pt").read_bytes() == CONTENT


def test_a_damaged_file_is_never_used(tmp_path: Path) -> None:
    with publishing(a_pt=CONTENT) as publisher:
        publisher.digest = "AAAA"

        with pytest.raises(DownloadError, match="damaged"):
            download.download(f"{publisher.url}/a.pt", tmp_path / "a.pt", whole)

    assert len(publisher.requests) == download.TRIES
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_always_breaks_off_early_is_given_up(tmp_path: Path) -> None:
    with publishing(a_pt=CONTENT) as publisher:
        publisher.breaks = [0] * 20

        with pytest.raises(DownloadError):
            download.download(f"{publisher.url}/a.pt", tmp_path / "a.pt", whole)

    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_not_tried_again_and_holds_no_password(tmp_path: Path) -> None:
    with publishing() as publisher:
        address = publisher.url.replace("http://", "http://user:secret-word@")

        with pytest.raises(DownloadError, match="404") as refusal:
            download.download(f"{address}/a.pt", tmp_path / "a.pt", whole)

    assert "secret-word" not in str(refusal.value)
    assert len(publisher.requests) == 1


def test_an_archive_with_one_wrong_bit_is_not_whole(tmp_path: Path) -> None:
    import weights

    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", CONTENT)
    assert weights._is_whole(path)
    content = bytearray(path.read_bytes())
    content[1_000] ^= 1
    path.write_bytes(content)

    assert not weights._is_whole(path)
