"""A port for a server that is started later, or started again."""

import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

HOST = "127.0.0.1"

# Below what the kernel hands out: nobody's outgoing connection, and no server that takes any port, gets it meanwhile.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A port that no other call returns: neither in this process, nor in another one that runs tests with it."""
    for port in _own_ports():
        with socket.socket() as listening, suppress(OSError):
            listening.bind((HOST, port))
            return port
    raise OSError("no port is left")


@cache
def _own_ports() -> Iterator[int]:
    """The ports of this process among the parallel ones, in an order of its own: other runs may use them, too."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ours = _PORTS[number :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    return iter(random.sample(ours, len(ours)))
