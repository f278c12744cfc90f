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

_EXTRA_MISSING: Final = "The extra is missing: install discue[otel]."


@asynccontextmanager
async def traced(
    environ: Mapping[str, str], control: ControlContext, log: Log, *, reports: bool = True
) -> AsyncIterator[Tracer | None]:
    """Export spans during the block, if the `OTEL_…` variables ask for it. Yields what records them, or None.

    If it `reports`, logs why there are none although they are asked for: one of several workers is enough.
    """
    plan = _possible_plan(environ)
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


def _possible_plan(environ: Mapping[str, str]) -> ExportPlan | str | None:
    plan = plan_of(environ)
    return _EXTRA_MISSING if isinstance(plan, ExportPlan) and not is_installed() else plan


def _connect() -> Exporter:
    from discue.observability.otlp import OtlpExporter  # noqa: PLC0415 - an extra, and half a second of imports

    return OtlpExporter()
