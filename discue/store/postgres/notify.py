"""Telling other workers soon: notifications, in transactions of their own that nobody waits for.

Within the transaction of a publish they would make all commits take turns.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Final

import msgspec

from discue.domain.errors import StoreUnavailable
from discue.store.engine import Notification, QueueKey
from discue.store.postgres.errors import without_data
from discue.store.postgres.pool import Link, Links, Report

CHANNEL: Final = "discue"

_PAUSE_SECONDS: Final = 0.005
_LIMIT_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.25
_CLOSE_SECONDS: Final = 1.0
# A notification has less than 8,000 bytes, and a head at most 62 of them.
_HEADS_EACH: Final = 100
_MOST: Final = 10
_NOTIFY: Final = f"SELECT pg_notify('{CHANNEL}', payload) FROM unnest($1::text[]) AS payload"


class _Told(msgspec.Struct, array_like=True, frozen=True):
    sender: str
    feed: bool
    cursors: bool
    anything: bool
    heads: tuple[tuple[int, int, int], ...]


class Wake:
    """One connection that hears, and on which is told. What cannot be told is dropped: it is found by a poll."""

    def __init__(self, links: Links, report: Report) -> None:
        self._links = links
        self._report = report
        self._id = token_hex(8)
        self._waiting = Notification()
        self._heads: dict[QueueKey, int] = {}
        self._link: Link | None = None
        self._using = asyncio.Lock()
        self._telling: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    def notify(self, hint: Notification) -> None:
        """See `engine.Engine.tell`."""
        before = self._waiting
        self._waiting = Notification(
            feed=before.feed or hint.feed,
            cursors=before.cursors or hint.cursors,
            anything=before.anything or hint.anything,
        )
        for queue, seq in hint.heads:
            self._heads[queue] = max(seq, self._heads.get(queue, 0))
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell_all())

    def listen(self, heard: Callable[[Notification], None]) -> None:
        """See `engine.Engine.listen`. What was told while nobody listened is made up for by one look at everything."""
        self._listening = asyncio.get_running_loop().create_task(self._listen(heard))

    async def close(self) -> None:
        """What is waiting to be told is told, if that is quick."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if (telling := self._telling) is not None:
            await asyncio.wait([telling], timeout=_CLOSE_SECONDS)
            telling.cancel()

    async def _tell_all(self) -> None:
        try:
            while payloads := self._take():
                await self._tell(payloads)
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self._telling = None

    def _take(self) -> list[str]:
        hint, self._waiting = self._waiting, Notification()
        heads, self._heads = [(*queue, seq) for queue, seq in self._heads.items()], {}
        if not heads and hint == Notification():
            return []
        anything = hint.anything or len(heads) > _HEADS_EACH * _MOST
        if anything:
            heads = []
        parts = [tuple(heads[start : start + _HEADS_EACH]) for start in range(0, len(heads), _HEADS_EACH)] or [()]
        told = [_Told(self._id, hint.feed, hint.cursors, anything, part) for part in parts]
        return [msgspec.json.encode(each).decode() for each in told]

    async def _tell(self, payloads: list[str]) -> None:
        try:
            async with self._connected() as link:
                await link.connection.execute(_NOTIFY, payloads)
        except StoreUnavailable:
            pass
        except Exception as error:  # noqa: BLE001 - whoever should have heard looks by itself
            self._report("tell", without_data(error))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Link]:
        """The connection, to oneself and for a bounded time."""
        async with self._using:
            if self._link is None or not self._link.is_open:
                self._link = await self._connect()
            with self._link.limited(_LIMIT_SECONDS):
                yield self._link

    async def _connect(self) -> Link:
        link = await self._links.connect()
        with link.limited(_LIMIT_SECONDS):
            # A notification is not worth a write to the disk.
            await link.connection.execute("SET synchronous_commit = off")
        link.is_idle = True
        return link

    async def _listen(self, heard: Callable[[Notification], None]) -> None:
        def received(_connection: object, _pid: int, _channel: str, payload: str) -> None:
            hint = self._hint(payload)
            if hint is not None:
                heard(hint)

        while True:
            try:
                async with self._connected() as link:
                    await link.connection.add_listener(CHANNEL, received)
            except StoreUnavailable:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            except Exception as error:  # noqa: BLE001 - told, and tried again
                self._report("listen", without_data(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            heard(Notification(anything=True))
            await link.ended.wait()

    def _hint(self, payload: str) -> Notification | None:
        """None for what this engine told itself."""
        try:
            told = msgspec.json.decode(payload, type=_Told)
        except msgspec.MsgspecError:
            return Notification(anything=True)
        if told.sender == self._id:
            return None
        heads = tuple(((organization, queue), seq) for organization, queue, seq in told.heads)
        return Notification(feed=told.feed, cursors=told.cursors, heads=heads, anything=told.anything)
