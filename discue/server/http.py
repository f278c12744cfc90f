"""The HTTP server: Granian, embedded, on one port for HTTP/1.1 and HTTP/2, in cleartext or over TLS."""

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.net import SocketSpec  # type: ignore[attr-defined]
from granian.server.embed import Server

from discue.config.types import Networks, reachable
from discue.domain.errors import SettingsInvalid
from discue.domain.reservations import FEW_ROWS
from discue.http.rsgi import limit_unacknowledged
from discue.observability.logs import Log
from discue.observability.supervisor import Supervisor
from discue.server.connection_limits import ConnectionLimits, accepted_connections

_HEADERS_LIMIT_BYTES = 65_536
_PORTS_TRIED = 100
_STREAMS = 100
"""Requests at once on a connection of HTTP/2: the least that RFC 9113 recommends (6.5.2)."""

_STREAM_BUFFER_BYTES = 16_384
"""Bytes of each response that are taken before they are sent. They are counted as read, and are in memory."""

_PROBE_SECONDS = 0.02
_CHECKS = 250
_IDLE_SECONDS = 0.25


class Address(msgspec.Struct, frozen=True):
    """An address to listen on, with TLS if the paths of a certificate and key (PEM) are set."""

    host: str
    port: int
    tls_cert: Path | None = None
    tls_key: Path | None = None
    shared: bool = False
    """Whether `held_port` reserves the port. Several processes can share it: the kernel balances the connections."""
    settings: str = "host, port"
    """The names of the settings that set it, for errors."""

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls_cert else 'http'}://{host}:{self.port}"


class _GranianServer(Server):
    """A server of Granian that leaves no socket open.

    On Linux, Granian first binds a socket to try the address, and never closes it. `free_port` has tried the address.
    """

    def _init_shared_socket(self) -> None:
        if sys.platform == "linux":
            self._ssp = SocketSpec(self.bind_addr, self.bind_port, self.backlog)  # type: ignore[assignment]
        else:
            super()._init_shared_socket()


