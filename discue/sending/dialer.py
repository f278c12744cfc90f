"""Opens connections: resolves, checks every address, connects to a checked one and to nothing else."""

import asyncio
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache

from discue.domain.egress import EgressPolicy, IPAddress, Target
from discue.sending.classify import Failure, failure_of_connecting
from discue.sending.identities import Identities
from discue.sending.presented import Identity
from discue.sending.resolver import Resolve
from discue.sending.timings import Trip

_SHORTEST_TRY_SECONDS = 0.5

ProtocolFactory = Callable[[], asyncio.Protocol]

_under_way: ContextVar[Trip | None] = ContextVar("under_way", default=None)
"""The connection that is being made. What a loop calls for it sees it, too: that is in the same context."""


class _WatchedTls(ssl.SSLObject):
    """Notes when its handshake begins: then the connection below it stands."""

    def do_handshake(self) -> None:
        trip = _under_way.get()
        if trip is not None:
            trip.connected()
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
        self._identities = Identities(self._context_like)

    async def dial(
        self,
        target: Target,
        factory: ProtocolFactory,
        timeout_seconds: float,
        trip: Trip | None = None,
        identity: Identity | None = None,
    ) -> None:
        """Connect one protocol of `factory`, and note in `trip` how far that came. Raises DialFailed.

        Over TLS, the certificate of `identity` is shown to whoever asks for one.

        The caller ends it after `timeout_seconds`; of several addresses, none may use up more than its share.
        """
        addresses = await self._allowed_addresses(target)
        if trip is not None:
            trip.resolved()
            _under_way.set(trip)
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
            raise DialFailed(failure_of_connecting(error, over_tls=target.scheme == "https")) from error

    async def _context_of(self, identity: Identity) -> ssl.SSLContext:
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
        if (trip := _under_way.get()) is not None:
            trip.tries(address, target.port)
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
        refusals = {address: self._policy.verdict(address) for address in addresses}
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
