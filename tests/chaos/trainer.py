"""A trainer that trains nothing, keeps the contract, and dies as its plan says; light, since thousands of it run.

``python -S -E``, sockets by hand: what it imports is what a start costs. In ``CHAOS_HOME`` it holds a lock for its job
and one for its launch, and writes down in ``trainers.log`` what nobody else could know.
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
#: longer than the functions are ever away, in a run
PATIENCE_SECONDS = 150.0
stopping: list[int] = []
call_number = 0


def say(what: str) -> None:
    """Add a line to the log of all trainers, whole."""
    log = os.open(f"{HOME}/trainers.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{JOB} {LAUNCH} {what}\n".encode())
    os.close(log)


def lock(name: str, what: str) -> None:
    """Hold a lock until the end; that another holds it is what must never be."""
    held = os.open(f"{HOME}/locks/{name}", os.O_WRONLY | os.O_CREAT)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"double {what}")


def exchange(address: str, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """Make one HTTP request. Raises: OSError."""
    host, _, port = address.partition(":")
    headers = {"Host": address, "Content-Length": str(len(body)), "Connection": "close", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall("\r\n".join(lines).encode() + body)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, content = answer.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    if not head or len(content) < int(lengths[0] if lengths else 0):
        raise OSError("closed before the end of the answer: who answered was killed")
    return int(head.split(maxsplit=2)[1]), content


def call(name: str, **body: Any) -> dict[str, Any]:
    """Call back until it is heard; stop where the functions say so."""
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
            status, answer = exchange(
                ENV["BACKEND_BASE_URL"].removeprefix("http://"), "POST", f"/v1/jobs/{JOB}/{name}", headers, content
            )
        except OSError:
            status, answer = 0, b""
        if status == 200:
            return dict(json.loads(answer))
        if status == 409:
            say(f"conflict {name} {answer.decode()}")
            sys.exit(0)
        if status not in {0, 429, 500, 502, 503}:
            say(f"refused {name} {status} {answer.decode()}")
            sys.exit(1)
        time.sleep(wait)
        wait = min(2 * wait, 1.5)
    say(f"unheard {name}")
    sys.exit(1)


def transfer(method: str, key: str, content: bytes = b"", etag: str = "") -> bytes | None:
    """Store or fetch an object by a presigned link; None when there is none, or no longer of this ETag."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        address, _, path = call("presign", method=method, key=key)["url"].removeprefix("http://").partition("/")
        try:
            status, answer = exchange(address, method, f"/{path}", {"If-Match": f'"{etag}"'} if etag else {}, content)
        except OSError:
            status, answer = 0, b""
        if status in {200, 404, 412}:
            return answer if status == 200 else None
        time.sleep(0.2)
    say(f"unstored {key}")
    sys.exit(74)


def die(epoch: int, attempt: int) -> None:
    """Die, if this launch is to die here."""
    deaths = PLAN.get("deaths", [])
    how, now = deaths[LAUNCH - 1] if len(deaths) >= LAUNCH else ("", None)
    if now != epoch:
        return
    say(f"dies by {how}")
    if how in {"supervisor", "both"}:
        os.kill(os.getppid(), signal.SIGKILL)
    if how in {"kill", "both"}:
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "term":
        os.kill(os.getpid(), signal.SIGTERM)
        call("event", type="interrupted", attempt=attempt)
        sys.exit(143)


def main() -> None:
    """Do what the plan says."""
    say(f"started {os.getpid()}")
    lock(f"{JOB}.{LAUNCH}", "launch")
    lock(JOB, "job")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if PLAN.get("deaf") else lambda number, _: stopping.append(number))
    die(-1, 0)
    attempt = call("event", type="started")["attempt"]
    die(0, attempt)
    if PLAN.get("stores") and transfer("GET", f"datasets/{ENV['DATASET_ID']}.zip", etag=ENV["DATASET_ETAG"]) is None:
        say("unstored dataset")
    last = f"checkpoints/job-{JOB}/last.pt"
    for epoch in range(1, PLAN["epochs"] + 1):
        time.sleep(PLAN["pause"])
        if PLAN.get("stores"):
            transfer("PUT", last, str(epoch).encode())
        call("heartbeat", epoch=epoch, epochs=PLAN["epochs"], metrics={"loss": 1 / epoch}, attempt=attempt)
        die(epoch, attempt)
    if PLAN.get("stores") and transfer("GET", last) != str(PLAN["epochs"]).encode():
        say("checkpoint is not what was stored")
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
