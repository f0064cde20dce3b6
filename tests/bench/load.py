"""Load: repeats requests over persistent connections, one thread for each."""

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from urllib.parse import urlsplit

#: concurrent connections, one for each simulated trainer; equals a replica's threads
CONNECTIONS = 8


def per_second(calls: list[Callable[[], None]], times: int) -> float:
    """Return the calls per second when each is repeated ``times`` times, all concurrently."""
    gate = threading.Barrier(len(calls) + 1)
    failures: list[BaseException] = []

    def repeat(call: Callable[[], None]) -> None:
        try:
            call()  # opens its connection, and lets the server prepare its statements
            gate.wait()
            for _ in range(times):
                call()
        except BaseException as error:  # noqa: BLE001 -- raised by the thread that waits
            failures.append(error)
            gate.abort()

    threads = [threading.Thread(target=repeat, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        gate.wait()
    except threading.BrokenBarrierError:
        raise failures[0] from None
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if failures:
        raise failures[0]
    return len(calls) * times / took


def posts_per_second(address: str, requests: Sequence[tuple[str, object, Mapping[str, str]]], times: int) -> float:
    """Return the 2xx responses per second to these requests (path, body, headers)."""
    # New connections each time: a server closes those that are idle for as long as a turn.
    place = urlsplit(address)
    with ExitStack() as stack:
        calls: list[Callable[[], None]] = []
        for path, body, headers in requests:
            content = json.dumps(body).encode()
            lines = [f"POST {path} HTTP/1.1", f"Host: {place.netloc}", f"Content-Length: {len(content)}"]
            lines += [f"{name}: {value}" for name, value in {"Content-Type": "application/json", **headers}.items()]
            connection = stack.enter_context(socket.create_connection((place.hostname, place.port), timeout=60))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            calls.append(partial(_post, connection, "\r\n".join([*lines, "", ""]).encode() + content))
        return per_second(calls, times)


def _post(connection: socket.socket, request: bytes) -> None:
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _received(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(maxsplit=2)[1].startswith(b"2"), answer[:500]
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _received(connection)


def _received(connection: socket.socket) -> bytes:
    some = connection.recv(65536)
    assert some, "the server hung up"
    return some
