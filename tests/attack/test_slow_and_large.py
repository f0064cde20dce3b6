"""Slow, endless, inconsistent and malformed requests: other requests are answered, and memory stays bounded."""

import gzip
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import httpx
import pytest

from functions.api.requests import DELIVERY_LIMIT_BYTES
from tests.attack.conftest import Server
from tests.conftest import ROOT, api_headers, eventually, free_ports, is_up

MIB = 1 << 20
TOKEN = "Authorization: " + api_headers()["Authorization"]
JOB = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + TOKEN + "\r\n"
SLOW = {
    "in a header's middle": "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthor",
    "in a body's middle": JOB + "Content-Length: 1000\r\n\r\n{",
    "in a chunk's middle": JOB + "Transfer-Encoding: chunked\r\n\r\n400\r\n{",
    "before the first byte": "",
}
MALFORMED = {
    "no HTTP": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage\r\n\r\n",
    "two lengths": JOB + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "a negative length": JOB + "Content-Length: -1\r\n\r\n{}",
    "a length of words": JOB + "Content-Length: many\r\n\r\n{}",
    "a length in Arabic digits": JOB + "Content-Length: \xd9\xa2\r\n\r\n{}",
    "a length of 5,000 digits": JOB + f"Content-Length: {'9' * 5000}\r\n\r\n{{}}",
    "a length of 10 GB": JOB + "Content-Length: 10000000000\r\n\r\n{}",
    "a chunk of 10 GB": JOB + "Transfer-Encoding: chunked\r\n\r\n2540be400\r\n{}" + "x" * MIB * 4,
    "a chunk of words": JOB + "Transfer-Encoding: chunked\r\n\r\nmany\r\n{}\r\n0\r\n\r\n",
    "another encoding": JOB + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a hidden encoding": JOB + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a NUL in a header": JOB + "X-One: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "a bare line feed": "POST /v1/jobs HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}\r\n\r\n",
    "a header without a name": JOB + ": x\r\nContent-Length: 2\r\n\r\n{}",
    "a folded header": JOB + "X-One: a\r\n b\r\nContent-Length: 2\r\n\r\n[]",
    "an endless request line": "GET /v1/jobs?" + "x" * MIB * 4,
    "an endless header": JOB + "X-One: " + "x" * MIB * 4,
    "a flood of headers": JOB + "".join(f"X-{number}: y\r\n" for number in range(100_000)),
    "HTTP/9": "GET /v1/jobs HTTP/9.9\r\nHost: x\r\n\r\n",
    "a method of 1 MiB": "G" * MIB + " / HTTP/1.1\r\n\r\n",
}


def statuses_of(server: Server, sent: bytes) -> list[int]:
    """Send these bytes; return the statuses of all responses."""
    with closing(socket.create_connection(server.place, timeout=60)) as connection:
        with suppress(OSError):  # the server has closed the connection
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        received = b""
        with suppress(ConnectionError):
            while chunk := connection.recv(1 << 16):
                received += chunk
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]


def is_answered(server: Server) -> bool:
    return httpx.get(f"{server.address}/v1/jobs", headers=api_headers(), timeout=60).status_code == 200


def hold(server: Server, stack: ExitStack, beginning: str, count: int) -> list[socket.socket]:
    """Open ``count`` connections, and send the beginning of a request on each."""
    opened = [stack.enter_context(closing(socket.create_connection(server.place, timeout=60))) for _ in range(count)]
    for connection in opened:
        connection.sendall(beginning.encode("latin-1"))
    return opened


@pytest.mark.parametrize("beginning", SLOW.values(), ids=SLOW)
def test_a_hundred_slow_clients_do_not_block_others(server: Server, beginning: str) -> None:
    with ExitStack() as stack:
        slow = hold(server, stack, beginning, 100)

        assert is_answered(server)
        for connection in slow:
            connection.sendall(b"x")
        assert is_answered(server)


def test_the_oldest_of_too_many_slow_connections_are_closed(server: Server) -> None:
    with ExitStack() as stack:
        oldest = hold(server, stack, SLOW["in a body's middle"], 100)
        for _ in range(6):
            hold(server, stack, SLOW["in a header's middle"], 80)

        assert is_answered(server)
        assert oldest[0].recv(1) == b""


