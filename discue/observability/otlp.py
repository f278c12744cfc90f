"""The exporter of OpenTelemetry. Import it only where spans are exported: it needs the extra `otel`."""

import logging
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from discue import __version__
from discue.domain.connection_errors import without_codes
from discue.domain.trace_context import span_id_of, trace_id_of
from discue.observability import tracing

_KINDS: Final[dict[tracing.SpanKind, SpanKind]] = {
    "producer": SpanKind.PRODUCER,
    "client": SpanKind.CLIENT,
    "server": SpanKind.SERVER,
}
_HEX: Final = 16
_UNNAMED: Final = "unknown_service"


class OtlpExporter:
    """Exports spans by OTLP over HTTP, as the `OTEL_…` variables say."""

    def __init__(self) -> None:
        resource = Resource.create({SERVICE_VERSION: __version__})
        if str(resource.attributes.get(SERVICE_NAME, _UNNAMED)).startswith(_UNNAMED):
            resource = resource.merge(Resource({SERVICE_NAME: "discue"}))
        self._resource = resource
        self._scope = InstrumentationScope("discue", __version__)
        self._messages = _FirstMessage()
        self._exporter = OTLPSpanExporter()

    def export(self, spans: list[tracing.Span]) -> str:
        self._messages.text = ""
        try:
            result = self._exporter.export([self._readable(span) for span in spans])
        except Exception as error:  # The library's errors are unknown; the next spans are exported all the same
            return without_codes(f"{type(error).__name__}: {error}")
        return "" if result is SpanExportResult.SUCCESS else self._messages.text or "The collector is not reachable."

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

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
            instrumentation_scope=self._scope,
        )


def _context_of(traceparent: str) -> SpanContext:
    return _context(trace_id_of(traceparent), span_id_of(traceparent), is_remote=True)


def _context(trace_id: str, span_id: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(int(trace_id, _HEX), int(span_id, _HEX), is_remote, TraceFlags(TraceFlags.SAMPLED))


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
