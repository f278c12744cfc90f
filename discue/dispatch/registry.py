# A worker has a lane for each cursor that it owns and that is not idle. Lanes come up when cursors are claimed, when a
# message is published for an idle cursor, and when the store is read again: after a listener changed, a flush was
# refused, or an outage. Only one such read runs at a time: of two, the older could bring up a lane for a cursor that
# has changed hands since.
"""The lanes of a worker: finding them, bringing them up, and reading again what the store says of their cursors."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, KeysView, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from struct import Struct
from typing import Any, Final

import msgspec

from discue.dispatch.lane.context import ReservedReads
from discue.dispatch.lane.endpoint import Endpoint
from discue.dispatch.lane.lane import Lane, LaneContext
from discue.dispatch.lane.limits import LANES_PER_TURN, FairShare
from discue.dispatch.lane.owned_cursor import DAMAGED_RETRY_SECONDS, STORE_RETRY_SECONDS
from discue.domain.clock import Clock
from discue.domain.errors import DiscueError, StoreDamaged, Unavailable
from discue.store import workers
from discue.store.cursors import LAST_CURSOR, LaneRecord, lanes_after, lanes_of, release, renew_tokens
from discue.store.engine import CursorKey, QueueKey, Transaction
from discue.store.group_commit import call_apart
from discue.store.time_slice import TimeSlice

_LONGEST_PAUSE_SECONDS: Final = 30.0

ListenerKey = tuple[int, int]
"""Organization and listener, by their row ids."""


_PREFIX: Final = Struct("<qq")
"""The position and the queue of an idle cursor, in front of its record."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(LaneRecord).decode


