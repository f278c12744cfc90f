"""Verifies domains: those that are due, in rounds, and any one on demand."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from discue.control import domains
from discue.control.context import ControlContext
from discue.domain import domain_challenge
from discue.domain.domain_challenge import Domain
from discue.domain.errors import TooManyRequests
from discue.sending.fetch import Fetcher

_DUE_AT_ONCE: Final = 50
_ON_DEMAND_AT_ONCE: Final = 5
_TRY_AGAIN_SECONDS: Final = 2


class DomainVerifier:
    """Of several workers the one that `is_leader` does the rounds. On demand, every worker verifies.

    Two that keep house for a moment share the work: whoever takes a domain moves it out of the other's sight.
    """

    def __init__(self, control: ControlContext, fetcher: Fetcher, *, is_leader: Callable[[], bool]) -> None:
        self._control = control
        self._fetcher = fetcher
        self._is_leader = is_leader
        self._on_demand: Counter[int] = Counter()

    async def round(self) -> None:
        """Check every domain that is due. Returns when none is left."""
        while self._is_leader() and (due := await domains.take_due(self._control, _DUE_AT_ONCE)):
            # All of them come to an end, whatever becomes of one.
            ended = await asyncio.gather(*(self._verify(domain) for domain in due), return_exceptions=True)
            for error in filter(None, ended):
                raise error

    async def check(self, domain: Domain) -> str:
        """What is wrong with the domain now; "" if nothing is."""
        target = domain_challenge.target_of(domain.host_key, domain.port, domain.challenge)
        fetched = await self._fetcher.get(target, domain_challenge.CHECK_TIMEOUT_SECONDS)
        return domain_challenge.check_error(fetched.error, fetched.status, fetched.body, domain.challenge)

    @contextmanager
    def place(self, organization: int) -> Iterator[None]:
        """Room for one check on demand. Raises TooManyRequests when the organization has no more."""
        if self._on_demand[organization] >= _ON_DEMAND_AT_ONCE:
            raise TooManyRequests(
                f"{_ON_DEMAND_AT_ONCE} domains of this organization are being verified already. Try again soon.",
                retry_after_seconds=_TRY_AGAIN_SECONDS,
            )
        self._on_demand[organization] += 1
        try:
            yield
        finally:
            self._on_demand[organization] -= 1
            if not self._on_demand[organization]:
                del self._on_demand[organization]

    async def _verify(self, domain: Domain) -> None:
        await domains.check_taken(self._control, domain, self)
