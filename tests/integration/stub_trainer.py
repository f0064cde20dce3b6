"""A trainer without a framework: HYPERPARAMETERS tell it what to do. It needs only the standard library."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

PLAN: dict[str, Any] = json.loads(os.environ["HYPERPARAMETERS"])
if os.environ["TASK"] == "check":  # before the launch of a training
    PLAN = PLAN.get("check", {})
stopping: list[int] = []


def call(name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Call back until it is answered."""
    url = f"{os.environ['BACKEND_BASE_URL']}/v1/jobs/{os.environ['JOB_ID']}/{name}"
    headers = {"Authorization": f"Bearer {os.environ['CALLBACK_TOKEN']}", "Content-Type": "application/json"}
    while True:
        try:
            request = urllib.request.Request(url, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=5) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            if error.code not in {429, 500, 502, 503}:
                print(f"{name}: {error.code}", flush=True)
                sys.exit(0)
        except OSError:
            if stopping:
                sys.exit(143)
        time.sleep(0.1)


def fetch_dataset(attempt: int) -> int:
    """Download the version of the dataset that the job was made for, and return its size; without it, the job FAILED."""
    key = f"datasets/{os.environ['DATASET_ID']}.zip"
    url = call("presign", {"method": "GET", "key": key})["url"]
    etag = os.environ.get("DATASET_ETAG")
    try:
        request = urllib.request.Request(url, headers={"If-Match": f'"{etag}"'} if etag else {})
        with urllib.request.urlopen(request, timeout=60) as response:
            return len(response.read())
    except urllib.error.HTTPError as error:
        if error.code not in {404, 412}:
            raise
        what_happened = "deleted" if error.code == 404 else "overwritten"
        message = f"{key} was {what_happened} after the job was made: version {etag} is gone"
        failed = {"status": "FAILED", "error": {"reason": "dataset_invalid", "message": message}}
        call("done", failed | {"attempt": attempt})
        sys.exit(65)


def main() -> None:
    """Follow the plan."""
    if not PLAN.get("deaf"):
        signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("environment", json.dumps(sorted(os.environ)), flush=True)
    print("task", os.environ["TASK"], flush=True)
    if PLAN.get("child"):
        subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({PLAN['child']})"])
    attempt = call("event", {"type": "started"})["attempt"] if PLAN.get("calls", True) else 1
    size = {"dataset_bytes": float(fetch_dataset(attempt))} if PLAN.get("dataset") else {}
    for epoch in range(1, int(PLAN.get("epochs", 0)) + 1):
        call("heartbeat", {"epoch": epoch, "attempt": attempt})
    if attempt in PLAN.get("killed_in_attempts", []):
        os.kill(os.getpid(), signal.SIGKILL)
    waits = attempt in PLAN.get("waits_in_attempts", [attempt])
    end = time.monotonic() + (float(PLAN.get("seconds", 0)) if waits else 0)
    while time.monotonic() < end and not (stopping and not PLAN.get("deaf")):
        time.sleep(0.02)
    if stopping:
        if PLAN.get("calls", True):
            call("event", {"type": "interrupted", "attempt": attempt})
        sys.exit(143)
    end_as_planned({"score": 1.0, **size}, attempt)


def end_as_planned(metrics: dict[str, float], attempt: int) -> None:
    """End without done, or with a reason, or with success; perhaps without an exit after that."""
    if "exit" in PLAN:
        sys.exit(int(PLAN["exit"]))
    if "reason" in PLAN:
        error = {"reason": PLAN["reason"], "message": "as planned"}
        call("done", {"status": "FAILED", "error": error, "attempt": attempt})
        sys.exit(65)
    call("done", {"status": "SUCCEEDED", "metrics": metrics, "attempt": attempt})
    while PLAN.get("lingers") and not stopping:
        time.sleep(0.02)


main()
