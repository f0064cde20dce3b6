"""Run the steps one after the other, as long as there is time, and write one JSON file."""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import data
from .standin import serve
from .trainers import Machine, Run, images_per_second, parsed

LIMIT_SECONDS = {"gpu": 450.0, "cpu": 3600.0}
#: on a GPU; on a CPU all is tiny
YOLO = {True: ("yolo11n.yaml", 640, 64, 1536), False: ("yolo11n.yaml", 64, 8, 24)}  # model, pixels, batch, images
TIMM = {True: ("resnet50", 224, 128, 6400), False: ("test_resnet", 32, 16, 64)}
WORKERS = {True: 12, False: 0}
EPOCHS = {True: 4, False: 2}  # epochs whose speed is measured, except the first
DIFFERENCE_LIMIT = 1e-2  # of weights after a resume on a GPU, whose sums are not in a fixed order
RATIO_GOAL = 0.99
Figures = dict[str, Any]


class Skipped(Exception):  # noqa: N818 -- nothing is wrong
    """A step does not fit this machine; the message says why."""


class Steps:
    """The steps, in order; each returns figures, or raises."""

    def __init__(self, machine: Machine, digits: Path) -> None:
        self.machine, self.digits, self.is_gpu = machine, digits, machine.is_gpu
        self.yolo, self.timm = YOLO[self.is_gpu], TIMM[self.is_gpu]

    def all(self) -> list[tuple[str, float, Callable[[], Figures]]]:
        """Return each step's name, the seconds that it needs on a GPU, and the function that runs it; the most informative first."""
        return [
            ("datasets", 25, self.datasets),
            ("ultralytics end to end", 40, self.ultralytics_end_to_end),
            ("timm end to end", 30, self.timm_end_to_end),
            ("ultralytics beside yolo train", 80, self.ultralytics_throughput),
            ("timm beside its own loop", 80, self.timm_throughput),
            ("out of GPU memory", 40, self.out_of_memory),
            ("timm resumed", 45, self.timm_resumed),
            ("ultralytics resumed", 50, self.ultralytics_resumed),
            ("timm amp", 20, lambda: self.timm_option({"amp": True})),
            ("timm bf16 and channels-last", 20, self.timm_bf16),
            ("ultralytics compile", 60, self.ultralytics_compiled),
            ("export to ONNX", 0, self.export),
        ]

    def datasets(self) -> Figures:
        boxes, classes = self.machine.work / "boxes.zip", self.machine.work / "classes.zip"
        data.write_boxes(boxes, self.digits, count=self.yolo[3], side=self.yolo[1])
        data.write_classes(classes, self.digits, count=self.timm[3], side=self.timm[1])
        for name, path in (("boxes", boxes), ("classes", classes)):
            self.machine.put(name, path)
            with zipfile.ZipFile(path) as archive:
                archive.extractall(self.machine.work / name)  # of our own making; for the bare tools
        return {"boxes_bytes": boxes.stat().st_size, "classes_bytes": classes.stat().st_size}

    def ultralytics(self, **more: Any) -> dict[str, Any]:
        model, pixels, batch, _ = self.yolo
        usual = {"DATASET_ID": "boxes", "MODEL_NAME": model, "IMAGE_SIZE": pixels, "BATCH_SIZE": batch, "EPOCHS": 2}
        return usual | {"WORKERS": WORKERS[self.is_gpu], "HYPERPARAMETERS": '{"plots": false}'} | more

    def timm_variables(self, options: Figures | None = None, **more: Any) -> dict[str, Any]:
        model, pixels, batch, _ = self.timm
        usual = {"DATASET_ID": "classes", "MODEL_NAME": model, "IMAGE_SIZE": pixels, "BATCH_SIZE": batch, "EPOCHS": 2}
        hyperparameters = json.dumps({"pretrained": False, **(options or {})})
        return usual | {"WORKERS": WORKERS[self.is_gpu], "HYPERPARAMETERS": hyperparameters} | more

    def ultralytics_end_to_end(self) -> Figures:
        return self.figures(self.machine.train("ultralytics", self.ultralytics()).require())

    def timm_end_to_end(self) -> Figures:
        return self.figures(self.machine.train("timm", self.timm_variables({"amp": True})).require())

    def figures(self, run: Run) -> Figures:
        """Return the reported figures of a run that succeeded."""
        assert run.done["status"] == "SUCCEEDED", run.done
        for name in ("best.pt", "last.pt"):
            self.machine.object(f"checkpoints/job-{run.job_id}/{name}")
        return {"seconds": round(run.seconds, 1), "metrics": run.done["metrics"], "system": run.system()}

    def ultralytics_throughput(self) -> Figures:
        model, pixels, batch, images = self.yolo
        epochs = EPOCHS[self.is_gpu]
        with self.machine.utilised() as ours:
            run = self.machine.train("ultralytics", self.ultralytics(EPOCHS=epochs)).require()
        options = {"model": model, "epochs": epochs, "batch": batch, "imgsz": pixels, "seed": 0, "plots": False}
        options |= {"workers": WORKERS[self.is_gpu], "device": self.machine.device}
        folder = str(self.machine.work / "boxes")
        with self.machine.utilised() as theirs:
            bare = parsed(self.machine.bare("ultralytics", "bare_yolo.py", [folder, json.dumps(options)]))
        return self.compared(run, bare, images, ours, theirs)

    def timm_throughput(self) -> Figures:
        model, pixels, batch, images = self.timm
        epochs = EPOCHS[self.is_gpu]
        with self.machine.utilised() as ours:
            run = self.machine.train("timm", self.timm_variables({"amp": self.is_gpu}, EPOCHS=epochs)).require()
        options = {"model": model, "epochs": epochs, "batch_size": batch, "image_size": pixels, "amp": self.is_gpu}
        device = f"cuda:{self.machine.device}" if self.is_gpu else "cpu"
        options |= {"workers": WORKERS[self.is_gpu], "device": device}
        folder = str(self.machine.work / "classes")
        with self.machine.utilised() as theirs:
            bare = parsed(self.machine.bare("timm", "bare_timm.py", [folder, json.dumps(options)]))
        return self.compared(run, bare, images, ours, theirs)

    @staticmethod
    def compared(run: Run, bare: Figures, images: int, ours: list[float], theirs: list[float]) -> Figures:
        """Return images a second of a trainer and of the bare tool, from the end of their first epochs on."""
        rate, bare_rate = images_per_second(run.epoch_ends(), images), images_per_second(bare["ended"], images)
        busy = {"gpu_percent": _mean(ours), "bare_gpu_percent": _mean(theirs)} if ours or theirs else {}
        waits = bare["wait_seconds"] / (bare["ended"][-1] - bare["ended"][0])
        figures = {"images_per_second": rate, "bare_images_per_second": bare_rate, "ratio": round(rate / bare_rate, 3)}
        system = run.system()
        assert not ours or {"system/gpu_percent", "system/gpu_memory_bytes"} <= system.keys(), system
        return (
            figures | {"goal": RATIO_GOAL, "bare_share_waiting_for_data": round(waits, 3)} | busy | {"system": system}
        )

    def out_of_memory(self) -> Figures:
        if not self.is_gpu:
            raise Skipped("a CPU has no GPU memory")
        figures = {}
        for trainer, variables in (
            ("timm", self.timm_variables(EPOCHS=1, BATCH_SIZE=1024, IMAGE_SIZE=768)),
            ("ultralytics", self.ultralytics(EPOCHS=1, BATCH_SIZE=1024, IMAGE_SIZE=1280)),
        ):
            run = self.machine.train(trainer, variables, limit_seconds=60)
            figures[trainer] = run.done.get("error", {}).get("reason") or f"exit code {run.code}"
        assert figures == {"timm": "oom_gpu", "ultralytics": "oom_gpu"}, figures
        return figures

    def timm_resumed(self) -> Figures:
        return self.resumed("timm", self.timm_variables({"model_ema": True}, EPOCHS=3), limit=0.0)

    def ultralytics_resumed(self) -> Figures:
        return self.resumed("ultralytics", self.ultralytics(EPOCHS=3), limit=None)

    def resumed(self, trainer: str, variables: dict[str, Any], *, limit: float | None) -> Figures:
        """Compare the weights of a training that got SIGTERM and was resumed with those of one that ran through."""
        whole = self.machine.train(trainer, variables).require()

        def has_stored(job_id: str) -> bool:
            is_stored = self.machine.standin.object(f"checkpoints/job-{job_id}/last.pt").exists()
            return is_stored and any(
                call.body.get("epoch", 0) >= 1 for call in self.machine.standin.received(job_id, "heartbeat")
            )

        stopped = self.machine.train(trainer, variables, until=has_stored).require(143)
        again = self.machine.train(trainer, variables, job_id=stopped.job_id).require()
        events = [call.body.get("message", "") for call in again.standin.received(again.job_id, "event")]
        assert any(message.startswith("resuming after epoch") for message in events), "it began again from the start"
        files = [str(self.machine.object(f"checkpoints/job-{run.job_id}/last.pt")) for run in (whole, again)]
        difference = float(self.machine.bare(trainer, "difference.py", files))
        allowed = DIFFERENCE_LIMIT if self.is_gpu and limit is not None else limit
        assert allowed is None or difference <= allowed, f"the weights differ by {difference}"
        return {"largest_difference_of_weights": difference, "allowed": allowed}

    def timm_option(self, options: Figures) -> Figures:
        run = self.machine.train("timm", self.timm_variables(options, EPOCHS=2)).require()
        return {
            "images_per_second": images_per_second(run.epoch_ends(), self.timm[3]),
            "top1": run.done["metrics"]["top1"],
        }

    def timm_bf16(self) -> Figures:
        return self.timm_option({"amp": True, "amp_dtype": "bfloat16", "channels_last": True})

    def ultralytics_compiled(self) -> Figures:
        if not self.is_gpu:
            raise Skipped("compiling for a CPU takes minutes and needs a C++ compiler")
        variables = self.ultralytics(EPOCHS=2, HYPERPARAMETERS='{"plots": false, "compile": true}')
        run = self.machine.train("ultralytics", variables, limit_seconds=120).require()
        return {"images_per_second": images_per_second(run.epoch_ends(), self.yolo[3])}

    def export(self) -> Figures:
        raise Skipped("the trainers have no export yet")


