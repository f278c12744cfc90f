"""Whether spans are exported."""

from pathlib import Path

import pytest

from discue.config.settings import Settings
from discue.domain.clock import SystemClock
from discue.observability.logs import Log
from discue.server import tracing
from discue.server.installation import open_installation

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


async def test_missing_extra_and_impossible_exporter_are_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "is_installed", lambda: False)
    seen: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(Log, "warning", lambda _, event, **fields: seen.append((event, fields)))
    log, clock = Log("test"), SystemClock()
    settings = Settings(database=f"sqlite:///{tmp_path}/discue.db", encryption="none")
    async with open_installation(settings, clock, log) as control:
        for environ, reports in (
            ({ENDPOINT: "http://127.0.0.1:4318"}, True),
            ({ENDPOINT: "http://127.0.0.1:4318"}, False),
            ({ENDPOINT: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "console"}, True),
            ({}, True),
        ):
            async with tracing.traced(environ, control, log, reports=reports) as tracer:
                assert tracer is None
    assert seen == [
        (
            "spans_not_exported",
            {"reason": "The packages of OpenTelemetry are missing: install requirements/otel.txt of the repository."},
        ),
        ("spans_not_exported", {"reason": "OTEL_TRACES_EXPORTER is console: only otlp is supported."}),
    ]
