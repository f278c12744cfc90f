"""What do traces cost? For messages that are not sampled, and for those of which one in a hundred is."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from benchmarks.bench import Bench
from benchmarks.failure import BenchmarkFailed
from benchmarks.measures.samples import delivered
from benchmarks.medians import median
from benchmarks.table import Row, at_most, seen
from discue.domain.clock import SystemClock
from discue.domain.message_data import TEXT
from discue.domain.messages import encode_traceparent, lone_traceparent
from discue.domain.trace_context import TraceIds, is_sampled, parse_traceparent
from discue.observability.logs import Log
from discue.observability.otlp import OtlpExport
from discue.observability.tracing import ExportPlan, Span, SpanContext, SpanResult, Tracer
from discue.publishing.publish import NewMessage, is_any_recorded, recorded_publish

_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
_MESSAGES = 100_000
_SAMPLED_MESSAGES = 5_000
_UNSAMPLED_US = 0.3
_SAMPLED_PERCENT = 3.0
_PLAN = ExportPlan(queue_limit=4 * _SAMPLED_MESSAGES, batch=512, pause_seconds=0.05)
_PATIENCE_SECONDS = 60.0
_ATTRIBUTES: dict[str, str | int] = {
    "messaging.destination.subscription.name": "billing",
    "messaging.message.id": "0Vbva8VC00enQiJ4MzFhE",
    "messaging.message.body.size": 300,
    "server.address": "127.0.0.1",
    "server.port": 80,
    "http.request.method": "POST",
    "http.response.status_code": 200,
    "discue.attempt": 1,
    "discue.queue.id": "0Vbva8Ac00QDKvIUw2ttr",
    "discue.listener.id": "0Vbva8HN00XBzdBXmzpyA",
}


def measure(bench: Bench) -> list[Row]:
    rounds = max(3, bench.effort.pairs)
    untraced = median([_cost(_without_context) for _ in range(rounds)])
    context = median([_cost(_with_context) for _ in range(rounds)]) - untraced
    spans = median([_cost(_with_export) for _ in range(rounds)]) - untraced
    sampled = median([_sampled_cost(bench) for _ in range(rounds)])
    with bench.product("traces") as product:
        queue = product.queue()
        listener = product.listener(queue, bench.sink.url)
        message = median([delivered(bench, product, queue, (listener,)).cpu_us for _ in range(rounds)])
    return [
        at_most("spans, an unsampled message", spans, _UNSAMPLED_US, " µs CPU"),
        at_most("spans, 1 % of messages sampled", sampled / message, _SAMPLED_PERCENT, " % of CPU"),
        seen("spans, a sampled message", f"{sampled:.0f} µs CPU"),
        seen("context of an unsampled message: read, stored, sent", f"{context:.2g} µs CPU"),
    ]


def _cost(work: Callable[[int], None]) -> float:
    """Microseconds of processor time for each message."""
    began = time.process_time()
    work(_MESSAGES)
    return (time.process_time() - began) / _MESSAGES * 1e6


def _without_context(messages: int) -> None:
    for _ in range(messages):
        NewMessage(b"{}", TEXT)


def _with_context(messages: int) -> None:
    """Read, store and send a context as the API, the publish and the sender do."""
    text, line = f"{_TRACE}00", ""
    for _ in range(messages):
        traceparent = parse_traceparent(text)
        NewMessage(b"{}", TEXT, traceparent=traceparent)
        found = lone_traceparent(encode_traceparent(text))
        if found is not None and not is_sampled(found) and found.isprintable():
            line = f"traceparent: {found}\r\n"
    assert line


def _with_export(messages: int) -> None:
    """Decide about a message that is not sampled as the publish, the attempt and the flush do."""
    message, attempt = NewMessage(b"{}", TEXT, traceparent=f"{_TRACE}00"), _Attempt()
    tracer = Tracer(_NoExport(), SystemClock(), TraceIds(os.urandom))
    for _ in range(messages):
        NewMessage(b"{}", TEXT)
        if is_any_recorded(tracer, (message,)) or attempt.trace is not None or attempt.trace is not None:
            raise AssertionError


class _NoExport:
    """An exporter that expects no spans."""

    counts: Mapping[SpanResult, int] = {}

    def add(self, span: Span) -> None:
        raise AssertionError(span)

    def close(self, grace_seconds: float) -> None: ...


class _Attempt:
    """The field of an attempt that decides about its spans."""

    trace: object | None = None


def _sampled_cost(bench: Bench) -> float:
    """Microseconds of processor time for the spans of a sampled message, with their export by the other thread."""
    message = NewMessage(b"{}", TEXT, traceparent=f"{_TRACE}01")
    began = time.process_time()
    with _exporting(bench.sink.url) as tracer:
        for _ in range(_SAMPLED_MESSAGES):
            with recorded_publish(tracer, "orders", ["0Vbva8VC00enQiJ4MzFhE"], [message]):
                pass
            for operation in ("deliver", "settle"):
                tracer.end(
                    operation,
                    "orders",
                    "client",
                    creation=f"{_TRACE}01",
                    started_at=tracer.now(),
                    attributes=dict(_ATTRIBUTES),
                    span=SpanContext("5bd6c1a17f2e9c04", f"{_TRACE}01", (f"{_TRACE}01",)),
                )
    used = time.process_time() - began
    if tracer.counts["exported"] != 3 * _SAMPLED_MESSAGES:
        raise BenchmarkFailed(f"Not all spans were exported: {tracer.counts}")
    return used / _SAMPLED_MESSAGES * 1e6


@contextmanager
def _exporting(url: str) -> Iterator[Tracer]:
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
    tracer = Tracer(OtlpExport(_PLAN, Log()), SystemClock(), TraceIds(os.urandom))
    try:
        yield tracer
    finally:
        tracer.close(_PATIENCE_SECONDS)
        del os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
