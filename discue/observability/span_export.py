"""Export of spans, if the environment asks for it. The exporter comes with the extra `otel`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from discue.domain.clock import Clock
from discue.domain.trace_context import TraceIds
from discue.observability.logs import Log
from discue.observability.tracing import ExportPlan, Tracer

_PROTOCOL: Final = "http/protobuf"
_GRACE_SECONDS: Final = 2.0
"""How long a worker that stops waits for the collector to take what is left."""


@asynccontextmanager
async def traced(
    environ: Mapping[str, str], log: Log, clock: Clock, random_bytes: Callable[[int], bytes], *, reports: bool = True
) -> AsyncIterator[Tracer | None]:
    """Export spans during the block if the `OTEL_…` variables ask for it. Yields their tracer, or None.

    `reports`: log a reason why spans cannot be exported although the variables ask for it. One of several workers does.
    """
    plan, ids = plan_of(environ), TraceIds(random_bytes)
    tracer = await asyncio.to_thread(_exporting, plan, log, clock, ids) if isinstance(plan, ExportPlan) else plan
    if isinstance(tracer, Tracer):
        try:
            yield tracer
        finally:
            await asyncio.to_thread(tracer.close, _GRACE_SECONDS)
    else:
        if tracer is not None and reports:
            log.warning("spans_not_exported", reason=tracer)
        yield None


def _exporting(plan: ExportPlan, log: Log, clock: Clock, ids: TraceIds) -> Tracer | str:
    """Return a tracer whose spans are exported, or a sentence that says why it cannot be made."""
    try:
        # An extra, and half a second of imports.
        from discue.observability.otlp import OtlpExport  # noqa: PLC0415

        return Tracer(OtlpExport(plan, log), clock, ids, ratio=plan.ratio)
    except ModuleNotFoundError:
        return "The packages of OpenTelemetry are missing: install requirements/otel.txt of the repository."
    except Exception as error:  # The library's errors for variables that it cannot use are unknown
        return f"{type(error).__name__}: {error}"


def plan_of(environ: Mapping[str, str]) -> ExportPlan | str | None:
    """Return the plan, a sentence why there is none, or None if the environment does not ask for spans."""
    given = {name: text.strip() for name, text in environ.items() if name.startswith("OTEL_")}
    exporter = given.get("OTEL_TRACES_EXPORTER", "").lower()
    has_endpoint = given.get("OTEL_EXPORTER_OTLP_ENDPOINT") or given.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    is_disabled = given.get("OTEL_SDK_DISABLED", "").lower() == "true"
    is_disabled |= given.get("OTEL_TRACES_SAMPLER") == "always_off"
    if is_disabled or exporter == "none" or not (exporter or has_endpoint):
        return None
    if exporter not in {"", "otlp"}:
        return f"OTEL_TRACES_EXPORTER is {exporter}: only otlp is supported."
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    name = next((name for name in names if given.get(name)), None)
    if name is not None and given[name] != _PROTOCOL:
        return f"{name} is {given[name]}: only {_PROTOCOL} is supported."
    limit = _number(given, "OTEL_BSP_MAX_QUEUE_SIZE", 2_048)
    return ExportPlan(
        limit,
        min(_number(given, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), limit),
        _number(given, "OTEL_BSP_SCHEDULE_DELAY", 5_000) / 1_000,
        _ratio(given),
    )


def _ratio(given: Mapping[str, str]) -> float:
    """Return the ratio for `traceidratio`. All other values leave the decision to the publisher."""
    if given.get("OTEL_TRACES_SAMPLER") != "traceidratio":
        return 1.0
    try:
        ratio = float(given.get("OTEL_TRACES_SAMPLER_ARG", ""))
    except ValueError:
        return 1.0
    return ratio if 0 <= ratio <= 1 else 1.0


def _number(given: Mapping[str, str], name: str, default: int) -> int:
    # The specification: an invalid value counts as unset.
    text = given.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) else default
