"""Spans of publishes: `publish`, from the checks of the messages until they are durable."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from discue.domain.errors import DiscueError
from discue.domain.trace_context import is_sampled
from discue.observability.tracing import Tracer
from discue.store.engine import AlreadyDone

_PUBLISH: Final = "publish"

SampledMessages = dict[str, list[str]]
"""The ids of the messages of a publish whose trace is recorded, by the `traceparent` they were published with."""


def sampled_messages(ids: Sequence[str], traceparents: Sequence[str | None]) -> SampledMessages:
    """Return the messages of a publish whose traces are recorded."""
    found: SampledMessages = {}
    for public_id, traceparent in zip(ids, traceparents, strict=True):
        if traceparent is not None and is_sampled(traceparent):
            found.setdefault(traceparent, []).append(public_id)
    return found


@contextmanager
def recorded_publish(tracer: Tracer, destination: str, messages: SampledMessages) -> Iterator[None]:
    """Record a span for each trace that messages belong to, when the block that stores them ends."""
    started_at, error = tracer.now(), ""
    try:
        yield
    except AlreadyDone:
        # A repeated request published nothing, and its messages have other ids.
        messages = {}
        raise
    except DiscueError as failure:
        error = failure.code
        raise
    finally:
        for creation, ids in messages.items():
            attributes: dict[str, str | int] = {"messaging.operation.type": "send"}
            if len(ids) == 1:
                attributes["messaging.message.id"] = ids[0]
            else:
                attributes["messaging.batch.message_count"] = len(ids)
            tracer.end(
                _PUBLISH,
                destination,
                "producer",
                creation=creation,
                started_at=started_at,
                attributes=attributes,
                error=error,
            )
