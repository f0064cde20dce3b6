"""The functions and the storage in one small HTTP server, for a machine that has neither."""

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Call:
    """One callback of a trainer."""

    name: str
    body: dict[str, Any]
    at: float  # of the monotonic clock


@dataclass
class StandIn:
    """What trainers have sent and stored."""

    folder: Path
    calls: dict[str, list[Call]] = field(default_factory=dict)  # by job
    url: str = ""

    def object(self, key: str) -> Path:
        """Return the file of an object."""
        return self.folder / hashlib.sha256(key.encode()).hexdigest()

    def received(self, job_id: str, name: str) -> list[Call]:
        """Return a job's callbacks of this name."""
        return [call for call in self.calls.get(job_id, []) if call.name == name]

    def answer(self, job_id: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Note a callback, and return its response."""
        if name == "presign":
            return {"url": f"{self.url}/objects/{body['key']}", "expires_at": "2100-01-01T00:00:00Z"}
        self.calls.setdefault(job_id, []).append(Call(name, body, time.monotonic()))
        starts = [call for call in self.received(job_id, "event") if call.body.get("type") == "started"]
        return {"state": "RUNNING", "attempt": max(len(starts), 1)}


def serve(folder: Path) -> StandIn:
    """Start on a free port of this machine, until the process ends."""
    standin = StandIn(folder)
    folder.mkdir(parents=True, exist_ok=True)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            *_, job_id, name = self.path.split("/")
            self.respond(200, json.dumps(standin.answer(job_id, name, body)).encode(), {})

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            standin.object(self.path.removeprefix("/objects/")).write_bytes(content)
            self.respond(200, b"", {"etag": f'"{hashlib.md5(content).hexdigest()}"'})

        def do_GET(self) -> None:
            path = standin.object(self.path.removeprefix("/objects/"))
            if not path.exists():
                self.respond(404, b"<Error><Code>NoSuchKey</Code></Error>", {})
                return
            content = path.read_bytes()
            etag = {"etag": f'"{hashlib.md5(content).hexdigest()}"'}
            first, _, last = self.headers.get("range", "").removeprefix("bytes=").partition("-")
            if not first:
                self.respond(200, content, etag)
                return
            part = content[int(first) : int(last) + 1 if last else None]
            place = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
            self.respond(206, part, etag | {"content-range": place})

        def respond(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json" if status == 200 else "application/xml")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Do nothing: a trainer that ends resets its connections."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    standin.url = f"http://127.0.0.1:{server.server_port}"
    return standin
