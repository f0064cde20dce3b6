"""Jobs of every kind, for the console to show."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image, ImageDraw

from tests.console import results
from tests.console.site import Site

#: a hostile job name, which must be shown as text
HOSTILE = "<img src=x onerror=alert(1)>"


#: as trainers store it
REPORT = {
    "dataset": "cats.zip",
    "framework": "ultralytics",
    "format": "yolo",
    "usable": True,
    "message": "",
    "classes": ["cat", "dog", HOSTILE],
    "splits": {"train": {"images": 812, "objects": 1034, "background": 12}, "val": {"images": 90, "objects": 121}},
    "guesses": [{"kind": "split", "message": "the folder validation is the split val"}],
    "problems": [
        {
            "kind": "image that cannot be read",
            "count": 3,
            "refused": False,
            "files": [{"file": "images/train/0007.jpg", "reason": "it is cut off"}],
        }
    ],
    "duplicate_count": 2,
}


@dataclass
class Contents:
    """The ids of the jobs."""

    succeeded: str
    other: str
    running: str
    failed: str
    cancelled: str


def fill(site: Site) -> Contents:
    """Make jobs of every kind."""
    names = {
        "name": "Cats, larger images",
        "tags": ["cats", "baseline"],
        "notes": "Images of 640 pixels.\nAs good as it gets.",
    }
    succeeded = site.submit(spec={"epochs": 60, "batch_size": 16, **names}, planned=60, load=True)
    other = site.submit(spec={"epochs": 40, "batch_size": 64, "name": "Cats, large batch"}, planned=40, bad=0.2)
    failed = site.submit(
        planned=0, fail="3 of 812 label files cannot be read, such as labels/train/0007.txt: line 2 has 4 numbers"
    )
    for job_id in (succeeded, other, failed):
        site.wait_for(job_id, "SUCCEEDED", "FAILED")
    cancelled = site.submit(
        spec={"name": HOSTILE, "tags": [HOSTILE], "notes": f"{HOSTILE}<script>alert(2)</script>"},
        planned=3,
        of=10,
        wait=True,
    )
    site.wait_for(cancelled, "RUNNING", epoch=3)
    site.call("POST", f"/v1/jobs/{cancelled}/cancel", json={"message": "not needed any more"})
    running = site.submit(spec={"name": "Cats, tonight", "epochs": 60}, planned=25, of=60, wait=True)
    site.wait_for(running, "RUNNING", epoch=25)
    stored = {succeeded: results.detection(), other: results.detection(epochs=(1, 20, 40), bad=0.2)}
    for job_id, files in stored.items():
        for name, content in files:
            site.put(f"results/job-{job_id}/{name}", content)
    site.put(f"checkpoints/job-{succeeded}/best.pt", b"weights")
    for name, image in images().items():
        site.put(f"results/job-{succeeded}/{name}", image)
    site.put(f"results/job-{succeeded}/dataset.json", json.dumps(REPORT).encode())
    lines = [
        f"2026-11-26T23:06:{number % 60:02}.5Z [TRACE:c41d] job={succeeded} epoch {number}" for number in range(60)
    ]
    site.put(f"logs/job-{succeeded}/attempt-1.log", "\n".join([*lines, HOSTILE, ""]).encode())
    return Contents(succeeded, other, running, failed, cancelled)


def images() -> Mapping[str, bytes]:
    """Return small images, as trainers store them."""
    return {"confusion_matrix.png": _squares((44, 96, 160)), "val_batch0_pred.png": _squares((176, 74, 20))}


def _squares(colour: tuple[int, int, int]) -> bytes:
    image = Image.new("RGB", (320, 240), "white")
    draw = ImageDraw.Draw(image)
    for number in range(5):
        place = 30 + number * 40
        draw.rectangle((place + 30, place - 10, place + 66, place + 26), fill=colour)
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
