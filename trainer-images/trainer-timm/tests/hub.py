"""A real HTTP server in place of the model hub, with the part of its API that serves files."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """The files by repository and name, the responses to come, and the requests so far."""

    files: dict[str, bytes]
    #: of each coming GET: the number of bytes after which its connection breaks
    breaks: list[int] = field(default_factory=list)
    #: of each coming request: the status of its response
    statuses: list[int] = field(default_factory=list)
    #: sent in place of the SHA-256 of a file
    digest: str | None = None
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path and Range
    url: str = ""


@contextmanager
def hub_with(files: dict[str, bytes]) -> Iterator[Hub]:
    """Serve files such as ``timm/resnet18.a1_in1k/model.safetensors``."""
    hub = Hub(files)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.respond()

        def do_GET(self) -> None:
            self.respond()

        def respond(self) -> None:
            if "/resolve/" not in self.path:  # its client asks for more than files on some machines
                self.send_error(404)
                return
            wanted = self.headers.get("range", "")
            hub.requests.append((self.command, self.path, wanted))
            content = hub.files.get(self.path.strip("/").replace("/resolve/main/", "/"))
            status = hub.statuses.pop(0) if hub.statuses else 200 if content is not None else 404
            if status != 200 or content is None:
                self.send_response(status)
                self.send_header("x-error-code", "EntryNotFound" if status == 404 else "")
                self.send_header("content-length", "0")
                self.end_headers()
                return
            start = int(wanted.removeprefix("bytes=").split("-")[0] or 0)
            self.send_response(206 if start else 200)
            self.send_header("x-repo-commit", "0" * 40)
            self.send_header("etag", f'"{hub.digest or hashlib.sha256(content).hexdigest()}"')
            self.send_header("content-length", str(len(content) - start))
            if start:
                self.send_header("content-range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if self.command == "GET":
                sent = content[start:]
                self.wfile.write(sent[: hub.breaks.pop(0)] if hub.breaks else sent)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