class LaneIndex:
    """The cursors of a worker by listener and by queue, each with its lane or, while it is idle, its packed record.

    A lane takes about 10 kB, a packed record 300 bytes. The index may change while a caller iterates over a result.
    """

    def __init__(self, clock: Clock, make_lane: Callable[[LaneRecord], Lane | None]) -> None:
        """`make_lane` makes and adds the lane of an idle cursor."""
        self._clock = clock
        self._make_lane = make_lane
        self._by_cursor: dict[CursorKey, Lane | bytes] = {}
        self._awake: dict[CursorKey, Lane] = {}
        """The lanes among them: few of 100,000 cursors have one."""
        self._by_queue: dict[QueueKey, CursorKey | dict[CursorKey, None]] = {}
        """The only cursor of a queue, or all of them in order: a dictionary takes 230 bytes."""
        self._fair_shares: dict[ListenerKey, FairShare] = {}

    def __len__(self) -> int:
        """Return the number of cursors, those without a lane included."""
        return len(self._by_cursor)

    def __iter__(self) -> Iterator[Lane]:
        return iter([*self._awake.values()])

    def __contains__(self, key: object) -> bool:
        return key in self._by_cursor

    @property
    def cursors(self) -> KeysView[CursorKey]:
        return self._by_cursor.keys()

    @property
    def queues(self) -> tuple[QueueKey, ...]:
        return tuple(self._by_queue)

    def get(self, key: CursorKey) -> Lane | None:
        """Return the lane of a cursor; None if the cursor is idle or unknown."""
        return self._awake.get(key)

    def wake(self, key: CursorKey) -> Lane | None:
        """Return the lane of a cursor, which gets one if it is idle."""
        lane = self._by_cursor.get(key)
        return self._make_lane(_unpacked(lane)) if isinstance(lane, bytes) else lane

    def idle_records(self, queue: str) -> Iterator[LaneRecord]:
        """Yield the records of idle cursors; `queue` is the public id of their queue, or "" for all."""
        text = queue.encode()
        packed = [each for each in self._by_cursor.values() if isinstance(each, bytes) and text in each]
        return (record for record in map(_unpacked, packed) if queue in {"", record.queue_public_id})

    def cursors_of_queue(self, queue: QueueKey) -> tuple[CursorKey, ...]:
        found = self._by_queue.get(queue, {})
        return tuple(found) if isinstance(found, dict) else (found,)

    def of_queue(self, queue: QueueKey, head: int) -> tuple[list[Lane], list[CursorKey]]:
        """Return the lanes of a queue, and its idle cursors that have not settled everything up to `head`."""
        lanes, behind = [], []
        for key in self.cursors_of_queue(queue):
            found = self._by_cursor[key]
            if not isinstance(found, bytes):
                lanes.append(found)
            elif _PREFIX.unpack_from(found)[0] < head:
                behind.append(key)
        return lanes, behind

    def of_listener(self, listener: ListenerKey) -> tuple[Lane, ...]:
        """Return the lanes of a listener, the live one first."""
        live, fair_share = self.get((*listener, 0)), self._fair_shares.get(listener)
        keys = () if fair_share is None else fair_share.replays
        replays = (lane for key in keys if (lane := self.get(key)) is not None)
        return (*(() if live is None else (live,)), *replays)

    def of_listeners(self, cursors: Iterable[CursorKey]) -> tuple[Lane, ...]:
        """Return all lanes of the listeners that these cursors belong to."""
        listeners = dict.fromkeys((organization, listener) for organization, listener, _ in cursors)
        return tuple(lane for listener in listeners for lane in self.of_listener(listener))

    def add(self, lane: Lane) -> None:
        key, listener = lane.key, lane.key[:2]
        self._put(lane.record, lane)
        fair_share = self._fair_shares.get(listener)
        if key[2] and fair_share is None:
            live = self.wake((*listener, 0))
            fair_share = FairShare(self._clock, partial(self._fair_shares.pop, listener, None))
            self._fair_shares[listener] = fair_share
            if live is not None:
                fair_share.join(live.limits)
        if fair_share is not None:
            fair_share.join(lane.limits)

    def add_idle(self, record: LaneRecord) -> bool:
        """Keep the record of a cursor, instead of its lane if it has one. False if the cursor is not idle."""
        # A listener's replays need its live lane.
        if not record.is_idle or record.key[:2] in self._fair_shares:
            return False
        self._put(record, _PREFIX.pack(record.position, record.queue) + _encode(record))
        return True

    def remove(self, key: CursorKey) -> None:
        """Remove a cursor, with its lane if it has one."""
        found = self._by_cursor.pop(key, None)
        if found is None:
            return
        queue = _PREFIX.unpack_from(found)[1] if isinstance(found, bytes) else found.record.queue
        cursors = self._by_queue[key[0], queue]
        if isinstance(cursors, dict):
            del cursors[key]
        if not cursors or cursors == key:
            del self._by_queue[key[0], queue]
        if (lane := self._awake.pop(key, None)) is not None and (fair_share := self._fair_shares.get(key[:2])):
            fair_share.leave(lane.limits)

    def _put(self, record: LaneRecord, lane: Lane | bytes) -> None:
        key, queue = record.key, (record.organization, record.queue)
        if key not in self._by_cursor:
            others = self._by_queue.get(queue)
            if others is None:
                self._by_queue[queue] = key
            elif isinstance(others, dict):
                others[key] = None
            else:
                self._by_queue[queue] = {others: None, key: None}
        self._by_cursor[key] = lane
        if isinstance(lane, bytes):
            self._awake.pop(key, None)
        else:
            self._awake[key] = lane


def _unpacked(packed: bytes) -> LaneRecord:
    return _decode(packed[_PREFIX.size :])


