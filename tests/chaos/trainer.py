"""A stub trainer that keeps the contract and dies as planned; light, because thousands of it run.

It runs under ``python -S -E`` and imports little, so that it starts quickly. In ``CHAOS_HOME`` it holds a lock for its
job and one for its launch, and logs to ``trainers.log``.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import time
from typing import Any

ENV = os.environ
HOME, JOB = ENV["CHAOS_HOME"], ENV["JOB_ID"]
LAUNCH = int(os.path.basename(os.path.dirname(os.getcwd())))  # noqa: PTH109, PTH119, PTH120 -- pathlib costs a start 10 ms
PLAN: dict[str, Any] = json.loads(ENV["HYPERPARAMETERS"])
#: longer than any outage of the functions
PATIENCE_SECONDS = 150.0
stopping: list[int] = []
call_number = 0


def record(action: str) -> None:
    """Append a line to the log of all trainers, in one write."""
    log = os.open(f"{HOME}/trainers.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{JOB} {LAUNCH} {action}\n".encode())
    os.close(log)


def lock(name: str, what: str) -> None:
    """Hold a lock until the end; record it if another process holds the lock."""
    held = os.open(f"{HOME}/locks/{name}", os.O_WRONLY | os.O_CREAT)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        record(f"concurrent {what}")


def exchange(address: str, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """Make one HTTP request. Raises: OSError."""
    host, _, port = address.partition(":")
    headers = {"Host": address, "Content-Length": str(len(body)), "Connection": "close", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall("\r\n".join(lines).encode() + body)
        response = b""
        while part := connection.recv(65536):
            response += part
    head, _, content = response.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    if not head or len(content) < int(lengths[0] if lengths else 0):
        raise OSError("the connection was closed before the end of the response")
    return int(head.split(maxsplit=2)[1]), content


def call(name: str, **body: Any) -> dict[str, Any]:
    """Repeat a callback until it is answered; exit on 409."""
    global call_number  # noqa: PLW0603
    call_number += 1
    headers = {
        "Authorization": f"Bearer {ENV['CALLBACK_TOKEN']}",
        "Content-Type": "application/json",
        "ce-id": str(call_number),
        "ce-source": f"/trainer/{LAUNCH}/{os.getpid()}",
        "ce-type": f"trainer.{name}",
        "ce-specversion": "1.0",
    }
    content, end, wait = json.dumps(body).encode(), time.monotonic() + PATIENCE_SECONDS, 0.1
    while time.monotonic() < end:
        try:
            status, response = exchange(
                ENV["BACKEND_BASE_URL"].removeprefix("http://"), "POST", f"/v1/jobs/{JOB}/{name}", headers, content
            )
        except OSError:
            status, response = 0, b""
        if status == 200:
            return dict(json.loads(response))
        if status == 409:
            record(f"conflict {name} {response.decode()}")
            sys.exit(0)
        if status not in {0, 429, 500, 502, 503}:
            record(f"refused {name} {status} {response.decode()}")
            sys.exit(1)
        time.sleep(wait)
        wait = min(2 * wait, 1.5)
    record(f"unanswered {name}")
    sys.exit(1)


def transfer(method: str, key: str, content: bytes = b"", etag: str = "") -> bytes | None:
    """Store or fetch an object by a presigned link; return None if there is none with this ETag."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        address, _, path = call("presign", method=method, key=key)["url"].removeprefix("http://").partition("/")
        try:
            status, response = exchange(address, method, f"/{path}", {"If-Match": f'"{etag}"'} if etag else {}, content)
        except OSError:
            status, response = 0, b""
        if status in {200, 404, 412}:
            return response if status == 200 else None
        time.sleep(0.2)
    record(f"unstored {key}")
    sys.exit(74)


def die(epoch: int, attempt: int) -> None:
    """Die, if the plan has a death of this launch after this epoch."""
    deaths = PLAN.get("deaths", [])
    how, epoch_of_death = deaths[LAUNCH - 1] if len(deaths) >= LAUNCH else ("", None)
    if epoch_of_death != epoch:
        return
    record(f"dies by {how}")
    if how in {"supervisor", "both"}:
        os.kill(os.getppid(), signal.SIGKILL)
    if how in {"kill", "both"}:
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "term":
        os.kill(os.getpid(), signal.SIGTERM)
        call("event", type="interrupted", attempt=attempt)
        sys.exit(143)


def check(attempt: int) -> None:
    """Check the dataset as the plan says, and end."""
    failed = {"status": "FAILED", "error": {"reason": "dataset_invalid"}}
    call("done", attempt=attempt, **(failed if PLAN.get("is_broken") else {"status": "SUCCEEDED"}))
    sys.exit(65 if PLAN.get("is_broken") else 0)


def main() -> None:
    """Follow the plan."""
    record(f"started {os.getpid()}")
    lock(f"{JOB}.{LAUNCH}", "launch")
    lock(JOB, "job")
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN if PLAN.get("ignores_sigterm") else lambda number, _: stopping.append(number)
    )
    die(-1, 0)
    attempt = call("event", type="started")["attempt"]
    die(0, attempt)
    if ENV["TASK"] == "check":
        check(attempt)
    if PLAN.get("stores") and transfer("GET", f"datasets/{ENV['DATASET_ID']}.zip", etag=ENV["DATASET_ETAG"]) is None:
        record("unstored dataset")
    last = f"checkpoints/job-{JOB}/last.pt"
    for epoch in range(1, PLAN["epochs"] + 1):
        time.sleep(PLAN["pause"])
        if PLAN.get("stores"):
            transfer("PUT", last, str(epoch).encode())
        call("heartbeat", epoch=epoch, epochs=PLAN["epochs"], metrics={"loss": 1 / epoch}, attempt=attempt)
        die(epoch, attempt)
    if PLAN.get("stores") and transfer("GET", last) != str(PLAN["epochs"]).encode():
        record("checkpoint differs from what was stored")
    while PLAN.get("end") == "wait":
        if stopping:
            call("event", type="interrupted", attempt=attempt)
            sys.exit(143)
        time.sleep(0.05)
    if PLAN.get("end") == "exit":
        sys.exit(65)
    failed = {"status": "FAILED", "error": {"reason": "trainer_error"}}
    call("done", attempt=attempt, **(failed if PLAN.get("end") == "fail" else {"status": "SUCCEEDED"}))


main()
