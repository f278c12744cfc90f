"""Spans leave by a thread of their own, and nothing waits for them."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from unittest.mock import Mock

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from discue.domain.clock import SystemClock
from discue.domain.trace_context import TraceIds
from discue.observability.logs import Log
from discue.observability.otlp import OtlpExport
from discue.observability.span_export import plan_of, traced
from discue.observability.tracing import ExportPlan, SpanContext, Tracer
from tests.support.collector import PATIENCE_SECONDS, collecting, hanging

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CREATION = f"00-{TRACE}-{SPAN}-01"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PLAN = ExportPlan(queue_limit=20, batch=10, pause_seconds=0.01)


class _Events(Log):
    """A log that keeps its events."""

    def __init__(self) -> None:
        super().__init__("test")
        self.seen: list[tuple[str, dict[str, object]]] = []
        self._changed = threading.Condition()

    def info(self, event: str, /, **fields: object) -> None:
        with self._changed:
            self.seen.append((event, fields))
            self._changed.notify_all()

    warning = info

    def until(self, event: str) -> dict[str, object]:
        with self._changed:
            assert self._changed.wait_for(lambda: any(name == event for name, _ in self.seen), PATIENCE_SECONDS)
            return next(fields for name, fields in self.seen if name == event)


@contextmanager
def _exporting(log: Log, plan: ExportPlan = PLAN, grace_seconds: float = 5.0) -> Iterator[Tracer]:
    tracer = Tracer(OtlpExport(plan, log), SystemClock(), _ids())
    try:
        yield tracer
    finally:
        tracer.close(grace_seconds)


def _ids() -> TraceIds:
    return TraceIds(Random(3).randbytes)  # noqa: S311 - repeatable


def _record(tracer: Tracer, queue: str = "orders", **options: Any) -> None:
    given = {"creation": CREATION, "started_at": tracer.now(), "attributes": {"discue.attempt": 1}, **options}
    tracer.end("deliver", queue, "client", **given)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "shop"},
        {ENDPOINT: " "},
        {ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"},
        {ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"},
        {ENDPOINT: "http://c:4318", "OTEL_TRACES_SAMPLER": "always_off"},
    ],
)
def test_environment_that_asks_for_no_spans_has_no_plan(environ: dict[str, str]) -> None:
    assert plan_of(environ) is None


def test_plan_follows_the_variables_of_the_standard() -> None:
    assert plan_of({ENDPOINT: "http://c:4318"}) == plan_of({"OTEL_TRACES_EXPORTER": "otlp"}) == (2_048, 512, 5.0, 1.0)
    sizes = {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "200", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    assert plan_of({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces", **sizes}) == (100, 100, 0.05, 1.0)
    assert plan_of({ENDPOINT: "http://c:4318", "OTEL_BSP_MAX_QUEUE_SIZE": "many"}) == (2_048, 512, 5.0, 1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ],
)
def test_plan_that_is_not_possible_says_which_variable_is_wrong(name: str, value: str) -> None:
    reason = plan_of({ENDPOINT: "http://c:4318", name: value})
    assert isinstance(reason, str)
    assert reason.startswith(f"{name} is {value}: only ")


@pytest.mark.parametrize(
    ("sampler", "argument", "ratio"),
    [
        ("traceidratio", "0.25", 0.25),
        ("traceidratio", "2", 1.0),
        ("traceidratio", "a part", 1.0),
        ("parentbased_traceidratio", "0.25", 1.0),
        ("always_on", "", 1.0),
    ],
)
def test_sampler_by_trace_id_limits_the_sampled_traces(sampler: str, argument: str, ratio: float) -> None:
    plan = plan_of({ENDPOINT: "http://c:4318", "OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument})
    assert isinstance(plan, ExportPlan)
    assert plan.ratio == ratio


@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
def test_ratio_selects_the_traces_that_opentelemetry_selects(ratio: float) -> None:
    ids = _ids()
    tracer, reference = Tracer(Mock(counts={}), SystemClock(), ids, ratio=ratio), TraceIdRatioBased(ratio)
    traces = [ids.trace_id() for _ in range(400)]
    recorded = [tracer.records(f"00-{trace}-{SPAN}-01") for trace in traces]
    decisions = [reference.should_sample(None, int(trace, 16), "x").decision for trace in traces]
    assert recorded == [decision is Decision.RECORD_AND_SAMPLE for decision in decisions]
    assert abs(sum(recorded) / 400 - ratio) < 0.1
    assert not any(tracer.records(f"00-{trace}-{SPAN}-00") for trace in traces)


def test_full_queue_drops_new_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        with _exporting(_Events()) as tracer:
            with collector.held():
                for number in range(25):
                    _record(tracer, str(number))
            spans = collector.until(PLAN.queue_limit)
    assert [span.name for span in spans] == [f"deliver {number}" for number in range(20)]
    assert tracer.counts == {"exported": 20, "failed": 0, "dropped": 5}


def test_collector_gets_spans_with_their_place_in_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    other = f"00-{'c' * 32}-{'d' * 16}-01"
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        with _exporting(_Events()) as tracer:
            _record(tracer)
            _record(tracer, span=SpanContext("e" * 16, "", (CREATION, other)), error="timeout")
            child, root = collector.until(2)
    assert (child.name, child.kind, child.trace_id) == ("deliver orders", "client", TRACE)
    assert (child.parent_id, child.links, child.is_error) == (SPAN, (), False)
    assert child.attributes == {
        "messaging.system": "discue",
        "messaging.operation.name": "deliver",
        "messaging.destination.name": "orders",
        "discue.attempt": 1,
    }
    assert 0 <= child.seconds < 5
    assert child.resource["service.name"] == "discue"
    assert child.resource["deployment.environment.name"] == "test"
    assert (root.span_id, root.parent_id, root.links) == ("e" * 16, "", (SPAN, "d" * 16))
    assert root.is_error
    assert root.attributes["error.type"] == "timeout"


def test_name_of_the_service_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "messages-eu")
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        with _exporting(_Events()) as tracer:
            _record(tracer)
            [span] = collector.until(1)
    assert span.resource["service.name"] == "messages-eu"


def test_hanging_collector_costs_a_bounded_queue_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with hanging() as (url, came):
        monkeypatch.setenv(ENDPOINT, url)
        with _exporting(_Events(), grace_seconds=0.05) as tracer:
            _record(tracer)
            assert came.wait(PATIENCE_SECONDS)
            for _ in range(10_000):
                _record(tracer)
            # The exporter still waits for the response to the first one.
            assert tracer.counts == {"exported": 0, "failed": 0, "dropped": 10_001 - PLAN.queue_limit}
        assert tracer.counts["failed"] == 0, "closing does not wait for the response either"
    # The thread ends with its last request.
    tracer.close(PATIENCE_SECONDS)


def test_refusing_and_absent_collector_is_reported_once_until_it_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    log = _Events()
    with collecting() as collector:
        collector.status = 400
        monkeypatch.setenv(ENDPOINT, collector.url)
        port = int(collector.url.rpartition(":")[2])
        with _exporting(log) as tracer:
            _record(tracer)
            refused = log.until("spans_not_exported")
            assert "400" in str(refused["reason"])
            _record(tracer)
            collector.until_asked(2)
            collector.status = 200
            _record(tracer)
            collector.until(1)
            assert log.until("span_export_recovered") == {"dropped": 0, "failed": 2}
            assert [event for event, _ in log.seen] == ["spans_not_exported", "span_export_recovered"]
    # Now nobody listens there.
    log, before = _Events(), time.monotonic()
    with _exporting(log) as tracer:
        _record(tracer)
        assert log.until("spans_not_exported")["reason"]
        with collecting(port) as collector:
            _record(tracer)
            collector.until(1)
            log.until("span_export_recovered")
    assert time.monotonic() - before < PATIENCE_SECONDS


def test_close_exports_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        with _exporting(_Events(), ExportPlan(100, 100, 3_600.0)) as tracer:
            for _ in range(30):
                _record(tracer)
        assert len(collector.spans) == 30
        assert tracer.counts == {"exported": 30, "failed": 0, "dropped": 0}


def test_collector_without_tls_is_named_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url.replace("http:", "https:"))
        # The library names the reason where it has time for a second attempt, about a second later.
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
        log = _Events()
        with _exporting(log) as tracer:
            _record(tracer)
            reason = str(log.until("spans_not_exported")["reason"])

    assert "the server does not speak TLS at this port" in reason
    assert "_ssl.c" not in reason


def _reported(environ: dict[str, str], *, reports: bool = True) -> list[object]:
    """Return the reasons why no spans are exported."""
    log = _Events()

    async def trace() -> None:
        async with traced(environ, log, SystemClock(), Random(3).randbytes, reports=reports) as tracer:  # noqa: S311
            assert tracer is None

    asyncio.run(trace())
    assert {event for event, _ in log.seen} <= {"spans_not_exported"}
    return [fields["reason"] for _, fields in log.seen]


def test_exporter_that_cannot_start_is_reported_by_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {ENDPOINT: "http://127.0.0.1:4318"}
    assert _reported({}) == []
    console = {**asked, "OTEL_TRACES_EXPORTER": "console"}
    assert _reported(console) == ["OTEL_TRACES_EXPORTER is console: only otlp is supported."]
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "absent")
    [reason] = _reported(asked)
    assert str(reason).startswith("RuntimeError: Requested component 'absent' not found")
    monkeypatch.setitem(sys.modules, "discue.observability.otlp", None)
    missing = "The packages of OpenTelemetry are missing: install requirements/otel.txt of the repository."
    assert _reported(asked) == [missing]
    assert _reported(asked, reports=False) == []