@pytest.fixture
def impatient_server() -> Iterator[Server]:
    """Serve a function with a time limit of two seconds for a request."""
    port = free_ports(1)[0]
    code = "from functions.api import limits, server; limits.REQUEST_SECONDS = 2.0; server.main()"
    variables = {**os.environ, "FUNCTION_TARGET": "uploads", "HOST": "127.0.0.1", "PORT": str(port)}
    with subprocess.Popen([sys.executable, "-c", code], env=variables, cwd=ROOT) as process:
        server = Server(f"http://127.0.0.1:{port}", None, None)  # type: ignore[arg-type]  # only its address is used
        eventually(lambda: is_up(server.address), within_seconds=60)
        yield server
        process.terminate()
        assert process.wait(60) == 0


def test_a_request_sent_byte_by_byte_is_cut_off_in_time(impatient_server: Server) -> None:
    with ExitStack() as stack:
        (slow,) = hold(impatient_server, stack, SLOW["in a header's middle"], 1)
        slow.settimeout(0.2)

        def is_closed() -> bool:
            try:
                slow.sendall(b"x")
                return slow.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        assert eventually(is_closed, within_seconds=60)


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_rejected(server: Server, sent: str) -> None:
    before = server.memory_bytes
    statuses = statuses_of(server, sent.encode("latin-1"))

    assert set(statuses) <= {400, 401, 413, 422, 431, 501}
    assert server.memory_bytes - before < 32 * MIB
    assert is_answered(server)


def test_a_body_without_an_end_is_cut_off(server: Server) -> None:
    before, sent_bytes = server.memory_bytes, 0
    with closing(socket.create_connection(server.place, timeout=60)) as connection:
        connection.sendall((JOB + "Transfer-Encoding: chunked\r\n\r\n").encode())
        with suppress(ConnectionError):
            while sent_bytes < 256 * MIB:
                connection.sendall(b"10000\r\n" + b"x" * (1 << 16) + b"\r\n")
                sent_bytes += 1 << 16

    assert sent_bytes < 64 * MIB
    assert server.memory_bytes - before < 32 * MIB


def test_many_large_bodies_at_once_stay_in_files(server: Server) -> None:
    before = server.memory_bytes
    with ExitStack() as stack:
        for connection in hold(server, stack, JOB + f"Content-Length: {DELIVERY_LIMIT_BYTES + MIB}\r\n\r\n", 60):
            connection.sendall(b"x" * MIB)

        assert is_answered(server)
        assert server.memory_bytes - before < 40 * MIB


def test_a_compressed_body_is_not_unpacked(server: Server) -> None:
    bomb = gzip.compress(b'{"framework": "' + b" " * 40 * MIB + b'"}')
    before = server.memory_bytes
    headers = api_headers() | {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = httpx.post(f"{server.address}/v1/jobs", content=bomb, headers=headers, timeout=60)

    assert answer.status_code == 422
    assert server.memory_bytes - before < 20 * MIB


@pytest.mark.parametrize(("size_bytes", "status"), [(64 * 1024 + 1, 413), (MIB + 1, 413), (8 * MIB, 413)])
def test_a_body_over_the_limit_is_413(server: Server, size_bytes: int, status: int) -> None:
    sent = f"{JOB}Content-Length: {size_bytes}\r\nConnection: close\r\n\r\n".encode() + b" " * size_bytes

    assert set(statuses_of(server, sent)) <= {status}
    assert is_answered(server)


def test_a_client_that_disconnects_in_the_middle_does_not_affect_others(server: Server) -> None:
    for _ in range(50):
        with closing(socket.create_connection(server.place)) as connection:
            connection.sendall((JOB + "Content-Length: 1000\r\n\r\n{").encode())

    assert is_answered(server)


def test_garbage_after_a_request_is_neither_body_nor_request(server: Server) -> None:
    request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

    assert statuses_of(server, (request * 3).encode()) == [200, 200, 200]
    # uvicorn rejects the garbage as soon as it reads it, before or after the response to the request before.
    assert statuses_of(server, (request + "garbage\r\n\r\n" + request).encode()) in ([200], [400], [200, 400])
    assert statuses_of(server, (JOB + "Content-Length: 2\r\n\r\n{}garbage\r\n\r\n").encode()) in (
        [422],
        [400],
        [422, 400],
    )


def test_contradicting_length_and_chunks_smuggle_in_no_request(server: Server) -> None:
    hidden = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    both = f"{JOB}Content-Length: {4 + len(hidden) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"

    assert statuses_of(server, both.encode()) == [400]
    assert statuses_of(server, both.replace("HTTP/1.1\r\nHost", "HTTP/1.0\r\nHost", 1).encode()) == [400]
