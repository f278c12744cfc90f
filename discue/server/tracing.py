"""Tracing of a worker: spans are exported if the environment asks for it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from discue.control.context import ControlContext
from discue.domain.trace_context import TraceIds
from discue.observability.logs import Log
from discue.observability.span_export import Exporter, ExportPlan, SpanExport, is_installed, plan_of
from discue.observability.tracing import Tracer

_GRACE_SECONDS: Final = 2.0
"""How long a worker that stops waits for the collector to take what is left."""

_EXTRA_MISSING: Final = "The packages of OpenTelemetry are missing: install requirements/otel.txt of the repository."


@asynccontextmanager
async def traced(
    environ: Mapping[str, str], control: ControlContext, log: Log, *, reports: bool = True
) -> AsyncIterator[Tracer | None]:
    """Export spans during the block if the `OTEL_…` variables ask for it. Yields their tracer, or None.

    `reports`: log a reason why spans cannot be exported although the variables ask for it. One of several workers does.
    """
    plan = plan_of(environ)
    if isinstance(plan, ExportPlan) and not is_installed():
        plan = _EXTRA_MISSING
    if not isinstance(plan, ExportPlan):
        if plan is not None and reports:
            log.warning("spans_not_exported", reason=plan)
        yield None
        return
    export = SpanExport(plan, log, control.clock, TraceIds(control.random_bytes), connect=_connect)
    export.start()
    try:
        yield export.tracer
    finally:
        await asyncio.to_thread(export.close, _GRACE_SECONDS)


def _connect() -> Exporter:
    from discue.observability.otlp import OtlpExporter  # noqa: PLC0415 - an extra, and half a second of imports

    return OtlpExporter()
