"""Where the weights of a job come from: the bucket, the hub, or nowhere."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from fixtures_storage import Bucket
from fixtures_trainer import Trainer
from hub import Hub, hub_with
from safetensors.torch import save
from small_datasets import dataset

import model as models
import weights
from options import Options
from utils import ConfigInvalidError, Contract

MODEL = "test_resnet.r160_in1k"
FILE = f"timm/{MODEL}/model.safetensors"
LAYERS = "15 of 16 layers; the rest is new"  # all but the head


def published(name: str = "test_resnet") -> torch.nn.Module:
    torch.manual_seed(1)
    model: torch.nn.Module = timm.create_model(name, num_classes=1000)
    return model


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the weights of one model, and an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # of the hub's client, before it tries again
    with hub_with({FILE: save(published().state_dict())}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


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


def start(contract: Contract, name: str = "test_resnet", **options: Any) -> tuple[Any, str]:
    """Return the model that a job of two classes starts from, and the source of its weights."""
    changes = {"model_name": name, "model_download": options.pop("model_download", True)}
    contract.settings = contract.settings.model_copy(update=changes)
    chosen, sources = Options(**options), list[str]()
    contract.event = lambda _kind, _message, **data: sources.append(data["weights"])  # type: ignore[method-assign]
    kwargs = models.arguments(chosen, classes=2, image_size=32, name=name)
    model = models.start(contract, weights.fetch(contract, chosen), kwargs)
    return model, sources[0]


def test_weights_of_the_hub_are_trained_on(trainer: Trainer, hub: Hub) -> None:
    trainer.upload(dataset())

    assert trainer.run(EPOCHS="1", HYPERPARAMETERS="{}", HF_ENDPOINT=hub.url) == 0, trainer.output

    (event,) = [body for body in trainer.functions.bodies("event") if "weights" in body.get("data", {})]
    assert event["data"]["weights"] == f"{MODEL}, published by timm, {LAYERS}"


def test_missing_pretrained_weights_end_the_job_before_its_dataset_is_read(trainer: Trainer) -> None:
    assert trainer.run(HYPERPARAMETERS="{}", MODEL_DOWNLOAD="false") == 78, trainer.output

    error = trainer.functions.calls[-1].body["error"]
    assert error["reason"] == "config_invalid"
    for words in ("./taskw model PUT=test_resnet.safetensors", "pretrained=false"):
        assert words in error["message"]
    assert len(error["message"]) <= 500


def test_the_model_has_the_published_values(contract: Contract, hub: Hub) -> None:
    model, source = start(contract, MODEL)

    assert source == f"{MODEL}, published by timm, {LAYERS}"
    own, theirs = model.state_dict(), published().state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in own if not name.startswith("fc."))
    assert {path for _, path, _ in hub.requests} == {f"/timm/{MODEL}/resolve/main/model.safetensors"}


@pytest.mark.parametrize("name", ["test_resnet.safetensors", f"{MODEL}.pth"])
def test_the_bucket_comes_first(contract: Contract, hub: Hub, stored: Any, name: str) -> None:
    content = io.BytesIO()
    torch.save({"state_dict": published().state_dict()}, content)
    stored(name, save(published().state_dict()) if name.endswith("safetensors") else content.getvalue())

    _, source = start(contract)

    assert source == f"models/{name}, {LAYERS}"
    assert hub.requests == []


def test_greyscale_images_get_the_same_weights_with_one_channel(contract: Contract, hub: Hub) -> None:
    model, source = start(contract, in_chans=1)

    assert LAYERS in source
    assert model.state_dict()["conv1.0.weight"].shape[1] == 1
    assert hub.requests


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model_download": False}, ["MODEL_DOWNLOAD is off", "./taskw model PUT=", "pretrained=false"]),
        ({"name": "test_vit"}, ["127.0.0.1 answered 404", "./taskw model PUT=test_vit.safetensors"]),
        ({"name": "cspresnet50d"}, ["timm publishes none", "pretrained=false"]),
    ],
)
def test_the_message_about_missing_weights_names_the_fix(
    contract: Contract, options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigInvalidError) as refusal:
        start(contract, **options)

    assert all(word in str(refusal.value) for word in words)
    assert len(str(refusal.value)) <= 500


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://nobody.invalid"], ids=["refused", "unresolvable"])
def test_a_hub_that_is_out_of_reach_is_named_at_once_with_what_to_change(
    contract: Contract, hub: Hub, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setenv("HF_ENDPOINT", url)

    with pytest.raises(ConfigInvalidError, match=r"\((127.0.0.1|nobody.invalid) cannot be reached\)") as refusal:
        start(contract)

    for words in ("./taskw model PUT=test_resnet.safetensors", "pretrained=false", "HF_ENDPOINT", "MODEL_DOWNLOAD"):
        assert words in str(refusal.value)
    assert len(str(refusal.value)) <= 500
    assert sum(pauses) <= 3
    assert hub.requests == []


def test_a_file_in_the_cache_is_used_when_the_hub_is_out_of_reach(
    contract: Contract, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(contract)
    hub.requests.clear()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    _, source = start(contract)

    assert LAYERS in source
    assert hub.requests == []


@pytest.mark.parametrize(
    ("variables", "tries"),
    [
        ({}, weights.REACH_TRIES),
        ({"http_proxy": "http://127.0.0.1:8"}, 0),
        ({"http_proxy": "http://127.0.0.1:8", "no_proxy": "127.0.0.1"}, weights.REACH_TRIES),
    ],
    ids=["direct", "proxy", "no proxy for it"],
)
def test_reachability_is_checked_only_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variables: dict[str, str], tries: int
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert weights._is_reachable("http://127.0.0.1:9") is (tries == 0)
    assert len(caplog.messages) == tries


def test_retries_of_the_hubs_client_are_logged_once(trainer: Trainer, hub: Hub, tmp_path: Path) -> None:
    trainer.upload(dataset())
    hub.statuses = [503, 503]
    cache = str(tmp_path / "of the process")

    assert trainer.run(EPOCHS="1", HYPERPARAMETERS="{}", HF_ENDPOINT=hub.url, HF_HUB_CACHE=cache) == 0, trainer.output

    assert trainer.output.count("Retrying in") == 1
    assert "HTTP Request" not in trainer.output


def test_from_scratch_is_what_the_job_says(contract: Contract, hub: Hub) -> None:
    _, source = start(contract, pretrained=False)

    assert source == "none, from scratch"
    assert hub.requests == []


def test_a_download_from_the_hub_goes_on_after_its_connection_broke(contract: Contract, hub: Hub) -> None:
    hub.breaks, hub.statuses = [len(hub.files[FILE]) // 2, 0, 10], [503]

    _, source = start(contract)

    assert LAYERS in source
    assert [method for method, _, _ in hub.requests].count("GET") == 4


def test_a_damaged_file_of_the_hub_is_never_used(contract: Contract, hub: Hub, tmp_path: Path) -> None:
    hub.digest = "0" * 64

    with pytest.raises(ConfigInvalidError, match="damaged"):
        start(contract)

    assert not [path for path in tmp_path.rglob("*.safetensors") if path.exists()]


def test_weights_of_another_model_are_refused_instead_of_ignored(contract: Contract, stored: Any) -> None:
    stored("test_resnet.safetensors", save(published("test_vit").state_dict()))

    with pytest.raises(ConfigInvalidError, match=r"models/test_resnet\.safetensors"):
        start(contract)


def test_weights_that_would_run_code_are_refused(contract: Contract, stored: Any, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.mkdir, (tmp_path / "owned",)

    file = io.BytesIO()
    torch.save({"state_dict": Hostile()}, file)
    stored("test_resnet.pt", file.getvalue())

    with pytest.raises(ConfigInvalidError, match=r"models/test_resnet\.pt"):
        start(contract)

    assert not (tmp_path / "owned").exists()
