"""Free ports of the loopback interface, for a stack that shares the machine with others."""

import os
import secrets
import socket
from collections.abc import Collection

#: weed puts gRPC so far above HTTP
GRPC = 10_000
# So neither meets the other, nor the kernel's own choices from 32768 on.
_RANGE = "11000-20999"


def is_free(port: int) -> bool:
    """Say whether the port could be listened on."""
    with socket.socket() as probe:
        # Without this, a port counts as taken for a minute after its server has ended.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free(taken: Collection[int] = ()) -> int:
    """Return a port that is free, as is the one of its gRPC, and not among ``taken``.

    Raises:
        OSError: there is none.
    """
    first, last = map(int, os.environ.get("STOKER_PORTS", _RANGE).split("-"))
    for _ in range(1000):
        port = first + secrets.randbelow(last - first)
        if port not in taken and is_free(port) and is_free(port + GRPC):
            return port
    raise OSError(f"no port between {first} and {last} is free")
