"""Images of 16 bits a sample, as X-ray, microscopes and thermal cameras write them: as good as of 8 bits."""

import io
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from small_datasets import dataset as good
from variables import VARIABLES

import dataset
import options
import predict
import train
from dataset.report import Report
from devices import DistributedContext
from utils import Settings

SETTINGS, _ = Settings.from_environ(
    {
        "JOB_ID": "wide",
        "BACKEND_BASE_URL": "http://127.0.0.1:9",
        "DATASET_ID": "wide",
        "STORAGE_TYPE": "presigned",
        "EPOCHS": "1",
        "BATCH_SIZE": "4",
        "WORKERS": "0",
        **VARIABLES,
    }
)


def grey(content: bytes, *, wide: bool) -> bytes:
    """Return an image in greyscale, with 8 or with 16 bits a sample."""
    values = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint16) * 257 if wide else values).save(file, "PNG")
    return file.getvalue()


def trained(folder: Path, *, wide: bool) -> tuple[dict[str, float], list[Any]]:
    """Train for an epoch; return its metrics, and the predictions on all images by its best.pt."""
    for name, content in good(train=6, val=4).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(grey(content, wide=wide))
    data = dataset.read(folder, Report(), lambda: None, val_share=0.2, seed=0)
    context = DistributedContext(0, 1, "cpu", folder)
    run, _ = train.fit(None, SETTINGS, options.read(SETTINGS), data, context, is_resumed=False)

    contract: Any = SimpleNamespace(
        scratch=folder,
        settings=SETTINGS,
        check=lambda: None,
        download=lambda key, path: path.parent.mkdir() or shutil.copy(folder / key, path),
    )
    model, to_tensor, _ = predict.loaded(contract, "best.pt", context)
    images = [path for path, _ in (*data.train, *data.val)]
    predicted = [scores for _, scores in predict.predict_images(contract, model, to_tensor, images, context)]
    return {name: value for name, value in run.history[-1].items() if name != "seconds"}, predicted


def test_16_bits_train_validate_and_predict_as_8_bits(tmp_path: Path) -> None:
    assert trained(tmp_path / "16", wide=True) == trained(tmp_path / "8", wide=False)