class HttpServer:
    """Serves one application on the running event loop."""

    def __init__(
        self,
        application: Any,
        address: Address,
        *,
        max_connections: int,
        trusted_proxies: Networks = (),
        log: Log | None = None,
    ) -> None:
        self.address = address if address.shared else msgspec.structs.replace(address, port=free_port(address))
        self._limits = ConnectionLimits(
            application, max_connections=max_connections, trusted_proxies=trusted_proxies, log=log
        )
        self._supervisor = Supervisor(log or Log())
        self._server = _GranianServer(
            self._limits,
            # Granian takes an address, not a host name.
            address=_resolved(self.address)[1][0],
            port=self.address.port,
            interface=Interfaces.RSGI,
            http=HTTPModes.auto,
            websockets=False,
            runtime_threads=1,
            backlog=1_024,
            # Limits connections, also idle ones: with the default, idle clients would lock out all others.
            backpressure=accepted_connections(max_connections),
            http1_settings=HTTP1Settings(header_read_timeout=15_000, max_buffer_size=_HEADERS_LIMIT_BYTES * 2),
            http2_settings=HTTP2Settings(
                max_headers_size=_HEADERS_LIMIT_BYTES,
                keep_alive_interval=30_000,
                max_concurrent_streams=_STREAMS,
                max_send_buffer_size=_STREAM_BUFFER_BYTES,
            ),
            log_enabled=False,
            ssl_cert=address.tls_cert,
            ssl_key=address.tls_key,
            ssl_protocol_min=SSLProtocols.tls12,
        )
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Returns when the server accepts connections."""
        with _new_threads_do_not_interrupt():
            self._running = asyncio.get_running_loop().create_task(self._server.serve())
            await self._until_it_accepts(self._running)
        limit_unacknowledged(self.address.port)
        self._supervisor.every(0, "connection_limits", partial(self._limits.round, self.address.port), reads=FEW_ROWS)

    async def _until_it_accepts(self, running: asyncio.Task[None]) -> None:
        pause = 0.001
        for _ in range(_CHECKS):
            if running.done():
                await running
            try:
                _, writer = await asyncio.open_connection(reachable(self.address.host), self.address.port)
            except OSError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _PROBE_SECONDS)
            else:
                writer.close()
                return
        raise SettingsInvalid(f"{self.address.settings}: the server does not accept connections on {self.address.url}.")

    async def ended(self) -> None:
        """Return when the server has stopped, for any reason."""
        if self._running is not None:
            await asyncio.wait({self._running})

    async def stop(self, grace_seconds: float) -> None:
        """Stop accepting connections, and wait for requests in flight, at most for the grace period."""
        if self._running is None:
            return
        # A request body that never ends would block the shutdown: Granian's kill timeout ends it.
        self._server.workers_kill_timeout = max(1, round(grace_seconds))
        self._server.stop()  # type: ignore[no-untyped-call]
        idle = asyncio.get_running_loop().create_task(self._idle())
        await asyncio.wait({self._running, idle}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        self._running.cancel()
        await asyncio.wait({self._running})
        await self._supervisor.stop()
        if not self._running.cancelled() and not isinstance(error := self._running.exception(), TimeoutError | None):
            raise error

    async def _idle(self) -> None:
        """Return when no request has been in flight for a moment.

        Granian waits until clients close their connections, and an idle HTTP/2 client may take long to notice that it
        should.
        """
        loop = asyncio.get_running_loop()
        idle_since = loop.time()
        while loop.time() - idle_since < _IDLE_SECONDS:
            await asyncio.sleep(_PROBE_SECONDS)
            if self._limits.in_flight:
                idle_since = loop.time()


@contextmanager
def _new_threads_do_not_interrupt() -> Iterator[None]:
    """Keep threads that are started in the block from interrupting a running thread: they wait for a core.

    The event loop wakes the server's thread twice for each request. If that thread runs at once, on the same core, each
    wake-up costs two switches; if it runs when the event loop has no more to do, it finds several requests. A thread
    that starts has the policy of the thread that starts it. Does nothing on systems without such a policy, and if the
    operator has set another one.
    """
    is_set = False
    if sys.platform == "linux":
        # With musl, the functions exist and fail.
        with suppress(OSError):
            is_set = os.sched_getscheduler(0) == os.SCHED_OTHER
    if is_set:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        if is_set:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def free_port(address: Address) -> int:
    """Return the port, or a free one for 0. Raises SettingsInvalid if the port is in use.

    Granian shares ports (SO_REUSEPORT): without this check, a second server on the same port would silently receive
    half of the connections.
    """
    with _bound(address) as probe:
        return int(probe.getsockname()[1])


def is_taken(error: SettingsInvalid) -> bool:
    """Return whether an address cannot be used because another program listens there."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE


@contextmanager
def held_port(address: Address) -> Iterator[int]:
    """Reserve the port, or a free one for 0, against other programs for the duration of the block.

    The reservation accepts no connections. Raises SettingsInvalid if the port is in use.
    """
    if address.port:
        free_port(address)
    # The kernel gives no port away that is held: two programs that ask for a free one get different ones.
    with _bound(address, socket.SO_REUSEPORT) as held:
        yield int(held.getsockname()[1])


@contextmanager
def next_free_port(address: Address) -> Iterator[int]:
    """Reserve the port, or the next free one, like `held_port`. Raises SettingsInvalid if none of 100 is free."""
    with ExitStack() as held:
        for port in range(address.port, min(address.port + _PORTS_TRIED, 65_535)):
            try:
                free = held.enter_context(held_port(msgspec.structs.replace(address, port=port)))
                break
            except SettingsInvalid as error:
                if not is_taken(error):
                    raise
        else:
            free = held.enter_context(held_port(address))
        yield free


@contextmanager
def _bound(address: Address, *options: int) -> Iterator[socket.socket]:
    family, place = _resolved(address)
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        for option in (socket.SO_REUSEADDR, *options):
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            bound.bind(place)
        except OSError as error:
            raise _cannot_listen(address, error) from error
        yield bound


def _resolved(address: Address) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _cannot_listen(address, error) from error
    # A name such as localhost may have several addresses: prefer IPv4, as clients do.
    family, _, _, _, place = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, place


def _cannot_listen(address: Address, error: OSError) -> SettingsInvalid:
    reason = error.strerror or "unknown error"
    return SettingsInvalid(
        f"{address.settings}: cannot listen on {address.host}:{address.port} ({reason}). Set another host or port."
    )
