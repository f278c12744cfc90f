# When a cursor changes hands, its previous owner may have requests in flight. The last flush of the old lane gives each
# of them a row in state `sending`. From then on there are two sides:
#
# - The worker that has the request in flight writes its outcome into that row, and nowhere else: `Handover` for the
#   lane, `HandoverOutcomes` for all lanes of the worker. The write is guarded by `sending`, the sender and the attempt,
#   so that it never overwrites what the new owner decided.
# - The new owner neither repeats nor forgets these requests: `InheritedRequests`. It sends nothing before it knows
#   them, keeps their slots occupied, and counts or retries each one.
"""Requests that outlast the lane that sent them: both sides of the handover of a cursor."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final

from discue.dispatch.lane.backlog import Backlog
from discue.dispatch.lane.context import DetailBudget, WorkerContext
from discue.dispatch.lane.cursor_state import attempt_record
from discue.dispatch.lane.endpoint import InFlightAttempt
from discue.dispatch.lane.owned_cursor import write_until_stored
from discue.dispatch.lane.store_checks import StoreCheck
from discue.domain.attempts import Outcome
from discue.domain.causes import cause_of, told_apart
from discue.domain.model import DisableReason
from discue.domain.retry import Settlement, settle
from discue.domain.window import Window
from discue.store import delivery_rows
from discue.store.cursors import LaneRecord
from discue.store.delivery_rows import RequestEnd, SendingRequest
from discue.store.engine import CursorKey

CHECK_INTERVAL_MS: Final = 1_000
"""How often the store is read while inherited requests are in flight. A notification usually comes earlier."""

_BYTES_PER_WRITE: Final = 1 << 20

Disable = Callable[[LaneRecord, int, DisableReason], None]
"""Disables a listener for a reason, if its configuration still has this version."""


class InheritedRequests(StoreCheck):
    """The requests that were in flight when a lane took its cursor over.

    Each ends in one of three ways, and exactly once: its sender reports an end (acknowledged or missed), which is
    counted; its sender reports a failure, which the backlog retries when it is due; or its sender is gone, and the
    message is sent again because it is unknown whether it arrived.
    """

    def __init__(self, backlog: Backlog, outcomes: "HandoverOutcomes") -> None:
        owned = backlog.owned
        super().__init__(owned)
        self._backlog = backlog
        self._outcomes = outcomes
        self._record = record = owned.record
        self._cursor = owned.cursor
        # This lane gives its own long requests `sending` rows, too. Only inherited ones were settled in this window.
        self._window_at_takeover = Window.decode(record.position, record.ahead)
        self._first_seen: dict[int, float] = {}
        """The requests in flight: `seq`, and the monotonic time in seconds at which this lane first saw it."""
        self._resolved: set[int] = set()
        """Each `seq` that was counted or retried. Its row looks unchanged until the lane has flushed that."""
        self.is_known = False
        """Whether the store was read at least once. Until then the lane must not send."""

    @property
    def slots(self) -> int:
        """How many of the listener's slots these requests occupy."""
        return len(self._first_seen)

    @property
    def is_done(self) -> bool:
        """Whether no inherited request is in flight any more."""
        return self.is_known and not self._first_seen

    async def check_once(self) -> None:
        # Before the store is read, never after it: a request of this worker that ends during the read would still be
        # `sending` in its row but no longer in flight here, and would be sent a second time.
        in_flight_here = frozenset(self._outcomes.in_flight.get(self._record.key, ()))
        read = partial(delivery_rows.read_inherited_requests, key=self._record.key)
        sending, uncounted = await self._owned.reads.read(read)
        if not self._owned.is_active:
            return
        now = self._worker.clock.now()
        for ended in uncounted:
            if ended.seq not in self._resolved:
                self._resolved.add(ended.seq)
                self._cursor.count_ended(ended)
        inherited = [request for request in sending if self._window_at_takeover.is_settled(request.seq)]
        self._apply_sending(inherited, in_flight_here, now)
        if not self.is_done:
            self.request_at(now + CHECK_INTERVAL_MS)
        self._owned.lane.advance()

    def _apply_sending(
        self, requests: Sequence[SendingRequest], in_flight_here: frozenset[tuple[int, int]], now: int
    ) -> None:
        """Keep the requests that are in flight, and retry those whose sender is gone.

        `in_flight_here` has the `seq` and attempt number of each request that this worker itself sent for an earlier
        ownership and that is in flight, or has ended without that being stored.
        """
        previous, self._first_seen = self._first_seen, {}
        # Monotonic, so that a correction of the wall clock neither prolongs nor cuts the wait.
        seen_at = self._worker.clock.monotonic()
        for request in requests:
            if request.seq in self._resolved:
                continue
            first_seen = previous.pop(request.seq, seen_at)
            if self._is_in_flight(request, in_flight_here, seen_at - first_seen):
                self._first_seen[request.seq] = first_seen
            else:
                self._resolved.add(request.seq)
                self._cursor.schedule_retry(request.seq, request.attempts, now)
        # The rest of `previous` is not `sending` any more. A request that has not ended either has failed, and its
        # sender stored a retry, of which this lane's backlog knows nothing yet.
        if not self._resolved.issuperset(previous):
            self._backlog.expect_retry_at(now)
        self.is_known = True

    def _is_in_flight(
        self, request: SendingRequest, in_flight_here: frozenset[tuple[int, int]], waited_seconds: float
    ) -> bool:
        if request.sender == self._record.owner:
            # The cursor came back to the worker that sent the request. Its memory decides, no timeout is needed.
            return (request.seq, request.attempts) in in_flight_here
        # Another worker's request is given up with that worker, or when it must have ended long ago. A report that
        # still arrives later changes nothing: it is stored only if the row is still `sending` for the same attempt.
        longest_wait_ms = self._owned.endpoint.timeout_ms + self._worker.tuning.report_grace_ms
        return request.sender_is_alive and waited_seconds * 1_000 <= longest_wait_ms


