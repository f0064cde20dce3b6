"""What stands between a trainer and the real functions: it writes down every call, and plays the faults of a network."""

import http.client
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.conftest import answering

_CHUNK_BYTES = 1 << 16
_LOOK_SECONDS = 0.02
_PROBLEM = "application/problem+json"


class Fault(NamedTuple):
    """What happens to one call."""

    #: away (never arrives) | lost (arrives, its answer does not) | status | gateway (a status that is not the
    #: functions' own) | slow | twice | held (until it is another)
    kind: str
    status: int = 503
    seconds: float = 0.0


class Call(NamedTuple):
    """One call as the trainer made it, and the answer that it got (None: none)."""

    at: float
    answered_at: float
    name: str
    body: dict[str, Any] | None
    size_bytes: int
    headers: dict[str, str]
    status: int | None
    answer: dict[str, Any]
    fault: Fault | None


@dataclass
class Door:
    """The address that a trainer is given; ``fault`` is asked for each call, and again for as long as it says held."""

    fault: "Faults"
    url: str = ""
    calls: list[Call] = field(default_factory=list)

    def named(self, *names: str) -> list[Call]:
        """Return the calls of these names, in order."""
        return [call for call in self.calls if call.name in names]

    @property
    def beats(self) -> list[Call]:
        """The heartbeats that name an epoch."""
        return [call for call in self.named("heartbeat") if call.body and call.body.get("epoch") is not None]


#: what happens to a call of this name, of which so many came before
Faults = Callable[[Door, str, int], Fault | None]


def no_faults(_door: Door, _name: str, _before: int) -> Fault | None:
    """All goes well."""
    return None


@contextmanager
def opened(functions_url: str, fault: Faults) -> Iterator[Door]:  # noqa: C901 -- a handler's class reads best where its door is
    """Open a door to the functions."""
    door, behind, lock = Door(fault), urlsplit(functions_url), threading.Lock()
    seen: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with suppress(ConnectionError):  # of a trainer that was killed
                super().handle()

        def do_POST(self) -> None:
            at, name = time.monotonic(), self.path.rpartition("/")[2]
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = self._fault(name)
            status, answer, content_type = self._through(body, fault)
            headers = {key.lower(): value for key, value in self.headers.items()}
            with lock:
                now = time.monotonic()
                said = Call(at, now, name, _json(body), len(body), headers, status, _json(answer) or {}, fault)
                door.calls.append(said)
            if status is None:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._reply(status, answer, content_type, fault)

        def _fault(self, name: str) -> Fault | None:
            with lock:
                before = seen.get(name, 0)
                seen[name] = before + 1
            while True:
                with lock:
                    fault = door.fault(door, name, before)
                if fault is None or fault.kind != "held":
                    return fault
                time.sleep(_LOOK_SECONDS)

        def _through(self, body: bytes, fault: Fault | None) -> tuple[int | None, bytes, str]:
            kind = fault.kind if fault else ""
            if fault and kind in {"status", "gateway"}:
                problem = json.dumps({"title": "played", "status": fault.status}).encode()
                return fault.status, problem, _PROBLEM if kind == "status" else "application/json"
            if kind == "away":
                return None, b"", ""
            for _ in range(1 if kind == "twice" else 0):
                _forward(behind.netloc, self.path, body, dict(self.headers.items()))
            status, answer, content_type = _forward(behind.netloc, self.path, body, dict(self.headers.items()))
            if fault and kind == "slow":
                time.sleep(fault.seconds)
            return None if kind == "lost" else status, answer, content_type

        def _reply(self, status: int, answer: bytes, content_type: str, fault: Fault | None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(answer)))
            if fault and fault.kind == "status" and fault.seconds:
                self.send_header("Retry-After", f"{fault.seconds:g}")
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(answer)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 -- its base class says so
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    door.url = f"http://127.0.0.1:{server.server_port}"
    with answering(server):
        try:
            yield door
        finally:
            door.fault = lambda _door, _name, _before: Fault("away")  # what is still held came from a dead process


def _forward(where: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, str]:
    kept = {key: value for key, value in headers.items() if key.lower() not in {"host", "connection"}}
    with closing(http.client.HTTPConnection(where, timeout=60)) as connection:
        connection.request("POST", path, body, kept)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers.get("content-type", "")


def _json(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


@dataclass
class Pipe:
    """The address of a storage that can be cut off; what passes is not looked at."""

    url: str = ""
    is_cut: bool = False
    refused: int = 0  #: requests and answers that met the cut


@contextmanager
def piped(storage_url: str) -> Iterator[Pipe]:
    """Lay a pipe to the storage."""
    behind, pipe = urlsplit(storage_url), Pipe()

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                if pipe.is_cut:
                    pipe.refused += 1
                    break
                sink.sendall(chunk)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if pipe.is_cut:
                pipe.refused += 1
                return
            with socket.create_connection((behind.hostname, behind.port)) as far:
                back = threading.Thread(target=copy, args=(far, self.request), daemon=True)
                back.start()
                copy(self.request, far)
                back.join()

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    pipe.url = f"http://127.0.0.1:{server.server_address[1]}"
    with answering(server):
        try:
            yield pipe
        finally:
            pipe.is_cut = True
