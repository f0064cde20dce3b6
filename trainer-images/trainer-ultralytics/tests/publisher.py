"""A real HTTP server in place of the one that publishes weights; it can interrupt, damage and refuse downloads."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Publisher:
    """The published files by name, the responses to come, and the requests so far."""

    files: dict[str, bytes]
    #: of each coming response: the number of bytes after which its connection breaks
    breaks: list[int] = field(default_factory=list)
    #: of each coming request: the status of its response
    statuses: list[int] = field(default_factory=list)
    #: sent in place of the digest of the file
    digest: str | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)  # path and Range
    url: str = ""


@contextmanager
def publishing(**files: bytes) -> Iterator[Publisher]:
    """Serve files; a name's underscore stands for its dot."""
    publisher = Publisher({name.replace("_", "."): content for name, content in files.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("range", "")
            publisher.requests.append((self.path, wanted))
            content = publisher.files.get(self.path.rpartition("/")[2])
            status = publisher.statuses.pop(0) if publisher.statuses else 200 if content is not None else 404
            if status != 200 or content is None:
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()
                return
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            start = int(wanted.removeprefix("bytes=").rstrip("-") or 0)
            if start and self.headers.get("if-range") != etag:
                start = 0
            self.send_response(206 if start else 200)
            self.send_header("etag", etag)
            self.send_header("content-length", str(len(content) - start))
            if start:
                self.send_header("content-range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                digest = publisher.digest or base64.b64encode(hashlib.sha256(content).digest()).decode()
                self.send_header("repr-digest", f"sha-256=:{digest}:")
            self.end_headers()
            sent = content[start:]
            self.wfile.write(sent[: publisher.breaks.pop(0)] if publisher.breaks else sent)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    publisher.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield publisher
    finally:
        server.shutdown()
        server.server_close()
