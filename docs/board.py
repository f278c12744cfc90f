"""The board for Grafana: `deploy/grafana/discue.json`."""

import json
from typing import Any, Final, Literal, NamedTuple

Unit = Literal["short", "s", "bytes", "ops", "percentunit"]


class Panel(NamedTuple):
    """A graph of the board."""

    title: str
    unit: Unit
    queries: tuple[tuple[str, str], ...]
    """Expressions of Prometheus, each with the legend of its lines."""


def _quantiles(metric: str, by: str = "") -> tuple[tuple[str, str], ...]:
    legend = f"{{{{{by}}}}} " if by else ""
    names = f"{by}, le" if by else "le"
    rate = f"sum by ({names}) (rate({metric}_bucket[$__rate_interval]))"
    return tuple((f"histogram_quantile({q}, {rate})", f"{legend}p{round(q * 100)}") for q in (0.5, 0.99))


ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Is it healthy?",
        (
            Panel(
                "Servers",
                "short",
                (('up{job="discue"}', "{{instance}}"), ("discue_store_healthy", "store {{instance}}")),
            ),
            Panel(
                "Requests of clients",
                "ops",
                (
                    (
                        "sum by (operation, status) (rate(discue_http_requests_total[$__rate_interval])) > 0",
                        "{{operation}} {{status}}",
                    ),
                ),
            ),
            Panel("Time to respond", "s", _quantiles("discue_http_request_duration_seconds", "operation")),
            Panel("Time until messages are durable", "s", _quantiles("discue_publish_duration_seconds")),
        ),
    ),
    (
        "Is it keeping up?",
        (
            Panel(
                "Messages",
                "ops",
                (
                    ("sum(rate(discue_published_messages_total[$__rate_interval]))", "published"),
                    ("sum by (outcome) (rate(discue_attempts_total[$__rate_interval])) > 0", "{{outcome}}"),
                ),
            ),
            Panel(
                "Age of the backlog",
                "s",
                (("max by (mode, state) (discue_backlog_age_seconds)", "{{mode}} {{state}}"),),
            ),
            Panel(
                "Backlog",
                "short",
                (
                    ("sum by (mode, state) (discue_backlog_messages)", "{{mode}} {{state}}"),
                    ("sum(discue_retrying_messages)", "retrying"),
                ),
            ),
            Panel("From storing to the first attempt", "s", _quantiles("discue_delivery_lag_seconds")),
            Panel("In flight", "short", (("sum by (instance) (discue_deliveries_in_flight)", "{{instance}}"),)),
            Panel("Overdue schedules", "s", (("max(discue_schedules_late_seconds)", "late"),)),
        ),
    ),
    (
        "What fails?",
        (
            Panel("Listeners", "short", (("sum by (state) (discue_listeners)", "{{state}}"),)),
            Panel(
                "Missed messages",
                "short",
                (("sum by (reason) (increase(discue_missed_messages_total[1h]))", "{{reason}}"),),
            ),
            Panel("Requests to listeners", "s", _quantiles("discue_attempt_duration_seconds", "stage")),
            Panel(
                "Reused connections",
                "percentunit",
                (
                    (
                        (
                            'sum(rate(discue_connections_total{reused="true"}[$__rate_interval]))'
                            " / sum(rate(discue_connections_total[$__rate_interval]))"
                        ),
                        "reused",
                    ),
                ),
            ),
            Panel(
                "Circuit breakers, leases, takeovers, errors",
                "short",
                (
                    ("sum by (to) (increase(discue_breaker_transitions_total[10m]))", "breaker {{to}}"),
                    ("sum(increase(discue_leases_lost_total[10m]))", "leases lost"),
                    ("sum(increase(discue_takeovers_total[10m]))", "takeovers"),
                    ("sum by (task) (increase(discue_task_failures_total[10m])) > 0 or vector(0)", "{{task}}"),
                ),
            ),
        ),
    ),
    (
        "The machine",
        (
            Panel(
                "Processor",
                "short",
                (("rate(process_cpu_seconds_total[$__rate_interval])", "{{instance}} {{worker}}"),),
            ),
            Panel("Memory", "bytes", (("process_resident_memory_bytes", "{{instance}} {{worker}}"),)),
            Panel("Lag of the event loop", "s", _quantiles("discue_event_loop_lag_seconds")),
            Panel("Duration of commits", "s", _quantiles("discue_commit_duration_seconds", "kind")),
            Panel(
                "Database (SQLite)",
                "bytes",
                (("discue_database_file_bytes", "{{file}}"), ("discue_disk_free_bytes", "free")),
            ),
            Panel(
                "Connections and files",
                "short",
                (("process_open_fds", "open {{instance}}"), ("discue_open_connections", "to listeners {{instance}}")),
            ),
            Panel(
                "Age of the newest backup (SQLite)",
                "s",
                (("discue_backup_age_seconds", "age"), ("discue_backup_interval_seconds", "interval")),
            ),
        ),
    ),
)

_WIDTH: Final = 8
_HEIGHT: Final = 8
_PER_LINE: Final = 3
_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}


def board_file() -> str:
    """Return the board, for Grafana 10 and newer. It asks for its data source when it is imported."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, graphs in ROWS:
        panels.append({"type": "row", "title": title, "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}, "panels": []})
        y += 1
        for index, graph in enumerate(graphs):
            x, line = index % _PER_LINE * _WIDTH, index // _PER_LINE * _HEIGHT
            panels.append(_panel(graph, {"h": _HEIGHT, "w": _WIDTH, "x": x, "y": y + line}))
        y += -(-len(graphs) // _PER_LINE) * _HEIGHT
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    board = {
        "title": "discue",
        "uid": "discue",
        "schemaVersion": 39,
        "version": 1,
        "tags": ["discue"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source]},
        "panels": panels,
    }
    return json.dumps(board, indent=1) + "\n"


def _panel(graph: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend, "datasource": _SOURCE}
        for index, (expression, legend) in enumerate(graph.queries)
    ]
    return {
        "type": "timeseries",
        "title": graph.title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": graph.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }
