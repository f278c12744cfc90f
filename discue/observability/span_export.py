"""Export of spans by OpenTelemetry, on a thread of its own: the service never waits for a collector.

The exporter comes with the extra `otel`. The thread imports it, only if the environment asks for spans.
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from threading import Event, Thread
from typing import Final, NamedTuple, Protocol

from discue.domain.clock import Clock
from discue.domain.trace_context import TraceIds
from discue.observability.logs import Log
from discue.observability.tracing import BATCH, QUEUE_LIMIT, Span, SpanQueue, Tracer

_PAUSE_MS: Final = 5_000
_BY_RATIO: Final = "traceidratio"
_PROTOCOL: Final = "http/protobuf"


class ExportPlan(NamedTuple):
    """The settings of the export of spans, from the environment."""

    queue_limit: int
    batch: int
    pause_seconds: float
    """Longest time that a span waits for others."""
    ratio: float = 1.0
    """The part of the sampled traces that is exported."""


def plan_of(environ: Mapping[str, str]) -> ExportPlan | str | None:
    """Return the plan, a sentence why there is none, or None if the environment does not ask for spans."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    has_endpoint = any(
        environ.get(name, "").strip() for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
    is_disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    is_disabled |= environ.get("OTEL_TRACES_SAMPLER", "").strip() == "always_off"
    if is_disabled or exporter == "none" or not (exporter or has_endpoint):
        return None
    if exporter not in {"", "otlp"}:
        return f"OTEL_TRACES_EXPORTER is {exporter}: only otlp is supported."
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environ.get(name, "").strip()
        if protocol:
            if protocol != _PROTOCOL:
                return f"{name} is {protocol}: only {_PROTOCOL} is supported."
            break
    limit = _number(environ, "OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_LIMIT)
    return ExportPlan(
        limit,
        min(_number(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH), limit),
        _number(environ, "OTEL_BSP_SCHEDULE_DELAY", _PAUSE_MS) / 1_000,
        _ratio(environ),
    )


def _ratio(environ: Mapping[str, str]) -> float:
    """Return the ratio for `traceidratio`. All other values leave the decision to the publisher."""
    if environ.get("OTEL_TRACES_SAMPLER", "").strip() != _BY_RATIO:
        return 1.0
    try:
        ratio = float(environ.get("OTEL_TRACES_SAMPLER_ARG", ""))
    except ValueError:
        return 1.0
    return ratio if 0 <= ratio <= 1 else 1.0


def is_installed() -> bool:
    """Return whether the extra `otel` is installed."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter") is not None
    except ModuleNotFoundError:
        return False


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    # The specification: an invalid value counts as unset.
    text = environ.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and int(text) else default


class Exporter(Protocol):
    """Sends spans to a collector."""

    def export(self, spans: list[Span]) -> str:
        """Send spans. Returns the reason why the collector did not accept them, "" for success. May take long."""
        ...

    def close(self) -> None:
        """Close its connections. An export that waits to be repeated ends."""
        ...


class SpanExport:
    """A thread that exports spans until it is closed. Spans that it does not keep up with are dropped."""

    def __init__(
        self, plan: ExportPlan, log: Log, clock: Clock, ids: TraceIds, *, connect: Callable[[], Exporter]
    ) -> None:
        """`connect` returns the exporter. It runs on the thread."""
        self._plan = plan
        self._log = log
        self._connect = connect
        self._wake = Event()
        self._is_closing = False
        self._queue = SpanQueue(limit=plan.queue_limit, batch=plan.batch, on_batch=self._wake.set)
        self.tracer = Tracer(self._queue, clock, ids, ratio=plan.ratio)
        self._exporter: Exporter | None = None
        self._thread = Thread(target=self._run, name="spans", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, grace_seconds: float) -> None:
        """Export the spans that wait, as far as the collector takes them in that time. Blocks for at most that long."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(grace_seconds)
        if self._exporter is not None:
            self._exporter.close()

    def _run(self) -> None:
        try:
            exporter = self._exporter = self._connect()
        except Exception as error:  # The library's errors for variables that it cannot use are unknown
            self._queue.close()
            self._log.warning("spans_not_exported", reason=f"{type(error).__name__}: {error}")
            return
        is_failing, counts = False, self._queue.counts
        while not self._is_closing or len(self._queue):
            if not self._is_closing:
                self._wake.wait(self._plan.pause_seconds)
                self._wake.clear()
            while spans := self._queue.take():
                failure = exporter.export(spans)
                counts["failed" if failure else "exported"] += len(spans)
                # A collector may be gone for days: only a change is logged.
                if failure and not is_failing:
                    self._log.warning("spans_not_exported", reason=failure)
                elif is_failing and not failure:
                    self._log.info("span_export_recovered", dropped=counts["dropped"], failed=counts["failed"])
                is_failing = bool(failure)
                if is_failing and self._is_closing:
                    return
