"""Replays: each delivers a part of the log again, in its own lane, which then ends. A few run at a time."""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.context import WorkerContext
from discue.dispatch.lane.owned_cursor import write_until_stored
from discue.dispatch.lane.states import LaneState
from discue.domain.errors import Unavailable
from discue.store import replays
from discue.store.cursors import ReplayPlan
from discue.store.engine import Notification
from discue.store.replays import REPLAYS_AT_ONCE

_KEPT_SECONDS: Final = 1.0
"""How long the worker keeps a slot that none of its replays needs: most replays that pause soon need it again.

After the worker has passed a slot on, it leaves the slot to other workers for the same time.
"""
_TURN_SECONDS: Final = 10.0
"""How long a replay keeps its slot while others wait, and a worker its slots while other workers may wait."""


class ReplayRun:
    """The part of a replay's lane that a live lane does not have: it takes turns with other replays, and ends."""

    def __init__(
        self, plan: ReplayPlan, backlog: Backlog, slots: "ReplaySlots", is_settled: Callable[[], bool]
    ) -> None:
        owned = self._owned = backlog.owned
        self.organization = owned.record.organization
        self.pump = owned.lane.pump
        self.unread = backlog.unread
        self._plan = plan
        self._backlog = backlog
        self._slots = slots
        self._is_settled = is_settled
        """Returns whether nothing is in flight or to be stored."""

    def may_start(self, *, can_start: bool) -> bool:
        """Take a slot for messages that may be sent. False if all are taken."""
        if can_start and not self._backlog.is_read:
            return self._slots.take(self)
        self.leave()
        return True

    def leave(self) -> None:
        self._slots.leave(self)

    def end_if_done(self) -> None:
        """Remove the cursor in the background if everything is sent and stored."""
        owned, cursor = self._owned, self._owned.cursor
        is_through = cursor.window.position >= self._plan.until_seq and not cursor.retrying
        if owned.state is LaneState.RUNNING and is_through and self._is_settled():
            owned.enter(LaneState.ENDING)
            owned.worker.spawn(self._end())

    async def _end(self) -> None:
        owned = self._owned
        ended = await write_until_stored(self._remove_cursor, is_wanted=lambda: owned.state is LaneState.ENDING)
        if ended is not None and not owned.is_closed:
            (owned.lane.on_ended if ended else owned.lane.on_lost)()

    async def _remove_cursor(self) -> bool:
        owned, worker = self._owned, self._owned.worker
        version, now = owned.cursor.version, worker.clock.now()
        end = partial(replays.end, key=owned.key, token=owned.record.token, version=version, now=now)
        return await worker.store.write(end)


class _Share:
    """The slots of an organization that this worker has, and its replays that need them."""

    def __init__(self, organization: int) -> None:
        self.organization = organization
        self.running: dict[ReplayRun, float] = {}
        """The replays that have a slot, with the time when the turn of each began, by the monotonic clock."""
        self.waiting: dict[ReplayRun, None] = {}
        """The replays that have no slot. The first ones get the next slots."""
        self.held = 0
        """How many slots the worker may use: at least as many as replays run."""
        self.stored = 0
        """Upper bound of the slots that the store has for the worker: more than `held` after a failed write."""
        self.held_since = 0.0
        """When the worker last got its first slot, or passed one on, by the monotonic clock."""
        self.left_at = 0.0
        """When a replay last gave up its slot or its place, by the monotonic clock."""
        self.is_writing = False
        """Whether a task stores, or is about to store, how many slots the worker needs."""

    @property
    def wanted(self) -> int:
        return min(REPLAYS_AT_ONCE, len(self.running) + len(self.waiting))


