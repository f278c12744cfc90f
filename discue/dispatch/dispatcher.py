"""The lanes of a worker: takes cursors, passes on what was published and what is due, and hands cursors over."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from discue.dispatch.lane.context import (
    BodyBudget,
    DetailBudget,
    LimitedReads,
    Sources,
    Tuning,
    WorkerContext,
    WorkerSession,
)
from discue.dispatch.lane.endpoint import InFlightAttempt, endpoint_of
from discue.dispatch.lane.handover import HandoverOutcomes
from discue.dispatch.lane.lane import Lane, LaneContext, SendAttempt
from discue.dispatch.lane.limits import LANES_PER_TURN, ConcurrencyLimiter, Turns
from discue.dispatch.lane.owned_cursor import DelayedFlushes, write_until_stored
from discue.dispatch.lane.probes import Probe, Prober
from discue.dispatch.lane.replay import ReplaySlots
from discue.dispatch.registry import LaneRegistry
from discue.dispatch.spans import record_pushed
from discue.dispatch.timers import Timers
from discue.domain.attempts import Outcome
from discue.domain.model import DisableReason
from discue.domain.trace_context import trace_id_of
from discue.observability.supervisor import BackgroundTasks
from discue.store import listeners
from discue.store.cursors import LaneRecord, release
from discue.store.engine import Appended, CursorKey, Notification, QueueKey
from discue.store.events import Occurrence
from discue.store.store import Store

_STORING_SECONDS: Final = 5.0
"""How long a drain waits for the store beyond its grace period."""


class DispatchLimits(msgspec.Struct, frozen=True):
    """The settings that bound what a worker does at once."""

    max_in_flight: int
    listener_max_in_flight: int
    tail_buffer_bytes: int
    timeout_ms: int
    deadline_ms: int
    disable_after_seconds: int
    attempt_details_bytes_per_hour: int
    tuning: Tuning = Tuning()


class Dispatcher:
    """Has a lane for each cursor that the worker took, until it hands the cursor over or its session expires.

    `registry` takes and drops cursors; `lanes` finds the lanes.
    """

    def __init__(
        self,
        store: Store,
        *,
        send: SendAttempt,
        probe: Probe,
        limits: DispatchLimits,
        sources: Sources,
        session: WorkerSession,
        on_missed: Callable[[], None],
        on_unowned: Callable[[], None],
    ) -> None:
        """`on_missed` is called when missed deliveries were stored, and `on_unowned` when a cursor may be free."""
        tuning, monotonic = limits.tuning, session.clock.monotonic
        self.tasks = BackgroundTasks(sources.log, "dispatch_task_failed")
        self.timers = Timers(sources.clock)
        self.limiter = ConcurrencyLimiter(limits.max_in_flight, Turns(monotonic, most=tuning.starts_per_turn))
        worker = WorkerContext(
            **msgspec.structs.asdict(sources),
            store=store,
            session=session,
            deadline_ms=limits.deadline_ms,
            tuning=tuning,
            spawn=self.tasks.spawn,
            wake_at=self.timers.wake_at,
        )
        self.replay_slots = ReplaySlots(worker)
        details = DetailBudget(sources.clock, limits.attempt_details_bytes_per_hour, lambda: store.workers)
        self.handover_outcomes = HandoverOutcomes(worker, details, self.disable, self._on_outcomes_stored)
        self.prober = Prober(probe, worker)
        self.delayed_flushes = DelayedFlushes(sources.clock, self.timers.wake_at, tuning.flush_delay_ms)
        self._context = LaneContext(
            **msgspec.structs.asdict(worker),
            reads=LimitedReads(store),
            send_request=send,
            limiter=self.limiter,
            budget=BodyBudget(limits.tail_buffer_bytes),
            filter_turns=Turns(monotonic),
            replay_slots=self.replay_slots,
            disable_after_seconds=limits.disable_after_seconds,
            details=details,
            handover_outcomes=self.handover_outcomes,
            prober=self.prober,
            log_attempt=self._log_attempt,
            disable=self.disable,
            on_missed=on_missed,
            delayed_flushes=self.delayed_flushes,
            waiting_for_lease={},
            inheriting={},
        )
        self.registry = LaneRegistry(
            self._context,
            make_endpoint=partial(
                endpoint_of,
                keyring=sources.keyring,
                max_in_flight=limits.listener_max_in_flight,
                timeout_ms=limits.timeout_ms,
            ),
            on_unowned=on_unowned,
        )
        self.lanes = self.registry.lanes

    @property
    def has_turns_to_come(self) -> bool:
        """Whether a lane waits for its turn on the event loop, to send or to filter."""
        return self.limiter.turns.has_waiting or self._context.filter_turns.has_waiting

    async def hand_over(self, cursors: Sequence[CursorKey]) -> None:
        """Give cursors up, with everything that their lanes know. Returns when the store has all of it.

        Requests in flight go on, and their outcomes are stored when they end. This waits for the store.
        """
        lanes = self.lanes.of_listeners(cursors)
        for lane in lanes:
            lane.begin_draining()
        with self.registry.without_lanes(cursors) as idle:
            await self.prober.health.store(lanes)
            # A worker that takes a live cursor takes those of its replays, too: they must be stored by then.
            await self._give_up([lane for lane in lanes if lane.key[2]], [])
            await self._give_up([lane for lane in lanes if not lane.key[2]], idle)
        self._context.store.engine.notify(Notification(cursors=True))

    def on_appended(self, appended: Appended) -> None:
        """Pass stored messages to the lanes of their queue."""
        queue = (appended.organization, appended.queue)
        if any(entry.is_delayed for entry in appended.entries):
            # Lanes step over placeholders of delayed messages when they read the log.
            self.on_heads([(queue, appended.entries[-1].seq)])
            return
        head = appended.entries[-1].seq
        self.registry.note_head(queue, head)
        lanes = self.registry.of_queue(queue, head)
        for lane in lanes:
            lane.on_published(appended.entries)
        self._pump(lanes)

    def on_heads(self, heads: Iterable[tuple[QueueKey, int]]) -> None:
        """Let lanes read logs that go further than they know."""
        for queue, head in heads:
            self.registry.note_head(queue, head)
            self._pump([lane for lane in self.registry.of_queue(queue, head) if lane.backlog.on_head(head)])

    def on_change(self, kind: str, organization: int, ref: int) -> None:
        """Follow the change feed: read the lanes again that a change concerns, or what they hold after a deletion."""
        if kind == "message":
            lanes = self.registry.of_queue((organization, ref), 0)
            for lane in lanes:
                lane.on_messages_deleted()
            self._pump(lanes)
        elif kind == "listener":
            self.registry.reload_listener(organization, ref)
        elif kind == "queue":
            self.registry.reload(self.lanes.cursors_of_queue((organization, ref)))
        elif kind in {"organization", "domain", "everything"}:
            is_all = kind == "everything"
            self.registry.reload(key for key in tuple(self.lanes.cursors) if is_all or key[0] == organization)

    def on_lease_renewed(self) -> None:
        """Pump the lanes that found the lease lapsed."""
        waiting = tuple(self._context.waiting_for_lease)
        self._context.waiting_for_lease.clear()
        for slots in waiting:
            slots.pump()

    def check_inherited(self) -> None:
        """Check the state of requests that previous owners have in flight."""
        for inherited in tuple(self._context.inheriting):
            inherited.request()

    async def miss_too_old(self) -> None:
        """Miss deliveries that waited longer than the deadline, also of disabled listeners."""
        before = self._context.clock.now() - self._context.deadline_ms
        for lane in self.lanes:
            await lane.miss_older_than(before)

    def begin_draining(self) -> None:
        """Start nothing any more, and take no cursors."""
        self.registry.is_closed = True
        for lane in self.lanes:
            lane.begin_draining()

    async def drain(self, grace_seconds: float) -> None:
        """Hand every cursor over, and wait for the requests in flight.

        What takes longer stays as it is in the store: the next owner makes these attempts again once this worker's row
        is gone. The same holds for what the store does not take in that time, or within 5 seconds.
        """
        self.begin_draining()
        ends_at = asyncio.get_running_loop().time() + grace_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(max(grace_seconds, _STORING_SECONDS)):
                await self.hand_over(tuple(self.lanes.cursors))
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ends_at):
                await self.handover_outcomes.wait_until_empty()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STORING_SECONDS):
                await self.handover_outcomes.wait_until_stored()
        self.registry.close_all()
        self.handover_outcomes.close()
        self.prober.health.is_closed = True
        self.timers.stop()

    def _pump(self, lanes: Sequence[Lane]) -> None:
        """Pump some lanes now. A queue can have thousands: the others take turns with everything else."""
        for lane in lanes[:LANES_PER_TURN]:
            lane.pump()
        for lane in lanes[LANES_PER_TURN:]:
            self.limiter.turns.call(lane.limits)

    async def _give_up(self, lanes: Sequence[Lane], without_lane: Sequence[CursorKey]) -> None:
        idle = [lane.key for lane in lanes if lane.is_idle]
        busy = [self._hand_over(lane) for lane in lanes if not lane.is_idle]
        await asyncio.gather(self._release([*idle, *without_lane]), *busy)

    async def _hand_over(self, lane: Lane) -> None:
        await lane.hand_over()
        # If the store was read again meanwhile, the cursor may have another lane.
        if self.lanes.get(lane.key) is lane:
            self.registry.drop(lane)

    async def _release(self, cursors: Sequence[CursorKey]) -> None:
        """Give up cursors without requests in flight or changes to store."""
        owner = self._context.session.id
        for start in range(0, len(cursors), self._context.tuning.cursors_per_release):
            keys = cursors[start : start + self._context.tuning.cursors_per_release]
            await write_until_stored(partial(self._context.store.write, partial(release, owner=owner, cursors=keys)))
            for key in keys:
                self.registry.on_released(key)

    def disable(self, record: LaneRecord, config_version: int, reason: DisableReason) -> None:
        """Disable a listener soon, unless its configuration has changed by then."""
        self.tasks.spawn(self._store_disabled(record, config_version, reason))

    async def _store_disabled(self, record: LaneRecord, config_version: int, reason: DisableReason) -> None:
        """Disable a listener, unless its configuration has changed since the request that failed."""
        disable = partial(
            listeners.disable,
            organization=record.organization,
            listener=record.listener,
            config_version=config_version,
            disabled_by=reason,
            occurrence=Occurrence(self._context.row_ids.next(), ""),
        )
        if await write_until_stored(partial(self._context.store.write, disable)):
            self._context.log.info("listener_disabled", listener=record.listener_public_id, reason=reason)
        self.registry.reload_listener(record.organization, record.listener)

    def _on_outcomes_stored(self) -> None:
        self._context.store.engine.notify(Notification(cursors=True))
        self.check_inherited()

    def _log_attempt(self, record: LaneRecord, attempt: InFlightAttempt, outcome: Outcome) -> None:
        if attempt.trace is not None and self._context.tracer is not None:
            record_pushed(self._context.tracer, record, attempt, outcome)
        if not outcome.error and not self._context.log.is_debug:
            return
        fields: dict[str, int | str] = {
            "message": attempt.entry.id,
            "listener": record.listener_public_id,
            "queue": record.queue_public_id,
            "seq": attempt.seq,
            "number": attempt.number,
            "status": outcome.status,
            "error": outcome.error or "none",
            "took_ms": outcome.duration_ms,
        }
        if attempt.traceparent is not None:
            fields["trace_id"] = trace_id_of(attempt.traceparent)
        if attempt.trace is not None:
            fields["span_id"] = attempt.trace.span_id
        if record.replay is not None:
            fields["replay"] = record.replay.public_id
        if outcome.error:
            fields |= {"cause": outcome.cause} if outcome.cause else {}
            self._context.log.warning("attempt", **fields, detail=outcome.detail)
        else:
            self._context.log.debug("attempt", **fields)
