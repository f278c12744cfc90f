"""Slots for the replays of a worker: in the whole installation, three replays of an organization run at a time."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from discue.domain.errors import Unavailable
from discue.store import replay_slots
from discue.store.engine import Notification
from discue.store.replay_slots import REPLAYS_AT_ONCE

if TYPE_CHECKING:
    from discue.dispatch.lane.context import WorkerContext
    from discue.dispatch.lane.lane import Lane

_KEPT_SECONDS: Final = 1.0
"""How long a slot is kept that no replay of the worker needs: most replays that stop for a moment need it again."""
_TURN_SECONDS: Final = 10.0
"""How long a worker passes slots on among its own replays. After that, another worker may have the next free one."""


class _Share:
    """The slots of an organization that this worker has, and its replays that need them."""

    def __init__(self, organization: int) -> None:
        self.organization = organization
        self.running: set[Lane] = set()
        self.waiting: dict[Lane, None] = {}
        """The replays that found no slot, in order of arrival."""
        self.held = 0
        """How many slots the worker may use: at least as many as replays run."""
        self.stored = 0
        """How many slots the store has for the worker, at most: more than `held` after a write that failed."""
        self.held_since = 0.0
        """When the worker's turn began, by the monotonic clock."""
        self.surplus_since: float | None = None
        """When the worker began to have more slots than its replays need; None if it does not."""
        self.is_passed_on = False
        """Whether a slot is given up although replays of the worker wait: it is the turn of another worker."""
        self.is_writing = False

    @property
    def wanted(self) -> int:
        return min(REPLAYS_AT_ONCE, len(self.running) + len(self.waiting))


class ReplaySlots:
    """Limits how many replays of each organization run at a time. The others wait in order of arrival.

    The worker takes slots from the store, and passes them on among its replays in memory. A replay needs a slot only
    while it has messages to read and may send. It needs none for retries, or while its listener is inactive.
    """

    def __init__(self, worker: "WorkerContext", session_id: Callable[[], int]) -> None:
        self._worker = worker
        self._session_id = session_id
        self._shares: dict[int, _Share] = {}
        self._to_write: dict[_Share, None] = {}
        """Shares that the last polls have found to differ from what the store has."""
        self._is_repeating = False
        self._epoch = 0
        """Changes when the slots that the worker had may belong to others."""

    def take(self, lane: "Lane") -> bool:
        """Take a slot, unless the lane has one. Returns False if none is free; the lane is pumped when one is."""
        organization = lane.record.organization
        share = self._shares.get(organization)
        if share is None:
            share = self._shares[organization] = _Share(organization)
        if lane in share.running:
            return True
        if len(share.running) < share.held:
            share.waiting.pop(lane, None)
            share.running.add(lane)
            return True
        if lane not in share.waiting:
            share.waiting[lane] = None
            if share.held < share.wanted:
                self._write(share)
        return False

    def leave(self, lane: "Lane") -> None:
        """Give up the lane's slot, or its place among the waiting lanes, and let the next lane run."""
        share = self._shares.get(lane.record.organization)
        if share is None:
            return
        share.waiting.pop(lane, None)
        if lane not in share.running:
            return
        share.running.remove(lane)
        if not share.waiting:
            return
        now = self._worker.clock.monotonic()
        if self._worker.store.has_other_workers and now - share.held_since >= _TURN_SECONDS:
            share.held, share.held_since, share.is_passed_on = share.held - 1, now, True
            self._write(share)
        else:
            # Not at once: the leaving lane may be among those that are being pumped.
            asyncio.get_running_loop().call_soon(_start_waiting, share)

    def check(self) -> None:
        """Ask for the slots that lanes wait for, and give up those that no lane needs. Called at each poll."""
        now = self._worker.clock.monotonic()
        for share in tuple(self._shares.values()):
            if share.stored <= share.wanted:
                share.surplus_since = None
            elif share.surplus_since is None:
                share.surplus_since = now
            has_surplus = share.surplus_since is not None and now - share.surplus_since >= _KEPT_SECONDS
            if has_surplus or share.held < share.wanted:
                self._to_write[share] = None
            elif not share.wanted and not share.stored and not share.is_writing:
                del self._shares[share.organization]
                # Another share may soon hold the organization's slots.
                self._to_write.pop(share, None)
        if self._to_write and not self._is_repeating:
            self._is_repeating = True
            self._worker.spawn(self._repeat())

    def invalidate(self) -> None:
        """Use no slot any more until the store has confirmed it: the session or the store may have changed."""
        self._epoch += 1
        for share in self._shares.values():
            share.held, share.stored = 0, REPLAYS_AT_ONCE

    async def _repeat(self) -> None:
        """Write the shares that a poll has found, one after another: there can be thousands of them."""
        try:
            while self._to_write:
                share = next(iter(self._to_write))
                del self._to_write[share]
                if not share.is_writing:
                    share.is_writing = True
                    await self._write_wanted(share)
        finally:
            self._is_repeating = False

    def _write(self, share: _Share) -> None:
        """Store how many slots the worker holds, in the background."""
        if not share.is_writing:
            share.is_writing = True
            self._worker.spawn(self._write_wanted(share))

    async def _write_wanted(self, share: _Share) -> None:
        try:
            count = -1
            while count < share.wanted and not share.is_passed_on:
                count = share.wanted
                await self._hold(share, count)
            if share.is_passed_on:
                await self._hold(share, share.held)
        except Unavailable:
            # The store logs the cause. The next poll that succeeds repeats it.
            pass
        finally:
            share.is_writing = share.is_passed_on = False
        _start_waiting(share)

    async def _hold(self, share: _Share, count: int) -> None:
        """Hold so many slots, or as many as are free."""
        epoch, before = self._epoch, share.stored
        # A slot that is given up must not be used from now on. Until the store answers, it is unknown who has it.
        share.held, share.stored = min(share.held, count), REPLAYS_AT_ONCE
        store, session_id = self._worker.store, self._session_id()
        hold = partial(replay_slots.hold, session_id=session_id, organization=share.organization, count=count)
        held = await store.write(hold)
        if epoch != self._epoch:
            return
        if held > share.held and not share.held:
            share.held_since = self._worker.clock.monotonic()
        share.held = share.stored = held
        if held < before:
            # Replays on other workers may wait for it.
            store.engine.notify(Notification(cursors=True))


def _start_waiting(share: _Share) -> None:
    """Let lanes run that wait, while there are slots for them."""
    for lane in tuple(share.waiting):
        if len(share.running) >= share.held:
            return
        lane.pump()
