"""The page about monitoring: how to scrape, the table of metrics, and the runbook of the alerts."""

from collections.abc import Iterable

from discue.observability.metrics import Metric
from discue.server.metric_table import METRICS
from discue.server.metrics import DETAILED
from docs.alerts import ALERTS, Alert

_INTRODUCTION = """# Monitoring

<!-- Written by `make docs` from discue/server/metric_table.py and docs/alerts.py. -->

For operators. Ten lines let [Prometheus](https://prometheus.io) watch a server and alert somebody:

```sh
discue serve --metrics-port 9464
```

```yaml
# prometheus.yml
scrape_configs:
  - job_name: discue
    scrape_interval: 15s
    static_configs:
      - targets: ["localhost:9464"]
rule_files: [rules.yml]
```

Copy `deploy/prometheus/rules.yml` of the repository next to it. A board for Grafana is in `deploy/grafana`.

## Scraping

- `GET /metrics` is served on `metrics_port`, which listens on loopback unless `metrics_host` says otherwise. With
  `metrics_key` it is also on the port of the API, and needs the key: `Authorization: Bearer <key>`.
- The format is OpenMetrics 1.0 for clients that accept it, else the text format of Prometheus.
- A scrape reads memory only. It has at most 320 samples per worker, however many queues, listeners and messages there
  are.
- With several `workers`, each scrape has the samples of all of them, with the label `worker`. A worker that does not
  respond within a second is left out.
- A gauge about listeners is about those that the worker has: each listener belongs to one worker, so `sum` over all
  workers of an installation is right, and `max` for ages. Pull listeners belong to no worker: the leader reads their
  backlogs every 15 seconds and reports them. Until a consumer asks, messages that the listener's filter excludes count.

## Who watches Prometheus?

A process cannot report its own death, and neither can a machine that is gone. With `heartbeat_url`, each worker requests
that URL every minute while it can write to the database. Give it the URL of a monitor elsewhere that alerts when no
request comes (a dead man's switch).

## Single listeners and queues

`GET /metrics/detailed?family=listeners` (or `queues`) has the metrics of all listeners, or of their queues, those with
the largest backlogs first; queues without any listener are not shown. `queue=` restricts it to one queue, by
its id: an alias gets `404`. `limit=` restricts it to that many objects (1,000 unless given, 3,333 at most). It is for
people and boards that ask for it: its size grows with what it shows.
"""


def monitoring_page() -> str:
    """Return the page."""
    return "\n".join(
        [
            _INTRODUCTION,
            "## Metrics\n",
            _table(METRICS),
            "In `/metrics/detailed`:\n",
            _table(DETAILED),
            "## Alerts\n",
            "Each alert of `rules.yml` links to its section here. Severity `page` is worth waking somebody for.\n",
            *map(_section, ALERTS),
        ]
    )


def _table(metrics: Iterable[Metric]) -> str:
    rows = "".join(f"| `{each.name}` | {each.kind} | {_labels(each)} | {each.help} |\n" for each in metrics)
    return f"| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n{rows}"


def _labels(metric: Metric) -> str:
    shown = {name: ", ".join(values) for name, values in metric.labels.items() if name not in {"version", "python"}}
    return "; ".join(f"`{name}`: {values}" if values else f"`{name}`" for name, values in shown.items())


def _section(alert: Alert) -> str:
    held = f"Alerts after {alert.minutes} min." if alert.minutes else "Alerts at once."
    return (
        f"### {alert.name}\n\n{alert.summary} Severity: {alert.severity}.\n\n"
        f"```promql\n{alert.expression}\n```\n\n{held}\n\n"
        f"**Look at:** {alert.signs}\n\n**Do:** {alert.remedy}\n"
    )
