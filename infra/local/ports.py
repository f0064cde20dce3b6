"""Find free ports of the loopback interface."""

import os
import secrets
import socket
from collections.abc import Collection

#: SeaweedFS uses the HTTP port plus this for gRPC
GRPC = 10_000
# The gRPC ports are then below 31000: they overlap neither with these nor with ephemeral ports (32768 on).
_RANGE = "11000-20999"


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port."""
    with socket.socket() as probe:
        # Without this, a port counts as taken for a minute after its server has ended.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free(taken: Collection[int] = ()) -> int:
    """Return a port that is not in ``taken`` and is free, together with its gRPC port.

    Raises:
        OSError: there is none.
    """
    first, last = map(int, os.environ.get("STOKER_PORTS", _RANGE).split("-"))
    for _ in range(1000):
        port = first + secrets.randbelow(last - first)
        if port not in taken and is_free(port) and is_free(port + GRPC):
            return port
    raise OSError(f"no port between {first} and {last} is free")
