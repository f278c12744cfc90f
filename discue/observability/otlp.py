"""Export of spans by the SDK of OpenTelemetry. Import it only where spans are exported: it needs the extra `otel`."""

import logging
from collections.abc import Sequence
from threading import Thread
from typing import Final, get_args

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from discue import __version__
from discue.domain.connection_errors import without_codes
from discue.domain.trace_context import span_id_of, trace_id_of
from discue.observability import tracing
from discue.observability.logs import Log
from discue.observability.tracing import ExportPlan, SpanResult

_KINDS: Final[dict[tracing.SpanKind, SpanKind]] = {
    "producer": SpanKind.PRODUCER,
    "client": SpanKind.CLIENT,
    "server": SpanKind.SERVER,
}
_UNNAMED: Final = "unknown_service"
_SCOPE: Final = InstrumentationScope("discue", __version__)


class OtlpExport:
    """Exports spans by OTLP over HTTP, as the `OTEL_…` variables say, on the thread of a batch processor.

    While the queue is full, new spans are dropped: a collector that hangs costs no memory.
    """

    def __init__(self, plan: ExportPlan, log: Log) -> None:
        self._limit = plan.queue_limit
        self._taken = 0
        self.counts: dict[SpanResult, int] = dict.fromkeys(get_args(SpanResult), 0)
        self._exporter = _ReportingExporter(log, self.counts)
        self._processor = BatchSpanProcessor(self._exporter, plan.queue_limit, plan.pause_seconds * 1_000, plan.batch)

    def add(self, span: tracing.Span) -> None:
        # Counted here because a full queue of the processor would drop the oldest span, and not say so.
        if self._taken - self.counts["exported"] - self.counts["failed"] >= self._limit:
            self.counts["dropped"] += 1
        else:
            self._taken += 1
            self._processor.on_end(_WaitingSpan(span))

    def close(self, grace_seconds: float) -> None:
        thread = Thread(target=self._processor.shutdown, daemon=True)
        thread.start()
        thread.join(grace_seconds)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _WaitingSpan(ReadableSpan):
    """A span in the queue. The thread of the processor converts it: on the event loop, that would cost 10 µs.

    The base is not initialized: the processor reads only the context, to see that the span is sampled.
    """

    context = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    def __init__(self, span: tracing.Span) -> None:
        self.span = span


class _ReportingExporter(OTLPSpanExporter):
    """Counts the spans that the collector accepts, and logs when it stops accepting them and when it does again."""

    def __init__(self, log: Log, counts: dict[SpanResult, int]) -> None:
        self._messages = _FirstMessage()
        super().__init__()
        resource = Resource.create({SERVICE_VERSION: __version__})
        if str(resource.attributes.get(SERVICE_NAME, _UNNAMED)).startswith(_UNNAMED):
            resource = resource.merge(Resource({SERVICE_NAME: "discue"}))
        self._resource = resource
        self._log = log
        self._counts = counts
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._messages.text = failure = ""
        try:
            readable = [self._readable(each.span) for each in spans if isinstance(each, _WaitingSpan)]
            if super().export(readable) is not SpanExportResult.SUCCESS:
                failure = self._messages.text or "The collector is not reachable."
        except Exception as error:  # The library's errors are unknown; the next spans are exported all the same
            failure = without_codes(f"{type(error).__name__}: {error}")
        self._counts["failed" if failure else "exported"] += len(spans)
        # A collector may be gone for days: only a change is logged.
        if failure and not self._is_failing:
            self._log.warning("spans_not_exported", reason=failure)
        elif self._is_failing and not failure:
            self._log.info("span_export_recovered", dropped=self._counts["dropped"], failed=self._counts["failed"])
        self._is_failing = bool(failure)
        return SpanExportResult.FAILURE if failure else SpanExportResult.SUCCESS

    def _readable(self, span: tracing.Span) -> ReadableSpan:
        return ReadableSpan(
            span.name,
            context=_context(span.trace_id, span.span_id, is_remote=False),
            parent=_context_of(span.parent) if span.parent else None,
            resource=self._resource,
            attributes=span.attributes,
            links=[Link(_context_of(link)) for link in span.links],
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=_SCOPE,
        )


class _FirstMessage(logging.Handler):
    """Keeps the library's lines out of the log, and remembers the first one of an export, which has the reason."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        logger = logging.getLogger("opentelemetry")
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.text = self.text or without_codes(record.getMessage())


def _context_of(traceparent: str) -> SpanContext:
    return _context(trace_id_of(traceparent), span_id_of(traceparent), is_remote=True)


def _context(trace_id: str, span_id: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, TraceFlags(TraceFlags.SAMPLED))
