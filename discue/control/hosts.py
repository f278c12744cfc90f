"""Hosts in the URLs of clients: whether they resolve to addresses that requests may be sent to."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from discue.domain.egress import EgressPolicy, IPAddress, parse_target
from discue.domain.errors import Unprocessable
from discue.sending.dialer import Resolve, Resolver, SharedTasks

_LOOKUPS_AT_ONCE: Final = 16
_LOOKUP_SECONDS: Final = 1.0


class HostChecks:
    """Looks up the hosts of new URLs, to refuse early what every attempt to send would refuse.

    Its lookups are its own: clients with slow name servers must not delay deliveries. A host that does not resolve in
    time is accepted, because the address is checked for every attempt anyway.
    """

    def __init__(self, resolve: Resolve | None = None, lookup_seconds: float = _LOOKUP_SECONDS) -> None:
        self._resolve = resolve or Resolver(_LOOKUPS_AT_ONCE)
        self._lookup_seconds = lookup_seconds
        self._lookups = SharedTasks[tuple[str, int], Sequence[IPAddress]]()

    async def refused(self, urls: Iterable[str], policy: EgressPolicy) -> frozenset[str]:
        """Return those of the URLs whose host is a name that has refused addresses only."""
        if policy.allow_private:
            return frozenset()
        given = list(urls)
        are_refused = await asyncio.gather(*(self._is_refused(url, policy) for url in given))
        return frozenset(url for url, is_refused in zip(given, are_refused, strict=True) if is_refused)

    async def _is_refused(self, url: str, policy: EgressPolicy) -> bool:
        try:
            target = parse_target(url, "")
        except Unprocessable:
            # Checked, with the place in the request, where the URL is used.
            return False
        # The proxy resolves and checks the names of its requests.
        if policy.proxy_of(target) is not None:
            return False
        # A lookup that hangs goes on when the request has given up, and counts until it ends: otherwise clients with
        # slow name servers could start any number of them.
        if target.literal is not None or len(self._lookups) >= _LOOKUPS_AT_ONCE:
            return False
        name = (target.host, target.port)
        try:
            async with asyncio.timeout(self._lookup_seconds):
                addresses = await self._lookups.result(name, partial(self._resolve, *name))
        except OSError:
            return False
        return bool(addresses) and all(policy.refusal(address) is not None for address in addresses)
