"""A proxy between trainers and functions: distributes calls over replicas, and loses, duplicates and delays some.

``python -m tests.chaos.proxy SEED PORT FAULTS_LOG BACKEND_PORT…``. What happens to the n-th call depends on seed and n.
"""

import asyncio
import itertools
import random
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

ACTIONS = {
    "call forwarded": 860,
    "call lost": 30,
    "response lost": 30,
    "call duplicated": 30,
    "call delayed": 30,
    "call overtaken by later ones": 20,
}
_SLOWEST_SECONDS = 1.0
_LATEST_SECONDS = 8.0
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Forwards each connection's request to one of the backends."""

    def __init__(self, seed: str, log: Path, backends: list[int]) -> None:
        self.seed, self.log, self.backends = seed, log, backends
        self.calls = itertools.count()
        self.next_backend = itertools.count()
        self.background: set[asyncio.Task[Any]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a connection's request in the background."""
        self._later(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            response = await self._answer(await _message(reader))
            writer.write(response)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):  # the caller was killed
            pass
        finally:
            writer.close()

    async def _answer(self, request: bytes) -> bytes:
        dice = random.Random(f"{self.seed}:proxy:{next(self.calls)}")
        action = dice.choices(list(ACTIONS), list(ACTIONS.values()))[0]
        with self.log.open("a") as log:
            log.write(f"{action}\n")
        if action == "call lost":
            return b""
        if action == "call overtaken by later ones":
            self._later(self._after(dice.uniform(0, _LATEST_SECONDS), request))
            return b""
        if action == "call duplicated":
            self._later(self._forward(request))
        if action == "call delayed":
            await asyncio.sleep(dice.uniform(0, _SLOWEST_SECONDS))
        response = await self._forward(request)
        return b"" if action == "response lost" else response

    async def _after(self, seconds: float, request: bytes) -> None:
        await asyncio.sleep(seconds)
        await self._forward(request)

    def _later(self, call: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(call)
        self.background.add(task)  # the event loop keeps only weak references
        task.add_done_callback(self.background.discard)

    async def _forward(self, request: bytes) -> bytes:
        first = next(self.next_backend)
        for backend in range(len(self.backends)):
            port = self.backends[(first + backend) % len(self.backends)]
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:  # this replica is down: try the next one
                continue
            try:
                writer.write(request)
                await writer.drain()
                return await reader.read(-1)
            except OSError:  # the replica was killed during the call
                return b""
            finally:
                writer.close()
        return _UNAVAILABLE


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Read one request; return it with `Connection: close`."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].split(b"\r\n")
    fields = [line.split(b":", 1) for line in lines]
    length = next((int(value) for name, value in fields if name.lower() == b"content-length"), 0)
    forwarded = [b":".join(field) for field in fields if field[0].lower() not in {b"connection", b"expect"}]
    body = await reader.readexactly(length)
    return b"\r\n".join([first, *forwarded, b"Connection: close", b"", body])


async def _main(seed: str, port: int, log: Path, backends: list[int]) -> None:
    proxy = Proxy(seed, log, backends)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", port, backlog=1000)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), [int(port) for port in sys.argv[4:]]))
