"""Hosts in the URLs of clients: whether they resolve to addresses that requests may be sent to."""

import asyncio
from collections.abc import Iterable
from typing import Final

from discue.domain.egress import EgressPolicy, parse_target
from discue.domain.errors import Unprocessable
from discue.sending.dialer import Resolve, Resolver

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
        self._in_flight = 0

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
        # Lookups that hang must not collect.
        if target.literal is not None or self._in_flight >= _LOOKUPS_AT_ONCE:
            return False
        self._in_flight += 1
        try:
            async with asyncio.timeout(self._lookup_seconds):
                addresses = await self._resolve(target.host, target.port)
        except OSError:
            return False
        finally:
            self._in_flight -= 1
        return bool(addresses) and all(policy.refusal(address) is not None for address in addresses)
