"""Requests for a cursor's messages that somebody else has under way, and what became of them."""

from functools import partial
from typing import Protocol

from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.context import Surroundings
from discue.dispatch.lane.cursor_state import CursorState
from discue.dispatch.lane.endpoint import Endpoint
from discue.domain.errors import Unavailable
from discue.domain.window import Window
from discue.store.cursors import LaneRecord
from discue.store.handover import SendingRequest, read_inherited_requests

LOOK_MS = 1_000
_LONGEST_WAIT_MS = 60_000
_READ_RETRY_MS = 250


class Host(Protocol):
    """The lane."""

    endpoint: Endpoint

    def is_kept(self) -> bool:
        """Whether it still has its cursor, and means to keep it."""
        ...

    def looked(self) -> None:
        """After each look: there may be something to store, and places may be free."""
        ...

    def wake_at(self, due_at: int) -> None: ...


class InheritedRequests:
    """Those that the store showed when the lane was taken up. Each is waited for while its sender lives.

    They keep their places among the listener's requests in flight. `look_at` is when to look again, 0 when that is
    being done.
    """

    def __init__(
        self, record: LaneRecord, progress: CursorState, backlog: Backlog, context: Surroundings, host: Host
    ) -> None:
        self._record = record
        self._progress = progress
        self._backlog = backlog
        self._context = context
        self._host = host
        # What leaves the lane's own span later was not settled then.
        self._settled_before = Window.decode(record.position, record.ahead)
        self._waiting: dict[int, float] = {}
        self._handled: set[int] = set()
        self._must_look = False
        self._is_looking = False
        self.are_known = False
        self.look_at = 0

    @property
    def places(self) -> int:
        return len(self._waiting)

    @property
    def are_gone(self) -> bool:
        return self.are_known and not self._waiting

    def look(self) -> None:
        """Find out soon what became of them."""
        self._must_look = True
        if not self._is_looking:
            self._is_looking = True
            self.look_at = 0
            self._context.spawn(self._look_until_seen())

    async def _look_until_seen(self) -> None:
        pause_ms = LOOK_MS
        try:
            while self._must_look and self._host.is_kept():
                self._must_look = False
                await self._look()
        except Unavailable:
            pause_ms = _READ_RETRY_MS
        finally:
            self._is_looking = False
        if not self.are_gone:
            self.look_at = self._context.clock.now() + pause_ms
            self._host.wake_at(self.look_at)
        self._host.looked()

    async def _look(self) -> None:
        # Asked for first: what ends while the store is read is still shown as under way.
        ours = self._context.handover_outcomes.of_cursor(self._record.key)
        found = await self._context.reads.read(partial(read_inherited_requests, key=self._record.key))
        if not self._host.is_kept():
            return
        now = self._context.clock.now()
        for guest in found.ended:
            if guest.seq not in self._handled:
                self._handled.add(guest.seq)
                self._progress.count(guest)
        self._see([guest for guest in found.sending if self._settled_before.is_settled(guest.seq)], ours, now)

    def _see(self, sending: list[SendingRequest], ours: frozenset[tuple[int, int]], now: int) -> None:
        before, self._waiting = self._waiting, {}
        # For how long one has been seen must not depend on whether the wall clock was put right meanwhile.
        seen_at = self._context.clock.monotonic()
        for guest in sending:
            if guest.seq in self._handled:
                continue
            since = before.pop(guest.seq, seen_at)
            if self._is_under_way(guest, ours, seen_at - since):
                self._waiting[guest.seq] = since
            else:
                self._handled.add(guest.seq)
                self._progress.try_again(guest.seq, guest.attempts, now)
        if not self._handled.issuperset(before):
            # Some have failed, and wait for their next attempt like all others.
            self._backlog.expect(now)
        self.are_known = True

    def _is_under_way(self, guest: SendingRequest, ours: frozenset[tuple[int, int]], waited_seconds: float) -> bool:
        if guest.sender == self._record.owner:
            return (guest.seq, guest.attempts) in ours
        return guest.sender_is_alive and waited_seconds * 1_000 <= self._host.endpoint.timeout_ms + _LONGEST_WAIT_MS
