"""The interface of the HTTP server: the parts of RSGI 1.x that are used, and its sockets, which it does not expose.

The server cannot close a connection, or report how much of a response its client has read. The operating system can, so
this module finds the sockets among the open files of the process.
"""

import os
import socket
import stat
import struct
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple, Protocol

from granian._granian import RSGIProtocolClosed

ClientGone = RSGIProtocolClosed

_UNACKNOWLEDGED_MS: Final = 30_000

_TCP_NOTSENT_LOWAT: Final = 25
"""Linux. The `socket` module has it since Python 3.12."""

_UNSENT_BYTES: Final = 131_072
_RESET: Final = struct.pack("ii", 1, 0)

# The offset of `tcpi_bytes_acked` in `struct tcp_info` of Linux, which only ever grows at its end.
_ACKNOWLEDGED: Final = struct.Struct("@120xQ")


class HttpHeaders(Protocol):
    """Request headers. Names are lower case. Values that are not printable ASCII are left out."""

    def __contains__(self, name: str) -> bool:
        """Whether a header was sent, even if its values are left out."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return the first value of a name."""

    def get_all(self, name: str) -> list[str]: ...

    def keys(self) -> list[str]:
        """Return each name once."""

    def values(self) -> list[str]:
        """Return one value for each line."""


class HttpScope(Protocol):
    """A request. `path` is percent-decoded: what was encoded cannot be told from what was not."""

    http_version: str
    client: str
    server: str
    scheme: str
    method: str
    path: str
    query_string: str
    authority: str | None
    headers: HttpHeaders


class HttpProtocol(Protocol):
    """Reads the body of a request, and sends its response."""

    async def __call__(self) -> bytes:
        """Return the whole body."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def client_disconnect(self) -> None:
        """Return when the client has disconnected, or a streamed response has been passed on whole."""

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None: ...

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> "ResponseStream": ...

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...


class ResponseStream(Protocol):
    """Sends a response in pieces. Raises ClientGone if a piece cannot be sent any more."""

    async def send_bytes(self, data: bytes) -> None: ...


class Application(Protocol):
    """Called by the HTTP server for each request."""

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None: ...


class ClientConnection(NamedTuple):
    port: int
    """The port of the server."""
    client: str
    """Address and port of the client, as in a request's scope."""


def connection_of(scope: HttpScope) -> ClientConnection:
    return ClientConnection(int(scope.server.rpartition(":")[2]), scope.client)


def descriptors() -> list[int]:
    """Return the numbers of this process's open files. Empty where the system does not list them."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return [int(name) for name in os.listdir(folder)]  # noqa: PTH208 - there may be 10,000
    return []


def inode_of(descriptor: int) -> int | None:
    """Return what identifies a socket while it is open; None if it is not a socket."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_ino if stat.S_ISSOCK(found.st_mode) else None


@contextmanager
def held(descriptor: int) -> Iterator[socket.socket | None]:
    """Keep a TCP socket open for the block, even if the server closes it. Yields None if there is no such socket."""
    copy = None
    if inode_of(descriptor) is not None:
        with suppress(OSError):
            copy = os.dup(descriptor)
    # Another thread may have closed the socket and opened a file in its place. Its copy must stay open: if it is that
    # of a database, closing it would release the database's locks.
    if copy is None or inode_of(copy) is None:
        yield None
        return
    with socket.socket(fileno=copy) as ours:
        is_tcp = ours.family in {socket.AF_INET, socket.AF_INET6} and ours.type == socket.SOCK_STREAM
        yield ours if is_tcp else None


def peer_of(found: socket.socket) -> ClientConnection | None:
    """Return the connection of a TCP socket; None if it is not connected."""
    try:
        port, (host, client_port, *rest) = found.getsockname()[1], found.getpeername()
    except OSError:
        return None
    if found.family == socket.AF_INET:
        return ClientConnection(port, f"{host}:{client_port}")
    # A link-local address has the number of its interface, where Python shows the name.
    zone = f"%{rest[1]}" if rest[1] else ""
    return ClientConnection(port, f"[{host.partition('%')[0]}{zone}]:{client_port}")


def close_connections(connections: Collection[ClientConnection]) -> None:
    """Close connections at once, with all requests in flight. Connections that are closed already are left out."""
    left = set(connections)
    for descriptor in descriptors():
        if not left:
            break
        with held(descriptor) as found:
            if found is not None and (connection := peer_of(found)) in left:
                reset(found)
                left.remove(connection)


def limit_unacknowledged(port: int) -> None:
    """Make the system close connections to a port whose clients acknowledge nothing for 30 seconds.

    What was sent on such a connection is in the memory of this process or of the system. Applies to connections that
    are accepted later. Does nothing where the system has no such limit.
    """
    if sys.platform != "linux":
        return
    for descriptor in descriptors():
        with held(descriptor) as found:
            if found is None or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                continue
            if found.getsockname()[1] == port:
                # Connections inherit both.
                found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
                found.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)


def reset(found: socket.socket) -> None:
    """End a connection, without sending the rest of its responses."""
    with suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        found.shutdown(socket.SHUT_RDWR)


class AcknowledgedBytes:
    """How many bytes the machine of a client has acknowledged."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._descriptor = -1

    def count(self) -> int | None:
        """Return the number since the connection was opened; None if it is closed, or the system does not say."""
        if sys.platform != "linux":
            return None
        for descriptor in self._candidates():
            with held(descriptor) as found, suppress(OSError):
                if found is not None and peer_of(found) == self.connection:
                    self._descriptor = descriptor
                    content = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
                    return int(_ACKNOWLEDGED.unpack(content)[0]) if len(content) == _ACKNOWLEDGED.size else None
        return None

    def _candidates(self) -> Iterator[int]:
        yield self._descriptor
        yield from descriptors()
