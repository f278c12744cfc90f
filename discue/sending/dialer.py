"""Opening connections: resolve the host, check every address, connect to a checked one and to nothing else."""

import asyncio
import os
import ssl
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from typing import Final

from discue.domain.egress import EgressPolicy, IPAddress, Target
from discue.sending.classify import Failure, classify_connect_error
from discue.sending.request import ClientIdentity
from discue.sending.resolver import Resolve
from discue.sending.trace import DialTimings

_KEPT: Final = 256


class TlsContexts:
    """Makes contexts, on another thread: each reads the certificates of all authorities. Keeps those used lately."""

    def __init__(self, make: Callable[[], ssl.SSLContext]) -> None:
        self._make = make
        self._contexts: OrderedDict[str, asyncio.Task[ssl.SSLContext]] = OrderedDict()

    async def context_of(self, identity: ClientIdentity) -> ssl.SSLContext:
        """Raises ssl.SSLError where the certificate cannot be used."""
        task = self._contexts.get(identity.name)
        if task is None:
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._made, identity))
            task.add_done_callback(_seen)
            self._contexts[identity.name] = task
            if len(self._contexts) > _KEPT:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(identity.name)
        try:
            # Others may wait for it, too.
            return await asyncio.shield(task)
        except OSError:
            if self._contexts.get(identity.name) is task:
                del self._contexts[identity.name]
            raise

    def _made(self, identity: ClientIdentity) -> ssl.SSLContext:
        context = self._make()
        # It reads files alone. This one has no name, and on Linux lies in memory: the key is on no disk.
        descriptor = _unnamed_file()
        try:
            with os.fdopen(descriptor, "w", closefd=False) as file:
                file.write(f"{identity.private_key}\n{identity.certificate}\n")
            os.lseek(descriptor, 0, os.SEEK_SET)
            context.load_cert_chain(f"/dev/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return context


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("identity")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _seen(task: asyncio.Task[ssl.SSLContext]) -> None:
    """Whoever asked for it may have gone: then nobody else looks at what went wrong."""
    if not task.cancelled():
        task.exception()


_SHORTEST_TRY_SECONDS = 0.5

ProtocolFactory = Callable[[], asyncio.Protocol]

_in_flight: ContextVar[DialTimings | None] = ContextVar("under_way", default=None)
"""The connection that is being made. What a loop calls for it sees it, too: that is in the same context."""


class _WatchedTls(ssl.SSLObject):
    """Notes when its handshake begins: then the connection below it stands."""

    def do_handshake(self) -> None:
        timings = _in_flight.get()
        if timings is not None:
            timings.on_connected()
        super().do_handshake()


class DialFailed(Exception):
    """No connection came about."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


@cache
def system_tls_context() -> ssl.SSLContext:
    """Verifies certificates and host names against the system's roots; TLS 1.2 or newer, HTTP/1.1 only."""
    return _new_context()


def _new_context(trusted: bytes = b"") -> ssl.SSLContext:
    """`trusted` are more roots, in DER."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.sslobject_class = _WatchedTls
    if trusted:
        context.load_verify_locations(cadata=trusted)
    return context


class Dialer:
    """Connects straight to what was checked: there is no second lookup, and no proxy."""

    def __init__(self, policy: EgressPolicy, resolve: Resolve, context: ssl.SSLContext) -> None:
        self._policy = policy
        self._resolve = resolve
        self._context = context
        context.sslobject_class = _WatchedTls
        self._identities = TlsContexts(self._context_like)

    async def dial(
        self,
        target: Target,
        factory: ProtocolFactory,
        timeout_seconds: float,
        timings: DialTimings | None = None,
        identity: ClientIdentity | None = None,
    ) -> None:
        """Connect one protocol of `factory`, and note in `timings` how far that came. Raises DialFailed.

        Over TLS, the certificate of `identity` is shown to whoever asks for one.

        The caller ends it after `timeout_seconds`; of several addresses, none may use up more than its share.
        """
        addresses = await self._allowed_addresses(target)
        if timings is not None:
            timings.on_resolved()
            _in_flight.set(timings)
        context = self._context if identity is None else await self._context_of(identity)
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
            raise DialFailed(classify_connect_error(error, over_tls=target.scheme == "https")) from error

    async def _context_of(self, identity: ClientIdentity) -> ssl.SSLContext:
        try:
            return await self._identities.context_of(identity)
        except ssl.SSLError as error:
            detail = f"The client certificate cannot be used: {error.reason or 'unknown reason'}."
            raise DialFailed(Failure("authentication", detail)) from None

    def _context_like(self) -> ssl.SSLContext:
        """One of its own that trusts whom ours does."""
        return _new_context(b"".join(self._context.get_ca_certs(binary_form=True)))

    async def _connect(
        self, target: Target, address: IPAddress, factory: ProtocolFactory, context: ssl.SSLContext
    ) -> None:
        loop = asyncio.get_running_loop()
        if (timings := _in_flight.get()) is not None:
            timings.on_try(address, target.port)
        if target.scheme == "https":
            # The address is a literal: nothing is looked up again. The certificate must name the host.
            await loop.create_connection(factory, str(address), target.port, ssl=context, server_hostname=target.host)
        else:
            await loop.create_connection(factory, str(address), target.port)

    async def _allowed_addresses(self, target: Target) -> list[IPAddress]:
        if target.literal is not None:
            addresses = [target.literal]
        else:
            addresses = await self._resolved(target)
        refusals = {address: self._policy.refusal(address) for address in addresses}
        allowed = [address for address, refusal in refusals.items() if refusal is None]
        if not allowed:
            reasons = sorted({refusal for refusal in refusals.values() if refusal})
            raise DialFailed(Failure("refused_address", f"The address may not be sent to: {', '.join(reasons)}."))
        return allowed

    async def _resolved(self, target: Target) -> list[IPAddress]:
        try:
            addresses = list(await self._resolve(target.host, target.port))
        except OSError as error:
            raise DialFailed(Failure("resolve", "The host name could not be resolved.")) from error
        if not addresses:
            raise DialFailed(Failure("resolve", "The host name has no address."))
        return addresses
