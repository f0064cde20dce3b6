"""A real HTTP server in place of Stoker's functions: it records callbacks, and can be away or refuse."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fixtures_storage import Bucket

Answer = tuple[int, dict[str, Any]]


@dataclass
class Heard:
    """One callback."""

    call: str
    body: dict[str, Any]
    headers: dict[str, str]
    status: int
    at: float  # of the monotonic clock


@dataclass
class Functions:
    """What was heard, and how to answer."""

    links: Callable[..., dict[str, Any]]
    heard: list[Heard] = field(default_factory=list)
    #: returns how to answer a call, or None for the usual; a status of 0 hangs up
    answer: Callable[[str, dict[str, Any]], Answer | None] = lambda _call, _body: None
    url: str = ""

    def bodies(self, call: str, **having: Any) -> list[dict[str, Any]]:
        """Return the bodies of what was answered with 200."""
        bodies = [heard.body for heard in self.heard if heard.call == call and heard.status == 200]
        return [body for body in bodies if having.items() <= body.items()]

    def usual(self, call: str, body: dict[str, Any]) -> Answer:
        if call == "presign":
            return 200, {**self.links(**body), "expires_at": "2100-01-01T00:00:00Z"}
        return 200, {"state": "RUNNING", "attempt": 1}


def serve(functions: Functions) -> ThreadingHTTPServer:
    """Start on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])), parse_constant=_refuse)
            call = self.path.rsplit("/", 1)[-1]
            status, said = functions.answer(call, body) or functions.usual(call, body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            functions.heard.append(Heard(call, body, headers, status, time.monotonic()))
            if status == 0:
                self.close_connection = True
                return
            content = json.dumps(said).encode()
            self.send_response(status)
            usual = "application/json" if status == 200 else "application/problem+json"
            self.send_header("content-type", said.get("content-type", usual))
            if "retry-after" in said:
                self.send_header("retry-after", said["retry-after"])
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    functions.url = f"http://127.0.0.1:{server.server_port}"
    return server


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


@pytest.fixture
def functions(bucket: Bucket) -> Iterator[Functions]:
    """The functions' side of the contract."""
    functions = Functions(bucket.links)
    server = serve(functions)
    yield functions
    server.shutdown()
    server.server_close()
