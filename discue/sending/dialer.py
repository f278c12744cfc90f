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
    """TLS contexts with client certificates, one for each identity: an LRU cache.

    A context is made on another thread, because it loads all root certificates.
    """

    def __init__(self, make: Callable[[], ssl.SSLContext]) -> None:
        self._make = make
        self._contexts: OrderedDict[str, asyncio.Task[ssl.SSLContext]] = OrderedDict()

    async def context_of(self, identity: ClientIdentity) -> ssl.SSLContext:
        """Return the context of an identity. Raises ssl.SSLError if its certificate cannot be used."""
        task = self._contexts.get(identity.name)
        if task is None:
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._made, identity))
            task.add_done_callback(_seen)
            self._contexts[identity.name] = task
            if len(self._contexts) > _KEPT:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(identity.name)
        try:
            # A caller that is cancelled must not cancel it for the others.
            return await asyncio.shield(task)
        except OSError:
            if self._contexts.get(identity.name) is task:
                del self._contexts[identity.name]
            raise

    def _made(self, identity: ClientIdentity) -> ssl.SSLContext:
        context = self._make()
        # `load_cert_chain` only reads files. This one has no name and, on Linux, is in memory: no key is on disk.
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
    """Mark the exception as retrieved, even if every caller was cancelled."""
    if not task.cancelled():
        task.exception()


_SHORTEST_TRY_SECONDS = 0.5

ProtocolFactory = Callable[[], asyncio.Protocol]

_in_flight: ContextVar[DialTimings | None] = ContextVar("under_way", default=None)
"""The timings of the connection that this task opens. Callbacks of the loop see them too: they inherit the context."""


class _WatchedTls(ssl.SSLObject):
    """A TLS object that notes when its handshake begins: then TCP is connected."""

    def do_handshake(self) -> None:
        timings = _in_flight.get()
        if timings is not None:
            timings.on_connected()
        super().do_handshake()


class DialFailed(Exception):
    """No connection could be opened."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


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
    """Connects to the addresses that it has checked: without a second lookup, and without a proxy."""

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
        *,
        identity: ClientIdentity | None = None,
    ) -> None:
        """Connect one protocol of `factory`, and note the stages in `timings`. Raises DialFailed.

        Over TLS, presents the certificate of `identity` if the server requests one. The caller cancels this after
        `timeout_seconds`; each of several addresses gets an equal share of that time.
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
        """Make a context that trusts the same roots as the default one."""
        return _new_context(b"".join(self._context.get_ca_certs(binary_form=True)))

    async def _connect(
        self, target: Target, address: IPAddress, factory: ProtocolFactory, context: ssl.SSLContext
    ) -> None:
        loop = asyncio.get_running_loop()
        if (timings := _in_flight.get()) is not None:
            timings.on_try(address, target.port)
        if target.scheme == "https":
            # A literal address, so that the name is not resolved again. The certificate must still match the host.
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
