"""Verification of domains: in rounds when they are due, and on demand."""

import asyncio
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

from discue.auth.keyed_semaphore import KeyedSemaphore
from discue.control import domains
from discue.control.context import ControlContext
from discue.dispatch.lease import Leadership
from discue.domain import domain_challenge
from discue.domain.domain_challenge import Domain
from discue.domain.errors import TooManyRequests
from discue.sending.fetch import Fetcher

_DUE_PER_STEP: Final = 50
_SLOTS_PER_ORGANIZATION: Final = 5
_RETRY_AFTER_SECONDS: Final = 2
_REFUSAL: Final = f"{_SLOTS_PER_ORGANIZATION} domains of this organization are already being verified. Try again soon."


class DomainVerifier:
    """Implements `control.domains.DomainChecker`. The leader does the rounds; every worker verifies on demand.

    In a brief split-brain two workers share the work: a worker that takes a domain moves its next check into the
    future.
    """

    def __init__(self, control: ControlContext, fetcher: Fetcher, leadership: Leadership) -> None:
        self._control = control
        self._fetcher = fetcher
        self._leadership = leadership
        self._slots = KeyedSemaphore[int](
            limit=_SLOTS_PER_ORGANIZATION,
            max_waiting=0,
            refusal=partial(TooManyRequests, _REFUSAL, retry_after_seconds=_RETRY_AFTER_SECONDS),
        )

    def slot(self, organization: int) -> AbstractAsyncContextManager[None]:
        """Hold a slot for a check on demand. Raises TooManyRequests if the organization has none left."""
        return self._slots.hold(organization)

    async def round(self) -> None:
        """Check every domain that is due. Returns when none is left."""
        while self._leadership.is_held and (due := await domains.take_due(self._control, _DUE_PER_STEP)):
            # Wait for all, even if one fails.
            checks = [domains.check_taken(self._control, domain, self) for domain in due]
            for ended in await asyncio.gather(*checks, return_exceptions=True):
                if isinstance(ended, BaseException):
                    raise ended

    async def check(self, domain: Domain) -> str:
        """Check a domain. Returns what is wrong, or ""."""
        target = domain_challenge.target_of(domain.host_key, domain.port, domain.challenge)
        fetched = await self._fetcher.get(target, domain_challenge.CHECK_TIMEOUT_SECONDS)
        return domain_challenge.check_error(fetched.error, fetched.status, fetched.body, domain.challenge)