class ReplaySlots:
    """Limits how many replays of each organization run at a time. The others wait in order of arrival.

    The worker takes slots from the store, and passes them on among its replays in memory. A replay needs a slot only
    while it has messages to read and may send. It needs none for retries, or while its listener is inactive. After a
    turn, it waits again behind the others.
    """

    def __init__(self, worker: WorkerContext) -> None:
        self._worker = worker
        self._shares: dict[int, _Share] = {}
        self._writing = asyncio.Lock()
        self._epoch = 0
        """Changes when the worker's slots may have passed to other workers."""

    def take(self, replay: ReplayRun) -> bool:
        """Take a slot, unless the replay has one. Returns False if all are taken; a free one then pumps the replay."""
        organization = replay.organization
        share = self._shares.get(organization)
        if share is None:
            share = self._shares[organization] = _Share(organization)
        if replay in share.running:
            return True
        if replay not in share.waiting:
            share.waiting[replay] = None
            if share.held < share.wanted:
                self._write(share)
        if replay not in islice(share.waiting, max(0, share.held - len(share.running))):
            return False
        del share.waiting[replay]
        share.running[replay] = self._worker.clock.monotonic()
        return True

    def leave(self, replay: ReplayRun) -> None:
        """Give up the replay's slot, or its place among those that wait, and let the next one run."""
        share = self._shares.get(replay.organization)
        if share is None or (replay not in share.running and replay not in share.waiting):
            return
        share.running.pop(replay, None)
        share.waiting.pop(replay, None)
        share.left_at = self._worker.clock.monotonic()
        if share.waiting:
            # In the next turn: the replay may be leaving from within a pump.
            asyncio.get_running_loop().call_soon(_start_waiting, share)

    def check(self) -> None:
        """End turns, ask for the slots that replays wait for, and give up unneeded slots. Called at each poll."""
        now = self._worker.clock.monotonic()
        for share in tuple(self._shares.values()):
            ended = [replay for replay, started_at in share.running.items() if now - started_at >= _TURN_SECONDS]
            for replay in ended[: len(share.waiting)]:
                self._end_turn(share, replay)
            _start_waiting(share)
            has_surplus = share.stored > share.wanted and now - share.left_at >= _KEPT_SECONDS
            # Other workers have the first chance to take a slot that was passed on.
            is_short = share.held < share.wanted and now - share.held_since >= _KEPT_SECONDS
            if has_surplus or is_short or self._may_pass_on(share):
                self._write(share)
            elif not share.wanted and not share.stored and not share.is_writing:
                del self._shares[share.organization]

    def invalidate(self) -> None:
        """Stop using slots until the store has confirmed them: the session or the store may have changed."""
        self._epoch += 1
        for share in self._shares.values():
            share.held, share.stored = 0, REPLAYS_AT_ONCE

    def _write(self, share: _Share) -> None:
        """Store in the background how many slots the worker needs."""
        if not share.is_writing:
            share.is_writing = True
            self._worker.spawn(self._write_wanted(share))

    async def _write_wanted(self, share: _Share) -> None:
        try:
            # One organization after another: there can be thousands of them.
            async with self._writing:
                has_passed_on, count = self._may_pass_on(share) and await self._pass_on(share), -1
                while count < share.wanted and not has_passed_on:
                    count = share.wanted
                    await self._hold(share, count)
        except Unavailable:
            # The store logs the cause. The next poll that succeeds repeats it.
            pass
        finally:
            share.is_writing = False
        _start_waiting(share)

    def _may_pass_on(self, share: _Share) -> bool:
        """Whether the turn of this worker is over, so that replays on other workers may have a slot."""
        is_over = self._worker.clock.monotonic() - share.held_since >= _TURN_SECONDS
        return share.held > 0 and is_over and self._worker.store.has_other_workers

    async def _pass_on(self, share: _Share) -> bool:
        """Give up a slot, unless another one is free. A later poll asks for it again."""
        share.held_since = self._worker.clock.monotonic()
        has_free = await self._worker.store.read(partial(replays.has_free_slot, organization=share.organization))
        # `invalidate` may have been called meanwhile.
        if has_free or not share.held:
            return False
        if len(share.running) >= share.held:
            self._end_turn(share, next(iter(share.running)))
        await self._hold(share, share.held - 1)
        return True

    def _end_turn(self, share: _Share, replay: ReplayRun) -> None:
        """Let a replay wait again: as the last in line after a full turn, otherwise as the first."""
        is_over = self._worker.clock.monotonic() - share.running.pop(replay) >= _TURN_SECONDS
        share.waiting = {**share.waiting, replay: None} if is_over else {replay: None, **share.waiting}
        # Many replays may wait: their messages would take memory that other lanes can use.
        replay.unread()

    async def _hold(self, share: _Share, count: int) -> None:
        """Hold `count` slots, or as many as are free."""
        epoch, before = self._epoch, share.stored
        # A slot that is given up must not be used from now on. Its owner is unknown until the store answers.
        share.held, share.stored = min(share.held, count), REPLAYS_AT_ONCE
        store, session_id = self._worker.store, self._worker.session.id
        hold = partial(replays.hold_slots, session_id=session_id, organization=share.organization, count=count)
        held = await store.write(hold)
        if epoch != self._epoch:
            return
        if held > share.held and not share.held:
            share.held_since = self._worker.clock.monotonic()
        share.held = share.stored = held
        if held < before:
            # Replays on other workers may wait for the slots.
            store.engine.notify(Notification(cursors=True))


def _start_waiting(share: _Share) -> None:
    """Start waiting replays while there are slots for them."""
    for replay in tuple(share.waiting):
        if len(share.running) >= share.held:
            return
        replay.pump()
