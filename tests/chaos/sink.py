"""Where the outbox goes: a Broker that keeps what it is sent, in order, and at times is away or refuses some."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Sink(ThreadingHTTPServer):
    """A real one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Recorder)
        #: by job, the sequence numbers as they came
        self.taken: dict[str, list[int]] = {}
        #: away; and what the ids end in of the jobs that are refused
        self.is_away, self.refused = False, ""
        self.refusals = 0
        self.alone = threading.Lock()

    @property
    def address(self) -> str:
        """Return what ``K_SINK`` is set to."""
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers that were killed."""


class _Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sink

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        job_id = self.headers["ce-subject"]
        if self.server.is_away:
            self.close_connection = True
            return
        with self.server.alone:
            is_refused = bool(self.server.refused) and job_id[-1] in self.server.refused
            if is_refused:
                self.server.refusals += 1
            else:
                self.server.taken.setdefault(job_id, []).append(int(self.headers["ce-sequence"]))
        self.send_response(503 if is_refused else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- its base class says so
        """Say nothing."""


@contextmanager
def listening() -> Iterator[Sink]:
    """Run a sink."""
    sink = Sink()
    thread = threading.Thread(target=sink.serve_forever, daemon=True)
    thread.start()
    yield sink
    sink.shutdown()
    sink.server_close()
