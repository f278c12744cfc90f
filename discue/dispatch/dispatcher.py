"""All lanes of a worker: takes cursors, hands lanes what was published, wakes them, and gives cursors up again."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from discue.crypto.keyring import Keyring
from discue.dispatch.lane.budget import BodyBudget
from discue.dispatch.lane.context import Reach
from discue.dispatch.lane.endpoint import DeliveryDefaults, Endpoint, endpoint_of
from discue.dispatch.lane.flush import STORE_RETRY_SECONDS
from discue.dispatch.lane.gate import ConcurrencyLimiter
from discue.dispatch.lane.handover_outcomes import HandoverOutcomes
from discue.dispatch.lane.health_writer import HealthWriter
from discue.dispatch.lane.in_flight_attempt import InFlightAttempt
from discue.dispatch.lane.lane import Lane, LaneContext
from discue.dispatch.lane.probes import Prober
from discue.dispatch.lane.reads import LimitedReads
from discue.dispatch.lane.replay import ReplayLane
from discue.dispatch.lane.tenure import WorkerLease
from discue.dispatch.lane_index import LaneIndex
from discue.dispatch.registry import LaneRegistry, Making
from discue.dispatch.reloading import RELOAD_PAUSE_SECONDS
from discue.dispatch.timers import Sleeper, Timers
from discue.domain.attempts import Outcome
from discue.domain.clock import Clock
from discue.domain.errors import Unavailable
from discue.domain.ids import RowIds
from discue.observability.logs import Log
from discue.store import listeners
from discue.store.cursors import LaneRecord, release
from discue.store.engine import Appended, CursorKey, Notification, QueueKey
from discue.store.events import Occurrence
from discue.store.store import Store

_RELEASED_AT_ONCE = 1_000
_STORING_SECONDS = 5.0


class DispatchLimits(msgspec.Struct, frozen=True):
    """The settings that bound what a worker does at once."""

    max_in_flight: int
    listener_max_in_flight: int
    tail_buffer_bytes: int
    timeout_ms: int
    deadline_ms: int
    disable_after_seconds: int


class Sources(msgspec.Struct, frozen=True):
    """Where time, randomness (from [0, 1)), the numbers of attempts, and the keys to what is encrypted come from."""

    clock: Clock
    random: Callable[[], float]
    row_ids: RowIds
    keyring: Keyring = msgspec.field(default_factory=Keyring)


class Dispatcher:
    """Has a lane for each cursor that it took, until it hands that over or the worker's tenure is lost.

    A lane that finds the tenure not held starts nothing until `resumed`.
    """

    def __init__(
        self, store: Store, reach: Reach, limits: DispatchLimits, sources: Sources, log: Log, lease: WorkerLease
    ) -> None:
        self._store = store
        self._clock = sources.clock
        self._log = log
        self._lease = lease
        self._lanes = LaneIndex()
        defaults = DeliveryDefaults(limits.listener_max_in_flight, limits.timeout_ms)
        making = Making(partial(endpoint_of, defaults=defaults, keyring=sources.keyring), self._make)
        self._tasks: set[asyncio.Task[None]] = set()
        self._registry = LaneRegistry(self._lanes, store, lease, log, self._spawn, making)
        self._handover_outcomes = HandoverOutcomes(store, self._spawn, self._told_of_ends)
        self.gate = ConcurrencyLimiter(limits.max_in_flight)
        self.timers = Timers(sources.clock)
        self._health_writer = HealthWriter(store, sources.clock, log, self._spawn, self._wake_at)
        self.prober = Prober(reach.probe, (sources.clock, sources.random), lease, self._wake_at, self._health_writer)
        self.deadline_ms = limits.deadline_ms
        self._context = LaneContext(
            store=store,
            reads=LimitedReads(store),
            deliver=reach.deliver,
            gate=self.gate,
            budget=BodyBudget(limits.tail_buffer_bytes),
            clock=sources.clock,
            row_ids=sources.row_ids,
            random=sources.random,
            lease=lease,
            deadline_ms=limits.deadline_ms,
            disable_after_seconds=limits.disable_after_seconds,
            wake_at=self._wake_at,
            attempted=self._attempted,
            disable=self._disable,
            lost=self._registry.lose,
            ended=self._registry.end,
            spawn=self._spawn,
            handover_outcomes=self._handover_outcomes,
            prober=self.prober,
            lapsed=set(),
            hosts=set(),
        )

    async def take(self, cursors: Sequence[CursorKey]) -> int:
        """Claim those of the cursors that are free, and bring up a lane for each; how many were claimed.

        When it raises Unavailable, whatever was claimed all the same gets its lane as soon as the store works.
        """
        return await self._registry.take(cursors)

    def doubt(self) -> None:
        """The store may be another one: drop every lane, and bring none up before `start_over`."""
        self._registry.doubt()

    async def start_over(self) -> None:
        """Nothing that was read holds any more: drop every lane, and bring up those that the store says are ours.

        Raises Unavailable when that could not be finished: then it must be called again.
        """
        await self._registry.start_over()

    def drop_all(self) -> None:
        """The incarnation is lost: close every lane, and record nothing more."""
        self._registry.drop_all()

    async def hand_over(self, cursors: Sequence[CursorKey]) -> None:
        """Give cursors up, with everything that their lanes know. Returns when the store has all of it.

        What is under way goes on, and what becomes of it is stored when it ends. While the store does not work
        this waits for it.
        """
        lanes = self._lanes.of_listeners(cursors)
        for lane in lanes:
            lane.begin_leaving()
        await self._health_writer.store(lanes)
        without_lane = [key for key in cursors if key not in self._lanes]
        # Whoever takes a live cursor takes those of its replays along: what they have under way is stored by then.
        await self._give_up([lane for lane in lanes if lane.key[2]], [])
        await self._give_up([lane for lane in lanes if not lane.key[2]], without_lane)
        self._store.engine.notify(Notification(cursors=True))

    @property
    def unowned(self) -> Callable[[], None]:
        """Called when a listener changed that has no lane here: its cursor may be free, somebody should look."""
        return self._registry.unowned

    @unowned.setter
    def unowned(self, call: Callable[[], None]) -> None:
        self._registry.unowned = call

    @property
    def owned(self) -> Collection[CursorKey]:
        """The cursors that have lanes here."""
        return self._lanes.cursors

    @property
    def queues(self) -> tuple[QueueKey, ...]:
        """Those whose messages lanes here deliver."""
        return self._lanes.queues

    @property
    def lanes(self) -> int:
        return len(self._lanes)

    @property
    def under_way(self) -> int:
        """Requests for cursors that were given up, until what became of them is stored."""
        return self._handover_outcomes.under_way

    def appended(self, appended: Appended) -> None:
        """Hand stored messages to the lanes of their queue."""
        queue = (appended.organization, appended.queue)
        if any(entry.is_delayed for entry in appended.entries):
            # What is not due yet lanes step over when they read the log.
            self.heard([(queue, appended.entries[-1].seq)])
            return
        self._registry.note_head(queue, appended.entries[-1].seq)
        for lane in self._lanes.of_queue(queue):
            lane.published(appended.entries)

    def heard(self, heads: Iterable[tuple[QueueKey, int]]) -> None:
        """How far logs go: lanes that do not know it yet read on."""
        for queue, head in heads:
            self._registry.note_head(queue, head)
            for lane in self._lanes.of_queue(queue):
                lane.heard(head)

    def changed(self, kind: str, organization: int, ref: int) -> None:
        """Follow the change feed: lanes that it concerns are read again, after a deletion only what they hold."""
        if kind == "message":
            for lane in self._lanes.of_queue((organization, ref)):
                lane.reread()
        elif kind == "listener":
            self._registry.reload_listener(organization, ref)
        elif kind == "queue":
            self._registry.reload(self._lanes.of_queue((organization, ref)))
        elif kind in {"organization", "domain", "everything"}:
            everything = kind == "everything"
            self._registry.reload(lane for lane in self._lanes if everything or lane.organization == organization)

    def wake(self) -> None:
        """Let every lane run whose time has come."""
        self.timers.ring()

    def resumed(self) -> None:
        """The tenure is held again: lanes that found it lapsed go on."""
        lapsed = tuple(self._context.lapsed)
        self._context.lapsed.clear()
        for lane in lapsed:
            lane.pump()

    def look_for_guests(self) -> None:
        """Something may have become of what others have under way for cursors that are ours."""
        for lane in tuple(self._context.hosts):
            lane.look_for_guests()

    async def miss_too_old(self) -> None:
        """Deliveries that waited longer than the deadline allows are missed, also those of disabled listeners."""
        before = self._clock.now() - self.deadline_ms
        for lane in self._lanes:
            await lane.miss_older_than(before)

    def begin_drain(self) -> None:
        """Start nothing new from now on, and take no cursors."""
        self._registry.is_closed = True
        for lane in self._lanes:
            lane.draining = True

    async def drain(self, grace_seconds: float) -> None:
        """Hand every cursor over, and give what is under way its time.

        What takes longer stays as it is in the store: when this worker's row is gone, the next owner makes those
        attempts again. So it is with whatever the store does not take in that time, or within 5 s.
        """
        self.begin_drain()
        ends_at = asyncio.get_running_loop().time() + grace_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(max(grace_seconds, _STORING_SECONDS)):
                await self.hand_over(tuple(self._lanes.cursors))
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ends_at):
                await self._handover_outcomes.empty()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STORING_SECONDS):
                await self._handover_outcomes.stored()
        self._registry.close_all()
        self._handover_outcomes.close()
        self._health_writer.close()
        self.timers.stop()

    async def _give_up(self, lanes: Sequence[Lane], without_lane: Sequence[CursorKey]) -> None:
        idle = [lane.key for lane in lanes if lane.is_idle]
        busy = [self._hand_over(lane) for lane in lanes if not lane.is_idle]
        await asyncio.gather(self._release([*idle, *without_lane]), *busy)

    async def _hand_over(self, lane: Lane) -> None:
        await lane.hand_over()
        self._registry.drop(lane)

    async def _release(self, cursors: Sequence[CursorKey]) -> None:
        """Give up cursors for which nothing is under way or left to store."""
        owner = self._lease.session_id
        for start in range(0, len(cursors), _RELEASED_AT_ONCE):
            keys = cursors[start : start + _RELEASED_AT_ONCE]
            while True:
                try:
                    await self._store.write(partial(release, owner=owner, cursors=keys))
                    break
                except Unavailable:
                    await asyncio.sleep(STORE_RETRY_SECONDS)
            for key in keys:
                if (lane := self._lanes.get(key)) is not None:
                    self._registry.drop(lane)

    def _disable(self, record: LaneRecord, config_version: int, reason: str) -> None:
        self._spawn(self._store_disabled(record, config_version, reason))

    async def _store_disabled(self, record: LaneRecord, config_version: int, reason: str) -> None:
        """Written only over the configuration that the attempt used: whoever changed it since decides anew."""
        disable = partial(
            listeners.disable,
            organization=record.organization,
            listener=record.listener,
            config_version=config_version,
            occurrence=Occurrence(self._context.row_ids.next(), ""),
        )
        disabled = False
        while True:
            try:
                disabled = await self._store.write(disable)
                break
            except Unavailable:
                await asyncio.sleep(RELOAD_PAUSE_SECONDS)
        if disabled:
            self._log.info("listener_disabled", listener=record.listener_public_id, reason=reason)
        self._registry.reload_listener(record.organization, record.listener)

    def _make(self, record: LaneRecord, endpoint: Endpoint) -> Lane:
        if record.replay is not None:
            return ReplayLane(record, record.replay, endpoint, self._context)
        return Lane(record, endpoint, self._context)

    def _told_of_ends(self) -> None:
        self._store.engine.notify(Notification(cursors=True))
        self.look_for_guests()

    def _attempted(self, record: LaneRecord, attempt: InFlightAttempt, outcome: Outcome) -> None:
        if outcome.error:
            self._log.warning("attempt", **_attempt_fields(record, attempt, outcome), detail=outcome.detail)
        elif self._log.enabled:
            self._log.info_unescaped("attempt", **_attempt_fields(record, attempt, outcome))

    def _wake_at(self, sleeper: Sleeper, due_at: int) -> None:
        self.timers.wake_at(sleeper, due_at, len(self._lanes) + self.prober.places + 1)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("dispatch_task_failed", exc_info=error)


def _attempt_fields(record: LaneRecord, attempt: InFlightAttempt, outcome: Outcome) -> dict[str, int | str]:
    fields: dict[str, int | str] = {
        "message": attempt.message_id,
        "listener": record.listener_public_id,
        "queue": record.queue_public_id,
        "seq": attempt.seq,
        "number": attempt.number,
        "status": outcome.status,
        "error": outcome.error or "none",
        "took_ms": outcome.duration_ms,
    }
    if record.replay is not None:
        fields["replay"] = record.replay.public_id
    return fields
