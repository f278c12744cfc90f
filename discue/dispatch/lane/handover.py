"""A lane that gives its cursor up, and the requests that it leaves behind."""

from collections.abc import Collection

from discue.dispatch.lane.context import Surroundings
from discue.dispatch.lane.cursor_state import attempt_record
from discue.dispatch.lane.in_flight_attempt import InFlightAttempt
from discue.domain.attempts import Outcome, encode_detail
from discue.domain.retry import settle
from discue.store.cursors import LaneRecord
from discue.store.handover import RequestEnd


class Handover:
    """What becomes of each request waits until its row is in the store, and is then written there.

    Nothing is written over what the cursor's owner has made of a row: if this lane had lost the cursor before, it
    says nothing.
    """

    def __init__(
        self, record: LaneRecord, context: Surroundings, attempts_in_flight: Collection[InFlightAttempt]
    ) -> None:
        self._record = record
        self._context = context
        self._early: list[RequestEnd] = []
        self._is_stored = False
        self._has_disabled = False
        context.handover_outcomes.expect(record.key, attempts_in_flight)
        for attempt in attempts_in_flight:
            attempt.handover = self

    def stored(self) -> None:
        """The rows are in the store, or never will be."""
        self._is_stored = True
        for end in self._early:
            self._context.handover_outcomes.end(end)
        self._early.clear()

    def ended(self, attempt: InFlightAttempt, outcome: Outcome) -> None:
        end = self._end(attempt, outcome)
        if self._is_stored:
            self._context.handover_outcomes.end(end)
        else:
            self._early.append(end)

    def _end(self, attempt: InFlightAttempt, outcome: Outcome) -> RequestEnd:
        context, record = self._context, self._record
        now = context.clock.now()
        settlement = settle(attempt.number, outcome, attempt.policy, now, context.random())
        if settlement.disable_listener and not self._has_disabled:
            self._has_disabled = True
            context.disable(record, attempt.endpoint.config_version, "gone")
        waits = settlement.state == "retry"
        detail = encode_detail(outcome.trace, settlement.due_at) if outcome.trace is not None else b""
        return RequestEnd(
            stream=record.stream,
            sender=record.owner,
            state="retry" if waits else "ended",
            due_at=settlement.due_at if waits else now,
            reason=settlement.reason,
            attempt=attempt_record(record, context.row_ids.next(), attempt.seq, attempt.number, outcome),
            detail=detail,
        )
