"""Spans of publishes: `publish`, from the checks of the messages until they are durable."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from discue.domain.errors import DiscueError
from discue.observability.tracing import Tracer
from discue.store.engine import AlreadyDone

if TYPE_CHECKING:
    from discue.publishing.publish import NewMessage

_PUBLISH: Final = "publish"


def is_any_recorded(tracer: Tracer, messages: Sequence["NewMessage"]) -> bool:
    """Return whether the trace of any of these messages is recorded."""
    # No generator: this runs for each publish while spans are exported.
    for message in messages:  # noqa: SIM110
        if message.traceparent is not None and tracer.records(message.traceparent):
            return True
    return False


@contextmanager
def recorded_publish(
    tracer: Tracer, destination: str, ids: Sequence[str], messages: Sequence["NewMessage"]
) -> Iterator[None]:
    """Record a span for each recorded trace that messages belong to, when the block that stores them ends."""
    started_at, error, by_trace = tracer.now(), "", dict[str, list[str]]()
    for public_id, message in zip(ids, messages, strict=True):
        if message.traceparent is not None and tracer.records(message.traceparent):
            by_trace.setdefault(message.traceparent, []).append(public_id)
    try:
        yield
    except AlreadyDone:
        # A repeated request published nothing, and its messages have other ids.
        by_trace.clear()
        raise
    except DiscueError as failure:
        error = failure.code
        raise
    finally:
        for creation, published in by_trace.items():
            attributes: dict[str, str | int] = {"messaging.operation.type": "send"}
            if len(published) == 1:
                attributes["messaging.message.id"] = published[0]
            else:
                attributes["messaging.batch.message_count"] = len(published)
            tracer.end(
                _PUBLISH,
                destination,
                "producer",
                creation=creation,
                started_at=started_at,
                attributes=attributes,
                error=error,
            )
