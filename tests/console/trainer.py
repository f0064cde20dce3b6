"""A trainer for the console's tests: reports curves like those of YOLO, as HYPERPARAMETERS plan them.

``planned`` (epochs), ``of`` (how many they are of), ``apart`` (seconds between them), ``wait`` (after them, until it is stopped), ``fail`` (the message of its end), ``bad`` (how much worse than usual), ``load`` (report the machine's load, too).
With ``TASK=predict`` it predicts one box for each image of its dataset.
"""

import io
import json
import math
import os
import signal
import sys
import time
import urllib.request
import zipfile
from typing import Any

PLAN: dict[str, Any] = json.loads(os.environ["HYPERPARAMETERS"])


def call(name: str, body: dict[str, Any]) -> dict[str, Any]:
    url = f"{os.environ['BACKEND_BASE_URL']}/v1/jobs/{os.environ['JOB_ID']}/{name}"
    headers = {"Authorization": f"Bearer {os.environ['CALLBACK_TOKEN']}", "Content-Type": "application/json"}
    with urllib.request.urlopen(
        urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=60
    ) as response:
        return dict(json.load(response))


def metrics(epoch: int, epochs: int) -> dict[str, float]:
    """Return one epoch's metrics: a smooth course with a little noise, the same in each run."""
    share, bad = epoch / epochs, float(PLAN.get("bad", 0))
    noise = math.sin(epoch * 12.9898) * 0.02
    course = 1 - math.exp(-3.5 * share)
    return {
        "train/box_loss": 2.4 - 1.9 * course + noise + bad,
        "train/cls_loss": 3.1 - 2.6 * course - noise + bad,
        "val/box_loss": 2.5 - 1.7 * course - noise * 1.5 + bad,
        "val/cls_loss": 3.2 - 2.3 * course + noise * 2 + bad,
        "metrics/mAP50(B)": max(0.93 * course + noise - bad / 4, 0),
        "metrics/mAP50-95(B)": max(0.71 * course + noise - bad / 4, 0),
        "metrics/precision(B)": max(0.95 * course - noise * 2 - bad / 4, 0),
        "metrics/recall(B)": max(0.9 * course + noise * 2 - bad / 4, 0),
        "lr/pg0": 0.01 * (1 - share * 0.99),
        "lr/pg1": 0.008 * (1 - share * 0.99),
    }


def load(epoch: int) -> dict[str, float]:
    """Return the load of a machine with two GPUs."""
    wave = math.sin(epoch / 4)
    return {
        "system/cpu_percent": 62 + 20 * wave,
        "system/ram_bytes": 9e9 + epoch * 2e7,
        "system/data_wait_percent": 6 + 4 * wave,
        "system/gpu0_percent": 91 - 6 * wave,
        "system/gpu1_percent": 88 + 6 * wave,
        "system/gpu0_memory_bytes": 21e9,
        "system/gpu1_memory_bytes": 20.5e9,
    }


def predict() -> int:
    """Store predictions.jsonl, and return how many images there are."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=os.environ["MINIO_ENDPOINT"],
        aws_access_key_id=os.environ["MINIO_ACCESS_KEY"],
        aws_secret_access_key=os.environ["MINIO_SECRET_KEY"],
        region_name="us-east-1",
    )
    bucket = os.environ["STORAGE_BUCKET"]
    dataset = client.get_object(Bucket=bucket, Key=f"datasets/{os.environ['DATASET_ID']}.zip")["Body"].read()
    box = {"class": 0, "name": "cat", "confidence": 0.87, "xyxy": [32, 24, 160, 120]}
    with zipfile.ZipFile(io.BytesIO(dataset)) as archive:
        lines = [json.dumps({"file": name, "width": 320, "height": 240, "boxes": [box]}) for name in archive.namelist()]
    key = f"results/job-{os.environ['JOB_ID']}/predictions.jsonl"
    client.put_object(Bucket=bucket, Key=key, Body="\n".join(lines).encode())
    return len(lines)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    attempt = call("event", {"type": "started"})["attempt"]
    if os.environ["TASK"] == "predict":
        call("done", {"status": "SUCCEEDED", "metrics": {"images": predict()}, "attempt": attempt})
        return
    epochs = int(PLAN.get("planned", 0))
    total = int(PLAN.get("of", epochs))
    for epoch in range(1, epochs + 1):
        beat = {
            "epoch": epoch,
            "epochs": total,
            "step": epoch * 20,
            "metrics": metrics(epoch, total) | (load(epoch) if PLAN.get("load") else {}),
            "attempt": attempt,
        }
        call("heartbeat", beat | {"eta_seconds": (total - epoch) * 2.0})
        time.sleep(float(PLAN.get("apart", 0)))
    while PLAN.get("wait"):
        time.sleep(0.05)
    if "fail" in PLAN:
        error = {"reason": PLAN.get("reason", "dataset_invalid"), "message": PLAN["fail"]}
        call("done", {"status": "FAILED", "error": error, "attempt": attempt})
        sys.exit(65)
    call("done", {"status": "SUCCEEDED", "metrics": metrics(epochs, total) if epochs else {}, "attempt": attempt})


main()
