"""serve: one function, behind a server that spends a thread on a request only when all of it is there.

The image's server, and the laptop's. Not functions-framework's own: its gunicorn reads a request in the thread that
answers it, so that as many slow senders as there are threads keep everybody out, and it takes a request line of any
length. Each function is a target of the framework all the same.
"""

import asyncio
import gc
import logging
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import IO, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from functions import web

#: a whole request must come within this time; so long, too, may a connection be idle
REQUEST_SECONDS = 30.0
#: over this, the connection that has waited longest for its sender is closed; below the 1024 files of most systems
CONNECTION_LIMIT = 500
HEADER_LIMIT_BYTES = 32 * 1024
#: what of a body is read, so that its sender gets to hear that it is too large
READ_LIMIT_BYTES = 16 * 1024 * 1024
#: bodies over this wait in a file
MEMORY_LIMIT_BYTES = 128 * 1024
#: after SIGTERM, what is at work may end
GRACE_SECONDS = 25

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class _Connection(HttpToolsProtocol):
    """A connection that knows since when it waits for its sender, and takes heads of a bounded size only."""

    waits_since = math.inf
    is_in_head = True
    head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class
        """Begin; over the limit, another goes."""
        super().connection_made(transport)
        self.waits_since = time.monotonic()
        if len(self.connections) > CONNECTION_LIMIT:
            min(_connections(self.server_state), key=lambda one: one.waits_since).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what has come; a head of which the end has not is counted here, another by its parts."""
        was_in_head = self.is_in_head
        super().data_received(data)
        if was_in_head and self.is_in_head:
            self.head_bytes += len(data)
            if self.head_bytes > HEADER_LIMIT_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")

    def eof_received(self) -> bool:  # type: ignore[override]  # as the base class
        """Answer what is here, all the same: nothing more will come."""
        return self._ends_after_its_answer()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; not before what came before it is answered, for which it would be taken."""
        if not self._ends_after_its_answer():
            super().send_400_response(msg)

    def _ends_after_its_answer(self) -> bool:
        """Have the connection closed after the answer that is at work; say whether there is one."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.waits_since, self.is_in_head, self.head_bytes = time.monotonic(), True, 0

    def on_headers_complete(self) -> None:
        """Take a head.

        Raises:
            ValueError: it is too long, or says what two servers could read in two ways; the parser refuses it then.
        """
        self.is_in_head = False
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEADER_LIMIT_BYTES:
            raise ValueError("the head is too long")
        names = [name for name, _ in self.headers]
        if b"transfer-encoding" in names and (b"content-length" in names or self.parser.get_http_version() == "1.0"):
            raise ValueError("Transfer-Encoding is for HTTP/1.1, and without Content-Length")  # RFC 9112 §6.1, §6.3
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Have a request whole: the turn is ours."""
        super().on_message_complete()
        self.waits_since = math.inf

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it is here."""
        self.waits_since = math.inf if self.pipeline else time.monotonic()
        super().on_response_complete()


class _Server(uvicorn.Server):
    """A server that closes the connections whose senders take too long, each second."""

    async def on_tick(self, counter: int) -> bool:
        """Look after the connections; called ten times a second."""
        if counter % 10 == 0:
            too_old = time.monotonic() - REQUEST_SECONDS
            for connection in _connections(self.server_state):
                if connection.waits_since < too_old:
                    connection.transport.abort()
        return await super().on_tick(counter)


def _connections(state: uvicorn.server.ServerState) -> list[_Connection]:
    return [one for one in state.connections if isinstance(one, _Connection)]


def main() -> None:
    """Serve the function FUNCTION_TARGET at HOST and PORT, by THREADS threads, until SIGTERM."""
    # The server, once it is through, raises the signal that ended it again.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    endpoint = _loaded(os.environ["FUNCTION_TARGET"])
    logging.getLogger("uvicorn").handlers = logging.getLogger("stoker").handlers
    config = uvicorn.Config(
        _app(endpoint, threads=int(os.environ.get("THREADS", 4 * (os.cpu_count() or 1)))),
        host=os.environ.get("HOST", "0.0.0.0"),  # noqa: S104 -- a container's only address
        port=int(os.environ.get("PORT", "8080")),
        http=_Connection,
        loop="uvloop",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=1024,
        timeout_keep_alive=math.ceil(REQUEST_SECONDS),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    try:
        _Server(config).run()
    except SystemExit as end:
        os._exit(int(end.code or 0))  # a thread that is still at work had its time, and would be waited for without end


def _loaded(target: str) -> web.Endpoint:
    # What is imported stays: looking through it for garbage, again and again, is a tenth of a cold start.
    gc.disable()
    endpoint: web.Endpoint = getattr(import_module(f"functions.{target}"), target)
    gc.freeze()
    gc.enable()
    return endpoint


def _app(endpoint: web.Endpoint, *, threads: int) -> App:
    pool = ThreadPoolExecutor(threads)

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        with tempfile.SpooledTemporaryFile(MEMORY_LIMIT_BYTES) as content:
            is_whole = await _receive(receive, content)
            if is_whole is None:
                return
            answer = await asyncio.get_running_loop().run_in_executor(pool, _answer, endpoint, scope, content)
        headers = {**answer.headers, "content-length": str(len(answer.content))}
        if not is_whole:
            headers["connection"] = "close"
        pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
        await send({"type": "http.response.body", "body": answer.content})

    return app


async def _receive(receive: Receive, content: IO[bytes]) -> bool | None:
    """Keep a request's body, as far as it may go; say whether that is all of it, or None where its sender has left."""
    read_bytes, has_more = 0, True
    while has_more and read_bytes < READ_LIMIT_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part, has_more = message["body"], message["more_body"]
        content.write(part[: max(web.DELIVERY_LIMIT_BYTES + 1 - read_bytes, 0)])
        read_bytes += len(part)
    return not has_more


def _answer(endpoint: web.Endpoint, scope: MutableMapping[str, Any], content: IO[bytes]) -> web.Response:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    content.seek(0)
    query = scope["query_string"].decode("latin-1")
    return endpoint(web.Request(scope["method"], scope["path"], query, headers, content.read()))


if __name__ == "__main__":
    main()
