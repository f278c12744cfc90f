"""Asks listeners whether they live, one GET each."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from discue.domain.egress import Target
from discue.domain.listener_health import PROBE_TIMEOUT_SECONDS
from discue.sending.fetch import Fetcher, FetchResult


class Probe(Protocol):
    """Asks once, and says what that brought, later: `Fetching`."""

    def __call__(self, target: Target, done: Callable[[FetchResult], None]) -> None: ...


class ProbeSender:
    """Probes by a fetcher: to checked addresses only, without following redirects, each within five seconds."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._under_way: set[asyncio.Task[None]] = set()

    def __call__(self, target: Target, done: Callable[[FetchResult], None]) -> None:
        task = asyncio.get_running_loop().create_task(self._ask(target, done))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _ask(self, target: Target, done: Callable[[FetchResult], None]) -> None:
        done(await self._fetcher.get(target, PROBE_TIMEOUT_SECONDS))

    async def close(self) -> None:
        """End what is under way: nobody hears of it."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
