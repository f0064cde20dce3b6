"""serve: one function, behind a server that spends a thread on a request only when all of it is there.

Not functions-framework's own command: its gunicorn reads a request in the thread that answers it, so that as many slow
senders as there are threads keep everybody out, and it takes a request line of any length. The function is loaded by
the framework here as well.
"""

import logging
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import functions_framework
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import create_server

#: a whole request must come within this time; so long, too, may a connection be idle
REQUEST_SECONDS = 30.0
#: over this, the oldest connections that have no request at work are closed; below the 1024 files of most systems
CONNECTION_LIMIT = 500
#: what a handler may ask for (web.DELIVERY_LIMIT_BYTES), and somewhat more, which it refuses in its own words
BODY_LIMIT_BYTES = 2 * 1024 * 1024
HEADER_LIMIT_BYTES = 32 * 1024
#: bodies over this wait in a file
MEMORY_LIMIT_BYTES = 128 * 1024
#: after SIGTERM, what is at work may end
GRACE_SECONDS = 25.0
_LOOK_SECONDS = 1.0


class _Request(HTTPRequestParser):  # type: ignore[misc]  # its author gave no types
    """A request with one length only: a proxy that believes the other would take its body for the next request."""

    def parse_header(self, header_plus: bytes) -> None:
        """Read the head; see the base class. Raises: ParsingError."""
        super().parse_header(header_plus)
        if "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers):
            raise ParsingError("Transfer-Encoding is for HTTP/1.1, and without Content-Length")  # RFC 9112 §6.1, §6.3


class _Channel(HTTPChannel):  # type: ignore[misc]  # as above
    """A connection that knows since when it has had a part of a request."""

    parser_class = _Request
    began_at = float("inf")

    def received(self, data: bytes) -> bool:
        """Take what has come; see the base class."""
        is_taken: bool = super().received(data)
        self.began_at = min(self.began_at, time.monotonic()) if self.request is not None else float("inf")
        return is_taken


def main() -> None:
    """Serve the function FUNCTION_TARGET at HOST and PORT, by THREADS threads, until SIGTERM."""
    target = os.environ["FUNCTION_TARGET"]
    source = Path(__file__).with_name(f"{target}.py")
    app = functions_framework.create_app(target, str(source), "http")  # type: ignore[no-untyped-call]  # as above
    _log_as_we_do()
    sockets: dict[int, Any] = {}
    server = create_server(
        app,
        sockets,
        host=os.environ.get("HOST", "0.0.0.0"),  # noqa: S104 -- a container's only address
        port=int(os.environ.get("PORT", "8080")),
        threads=int(os.environ.get("THREADS", 4 * (os.cpu_count() or 1))),
        ident=None,
        backlog=1024,
        connection_limit=2 * CONNECTION_LIMIT,
        channel_timeout=REQUEST_SECONDS,
        cleanup_interval=5,
        asyncore_use_poll=True,
        max_request_header_size=HEADER_LIMIT_BYTES,
        max_request_body_size=BODY_LIMIT_BYTES,
        inbuf_overflow=MEMORY_LIMIT_BYTES,
    )
    server.channel_class = _Channel
    _run(server, sockets)


def _run(server: Any, sockets: Mapping[int, Any]) -> None:
    stop_at = float("inf")

    def stop(_number: int, _frame: object) -> None:
        nonlocal stop_at
        stop_at = time.monotonic() + GRACE_SECONDS
        server.pull_trigger()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    look_at = 0.0
    while time.monotonic() < stop_at:
        wasyncore.loop(_LOOK_SECONDS, use_poll=True, map=sockets, count=1)
        channels = list(server.active_channels.values())
        if stop_at != float("inf"):
            if server.accepting:  # what knocks now is refused, and comes again to another replica
                server.accepting = False
                wasyncore.dispatcher.close(server)
            if not any(channel.requests or channel.total_outbufs_len for channel in channels):
                return
        if len(channels) > CONNECTION_LIMIT or time.monotonic() >= look_at:
            look_at = time.monotonic() + _LOOK_SECONDS
            _close_slow(channels)


def _close_slow(channels: list[_Channel]) -> None:
    idle = sorted((one for one in channels if not one.requests), key=lambda channel: channel.creation_time)
    over = max(len(channels) - CONNECTION_LIMIT, 0)
    too_old = time.monotonic() - REQUEST_SECONDS
    for number, channel in enumerate(idle):
        if number < over or channel.began_at < too_old:
            channel.will_close = True


def _log_as_we_do() -> None:
    logger = logging.getLogger("waitress")
    logger.handlers, logger.propagate = logging.getLogger("stoker").handlers, False
    logger.setLevel(logging.ERROR)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
