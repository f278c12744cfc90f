"""Spans of traced messages, recorded while the service works.

Nothing here depends on OpenTelemetry. A message that is not sampled has no spans.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, Protocol

from discue.domain.clock import Clock
from discue.domain.trace_context import TraceIds, is_sampled, trace_id_of

SpanKind = Literal["producer", "client", "server"]

SpanResult = Literal["exported", "failed", "dropped"]
"""`exported`: the collector accepted the span; `failed`: it did not; `dropped`: too many spans waited."""

_TRACE_IDS: Final = 1 << 64
"""The lower half of a trace id decides, as in the samplers of OpenTelemetry."""
_RATIO_DIGITS: Final = slice(19, 35)
"""The digits of that half in a `traceparent`."""


class ExportPlan(NamedTuple):
    """The settings of the export of spans, from the environment."""

    queue_limit: int
    batch: int
    """Spans per request to the collector."""
    pause_seconds: float
    """Longest time that a span waits for others."""
    ratio: float = 1.0
    """The part of the sampled traces that is exported."""


class Span(NamedTuple):
    """A span that has ended."""

    name: str
    kind: SpanKind
    trace_id: str
    span_id: str
    parent: str
    """The `traceparent` of the parent; "" without one."""
    start_ns: int
    """Nanoseconds since the epoch, like `end_ns`."""
    end_ns: int
    attributes: Mapping[str, str | int]
    links: tuple[str, ...]
    """Each the `traceparent` of another span."""
    error: str
    """The failure in one word; "" for success."""


class SpanExporter(Protocol):
    """Takes spans that have ended, and never blocks."""

    @property
    def counts(self) -> Mapping[SpanResult, int]:
        """The number of spans so far, by their result."""

    def add(self, span: Span) -> None: ...

    def close(self, grace_seconds: float) -> None:
        """Export the spans that wait, as far as the collector takes them in that time. Blocks for at most that long."""


class SpanContext(NamedTuple):
    """The place of a span in its trace."""

    span_id: str = ""
    """"" for a new one."""
    parent: str = ""
    """The `traceparent` of the parent; "" without one."""
    links: tuple[str, ...] = ()


class Tracer:
    """Records spans of sampled messages. Only the event loop's thread uses it."""

    def __init__(self, exporter: SpanExporter, clock: Clock, ids: TraceIds, *, ratio: float = 1.0) -> None:
        """`ratio` is the part of the sampled traces that is recorded: the same ones wherever it is the same."""
        self._exporter = exporter
        self._bound = round(ratio * _TRACE_IDS)
        self._clock = clock
        self._ids = ids
        self.now: Callable[[], float] = clock.monotonic
        """The clock of `started_at`."""
        self.counts: Mapping[SpanResult, int] = exporter.counts
        self.close = exporter.close

    def records(self, traceparent: str | None) -> bool:
        """Return whether spans of this trace are recorded."""
        if traceparent is None or not is_sampled(traceparent):
            return False
        return self._bound == _TRACE_IDS or int(traceparent[_RATIO_DIGITS], 16) < self._bound

    def end(
        self,
        operation: str,
        destination: str,
        kind: SpanKind,
        *,
        creation: str,
        started_at: float,
        attributes: Mapping[str, str | int],
        span: SpanContext | None = None,
        error: str = "",
    ) -> None:
        """Record a span that ends now, in the trace of `creation`, the `traceparent` of the publish.

        Without a `span`, it is a child of that context.
        """
        context = span or SpanContext(parent=creation)
        end_ns = self._clock.now() * 1_000_000
        common: dict[str, str | int] = {
            "messaging.system": "discue",
            "messaging.operation.name": operation,
            "messaging.destination.name": destination,
        }
        if error:
            common["error.type"] = error
        self._exporter.add(
            Span(
                f"{operation} {destination}",
                kind,
                trace_id_of(creation),
                context.span_id or self._ids.span_id(),
                context.parent,
                end_ns - int((self.now() - started_at) * 1_000_000_000),
                end_ns,
                {**common, **attributes},
                context.links,
                error,
            )
        )
