"""A trainer that trains nothing and keeps every rule, except the one that BROKEN names. Standard library only."""

import contextlib
import http.client
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
import uuid
import zipfile
from pathlib import Path
from typing import Any

ENV, BROKEN = os.environ, os.environ.get("BROKEN", "")
JOB = ENV["JOB_ID"]
token = ENV.get("CALLBACK_TOKEN") or Path(ENV["CALLBACK_TOKEN_FILE"]).read_text().strip()
attempt, terminated = 0, False
log: list[str] = []


class Conflict(Exception):
    """The functions responded 409."""


def say(text: str) -> None:
    """Print a line, and add it to the log."""
    prefix = "" if BROKEN == "trace-in-lines" else f"[TRACE:{ENV['TRACE_ID']}] "
    log.append(f"{prefix}{text}")
    print(log[-1], flush=True)


def call(name: str, body: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
    """Call back until the functions respond, or the time limit is reached."""
    global token
    call_id, end = uuid.uuid4().hex, time.monotonic() + seconds
    if name != "presign" and attempt and BROKEN != "attempt":
        body = {**body, "attempt": attempt}
    while True:
        call_id = uuid.uuid4().hex if BROKEN == "same-id" else call_id
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "ce-id": call_id}
        headers |= {"ce-source": f"/stub/{os.getpid()}", "ce-specversion": "1.0", "ce-type": f"stub.{name}"}
        request = urllib.request.Request(
            f"{ENV['BACKEND_BASE_URL']}/v1/jobs/{JOB}/{name}", json.dumps(body).encode(), headers
        )
        wait = 0.2
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                content: dict[str, Any] = json.load(response)
            token = token if BROKEN == "token-renewal" else content.get("token", token)
            return content
        except urllib.error.HTTPError as error:
            if BROKEN == "refused-token" and error.code == 401:
                raise
            is_ours = "application/problem+json" in error.headers.get("Content-Type", "") or BROKEN == "gateway"
            if is_ours and error.code == 409 and BROKEN != "conflict-stops":
                raise Conflict from error
            if (is_ours and error.code in {401, 404, 409, 422}) or (BROKEN == "outage" and error.code == 500):
                return {} if BROKEN != "outage" else sys.exit(1)
            wait = float(error.headers.get("Retry-After") or 0.2) if BROKEN != "retry-after" else 0.05
        except (OSError, http.client.HTTPException):
            if BROKEN == "retries":
                return {}
        if time.monotonic() > end:
            return {}
        time.sleep(wait)


def link(method: str, key: str) -> str:
    """Return a presigned link."""
    return str(call("presign", {"method": method, "key": key}).get("url", ""))


def transfer(method: str, key: str, content: bytes | None = None, etag: str = "") -> bytes | None:
    """Download or upload an object; return None if there is no object with that ETag."""
    for _ in range(1 if BROKEN == "storage-outage" else 100):
        url = link(method, key)
        if not url and BROKEN == "conflict-stops":
            return None  # the job has ended: continue without links
        try:
            headers = {"If-Match": f'"{etag}"'} if etag and BROKEN != "dataset-etag" else {}
            request = urllib.request.Request(url, content, headers, method=method)
            with urllib.request.urlopen(request, timeout=60) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            if error.code in {404, 412}:
                return None
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.2)
    sys.exit(74)


def end(code: int, reason: str = "", message: str = "") -> None:
    """Send done, store the log, and exit."""
    artifacts = [f"checkpoints/job-{JOB}/best.pt", f"checkpoints/job-{JOB}/last.pt"]
    artifacts = [*artifacts, f"results/job-{JOB}/none.csv"] if BROKEN == "artifacts-exist" else artifacts
    body: dict[str, Any] = {"status": "FAILED", "error": {"reason": reason, "message": message}}
    body = body if reason else {"status": "SUCCEEDED", "metrics": {"score": 1.0}, "artifacts": artifacts}
    if BROKEN != "done-marker":
        transfer("PUT", f"results/job-{JOB}/done.json", json.dumps({**body, "attempt": attempt}).encode())
    if reason or BROKEN != "done-once":
        call("done", body)
    store_log()
    sys.exit(3 if f"exit-{code}" == BROKEN else code)


def store_log() -> None:
    """Store the log."""
    if BROKEN != "log-stored":
        with contextlib.suppress(Conflict):
            transfer("PUT", f"logs/job-{JOB}/attempt-{attempt or 1}.log", "\n".join(log).encode())


def on_term(_number: int, _frame: object) -> None:
    """Note SIGTERM."""
    global terminated
    terminated = True


def train() -> None:
    """Run the epochs of a pretended training."""
    global attempt
    signal.signal(signal.SIGTERM, on_term)
    if BROKEN == "started-first":
        call("event", {"type": "log"})
    started = call("event", {"type": "log" if BROKEN == "second-attempt" else "started"})
    attempt = int(started.get("attempt", 0))
    say(f"token {token}" if BROKEN == "no-secrets" else "begins")
    if not ENV["EPOCHS"].isdecimal():
        end(78, "trainer_error" if BROKEN == "config-invalid" else "config_invalid", "EPOCHS is not a number")
    archive = Path("dataset.zip")
    archive.write_bytes(transfer("GET", f"datasets/{ENV['DATASET_ID']}.zip", etag=ENV.get("DATASET_ETAG", "")) or b"")
    if not zipfile.is_zipfile(archive):
        end(
            65,
            "trainer_error" if BROKEN == "dataset-invalid" else "dataset_invalid",
            "dataset.zip is not a zip archive",
        )
    last = f"checkpoints/job-{JOB}/last.pt"
    done = int((None if BROKEN in {"resume", "resume-after-kill"} else transfer("GET", last)) or 0)
    if BROKEN == "own-prefixes":
        write_elsewhere()
    for epoch in range(done + 1, int(ENV["EPOCHS"]) + 1):
        pause = float(ENV.get("EPOCH_SECONDS", "0.1"))
        wait = time.monotonic() + (6 if BROKEN == "heartbeat-by-time" and epoch == 2 else pause)
        while time.monotonic() < wait:
            time.sleep(0.02)
            if terminated and BROKEN not in {"sigterm", "sigterm-saves"}:
                call("event", {"type": "interrupted"}, seconds=5)
                store_log()
                sys.exit(143)
        if terminated:
            if BROKEN == "sigterm-saves":
                call("event", {"type": "interrupted"}, seconds=5)
            sys.exit(143 if BROKEN == "sigterm-saves" else 1)
        if BROKEN not in {"sigterm-saves", "checkpoints"}:
            transfer("PUT", last, str(epoch).encode())
        number = 1 if BROKEN == "heartbeat-by-epoch" else epoch
        metrics = {"loss": "high"} if BROKEN == "usable-bodies" else {"loss": 1 / epoch}
        call("heartbeat", {"epoch": number, "epochs": int(ENV["EPOCHS"]), "metrics": metrics})
    if BROKEN != "checkpoints":
        transfer("PUT", f"checkpoints/job-{JOB}/best.pt", b"weights")
    end(0)


def write_elsewhere() -> None:
    """Write beside the job's own prefixes, by a link that only this trainer was given."""
    request = urllib.request.Request(ENV["ELSEWHERE"], b"x", {"Content-Type": ""}, method="PUT")
    urllib.request.urlopen(request, timeout=60).close()


try:
    train()
except Conflict:
    say("409: stops")
    store_log()
