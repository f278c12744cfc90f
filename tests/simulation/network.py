"""A network between simulated machines: connections, listeners and names, with delays and faults.

Data that has arrived waits in the kernel of its machine until the event loop reads it, as on a real one.
"""

import asyncio
import select
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from ipaddress import ip_address
from random import Random
from typing import Any, Final

import msgspec

from discue.domain.egress import IPAddress
from tests.simulation.loop import HOST, Host, SimLoop

_LOOPBACK: Final = "127.0.0.1"
_FIRST_PORT: Final = 40_000
_LONGEST_DRIP: Final = 60
"""A connection that drips does so for so many bytes; then it is fast."""
_DRIP_SECONDS: Final = 0.01
_APART_SECONDS: Final = 0.000_001
_LATEST_CUT: Final = 2_000
"""Connections are cut within their first so many bytes in one direction."""


class NetworkFaults(msgspec.Struct, frozen=True):
    """How bad the network is: shares of connections, of pieces of data, and of lookups."""

    latency_seconds: tuple[float, float] = (0.000_1, 0.002)
    cut_pieces: float = 0.0
    """The share of writes that arrive in pieces, cut anywhere."""
    drips: float = 0.0
    """The share of connections on which data arrives byte by byte at first."""
    resets: float = 0.0
    """The share of connections that are reset after some bytes."""
    lost_responses: float = 0.0
    """The share of connections that are reset when the server responds."""
    silences: float = 0.0
    """The share of connections that become half-open: after some bytes, nothing arrives any more."""
    failed_lookups: float = 0.0


CALM: Final = NetworkFaults()


class Fate(msgspec.Struct):
    """A fault of a connection, after so many bytes in one direction: from the client (0) or from the server (1)."""

    kind: str
    direction: int
    after_bytes: int


class Network:
    """All machines reach each other. `on_fault` is called with the kind of a fault and the machines at both ends."""

    def __init__(self, loop: SimLoop, choices: Random) -> None:
        self.faults = CALM
        self.on_fault: Callable[[str, Sequence[Host]], None] = lambda _kind, _hosts: None
        self.loop = loop
        self.random = choices
        self.names: dict[str, str] = {}
        """Addresses by host name."""
        self._servers: dict[tuple[str, int], SimServer] = {}
        self.ends: dict[int, End] = {}
        self._next_port = _FIRST_PORT
        self._cuts: dict[tuple[Host, Host | None], list[tuple[Callable[..., None], tuple[Any, ...]]]] = {}
        """The machines that are cut off, from all others (None) or from one, and the packets that wait, in order."""

    def install(self) -> None:
        """Make the loop use this network."""
        for name in ("create_connection", "create_server"):
            setattr(self.loop, name, getattr(self, name))

    async def resolve(self, host: str, _port: int) -> list[IPAddress]:
        """Return the address of a name, after a while. Raises OSError."""
        await asyncio.sleep(self.latency() * 2)
        if self.random.random() < self.faults.failed_lookups:
            self.loop.trace.reach("failed lookup")
            me = HOST.get()
            self.on_fault("failed lookup", [] if me is None else [me])
            raise OSError("Temporary failure in name resolution")
        if host not in self.names:
            raise OSError("Name or service not known")
        return [ip_address(self.names[host])]

    async def create_server(
        self, factory: Callable[[], asyncio.BaseProtocol], host: str = _LOOPBACK, port: int = 0, **_options: object
    ) -> "SimServer":
        """Listen on an address and port of the current machine."""
        if not port:
            port = self._next_port
            self._next_port += 1
        key = (host, port)
        if key in self._servers:
            raise OSError(98, f"{host}:{port} is in use")
        server = self._servers[key] = SimServer(self, key, factory)
        return server

    def forget(self, server: "SimServer") -> None:
        if self._servers.get(server.address) is server:
            del self._servers[server.address]

    async def create_connection(
        self,
        factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        *,
        local_addr: tuple[str, int] | None = None,
        **_options: object,
    ) -> "tuple[End, asyncio.BaseProtocol]":
        """Connect the current machine. Raises ConnectionRefusedError if nothing listens there."""
        me = HOST.get()
        connected: asyncio.Future[None] = self.loop.create_future()
        server = self._servers.get((host, port))
        there = server.host if server is not None else None
        self.at(self.loop.time() + 2 * self.latency(), _settle, connected, between=(me, there))
        await connected
        server = self._servers.get((host, port))
        if server is None:
            raise ConnectionRefusedError(111, f"Connect call failed ('{host}', {port})")
        address = local_addr[0] if local_addr is not None else (me.address if me is not None else _LOOPBACK)
        protocol = factory()
        source = (address, self._next_port)
        self._next_port += 1
        mine = End(self, protocol, me, copy_context(), 0)
        theirs = End(self, server.factory(), server.host, server.context, 1)
        mine.join(theirs, source, server.address)
        theirs.join(mine, server.address, source)
        mine.fate = theirs.fate = self._draw_fate()
        mine.drips = theirs.drips = _LONGEST_DRIP if self.random.random() < self.faults.drips else 0
        self.loop.call_soon(theirs.protocol.connection_made, theirs, context=theirs.context)
        self.loop.call_soon(protocol.connection_made, mine)
        made: asyncio.Future[None] = self.loop.create_future()
        self.loop.call_soon(_settle, made)
        try:
            await made
        except BaseException:
            mine.close()
            raise
        return mine, protocol

    def latency(self) -> float:
        return self.random.uniform(*self.faults.latency_seconds)

    def at(
        self,
        when: float,
        act: Callable[..., None],
        *args: Any,
        between: tuple[Host | None, Host | None],
    ) -> None:
        """Do something when a packet between two machines arrives: not before both are reachable."""
        self.loop.call_at(when, self._arrive, act, args, between, context=_KERNEL)

    def cut_off(self, host: Host, other: Host | None = None) -> None:
        """Hold up all packets between a machine and another one, or all others."""
        self._cuts.setdefault((host, other), [])
        self.loop.trace.add(host.name, "cut off", "" if other is None else f"from {other.name}")

    def heal(self, host: Host, other: Host | None = None) -> None:
        """Deliver what was held up, and from now on everything."""
        for act, args in self._cuts.pop((host, other), ()):
            self.loop.call_soon(act, *args, context=_KERNEL)
        self.loop.trace.add(host.name, "reachable again")

    def kill(self, host: Host, *, power: bool) -> None:
        """End the connections of a machine. Without power, it sends nothing any more: the others must notice."""
        for server in [each for each in self._servers.values() if each.host is host]:
            self.forget(server)
        for end in [each for each in self.ends.values() if each.host is host]:
            end.vanish(tells=power)

    def _arrive(
        self,
        act: Callable[..., None],
        args: tuple[Any, ...],
        between: tuple[Host | None, Host | None],
    ) -> None:
        one, other = between
        for key in ((one, None), (other, None), (one, other), (other, one)) if self._cuts else ():
            if key in self._cuts:
                self._cuts[key].append((act, args))
                return
        act(*args)

    def _draw_fate(self) -> Fate | None:
        faults, choice = self.faults, self.random.random()
        for kind, share in (
            ("reset", faults.resets),
            ("silent", faults.silences),
            ("lost response", faults.lost_responses),
        ):
            if choice < share:
                if kind == "lost response":
                    return Fate(kind, 1, 0)
                return Fate(kind, self.random.randrange(2), self.random.randrange(_LATEST_CUT))
            choice -= share
        return None