class Handover:
    """The requests that a lane leaves in flight when it gives its cursor up, or loses it.

    Their outcomes wait until the rows are stored. If the lane lost its cursor before, the guarded writes do nothing.
    """

    def __init__(self, record: LaneRecord, outcomes: "HandoverOutcomes", attempts: Collection[InFlightAttempt]) -> None:
        self._record = record
        self._outcomes = outcomes
        self._early: list[RequestEnd] = []
        """Outcomes of requests that ended before the rows were stored."""
        self._is_stored = False
        self._has_disabled = False
        outcomes.expect(record.key, attempts)
        for attempt in attempts:
            attempt.hand_over_outcome = self._on_outcome

    def on_stored(self) -> None:
        """Report outcomes from now on: the rows are in the store, or never will be."""
        self._is_stored = True
        for end in self._early:
            self._outcomes.report(end)
        self._early.clear()

    def _on_outcome(self, attempt: InFlightAttempt, outcome: Outcome) -> None:
        outcomes, record = self._outcomes, self._record
        worker = outcomes.worker
        now = worker.clock.now()
        settlement = settle(attempt.number, outcome, attempt.policy, now, random=worker.random())
        is_attempt = outcome.error != "egress_proxy"
        if not is_attempt:
            settlement = Settlement("retry", now, False, "egress_proxy")
        if settlement.disable_listener and not self._has_disabled:
            self._has_disabled = True
            outcomes.disable(record, attempt.endpoint.config_version, "gone")
        has_retry, is_missed = settlement.state == "retry", settlement.state == "missed"
        end = RequestEnd(
            stream=record.stream,
            sender=record.owner,
            state="retry" if has_retry else "ended",
            due_at=settlement.due_at if has_retry else now,
            reason=settlement.reason,
            attempt=attempt_record(record, worker.row_ids.next(), attempt.seq, attempt.number, outcome=outcome),
            cause=told_apart(cause_of(settlement.reason, outcome), record.causes) if is_missed else None,
            detail=outcomes.details.encode(record.organization, attempt.number, outcome, settlement.due_at),
            is_attempt=is_attempt,
        )
        if self._is_stored:
            outcomes.report(end)
        else:
            self._early.append(end)


class HandoverOutcomes:
    """Stores the outcomes of all requests of a worker that outlasted their lanes."""

    def __init__(
        self, worker: WorkerContext, details: DetailBudget, disable: Disable, on_stored: Callable[[], None]
    ) -> None:
        self.worker = worker
        self.details = details
        self.disable = disable
        self._on_stored = on_stored
        """Called after each write."""
        self.in_flight: dict[CursorKey, set[tuple[int, int]]] = {}
        """The `seq` and attempt number of each request that is in flight, or whose outcome is not stored."""
        self._ends: list[RequestEnd] = []
        self._task: asyncio.Task[None] | None = None
        self._emptied = asyncio.Event()
        self._is_closed = False

    def expect(self, key: CursorKey, attempts: Iterable[InFlightAttempt]) -> None:
        """Wait for the outcomes of attempts of a cursor."""
        for attempt in attempts:
            self.in_flight.setdefault(key, set()).add((attempt.seq, attempt.number))

    def report(self, end: RequestEnd) -> None:
        """Store an outcome. This is repeated until the store has taken it."""
        self._ends.append(end)
        self._start()

    async def wait_until_empty(self) -> None:
        """Return when no request is in flight, and all outcomes are stored."""
        while self.in_flight:
            self._emptied.clear()
            await self._emptied.wait()

    async def wait_until_stored(self) -> None:
        """Return when all outcomes that are known are stored."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def close(self) -> None:
        """Store nothing any more."""
        self._is_closed = True

    def _start(self) -> None:
        if self._task is None and self._ends and not self._is_closed:
            self._task = self.worker.spawn(self._store_all())

    async def _store_all(self) -> None:
        has_failed = False
        try:
            while self._ends and not self._is_closed:
                taken = self._next_ends()
                write = partial(self.worker.store.write, partial(delivery_rows.record_ends, ends=taken))
                try:
                    stored = await write_until_stored(write, is_wanted=lambda: not self._is_closed)
                except BaseException as error:
                    # This batch is given up, and the task reports the error. A cancelled task ends for good.
                    has_failed = isinstance(error, Exception)
                    self._remove(taken)
                    raise
                if stored is None:
                    return
                self._remove(taken)
                self._on_stored()
        finally:
            self._task = None
            if has_failed:
                self._start()

    def _next_ends(self) -> list[RequestEnd]:
        size, number = 0, 0
        for number, end in enumerate(self._ends[: self.worker.tuning.ends_per_write]):
            size += len(end.detail)
            if number and size > _BYTES_PER_WRITE:
                return self._ends[:number]
        return self._ends[: number + 1]

    def _remove(self, ends: list[RequestEnd]) -> None:
        del self._ends[: len(ends)]
        for end in ends:
            attempts = self.in_flight[end.key]
            attempts.discard((end.attempt.seq, end.attempt.number))
            if not attempts:
                del self.in_flight[end.key]
        if not self.in_flight:
            self._emptied.set()