class LaneRegistry:
    """Brings up lanes for the cursors that this worker owns, and drops those of cursors that it lost."""

    def __init__(
        self,
        context: LaneContext,
        *,
        make_endpoint: Callable[[LaneRecord], Endpoint],
        on_unowned: Callable[[], None],
    ) -> None:
        self.is_closed = False
        """Set when the worker leaves: it takes no cursors any more, and gives all of them up."""
        self.lanes = self._lanes = LaneIndex(context.clock, self._wake)
        self._context = context
        self._make_endpoint = make_endpoint
        """Raises ValueError or DiscueError for a row that cannot be used."""
        self._on_unowned = on_unowned
        """Called when a listener changed that has no lane here: its cursor may be free to claim."""
        self._to_reload: dict[int, dict[int, None]] = {}
        """Listeners to read again, by organization."""
        self._reload_task: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._dropped: set[CursorKey] = set()
        """Cursors whose lanes were dropped since the last read began: what it says of them is out of date."""
        self._heads: dict[QueueKey, int] = {}
        """Heads of logs that were notified since the last read began."""
        self._given_up: set[CursorKey] = set()
        """Cursors that get no lane because they are being given up."""
        self._waking: dict[CursorKey, int] = {}
        """Idle cursors whose lanes are made later, each with the head of its queue."""
        self._monotonic = context.session.clock.monotonic
        self._waking_slice = TimeSlice(self._monotonic)
        """The time that making lanes has taken since other work last ran."""
        self._losses: dict[ListenerKey, int] = {}
        """How often in a row a lane of each listener was lost before it flushed anything."""
        self._lost_session_id = 0
        self._is_invalid = False
        """Whether nothing that is being read may be used."""

    async def take(self, cursors: Sequence[CursorKey]) -> int:
        """Claim free cursors, bring up their lanes, and return how many were claimed.

        Raises Unavailable if the store does not work; whatever was claimed all the same gets its lane as soon as it
        does. If only some rows are damaged, the listeners without damage get their lanes later, one after another.
        """
        # A cursor that is given up gets no lane: if the session expires meanwhile, it is free before that has ended.
        wanted = [key for key in cursors if key not in self._lanes and key not in self._given_up]
        taken = 0
        for start in range(0, len(wanted), self._context.tuning.cursors_per_claim):
            if not self.is_closed:
                taken += await self._take(wanted[start : start + self._context.tuning.cursors_per_claim])
        return taken

    def invalidate(self) -> None:
        """Drop all lanes because the store may be another server, and bring none up before `reset`."""
        self._is_invalid = True
        self.close_all()

    async def reset(self) -> None:
        """Drop all lanes, and bring up those that the store says are this worker's.

        Raises Unavailable if that could not be finished; then it must be called again.
        """
        self.invalidate()
        async with self._reading:
            self._is_invalid = False
            await self._context.store.write_urgently(partial(renew_tokens, owner=self._context.session.id))
            await self._bring_up(None)

    def drop_all(self) -> None:
        """Drop all lanes because the session was expired by another worker."""
        self._lost_session_id = self._context.session.id
        self.close_all()

    def close_all(self) -> None:
        for key in tuple(self._lanes.cursors):
            self.drop_cursor(key)
        self._context.replay_slots.invalidate()

    def drop(self, lane: Lane) -> None:
        """Close a lane, and drop its cursor unless another lane has taken its place."""
        lane.close()
        if self._lanes.get(lane.key) is lane:
            self._lanes.remove(lane.key)
        self._dropped.add(lane.key)

    def drop_cursor(self, key: CursorKey) -> None:
        """Drop a cursor, with its lane if it has one."""
        if (lane := self._lanes.get(key)) is not None:
            lane.close()
        self._lanes.remove(key)
        self._dropped.add(key)

    @contextmanager
    def without_lanes(self, cursors: Iterable[CursorKey]) -> Iterator[list[CursorKey]]:
        """Keep those cursors that have no lane from getting one while they are released. Yields them.

        A lane would send messages that are published before the release is stored. At the end, cursors that were not
        released are read again: they may have missed such messages.
        """
        idle = [key for key in cursors if self._lanes.get(key) is None]
        self._given_up.update(idle)
        try:
            yield idle
        finally:
            kept = self._given_up.intersection(idle)
            self._given_up -= kept
            if not self.is_closed:
                self.reload(kept)

    def on_released(self, key: CursorKey) -> None:
        """Drop a cursor whose release is stored."""
        self._given_up.discard(key)
        self.drop_cursor(key)

    def of_queue(self, queue: QueueKey, head: int) -> list[Lane]:
        """Return the lanes of a queue that may have something to do, since its log goes to `head`.

        Idle cursors get their lanes. A queue can have thousands of them, and a commit hundreds of queues: lanes that do
        not fit into 5 ms are made later, and read what was published.
        """
        lanes, behind = self._lanes.of_queue(queue, head)
        waking = self._waking_slice
        for key in behind:
            if waking.is_over:
                if not self._waking:
                    self._context.spawn(self._wake_later())
                self._waking[key] = head
            elif (lane := self._wake_in_slice(key)) is not None:
                lanes.append(lane)
        return lanes

    def _wake_in_slice(self, key: CursorKey) -> Lane | None:
        waking = self._waking_slice
        if not waking.spent:
            asyncio.get_running_loop().call_soon(waking.begin)
        began = self._monotonic()
        lane = self._lanes.wake(key)
        waking.spent += self._monotonic() - began
        return lane

    async def _wake_later(self) -> None:
        while self._waking:
            key = next(iter(self._waking))
            head = self._waking.pop(key)
            if (lane := self._wake_in_slice(key)) is not None and lane.backlog.on_head(head):
                call_apart(lane.pump)
            if self._waking_slice.is_over:
                await asyncio.sleep(0)

    async def drop_idle(self) -> None:
        """Drop the lanes that have been idle since the last call, and keep the records of their cursors."""
        lanes = iter(self._lanes)
        while some := tuple(islice(lanes, LANES_PER_TURN)):
            # A read in progress may return an older state of a cursor than its record would have.
            async with self._reading:
                for lane in some:
                    if lane.is_closed:
                        continue
                    was_used, lane.was_used = lane.was_used, False
                    if not (was_used or lane.is_needed) and self._lanes.add_idle(lane.idle_record()):
                        lane.close()
            await asyncio.sleep(0)

    def lose(self, lane: Lane) -> None:
        """Drop a lane whose flush was refused, and read its listener again.

        A lane that never flushes sends the same messages again each time, so this waits longer after each loss.
        """
        losses = 1 if lane.has_flushed else self._losses.get(lane.key[:2], 0) + 1
        self._losses[lane.key[:2]] = losses
        self._context.log.warning("lane_lost", listener=lane.record.listener_public_id, losses_in_a_row=losses)
        self.drop(lane)
        if losses == 1:
            self.reload_listener(*lane.key[:2])
        else:
            pause_seconds = min(STORE_RETRY_SECONDS * 2 ** min(losses, 10), _LONGEST_PAUSE_SECONDS)
            asyncio.get_running_loop().call_later(pause_seconds, self.reload_listener, *lane.key[:2])

    def reload(self, cursors: Iterable[CursorKey]) -> None:
        """Read the listeners of these cursors again: their configuration, and who owns the cursors."""
        for organization, listener, _ in cursors:
            self.reload_listener(organization, listener)

    def reload_listener(self, organization: int, listener: int) -> None:
        """Read a listener again, until the store has answered. Organizations alternate: one may have 100,000."""
        self._to_reload.setdefault(organization, {})[listener] = None
        if self._reload_task is None:
            self._reload_task = self._context.spawn(self._reload_all())

    def note_head(self, queue: QueueKey, head: int) -> None:
        """Note how far a log goes, for lanes whose records are being read."""
        if self._reading.locked():
            self._heads[queue] = max(head, self._heads.get(queue, 0))

    async def _reload_all(self) -> None:
        try:
            while self._to_reload:
                organization = next(iter(self._to_reload))
                listeners = self._to_reload.pop(organization)
                listener, _ = listeners.popitem()
                if listeners:
                    self._to_reload[organization] = listeners
                try:
                    await self._reload(organization, listener)
                except StoreDamaged:
                    # Later, so that it is not read again and again before the other listeners.
                    retry = partial(self.reload_listener, organization, listener)
                    asyncio.get_running_loop().call_later(DAMAGED_RETRY_SECONDS, retry)
                except Unavailable:
                    self._to_reload.setdefault(organization, {})[listener] = None
                    await asyncio.sleep(STORE_RETRY_SECONDS)
        finally:
            self._reload_task = None

    async def _reload(self, organization: int, listener: int) -> None:
        async with self._reading:
            owner = self._context.session.id
            records = await self._read(partial(lanes_of, owner=owner, organization=organization, listener=listener))
            lanes = self._lanes.of_listener((organization, listener))
            known = {(organization, listener, 0), *(lane.key for lane in lanes)} & self._lanes.cursors
            if not records:
                self._losses.pop((organization, listener), None)
                if not known:
                    self._on_unowned()
            for key in sorted(known - {record.key for record in records}):
                self.drop_cursor(key)
            made = [self._update_or_make(record) for record in records]
            self._begin([lane for lane in made if lane is not None])

    def _update_or_make(self, record: LaneRecord) -> Lane | None:
        """Configure the lane of a cursor. Returns a new lane if there is none."""
        current = self._lanes.get(record.key)
        if current is None or current.record.token < record.token:
            return self._make(record)
        if (endpoint := self._endpoint(record)) is None:
            self.drop(current)
        else:
            current.configure(endpoint, record)
            if record.has_redeliveries:
                current.redelivery.begin()
        return None

    async def _take(self, cursors: Sequence[CursorKey]) -> int:
        owner = self._context.session.id
        async with self._reading:
            try:
                claim = partial(workers.claim_cursors, session_id=owner, cursors=cursors)
                won = await self._context.store.write_urgently(claim)
                if self.is_closed:
                    await self._context.store.write_urgently(partial(release, owner=owner, cursors=won))
                    return 0
                # A replay that came up while its live cursor was given up may have ended elsewhere: no record of it is
                # read now, and its old lane would send it again, next to the live lane.
                for lane in self._lanes.of_listeners(key for key in won if not key[2]):
                    self.drop(lane)
                if won:
                    await self._bring_up(won)
            except workers.MayNotClaim:
                return 0
            except Unavailable as error:
                # It is unknown whether they were claimed, or they were and could not be read.
                for key in cursors:
                    self.reload_listener(*key[:2])
                if isinstance(error, StoreDamaged):
                    # Each listener is read alone: only those that are damaged get no lane.
                    return 0
                raise
        return len(won)

    async def _bring_up(self, only: Sequence[CursorKey] | None) -> None:
        """Bring up a lane for each cursor of this worker, or for those of `only`, which are in key order."""
        wanted, after, last = None, (0, 0, 0), LAST_CURSOR
        if only is not None:
            organization, listener, stream = only[0]
            wanted, after, last = frozenset(only), (organization, listener, stream - 1), only[-1]
        owner, limit = self._context.session.id, self._context.tuning.lanes_per_read
        read = partial(lanes_after, owner=owner, limit=limit, last=last)
        is_full, made = True, list[Lane]()
        while is_full:
            records = await self._read(partial(read, after=after))
            some = [record for record in records if wanted is None or record.key in wanted]
            made += [lane for record in some if (lane := self._make(record)) is not None]
            is_full = len(records) == limit
            after = records[-1].key if records else after
            # The lanes of a listener begin together, each knowing of the others.
            rest = [lane for lane in made if is_full and lane.key[:2] == after[:2]]
            self._begin([lane for lane in made if lane not in rest])
            made = rest

    async def _read(self, work: Callable[[Transaction], Coroutine[Any, Any, list[LaneRecord]]]) -> list[LaneRecord]:
        self._dropped.clear()
        self._heads.clear()
        return await self._context.store.read(work)

    def _begin(self, lanes: Sequence[Lane]) -> None:
        for lane in lanes:
            if not lane.is_closed:
                call_apart(lane.begin, self._heads.get((lane.record.organization, lane.record.queue), 0))

    def _make(self, record: LaneRecord) -> Lane | None:
        """Return a new lane that has not begun.

        Returns None for an idle cursor, and for a record that was read before its lane was dropped, or under another
        session.
        """
        key, owner = record.key, record.owner
        if (lane := self._lanes.get(key)) is not None and lane.record.token < record.token:
            # The lane of an earlier ownership, whose flushes the store would refuse. A replay's cursor goes with the
            # live one to another worker and back, while its old lane may still be here.
            lane.close()
            self._lanes.remove(key)
        if self.is_closed or self._is_invalid or self._lanes.get(key) is not None or key in self._dropped:
            return None
        if key in self._given_up:
            return None
        if owner != self._context.session.id or owner == self._lost_session_id:
            return None
        if self._heads.get((record.organization, record.queue), 0) <= record.head and self._lanes.add_idle(record):
            return None
        return self._new_lane(record)

    def _wake(self, record: LaneRecord) -> Lane | None:
        is_wanted = not self.is_closed and record.key not in self._given_up
        if is_wanted and (lane := self._new_lane(record)) is not None:
            lane.begin(0)
            return lane
        return None

    def _new_lane(self, record: LaneRecord) -> Lane | None:
        if (endpoint := self._endpoint(record)) is None:
            self._lanes.remove(record.key)
            return None
        context = self._context
        if record.replay is not None:
            reads = ReservedReads(context.store, record.organization, context.reads.slots)
            context = msgspec.structs.replace(context, reads=reads)
        lane = Lane(record, endpoint, context, self)
        self._lanes.add(lane)
        return lane

    def _endpoint(self, record: LaneRecord) -> Endpoint | None:
        """Return None for a row that cannot be used: it must not keep the other lanes from running."""
        try:
            return self._make_endpoint(record)
        except (DiscueError, ValueError) as error:
            self._context.log.error("listener_unusable", exc_info=error, listener=record.listener_public_id)
            return None
