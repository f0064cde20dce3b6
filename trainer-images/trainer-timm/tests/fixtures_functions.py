"""A real HTTP server in place of Stoker's functions: it records callbacks, and can be unreachable or refuse."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fixtures_storage import Bucket

Response = tuple[int, dict[str, Any]]


@dataclass
class Call:
    """A callback that was received."""

    name: str
    body: dict[str, Any]
    headers: dict[str, str]
    status: int
    at: float  # of the monotonic clock


@dataclass
class Functions:
    """The callbacks so far, and the responses to them."""

    links: Callable[..., dict[str, Any]]
    calls: list[Call] = field(default_factory=list)
    #: returns the response to a callback, or None for the usual one; a status of 0 closes the connection
    respond: Callable[[str, dict[str, Any]], Response | None] = lambda _name, _body: None
    url: str = ""

    def bodies(self, name: str, **having: Any) -> list[dict[str, Any]]:
        """Return the bodies of the callbacks that got 200."""
        bodies = [call.body for call in self.calls if call.name == name and call.status == 200]
        return [body for body in bodies if having.items() <= body.items()]

    def usual(self, name: str, body: dict[str, Any]) -> Response:
        if name == "presign":
            return 200, {**self.links(**body), "expires_at": "2100-01-01T00:00:00Z"}
        return 200, {"state": "RUNNING", "attempt": 1}


def serve(functions: Functions) -> ThreadingHTTPServer:
    """Start on a free port, below a path of its own.

    A trainer that outlives a test run, because the run was killed, calls its port for up to an hour; by then the port
    may be another test's, and the call must not become that test's.
    """
    own = f"/{uuid.uuid4().hex}"

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])), parse_constant=_refuse)
            prefix, name = self.path.split("/v1/jobs/")[0], self.path.rsplit("/", 1)[-1]
            if prefix != own:
                self._answer(404, {"detail": "these are the functions of another test"})
                return
            status, response = functions.respond(name, body) or functions.usual(name, body)
            headers = {header.lower(): value for header, value in self.headers.items()}
            functions.calls.append(Call(name, body, headers, status, time.monotonic()))
            if status == 0:
                self.close_connection = True
                return
            self._answer(status, response)

        def _answer(self, status: int, response: dict[str, Any]) -> None:
            content = json.dumps(response).encode()
            self.send_response(status)
            usual = "application/json" if status == 200 else "application/problem+json"
            self.send_header("content-type", response.get("content-type", usual))
            if "retry-after" in response:
                self.send_header("retry-after", response["retry-after"])
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    functions.url = f"http://127.0.0.1:{server.server_port}{own}"
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
