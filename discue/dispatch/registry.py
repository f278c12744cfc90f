"""Lanes for the cursors that this worker owns: taking cursors, and reading again what the store says of them."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from discue.dispatch.lane.endpoint import Endpoint
from discue.dispatch.lane.flush import Spawn
from discue.dispatch.lane.lane import Lane
from discue.dispatch.lane.tenure import WorkerLease
from discue.dispatch.lane_index import LaneIndex, ListenerKey
from discue.dispatch.reloading import RELOAD_PAUSE_SECONDS, ReloadQueue
from discue.domain.errors import DiscueError, Unavailable
from discue.observability.logs import Log
from discue.store import workers
from discue.store.cursors import LAST_CURSOR, LaneRecord, claim, lanes_after, lanes_of, release, renew_tokens
from discue.store.engine import CursorKey, QueueKey, Transaction
from discue.store.store import Store

_LANES_READ = 500
_CURSORS_AT_ONCE = 500
_LONGEST_PAUSE_SECONDS = 30.0


class Making(NamedTuple):
    """How a lane comes about: from what the store says of its cursor, and what its requests are made of.

    `endpoint` raises ValueError or DiscueError for a row that cannot be used.
    """

    endpoint: Callable[[LaneRecord], Endpoint]
    lane: Callable[[LaneRecord, Endpoint], Lane]


class LaneRegistry:
    """Puts lanes into `lanes`, and takes out those whose cursor is not ours any more.

    What the store says is read by one at a time: of two, the older could make a lane of what is not so any more.
    """

    def __init__(
        self, lanes: LaneIndex, store: Store, lease: WorkerLease, log: Log, spawn: Spawn, make: Making
    ) -> None:
        self.unowned: Callable[[], None] = _nobody_looks
        """Called when a listener changed that has no lane here: its cursor may be free, somebody should look."""
        self.is_closed = False
        self._lanes = lanes
        self._store = store
        self._lease = lease
        self._log = log
        self._make = make
        self._reloading = ReloadQueue(self._reload, spawn)
        self._reading = asyncio.Lock()
        self._dropped: set[CursorKey] = set()
        self._heads: dict[QueueKey, int] = {}
        self._losses: dict[ListenerKey, int] = {}
        self._lost_session_id = 0
        self._doubts = 0
        self._is_in_doubt = False

    async def take(self, cursors: Sequence[CursorKey]) -> int:
        """Claim those of the cursors that are free, and bring up a lane for each; how many were claimed.

        When it raises Unavailable, whatever was claimed all the same gets its lane as soon as the store works.
        """
        wanted = [key for key in cursors if key not in self._lanes]
        taken = 0
        for start in range(0, len(wanted), _CURSORS_AT_ONCE):
            if not self.is_closed:
                taken += await self._take(wanted[start : start + _CURSORS_AT_ONCE])
        return taken

    def doubt(self) -> None:
        """The store may be another one: drop every lane, and bring none up before `start_over`."""
        self._is_in_doubt = True
        self.close_all()

    async def start_over(self) -> None:
        """Nothing that was read holds any more: drop every lane, and bring up those that the store says are ours.

        Raises Unavailable when that could not be finished: then it must be called again.
        """
        self.close_all()
        # Whoever reads at this moment must not make lanes of that.
        self._doubts += 1
        try:
            await self._reading.acquire()
        finally:
            self._doubts -= 1
        try:
            self._is_in_doubt = False
            await self._store.write(partial(renew_tokens, owner=self._lease.session_id))
            await self._bring_up(None)
        finally:
            self._reading.release()

    def drop_all(self) -> None:
        """The incarnation is lost: close every lane, and record nothing more."""
        self._lost_session_id = self._lease.session_id
        self.close_all()

    def close_all(self) -> None:
        for lane in self._lanes:
            self.drop(lane)

    def drop(self, lane: Lane) -> None:
        lane.close()
        self._lanes.remove(lane)
        self._dropped.add(lane.key)

    def end(self, lane: Lane) -> None:
        """Its cursor is somebody else's, or gone for good."""
        self.drop(lane)

    def lose(self, lane: Lane) -> None:
        """What the lane knew is not what the store holds: start again from there.

        A lane that never gets anything stored sends the same again each time: it waits ever longer.
        """
        losses = 1 if lane.has_stored else self._losses.get(lane.key[:2], 0) + 1
        self._losses[lane.key[:2]] = losses
        self._log.warning("lane_lost", listener=lane.record.listener_public_id, losses_in_a_row=losses)
        self.drop(lane)
        if losses == 1:
            self._reloading.ask(lane.key[:2])
        else:
            pause_seconds = min(RELOAD_PAUSE_SECONDS * 2 ** min(losses, 10), _LONGEST_PAUSE_SECONDS)
            asyncio.get_running_loop().call_later(pause_seconds, self._reloading.ask, lane.key[:2])

    def reload(self, lanes: Iterable[Lane]) -> None:
        """Read again what their endpoints are, and whether they are ours."""
        for lane in lanes:
            self._reloading.ask(lane.key[:2])

    def reload_listener(self, organization: int, listener: int) -> None:
        self._reloading.ask((organization, listener))

    async def _reload(self, organization: int, listener: int) -> None:
        async with self._reading:
            owner = self._lease.session_id
            read = partial(lanes_of, owner=owner, organization=organization, listener=listener)
            records = await self._read(read)
            lanes = self._lanes.of_listener((organization, listener))
            if not records:
                self._losses.pop((organization, listener), None)
                if not lanes:
                    self.unowned()
            found = {record.key for record in records}
            for lane in lanes:
                if lane.key not in found:
                    self.end(lane)
            made = [self._brought_up_to_date(record) for record in records]
            self._begin([lane for lane in made if lane is not None])

    def _brought_up_to_date(self, record: LaneRecord) -> Lane | None:
        """The lane of a cursor, if it is a new one."""
        current = self._lanes.get(record.key)
        if current is None:
            return self._take_up(record)
        if (endpoint := self._endpoint(record)) is None:
            self.drop(current)
        else:
            current.configure(endpoint)
            if record.has_redeliveries:
                current.redeliver()
        return None

    async def _take(self, cursors: Sequence[CursorKey]) -> int:
        owner = self._lease.session_id
        async with self._reading:
            try:
                won = await self._store.write(partial(_claim, owner=owner, cursors=cursors))
                if self.is_closed:
                    await self._store.write(partial(release, owner=owner, cursors=won))
                    return 0
                if won:
                    await self._bring_up(won)
            except Unavailable:
                # Whether they were claimed is not known, or they were and could not be read.
                for key in cursors:
                    self._reloading.ask(key[:2])
                raise
        return len(won)

    async def _bring_up(self, only: Sequence[CursorKey] | None) -> None:
        """A lane for each cursor of ours, or for those of `only`, which are in key order."""
        wanted = None if only is None else frozenset(only)
        after, last = _span(only)
        read = partial(lanes_after, owner=self._lease.session_id, limit=_LANES_READ, last=last)
        full, made = True, list[Lane]()
        while full:
            records = await self._read(partial(read, after=after))
            some = [record for record in records if wanted is None or record.key in wanted]
            made += [lane for record in some if (lane := self._take_up(record)) is not None]
            full = len(records) == _LANES_READ
            after = records[-1].key if records else after
            # Those of a listener begin together, each knowing of the others.
            rest = [lane for lane in made if full and lane.key[:2] == after[:2]]
            self._begin([lane for lane in made if lane not in rest])
            made = rest

    async def _read(self, work: Callable[[Transaction], Coroutine[Any, Any, list[LaneRecord]]]) -> list[LaneRecord]:
        self._dropped.clear()
        self._heads.clear()
        return await self._store.read(work)

    def note_head(self, queue: QueueKey, head: int) -> None:
        """Lanes that are being read may have been read before that."""
        if self._reading.locked():
            self._heads[queue] = max(head, self._heads.get(queue, 0))

    def _begin(self, lanes: Sequence[Lane]) -> None:
        for lane in lanes:
            if not lane.closed:
                lane.begin(self._heads.get((lane.organization, lane.record.queue), 0))

    def _take_up(self, record: LaneRecord) -> Lane | None:
        """A new lane, which has not begun.

        What was read before its lane was dropped here, or under another incarnation, is not so any more.
        """
        key, owner = record.key, record.owner
        if self.is_closed or self._is_in_doubt or self._doubts or key in self._lanes or key in self._dropped:
            return None
        if owner != self._lease.session_id or owner == self._lost_session_id:
            return None
        if (endpoint := self._endpoint(record)) is None:
            return None
        lane = self._make.lane(record, endpoint)
        self._lanes.add(lane)
        return lane

    def _endpoint(self, record: LaneRecord) -> Endpoint | None:
        """None for a row that cannot be used, which must not keep the others from running."""
        try:
            return self._make.endpoint(record)
        except (DiscueError, ValueError) as error:
            self._log.error("listener_unusable", exc_info=error, listener=record.listener_public_id)
            return None


def _nobody_looks() -> None:
    """There is nobody who takes cursors."""


def _span(cursors: Sequence[CursorKey] | None) -> tuple[CursorKey, CursorKey]:
    """A key before the first and the last of some cursors in key order; those of all when it is None."""
    if cursors is None:
        return (0, 0, 0), LAST_CURSOR
    organization, listener, stream = cursors[0]
    return (organization, listener, stream - 1), cursors[-1]


async def _claim(tx: Transaction, owner: int, cursors: Sequence[CursorKey]) -> list[CursorKey]:
    """Nothing for a worker that was declared dead: its cursors would be nobody's."""
    return await claim(tx, owner, cursors) if await workers.hold(tx, owner) else []
