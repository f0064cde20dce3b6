"""The outbox's sink: a Broker that records the events it receives, and at times is down or rejects some."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Sink(ThreadingHTTPServer):
    """An HTTP server that records the events of each job."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Recorder)
        #: sequence numbers by job, in the order of arrival
        self.received: dict[str, list[int]] = {}
        #: whether it is down; the last characters of the IDs of the jobs that it rejects
        self.is_down, self.rejected = False, ""
        self.rejections = 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        """Return the value of ``K_SINK``."""
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore callers that were killed."""


class _Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sink

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        job_id = self.headers["ce-subject"]
        if self.server.is_down:
            self.close_connection = True
            return
        with self.server.lock:
            is_rejected = bool(self.server.rejected) and job_id[-1] in self.server.rejected
            if is_rejected:
                self.server.rejections += 1
            else:
                self.server.received.setdefault(job_id, []).append(int(self.headers["ce-sequence"]))
        self.send_response(503 if is_rejected else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Log nothing."""


@contextmanager
def listening() -> Iterator[Sink]:
    """Run a sink."""
    sink = Sink()
    thread = threading.Thread(target=sink.serve_forever, daemon=True)
    thread.start()
    yield sink
    sink.shutdown()
    sink.server_close()