def _mean(values: list[float]) -> float | None:
    return round(statistics.mean(values), 1) if values else None


def card(device: str) -> dict[str, Any]:
    """Return the machine's names and numbers."""
    about: dict[str, Any] = {"cores": os.cpu_count(), "python": platform.python_version(), "device": device}
    if device != "cpu":
        query = [
            "nvidia-smi",
            f"--id={device}",
            "--query-gpu=name,driver_version,memory.total",
            "--format=csv,noheader",
        ]
        name, driver, memory = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split(", ")
        about |= {"card": name, "driver": driver, "memory": memory.strip()}
    return about


def main() -> int:
    """Run the steps; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="tests/gpu/run.sh")
    for name in ("digits", "work", "report"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--only", default="", help="run only the steps with this in their names")
    options = parser.parse_args()
    pythons = {name: os.environ[f"{name.upper()}_PYTHON"] for name in ("ultralytics", "timm")}
    machine = Machine(options.device, options.work, serve(options.work / "objects"), pythons)
    limit, began = LIMIT_SECONDS["gpu" if machine.is_gpu else "cpu"], time.monotonic()
    report: dict[str, Any] = {"machine": card(options.device), "limit_seconds": limit, "steps": []}
    every = Steps(machine, options.digits).all()
    for name, needed_seconds, step in [every[0], *(each for each in every[1:] if options.only in each[0])]:
        entry: dict[str, Any] = {"name": name}
        step_began = time.monotonic()
        left = limit - (step_began - began)
        try:
            if machine.is_gpu and left < needed_seconds:
                raise Skipped(f"{left:.0f} s are left, it needs about {needed_seconds:.0f}")  # noqa: TRY301
            entry |= {"state": "ok", "figures": step()}
        except Skipped as skipped:
            entry |= {"state": "skipped", "why": str(skipped)}
        except Exception as error:  # noqa: BLE001 -- the other steps still tell something
            entry |= {
                "state": "failed",
                "why": str(error) or type(error).__name__,
                "where": traceback.format_exc(limit=-1),
            }
        entry["seconds"] = round(time.monotonic() - step_began, 1)
        report["steps"].append(entry)
        report["seconds"] = round(time.monotonic() - began, 1)
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(json.dumps(report, indent=1) + "\n")
        print(
            f"{entry['state']:8}{entry['seconds']:7.1f} s  {name}  {entry.get('figures') or entry.get('why')}",
            flush=True,
        )
    shutil.rmtree(options.work / "objects")
    print(f"{options.report}: {report['seconds']} s")
    return int(any(entry["state"] == "failed" for entry in report["steps"]))


if __name__ == "__main__":
    sys.exit(main())
