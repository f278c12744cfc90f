"""Spans of attempts: `deliver` for each one, and `settle` from its outcome until that is stored.

Names follow the semantic conventions of OpenTelemetry for messaging; the page about tracing lists them.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

from discue.control.pulls import LeasedMessage
from discue.dispatch.lane.endpoint import InFlightAttempt
from discue.domain.attempts import Outcome
from discue.domain.trace_context import AttemptTrace
from discue.observability.tracing import SpanContext, Tracer
from discue.store.cursors import LaneRecord

SettledAs = Literal["acknowledged", "retry", "missed"]

_DELIVER = "deliver"
_SETTLE = "settle"


def recorded_trace(tracer: Tracer, attempt: InFlightAttempt) -> AttemptTrace | None:
    """Return the trace context of an attempt; None if its trace is not recorded."""
    trace = attempt.trace
    return trace if trace is not None and tracer.records(trace.creation) else None


def record_pushed(tracer: Tracer, record: LaneRecord, attempt: InFlightAttempt, outcome: Outcome) -> None:
    """Record an attempt that has ended, if its trace is recorded."""
    trace = recorded_trace(tracer, attempt)
    if trace is None:
        return
    target = attempt.endpoint.destination.target
    attributes = _attributes(record, attempt.entry.id, attempt.number)
    attributes |= {
        "messaging.message.body.size": len(attempt.entry.body),
        "server.address": target.host,
        "server.port": target.port,
        "http.request.method": "POST",
    }
    if outcome.status:
        attributes["http.response.status_code"] = outcome.status
    if record.replay is not None:
        attributes["discue.replay.id"] = record.replay.public_id
    tracer.end(
        _DELIVER,
        record.queue_alias,
        "client",
        creation=trace.creation,
        started_at=attempt.started_at,
        attributes=attributes,
        span=_place(trace, attempt.number),
        error=str(outcome.status) if outcome.error == "status" else outcome.error,
    )


def record_pulled(tracer: Tracer, record: LaneRecord, message: LeasedMessage, started_at: float) -> None:
    """Record that a message was handed out to a consumer, if its trace is recorded."""
    trace, entry = message.trace, message.entry
    if trace is None or not tracer.records(trace.creation):
        return
    tracer.end(
        _DELIVER,
        record.queue_alias,
        "server",
        creation=trace.creation,
        started_at=started_at,
        attributes=_attributes(record, entry.id, message.attempt) | {"messaging.message.body.size": len(entry.body)},
        span=_place(trace, message.attempt),
    )


def settle_span(
    tracer: Tracer, record: LaneRecord, message_id: str, number: int, *, state: SettledAs
) -> Callable[..., None]:
    """Return the call of `Tracer.end` that records that the outcome of an attempt, or the end of a lease, is stored."""
    attributes = _attributes(record, message_id, number)
    attributes |= {"messaging.operation.type": _SETTLE, "discue.settlement": state}
    return partial(tracer.end, _SETTLE, record.queue_alias, attributes=attributes)


def _place(trace: AttemptTrace, number: int) -> SpanContext:
    """Return the place of an attempt: the first one is a child of the publish, all are linked to it.

    A retry may follow days later, and is not nested under a span that ended then.
    """
    links = (trace.creation, trace.sent) if trace.is_restarted else (trace.creation,)
    return SpanContext(trace.span_id, trace.creation if number == 1 else "", links)


def _attributes(record: LaneRecord, message_id: str, number: int) -> dict[str, str | int]:
    return {
        "messaging.destination.subscription.name": record.listener_alias,
        "messaging.message.id": message_id,
        "discue.attempt": number,
        "discue.queue.id": record.queue_public_id,
        "discue.listener.id": record.listener_public_id,
    }
