"""Opening connections: resolve the host, check every address, connect to a checked one and to nothing else."""

import asyncio
import os
import socket
import ssl
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from ipaddress import ip_address
from typing import Final, Generic, TypeVar

from discue.domain.attempts import FailureKind
from discue.domain.egress import EgressPolicy, EgressProxy, IPAddress, Target
from discue.sending.request import ClientIdentity, connect_head
from discue.sending.response import Failure, RequestFailed, classify_connect_error, classify_tunnel

Resolve = Callable[[str, int], Awaitable[Sequence[IPAddress]]]
"""Returns all addresses of a host and port, best first, or raises OSError. The caller keeps the deadline."""

_LOOKUPS_AT_ONCE: Final = 64


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SharedTasks(Generic[Key, Value]):
    """At most one running task per key. All callers that ask for the key wait for the task and share its result."""

    def __init__(self) -> None:
        self._running: dict[Key, asyncio.Future[Value]] = {}

    def __len__(self) -> int:
        return len(self._running)

    async def result(self, key: Key, work: Callable[[], Awaitable[Value]]) -> Value:
        """Wait for the task of a key, and return its result or raise its error. `work` starts it if none is running."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.ensure_future(work())
            task.add_done_callback(partial(self._end, key))
        # A caller that is cancelled must not cancel the task for the others.
        return await asyncio.shield(task)

    async def cancel(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, key: Key, task: asyncio.Future[Value]) -> None:
        del self._running[key]
        if not task.cancelled():
            # Retrieve the exception even if every caller was cancelled: otherwise asyncio logs it.
            task.exception()


class Resolver:
    """Resolves host names. Concurrent lookups of a name share one; nothing is cached.

    The threads are daemons: a lookup cannot be interrupted, and must delay neither other names nor the end of the
    process.
    """

    def __init__(self, lookups_at_once: int = _LOOKUPS_AT_ONCE) -> None:
        self._free = asyncio.Semaphore(lookups_at_once)
        self._in_flight = SharedTasks[tuple[str, int], list[IPAddress]]()

    async def __call__(self, host: str, port: int) -> list[IPAddress]:
        return await self._in_flight.result((host, port), partial(self._look_up, host, port))

    async def _look_up(self, host: str, port: int) -> list[IPAddress]:
        # A lookup that hangs keeps its thread until the system gives up: without a limit, the threads would run out.
        async with self._free:
            result: asyncio.Future[list[IPAddress]] = asyncio.get_running_loop().create_future()
            threading.Thread(target=_look_up_in_thread, args=(host, port, result), name="resolver", daemon=True).start()
            return await result


def _look_up_in_thread(host: str, port: int, result: asyncio.Future[list[IPAddress]]) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ip_address(address[0]) for _, _, _, _, address in found]
        finish = partial(result.set_result, addresses)
    except (OSError, UnicodeError) as error:
        finish = partial(result.set_exception, OSError(str(error)))
    # The loop may be closed by now; then no caller waits for the result.
    with suppress(RuntimeError):
        result.get_loop().call_soon_threadsafe(lambda: None if result.done() else finish())


@dataclass(slots=True)
class DialTimings:
    """When each stage of opening a connection ended: readings of the monotonic clock, 0 until the stage is over."""

    now: Callable[[], float]
    started_at: float
    resolved_at: float = 0.0
    connected_at: float = 0.0
    opened_at: float = 0.0
    address: str = ""
    """The address and port that were tried last; "" if only a proxy knows them."""
    timeout: FailureKind = "connect_timeout"
    """The failure that a timeout means: one of the proxy until it is connected."""

    @property
    def has_tls(self) -> bool:
        """Whether TLS has begun. Without it, a connection is open as soon as it is connected."""
        return self.connected_at > 0 and self.connected_at != self.opened_at


_SHORTEST_TRY_SECONDS = 0.5
_CONTEXTS_KEPT: Final = 256
_TUNNEL_HEAD_BYTES: Final = 16_384

_REFUSED_ADDRESS = "The address is not public; the operator can allow it with `allow_private_targets`."

ProtocolFactory = Callable[[], asyncio.Protocol]

_in_flight: ContextVar[DialTimings] = ContextVar("under_way")
"""The timings of the connection that this task opens. Callbacks of the loop see them too: they inherit the context."""


class _WatchedTls(ssl.SSLObject):
    """A TLS object that notes when its handshake begins: then TCP is connected."""

    def do_handshake(self) -> None:
        timings = _in_flight.get(None)
        if timings is not None:
            timings.connected_at = timings.connected_at or timings.now()
        super().do_handshake()


@cache
def system_tls_context() -> ssl.SSLContext:
    """Return the context that verifies certificates against the system's roots: TLS 1.2 or newer, HTTP/1.1 only."""
    return _new_context()