_KERNEL: Final = Context()
"""The context of what no program does, and no pause of a program delays."""


class SimServer(asyncio.AbstractServer):
    """Something that listens."""

    def __init__(self, network: Network, address: tuple[str, int], factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self.address = address
        self.factory = factory
        self.host = HOST.get()
        self.context = copy_context()
        self._network = network

    @property
    def sockets(self) -> "tuple[SimServer]":
        return (self,)

    def getsockname(self) -> tuple[str, int]:
        return self.address

    def close(self) -> None:
        self._network.forget(self)

    async def wait_closed(self) -> None:
        """Return at once: connections that were accepted stay."""

    def get_loop(self) -> SimLoop:
        return self._network.loop

    def is_serving(self) -> bool:
        return True

    async def start_serving(self) -> None:
        """Do nothing: it serves from its creation on."""

    async def serve_forever(self) -> None:
        raise NotImplementedError("nothing under simulation is served by this call")


class End(asyncio.Transport):
    """An end of a connection."""

    def __init__(
        self, network: Network, protocol: asyncio.BaseProtocol, host: Host | None, context: Context, direction: int
    ) -> None:
        super().__init__()
        self.protocol: Any = protocol
        self.host = host
        self.context = context
        self.fate: Fate | None = None
        self.drips = 0
        self._network = network
        self._direction = direction
        """The direction of the data that it writes."""
        self._number = len(network.ends) + 3
        while self._number in network.ends:
            self._number += 1
        network.ends[self._number] = self
        self._peer: End = self
        self._names: dict[str, Any] = {"socket": self}
        self._sent = 0
        self._last_arrival = 0.0
        self._inbox: list[bytes | Exception | None] = []
        """Data, an error, or None for the end, that have arrived and were not read."""
        self._is_reading = True
        self._is_closing = False
        self._is_closed = False
        self._is_silent = False
        self._has_sent_end = False

    def join(self, peer: "End", mine: tuple[str, int], theirs: tuple[str, int]) -> None:
        self._peer = peer
        self._names |= {"peername": theirs, "sockname": mine}

    def fileno(self) -> int:
        return self._number

    def setsockopt(self, _level: int, _name: int, _value: object) -> None:
        """Take an option of a socket, as a program sets it, and do nothing about it."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._names.get(name, default)

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the kernel takes everything at once."""

    def can_write_eof(self) -> bool:
        return True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self.protocol
        return protocol

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self._network.loop.call_soon(self._read, context=self.context)

    def is_reading(self) -> bool:
        return self._is_reading

    @property
    def has_news(self) -> bool:
        """Whether the kernel has something that the program has not read."""
        return bool(self._inbox)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or not data:
            return
        content, fate = bytes(data), self.fate
        if fate is not None and fate.direction == self._direction and self._sent + len(content) > fate.after_bytes:
            self._send(content[: max(0, fate.after_bytes - self._sent)])
            self._meet_fate(fate)
        else:
            self._send(content)
        self._sent += len(content)

    def write_eof(self) -> None:
        if not self._has_sent_end:
            self._has_sent_end = True
            self._carry(None)

    def close(self) -> None:
        if not self._is_closing:
            self.write_eof()
            self._finish(None)

    def abort(self) -> None:
        if self._is_closing:
            return
        if self._inbox and not self._has_sent_end:
            # The kernel resets a connection whose program has not read everything.
            self._has_sent_end = True
            self._carry(ConnectionResetError(104, "Connection reset by peer"))
        self.close()

    def vanish(self, *, tells: bool) -> None:
        """End with the machine. `tells`: its kernel lives, and tells the peer."""
        self._is_closing = self._is_closed = True
        self._network.ends.pop(self._number, None)
        if tells and not self._has_sent_end:
            self._carry(ConnectionResetError(104, "Connection reset by peer"))
        self._is_silent = not tells

    def _send(self, content: bytes) -> None:
        network = self._network
        while self.drips and content:
            self.drips -= 1
            self._carry(content[:1], _DRIP_SECONDS)
            content = content[1:]
            network.loop.trace.reach("drip")
        while len(content) > 1 and network.random.random() < network.faults.cut_pieces:
            place = network.random.randrange(1, len(content))
            self._carry(content[:place])
            content = content[place:]
        if content:
            self._carry(content)

    def _carry(self, packet: bytes | Exception | None, more_seconds: float = 0.0) -> None:
        """Let something arrive at the peer, after all that was sent before."""
        if self._is_silent:
            return
        network = self._network
        # Never at one moment: timers for one moment fire in any order.
        earliest = self._last_arrival + _APART_SECONDS
        self._last_arrival = at = max(earliest, network.loop.time() + network.latency()) + more_seconds
        network.at(at, self._peer._arrived, packet, between=(self.host, self._peer.host))

    def _arrived(self, packet: bytes | Exception | None) -> None:
        if self._is_closed:
            if isinstance(packet, bytes) and not self._is_silent:
                # Nobody reads it: the kernel says so.
                self._carry(ConnectionResetError(104, "Connection reset by peer"))
            return
        if isinstance(packet, Exception):
            self._inbox.clear()
        self._inbox.append(packet)
        self._network.loop.call_soon(self._read, context=self.context)

    def _read(self) -> None:
        while self._inbox and self._is_reading and not self._is_closing:
            packet = self._inbox.pop(0)
            if isinstance(packet, bytes):
                self.protocol.data_received(packet)
            elif packet is None:
                if not self.protocol.eof_received():
                    self.close()
            else:
                self._has_sent_end = True
                self._finish(packet)

    def _meet_fate(self, fate: Fate) -> None:
        network, peer = self._network, self._peer
        self.fate = peer.fate = None
        network.loop.trace.reach(fate.kind)
        place = (self.host or peer.host).name if self.host or peer.host else "network"  # type: ignore[union-attr]
        network.loop.trace.add(place, fate.kind, f"{self._names['sockname']} to {self._names['peername']}")
        network.on_fault(fate.kind, [end.host for end in (self, peer) if end.host is not None])
        if fate.kind == "silent":
            self._is_silent = peer._is_silent = True
            return
        error = ConnectionResetError(104, "Connection reset by peer")
        self._carry(error)
        network.at(network.loop.time() + network.latency(), self._arrived, error, between=(self.host, peer.host))

    def _finish(self, error: Exception | None) -> None:
        self._is_closing = True
        self._network.loop.call_soon(self._lose, error, context=self.context)

    def _lose(self, error: Exception | None) -> None:
        self._is_closed = True
        self._network.ends.pop(self._number, None)
        self.protocol.connection_lost(error)


class SimPoll:
    """`select.poll` over simulated connections: what has arrived, whether the loop has read it or not."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._registered: list[int] = []

    def register(self, number: int, _events: int) -> None:
        self._registered.append(number)

    def poll(self, _milliseconds: float) -> list[tuple[int, int]]:
        known = ((number, self._network.ends.get(number)) for number in self._registered)
        return [(number, select.POLLIN) for number, end in known if end is None or end.has_news]


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
