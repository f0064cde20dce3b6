"""Pack the files that ``run.sh`` needs on a machine without a network: ``python -m tests.gpu.pack [--wheels]``."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".stoker/gpu"
LIMIT_BYTES = 60_000_000
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
#: already installed there: torch, timm, opencv, pillow, requests, psutil, and what they need
INSTALLED = frozenset(
    """certifi charset-normalizer click filelock fsspec hf-xet httpcore2 httpx2 huggingface-hub idna jinja2 markupsafe
    mpmath networkx numpy opencv-python opencv-python-headless pillow psutil pyyaml requests safetensors setuptools
    sympy timm torch torchvision tqdm triton truststore urllib3""".split()  # noqa: SIM905 -- read as words
)
#: only needed with MLFLOW_TRACKING_URI or with a storage's credentials
UNUSED = frozenset(
    """annotated-doc anyio boto3 botocore cachetools cffi cloudpickle colorama cryptography databricks-sdk fastapi gitdb
    gitpython google-auth h11 httpcore httpx httpx2-jsfetch importlib-metadata jmespath mlflow-skinny opentelemetry-api
    opentelemetry-proto opentelemetry-sdk opentelemetry-semantic-conventions protobuf pyasn1 pyasn1-modules pycparser
    python-dotenv s3transfer smmap sqlparse starlette ultralytics-platform uvicorn zipp""".split()  # noqa: SIM905 -- as above
)
#: smaller than the locked version, which would fill the limit alone; ultralytics accepts it
SMALLER = {"polars": "0.20.31", "polars-runtime-32": None}


def main() -> int:
    """Write the digits, and the wheels if they are asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.gpu.pack")
    parser.add_argument("--wheels", action="store_true", help="also download the wheels that the machine lacks")
    FOLDER.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    np.savez_compressed(FOLDER / "digits.npz", images=digits.images.astype(np.uint8), target=digits.target)
    if parser.parse_args().wheels:
        download()
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{FOLDER}: {size / 1e6:.1f} MB")
    if size > LIMIT_BYTES:
        print(f"more than {LIMIT_BYTES / 1e6:.0f} MB", file=sys.stderr)
    return int(size > LIMIT_BYTES)


def download() -> None:
    """Download the wheels of both trainers' lock files, for Linux and Python 3.12, without what is installed there."""
    pins: dict[str, str | None] = {}
    for trainer in ("trainer-ultralytics", "trainer-timm"):
        export = [
            "uv",
            "export",
            "--frozen",
            "--no-dev",
            "--no-emit-project",
            "--no-hashes",
            "--no-annotate",
            "--quiet",
        ]
        command = [*export, "--project", str(ROOT / "trainer-images" / trainer)]
        for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
            name, _, version = line.partition(";")[0].strip().partition("==")
            if version and name not in INSTALLED | UNUSED and not name.startswith(("nvidia-cu", "nvidia-n", "cuda-")):
                pins[name] = version
    wanted = [f"{name}=={version}" for name, version in (pins | SMALLER).items() if version]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    wheels = FOLDER / "wheels"
    for old in wheels.glob("*.whl"):
        old.unlink()
    pip = ["uv", "run", "--no-project", "--with", "pip", "--isolated", "--quiet", "python", "-m", "pip", "download"]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--python-version", "3.12"]
    subprocess.run([*pip, *options, *platforms, "--dest", str(wheels), *wanted], check=True)


if __name__ == "__main__":
    sys.exit(main())
