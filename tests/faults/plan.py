"""The plan of a run: how much of everything, for which organizations, at which site."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from tests.faults.client import KEY, Client


class Site(Protocol):
    """The service under test: one worker or several."""

    @property
    def serving(self) -> asyncio.Event:
        """Set while somebody does."""
        ...

    @property
    def workers(self) -> Sequence[int]: ...

    def client(self, key: str = KEY) -> Client:
        """Return a client of the worker that serves when it connects."""
        ...

    def client_of(self, worker: int, key: str = KEY) -> Client: ...

    def worker_at(self, source: str) -> int:
        """The worker that sends from an address."""
        ...


class LoadPlan(msgspec.Struct, frozen=True):
    """How much of everything. With a `pause_seconds`, each producer waits about so long before each message."""

    organizations: int = 0
    queues: int = 3
    producers: int = 12
    batch_producers: int = 3
    listeners: tuple[str, ...] = ("steady", "slow", "flaky", "lossy", "picky")
    pause_seconds: float = 0.0
    brief_listeners: int = 3
    ordered_producers: int = 0
    """Producers of the ordered queue, which exists only if there are any."""
    pullers: int = 0
    """Queues of each organization whose messages are pulled, too: the ordered one comes first."""
    deletes: bool = False
    """Whether there is a queue of which messages are deleted."""
    is_paced: bool = False
    """Whether there is a queue whose listener has a rate limit."""
    asks_again: bool = True
    """Whether replays and redeliveries are asked for."""
    replays_apart_seconds: float = 0.3
    paced_share: float = 0.1
    """Share of the replays that go to the listener with a rate limit."""
    has_more: bool = False
    """Whether there are topics, delayed messages, schedules, and listeners that are down for a while."""
    forgets: bool = False
    """Whether there is a queue whose messages are kept for seconds: it takes minutes until they are gone."""


class Tenant(msgspec.Struct):
    """An organization, a key of it that may do everything, and its queues."""

    organization: str
    key: str
    queues: list[str] = []
    ordered: str = ""
    paced: str = ""
    trimmed: str = ""
    redelivered: list[str] = []
    """Ordered queues whose listeners miss messages, which are redelivered. Nothing expires there."""
