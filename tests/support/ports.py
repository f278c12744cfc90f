"""A port for a server that is started later, or started again."""

import random
import socket
from contextlib import suppress

HOST = "127.0.0.1"

# Below what the kernel hands out: nobody's outgoing connection, and no server that takes any port, gets it meanwhile.
_PORTS = range(20_000, 32_000)
_PORTS_TRIED = 20


def free_port() -> int:
    for port in random.sample(_PORTS, _PORTS_TRIED):
        with socket.socket() as listening, suppress(OSError):
            listening.bind((HOST, port))
            return port
    raise OSError(f"{_PORTS_TRIED} ports tried, and none is free")
