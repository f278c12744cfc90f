"""Live updates: one stream of events for each browser, which says that something has changed, and nothing else.

The page then loads itself again, with the rights of its user. An organization without open pages costs nothing.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, TypeAlias

from discue.control import activity
from discue.control.activity import ActivityMark
from discue.dashboard.inbox import Inbox
from discue.domain.errors import Overloaded, Unavailable
from discue.domain.scopes import Principal
from discue.http.services import Services

ROUND_SECONDS: Final = 1.0
"""At most one event in this time, and at most one look at the store for each organization."""

MOST_STREAMS: Final = 500
"""Streams of one worker. Beyond this and the limits below, pages look by themselves, less often."""

STREAMS_OF_A_USER: Final = 8
"""Each browser has one, however many pages it shows."""

_SHARES: Final = 4
"""The streams are divided into this many equal shares. An account, with all of its organizations, has at most one. The
last share is reserved for accounts with fewer than `STREAMS_OF_A_USER` streams, so that large ones cannot take it."""

_ROUNDS_A_BEAT: Final = 15
"""A comment keeps proxies from ending a stream that has nothing to say."""
_ROUNDS_A_CHECK: Final = 5
_CHANGED: Final = b"event: changed\ndata: {}\n\n"
_ALL: Final = ("all", 0)

Mark: TypeAlias = tuple[ActivityMark, int]
"""A value that differs after something has changed: the organization's, and the number of requests to the inbox."""

IsAllowed = Callable[[], Awaitable[bool]]
"""Returns whether the session of a stream goes on."""


class LiveStreams:
    def __init__(self, services: Services, inbox: Inbox | None) -> None:
        self._control = services.control
        self._inbox = inbox
        self._readiness = services.readiness
        self._open: Counter[tuple[str, int]] = Counter()
        """The number of streams: in total, and per organization, account, and user (or session, if it has no user)."""
        self._marks: dict[int, tuple[float, Mark]] = {}
        """The last look at each organization that is watched, and its time."""

    async def watch(
        self, principal: Principal, account: int, is_allowed: IsAllowed, disconnected: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[bytes, None]:
        """Return the events of a new stream, which counts until it is closed. Raises Overloaded if there are too many.

        `account` is that of the principal's organization. There is an event at the beginning, and in each second in
        which something has changed, until the session or the worker ends, or the client has disconnected.
        """
        share, used = MOST_STREAMS // _SHARES, self._open["account", account]
        is_small = used < STREAMS_OF_A_USER
        if (
            self._open[_ALL] >= (MOST_STREAMS if is_small else MOST_STREAMS - share)
            or used >= share
            or self._open["user", principal.key] >= STREAMS_OF_A_USER
        ):
            raise Overloaded("Too many pages are live. This one looks for changes less often.")
        events = self._events(principal, account, is_allowed, disconnected)
        # Up to its first event, which is empty: a generator that has not started would not notice that it is closed.
        await anext(events)
        return events

    async def _events(
        self, principal: Principal, account: int, is_allowed: IsAllowed, disconnected: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[bytes, None]:
        organization = principal.organization
        counted = (_ALL, ("organization", organization), ("account", account), ("user", principal.key))
        self._open.update(counted)
        gone = asyncio.ensure_future(disconnected())
        try:
            yield b""
            seen, rounds = await self._mark(organization), 0
            # Changes between the rendering of the page and this mark would cause no event. Therefore each stream begins
            # with one, also a stream that was interrupted.
            yield b"retry: 5000\n" + _CHANGED
            while self._readiness.phase == "serving":
                await asyncio.wait({gone}, timeout=ROUND_SECONDS)
                if gone.done():
                    return
                rounds += 1
                if rounds % _ROUNDS_A_CHECK == 0 and not await is_allowed():
                    return
                mark = await self._mark(organization)
                if mark not in (seen, None):
                    seen = mark
                    yield _CHANGED
                elif rounds % _ROUNDS_A_BEAT == 0:
                    yield b": still here\n\n"
        finally:
            gone.cancel()
            self._open.subtract(counted)
            self._open = +self._open
            if not self._open["organization", organization]:
                self._marks.pop(organization, None)

    async def _mark(self, organization: int) -> Mark | None:
        """Return the mark of the organization, which all of its streams share for a round. None: it cannot be read."""
        now = asyncio.get_running_loop().time()
        known = self._marks.get(organization)
        if known is not None and now - known[0] < ROUND_SECONDS / 2:
            return known[1]
        try:
            # The inbox also receives requests that no worker has counted.
            received = 0 if self._inbox is None else self._inbox.total
            mark = (await activity.activity_mark(self._control, organization), received)
        except Unavailable:
            # The page shows what it has until the store is back.
            return None
        self._marks[organization] = (now, mark)
        return mark
