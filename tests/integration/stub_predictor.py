"""A trainer that predicts one box for each image of the dataset, and draws nothing but the image's name."""

import io
import json
import os
import urllib.request
import zipfile
from typing import Any


def call(name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Call back, and return the response."""
    url = f"{os.environ['BACKEND_BASE_URL']}/v1/jobs/{os.environ['JOB_ID']}/{name}"
    headers = {"Authorization": f"Bearer {os.environ['CALLBACK_TOKEN']}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=60) as answer:
        return dict(json.load(answer))


def store(name: str, content: bytes) -> str:
    """Store a result, and return its key."""
    key = f"results/job-{os.environ['JOB_ID']}/{name}"
    link = call("presign", {"method": "PUT", "key": key})["url"]
    urllib.request.urlopen(urllib.request.Request(link, content, method="PUT"), timeout=60).close()
    return key


attempt = call("event", {"type": "started"})["attempt"]
link = call("presign", {"method": "GET", "key": f"datasets/{os.environ['DATASET_ID']}.zip"})["url"]
with urllib.request.urlopen(link, timeout=60) as response:
    names = zipfile.ZipFile(io.BytesIO(response.read())).namelist()
lines = []
for number, name in enumerate(names):
    box = {"class": 1, "name": "cat", "confidence": 0.875, "xyxy": [1.2, 2.0, 30.6, 40.0]}
    drawn = store(f"images/{number:06}.jpg", name.encode())
    lines.append(json.dumps({"file": name, "image": drawn, "boxes": [box] if "empty" not in name else []}))
store("predictions.jsonl", "\n".join(lines).encode())
call("done", {"status": "SUCCEEDED", "metrics": {"images": len(names)}, "attempt": attempt})
