"""A proxy between a trainer and the real functions: it records every call and injects faults."""

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
_POLL_SECONDS = 0.02
_PROBLEM = "application/problem+json"


class Fault(NamedTuple):
    """A fault that is injected into one call."""

    #: away (the request is dropped) | lost (the response is dropped) | status | gateway (a status that is not from
    #: the functions) | slow | twice | held (delayed for as long as this is the fault)
    kind: str
    status: int = 503
    seconds: float = 0.0


class Call(NamedTuple):
    """A request of the trainer, and the response that it received (None: no response)."""

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
class Proxy:
    """The proxy: its address and the recorded calls. ``fault`` is called for each call, repeatedly while it is held."""

    fault: "Faults"
    url: str = ""
    calls: list[Call] = field(default_factory=list)

    def named(self, *names: str) -> list[Call]:
        """Return the calls of these names, in order."""
        return [call for call in self.calls if call.name in names]

    @property
    def beats(self) -> list[Call]:
        """The heartbeats with an epoch."""
        return [call for call in self.named("heartbeat") if call.body and call.body.get("epoch") is not None]


#: returns the fault for a call, by its name and the number of earlier calls of that name
Faults = Callable[[Proxy, str, int], Fault | None]


def no_faults(_proxy: Proxy, _name: str, _before: int) -> Fault | None:
    """Inject no faults."""
    return None


@contextmanager
def proxy_running(functions_url: str, fault: Faults) -> Iterator[Proxy]:  # noqa: C901 -- the handler uses the proxy's state
    """Run a proxy to the functions."""
    proxy, upstream, lock = Proxy(fault), urlsplit(functions_url), threading.Lock()
    seen: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with suppress(ConnectionError):  # the trainer was killed
                super().handle()

        def do_POST(self) -> None:
            at, name = time.monotonic(), self.path.rpartition("/")[2]
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = self._fault(name)
            status, answer, content_type = self._through(body, fault)
            headers = {key.lower(): value for key, value in self.headers.items()}
            with lock:
                now = time.monotonic()
                call = Call(at, now, name, _json(body), len(body), headers, status, _json(answer) or {}, fault)
                proxy.calls.append(call)
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
                    fault = proxy.fault(proxy, name, before)
                if fault is None or fault.kind != "held":
                    return fault
                time.sleep(_POLL_SECONDS)

        def _through(self, body: bytes, fault: Fault | None) -> tuple[int | None, bytes, str]:
            kind = fault.kind if fault else ""
            if fault and kind in {"status", "gateway"}:
                problem = json.dumps({"title": "injected fault", "status": fault.status}).encode()
                return fault.status, problem, _PROBLEM if kind == "status" else "application/json"
            if kind == "away":
                return None, b"", ""
            for _ in range(1 if kind == "twice" else 0):
                _forward(upstream.netloc, self.path, body, dict(self.headers.items()))
            status, answer, content_type = _forward(upstream.netloc, self.path, body, dict(self.headers.items()))
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

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 -- the name in the base class
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    with answering(server):
        try:
            yield proxy
        finally:
            proxy.fault = lambda _proxy, _name, _before: Fault(
                "away"
            )  # the calls that are still held are of a dead process


def _forward(address: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, str]:
    forwarded = {key: value for key, value in headers.items() if key.lower() not in {"host", "connection"}}
    with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        connection.request("POST", path, body, forwarded)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers.get("content-type", "")


def _json(content: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


@dataclass
class Pipe:
    """A TCP proxy to the storage, which can be cut off."""

    url: str = ""
    is_cut: bool = False
    refused: int = 0  #: connections that failed because of the cut


@contextmanager
def pipe_running(storage_url: str) -> Iterator[Pipe]:
    """Run a TCP proxy to the storage."""
    upstream, pipe = urlsplit(storage_url), Pipe()

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
            with socket.create_connection((upstream.hostname, upstream.port)) as far:
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