def _new_context(trusted: bytes = b"") -> ssl.SSLContext:
    """Make a context. `trusted` has additional root certificates, in DER."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.sslobject_class = _WatchedTls
    if trusted:
        context.load_verify_locations(cadata=trusted)
    return context


class Dialer:
    """Connects to the addresses that it has checked, without a second lookup, or to the proxy of the policy."""

    def __init__(self, policy: EgressPolicy, resolve: Resolve, context: ssl.SSLContext) -> None:
        self._policy = policy
        self._resolve = resolve
        self._context = context
        # asyncio does not tell when TCP is connected and TLS begins: the TLS object notes it.
        context.sslobject_class = _WatchedTls
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()
        """TLS contexts with client certificates, by the name of the identity: an LRU cache."""
        self._contexts_in_flight = SharedTasks[str, ssl.SSLContext]()

    async def dial(
        self,
        target: Target,
        factory: ProtocolFactory,
        timeout_seconds: float,
        timings: DialTimings,
        *,
        identity: ClientIdentity | None = None,
    ) -> None:
        """Connect one protocol of `factory`, and note the stages in `timings`. Raises RequestFailed.

        Over TLS, presents the certificate of `identity` if the server requests one. The caller cancels this after
        `timeout_seconds`; each of several addresses gets an equal share of that time. A proxy gets `http` requests
        itself (`for_proxy`), and opens a tunnel for `https`.
        """
        proxy = self._policy.proxy_of(target)
        if proxy is not None:
            timings.timeout = "egress_proxy"
        addresses = await self._allowed_addresses(target, proxy)
        timings.resolved_at = timings.now()
        _in_flight.set(timings)
        context = self._context
        if identity is not None:
            try:
                context = await self._context_of(identity)
            except ssl.SSLError as error:
                reason = (error.reason or "unknown reason").lower().replace("_", " ")
                detail = f"The client certificate cannot be used: {reason}."
                raise RequestFailed(Failure("authentication", detail)) from None
        # An address that drops packets must leave time for the others. The last one has all that is left.
        share = max(timeout_seconds / len(addresses), _SHORTEST_TRY_SECONDS)
        *first, last = addresses
        for address in first:
            try:
                async with asyncio.timeout(share):
                    return await self._connect(target, address, factory, context)
            except OSError:
                continue
        try:
            return await self._connect(target, last, factory, context)
        except OSError as error:
            failure = classify_connect_error(error, target.host, over_tls=target.scheme == "https")
            # A listener behind a proxy is connected once there is a tunnel.
            if not timings.connected_at and failure.kind != "internal":
                failure = _failure_to_reach(proxy, failure)
            raise RequestFailed(failure) from error

    async def _connect(
        self, target: Target, address: IPAddress, factory: ProtocolFactory, context: ssl.SSLContext
    ) -> None:
        loop, proxy, timings = asyncio.get_running_loop(), self._policy.proxy_of(target), _in_flight.get()
        reached, timings.connected_at = address if proxy is None else target.literal, 0.0
        if reached is not None:
            host = f"[{reached}]" if reached.version == 6 else str(reached)
            timings.address = f"{host}:{target.port}"
        if proxy is not None and target.scheme == "https":
            tunnel = await _open_tunnel(proxy, address, target, timings)
            await loop.create_connection(factory, sock=tunnel, ssl=context, server_hostname=target.host)
        elif proxy is not None:
            await loop.create_connection(factory, str(address), proxy.target.port)
        elif target.scheme == "https":
            # A literal address, so that the name is not resolved again. The certificate must still match the host.
            await loop.create_connection(factory, str(address), target.port, ssl=context, server_hostname=target.host)
        else:
            await loop.create_connection(factory, str(address), target.port)

    async def _context_of(self, identity: ClientIdentity) -> ssl.SSLContext:
        """Return the context of an identity. Raises ssl.SSLError if its certificate cannot be used."""
        context = self._contexts.get(identity.name)
        if context is None:
            # On another thread, because a context loads all root certificates.
            make = partial(asyncio.to_thread, self._new_context_of, identity)
            context = self._contexts[identity.name] = await self._contexts_in_flight.result(identity.name, make)
            if len(self._contexts) > _CONTEXTS_KEPT:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(identity.name)
        return context

    def _new_context_of(self, identity: ClientIdentity) -> ssl.SSLContext:
        # It trusts the same roots as the context without a certificate.
        context = _new_context(b"".join(self._context.get_ca_certs(binary_form=True)))
        # `load_cert_chain` only reads files. This one has no name and, on Linux, is in memory: no key is on disk.
        descriptor = os.memfd_create("identity") if hasattr(os, "memfd_create") else None
        with tempfile.TemporaryFile("w+") if descriptor is None else os.fdopen(descriptor, "w") as file:
            file.write(f"{identity.private_key}\n{identity.certificate}\n")
            file.flush()
            file.seek(0)
            context.load_cert_chain(f"/dev/fd/{file.fileno()}")
        return context

    async def _allowed_addresses(self, target: Target, proxy: EgressProxy | None) -> Sequence[IPAddress]:
        """Return the addresses to connect to. With a proxy, they are those of the proxy, which checks names itself."""
        to = target if proxy is None else proxy.target
        if to.literal is not None:
            addresses: Sequence[IPAddress] = (to.literal,)
        else:
            try:
                addresses = await self._resolve(to.host, to.port)
            except OSError as error:
                failure = Failure("resolve", "The host name could not be resolved.")
                raise RequestFailed(_failure_to_reach(proxy, failure)) from error
            if not addresses:
                raise RequestFailed(_failure_to_reach(proxy, Failure("resolve", "The host name has no address.")))
        checked = addresses if proxy is None else [] if target.literal is None else [target.literal]
        refusals = {address: self._policy.refusal(address) for address in checked}
        allowed = [address for address, refusal in refusals.items() if refusal is None]
        if checked and not allowed:
            reasons = sorted({refusal for refusal in refusals.values() if refusal})
            # One sentence for every class: clients must not learn what a name resolves to inside the network.
            raise RequestFailed(Failure("refused_address", _REFUSED_ADDRESS, ", ".join(reasons)))
        return allowed if proxy is None else addresses


def _failure_to_reach(proxy: EgressProxy | None, failure: Failure) -> Failure:
    """Return a failure to connect as a failure of the proxy, if one is used."""
    return failure if proxy is None else Failure("egress_proxy", "The egress proxy cannot be reached.", failure.detail)


async def _open_tunnel(proxy: EgressProxy, address: IPAddress, target: Target, timings: DialTimings) -> socket.socket:
    """Return a socket that the proxy has connected to the target. Raises OSError and RequestFailed."""
    loop = asyncio.get_running_loop()
    tunnel = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    try:
        tunnel.setblocking(False)
        await loop.sock_connect(tunnel, (str(address), proxy.target.port))
        timings.timeout = "connect_timeout"
        await loop.sock_sendall(tunnel, connect_head(target, proxy))
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _TUNNEL_HEAD_BYTES:
            received = await loop.sock_recv(tunnel, _TUNNEL_HEAD_BYTES)
            if not received:
                raise ConnectionResetError
            head += received
        if (failure := classify_tunnel(head)) is not None:
            raise RequestFailed(failure)
    except BaseException:
        tunnel.close()
        raise
    timings.connected_at = timings.now()
    return tunnel
