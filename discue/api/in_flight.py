"""Requests with one idempotency key go one after another."""

import asyncio
from collections import deque

from discue.domain.errors import Conflict

LONGEST_WAIT_SECONDS = 5.0
WAITING = 1_000
"""So many may wait at most, for all keys together."""

Place = tuple[int, ...]
"""An organization, and a key of it."""

_Waiting = deque["asyncio.Future[None]"]


class InFlight:
    """Who is under way with which key in this worker. Used from one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Place, _Waiting | None] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def try_to_enter(self, place: Place) -> bool:
        """Whether nobody else was under way with the key. Then this one is, and `leave` must follow."""
        if place in self._waiting:
            return False
        # That anybody waits is rare: who enters makes no room for it.
        self._waiting[place] = None
        return True

    async def enter(self, place: Place) -> None:
        """Returns when nobody else is under way with the key; then `leave` must follow.

        Raises Conflict when that takes too long, and when too many wait.
        """
        if not self.try_to_enter(place):
            await self._turn(place)

    async def _turn(self, place: Place) -> None:
        if self._count >= WAITING:
            raise still_in_flight()
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        waiting = self._waiting[place]
        if waiting is None:
            waiting = self._waiting[place] = deque()
        waiting.append(turn)
        self._count += 1
        timer = loop.call_later(LONGEST_WAIT_SECONDS, _give_up, turn)
        try:
            await turn
        except asyncio.CancelledError:
            # It may have been this one's turn by then, and nobody else's would ever come.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave(place)
            raise
        finally:
            self._count -= 1
            timer.cancel()

    def leave(self, place: Place) -> None:
        """The next one may."""
        waiting = self._waiting[place]
        while waiting:
            following = waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        del self._waiting[place]


def still_in_flight() -> Conflict:
    sentence = "A request with this Idempotency-Key is still in flight. Repeat this one soon, with the same key."
    return Conflict(sentence, retry_after_seconds=1)


def _give_up(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_exception(still_in_flight())
