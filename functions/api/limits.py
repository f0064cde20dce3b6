"""Limits for clients: the size of a request's head, the time to send a request, the number of connections.

uvicorn has no options for these. Without limits, one client could exhaust the connections or the memory of a replica
on a laptop or behind a plain load balancer. (In a cluster, Knative's queue-proxy and activator limit clients first.)
Only public interfaces are used: uvicorn's ``loop`` option names ``Loop``; it puts a ``Connection`` between
each transport and uvicorn's protocol, both of which are asyncio's. The ASGI middleware ``Limits`` notifies a connection
of the start and end of its requests.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar

import uvloop
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: the time to send a complete request, and the time that a connection may be idle
REQUEST_SECONDS = 30.0
#: above it, the connection that has waited longest for its client is closed; most systems allow 1024 open files
CONNECTION_LIMIT = 500
HEAD_LIMIT_BYTES = 32 * 1024
#: the most bytes before the end of a head is detected: the event loop reads up to 256 KiB at once
_READ_AHEAD_BYTES = 512 * 1024


class Connection(asyncio.Protocol):
    """A connection that records whether it waits for its client, in the order in which connections began to wait."""

    #: all connections of the process; those that wait for their client, the longest-waiting first
    every: ClassVar[set["Connection"]] = set()
    waiting: ClassVar[dict["Connection", None]] = {}

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = self._requests = 0
        self._is_in_body = self._is_idle = self._has_eof = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # the server is a stream's
        """Wait for a request; above the limit, close the connection that has waited longest."""
        self._transport = transport
        self.every.add(self)
        self._wait()
        self._protocol.connection_made(transport)
        if len(self.every) > CONNECTION_LIMIT:
            next(iter(self.waiting)).close()

    def data_received(self, data: bytes) -> None:
        """Pass data on; close the connection if a head does not end."""
        if self._is_idle:
            self._is_idle = False
            self._wait()
        if not self._is_in_body:
            self._head_bytes += len(data)
            if self._head_bytes > _READ_AHEAD_BYTES:
                self.close()
                return
        _connection.set(self)
        self._protocol.data_received(data)

    def eof_received(self) -> bool:
        """Keep the connection open for responses: the client may still read."""
        self._has_eof = True
        self._close_after_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Remove the connection from the lists."""
        self.every.discard(self)
        self._stop_waiting()
        self._protocol.connection_lost(error)

    def pause_writing(self) -> None:
        """Pass the call on."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass the call on."""
        self._protocol.resume_writing()

    def request_begins(self) -> None:
        """Note that a head is complete, so a body may follow."""
        self._is_in_body, self._is_idle, self._head_bytes = True, False, 0
        self._requests += 1

    def request_is_complete(self) -> None:
        """Note that the client has sent the complete request."""
        self._is_in_body = False
        self._stop_waiting()

    def response_ends(self) -> None:
        """Wait for the next request."""
        self._is_in_body, self._is_idle = False, True
        self._wait()

    def response_has_ended(self) -> None:
        """Close the connection if the client has ended its side, unless another request has already arrived."""
        if self._has_eof:
            self._close_after_eof()

    def close(self) -> None:
        """Close at once, discarding unsent data."""
        self._transport.abort()

    def _wait(self) -> None:
        self._stop_waiting()
        self.waiting[self] = None
        self._timer = asyncio.get_running_loop().call_later(REQUEST_SECONDS, self.close)

    def _stop_waiting(self) -> None:
        self.waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()

    def _close_after_eof(self) -> None:
        """Close unless a request is in progress, or starts in a task that is already scheduled."""
        begun = self._requests

        def close() -> None:
            if self._requests > begun:
                self._close_after_eof()
            elif self in self.waiting:
                self._transport.close()

        asyncio.get_running_loop().call_soon(close)


_connection: ContextVar[Connection | None] = ContextVar("connection", default=None)


class Loop(uvloop.Loop):
    """uvloop's event loop; connections of its servers are limited."""

    async def create_server(  # type: ignore[override]  # the other parameters are passed on unchanged
        self, protocol_factory: Callable[[], asyncio.Protocol], *args: Any, **options: Any
    ) -> asyncio.AbstractServer:
        """Create a server whose connections are limited."""
        return await super().create_server(lambda: Connection(protocol_factory()), *args, **options)


class Limits:
    """ASGI middleware that refuses ambiguous or long heads, and notifies connections when requests start and end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse its head."""
        connection = _connection.get() if scope["type"] == "http" else None
        if connection is None:
            await self._app(scope, receive, send)
            return

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                connection.request_is_complete()
            return message

        async def sending(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if is_last:
                connection.response_ends()
            await send(message)
            if is_last:
                connection.response_has_ended()

        connection.request_begins()
        refusal = _refusal_of_head(scope)
        await (refusal or self._app)(scope, receiving, sending)


def _refusal_of_head(scope: Scope) -> PlainTextResponse | None:
    head_bytes = len(scope["raw_path"]) + len(scope["query_string"])
    head_bytes += sum(len(name) + len(value) for name, value in scope["headers"])
    if head_bytes > HEAD_LIMIT_BYTES:
        return PlainTextResponse("The head of the request is too long.", 431, {"connection": "close"})
    names = {name for name, _ in scope["headers"]}
    # RFC 9112, 6.1 and 6.3: two servers could disagree on where such a request ends.
    if b"transfer-encoding" in names and (b"content-length" in names or scope["http_version"] == "1.0"):
        message = "Transfer-Encoding is for HTTP/1.1, and without Content-Length."
        return PlainTextResponse(message, 400, {"connection": "close"})
    return None
