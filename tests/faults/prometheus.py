"""A Prometheus on loopback that scrapes servers once a second, with the alerts of `deploy/` in seconds for minutes."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.ports import HOST, free_port

PROGRAM: Final = shutil.which("prometheus")
RULES: Final = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yml"

# An alert about the last hour goes on for a minute.
_PATIENCE_SECONDS: Final = 150.0
_PAUSE_SECONDS: Final = 0.2
_CONFIG: Final = """\
global: {{scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: discue
    static_configs: [{{targets: [{targets}]}}]
"""


def hastened(rules: str, thresholds: dict[str, str]) -> str:
    """The rules with a second for each minute, and with other thresholds."""
    for before, after in thresholds.items():
        assert before in rules, before
        rules = rules.replace(before, after)
    return re.sub(r"\b(\d+)h\b", lambda found: f"{int(found[1]) * 60}s", re.sub(r"\b(\d+)m\b", r"\1s", rules))


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, **query: str) -> Any:
        answer = httpx.get(f"{self._url}/api/v1/{path}", params=query, trust_env=False).raise_for_status().json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, expression: str) -> list[float]:
        return [float(each["value"][1]) for each in self.ask("query", query=expression)["result"]]

    def firing(self) -> set[str]:
        alerts = self.ask("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def until_firing(self, names: Collection[str]) -> None:
        self.until(lambda: set(names) <= self.firing(), lambda: f"{set(names) - self.firing()} do not fire")

    def until_resolved(self, names: Collection[str]) -> None:
        self.until(lambda: not set(names) & self.firing(), lambda: f"{set(names) & self.firing()} fire on")

    def until(self, condition: Callable[[], object], otherwise: Callable[[], str]) -> None:
        ends_at = time.monotonic() + _PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < ends_at, otherwise()
            time.sleep(_PAUSE_SECONDS)


@contextmanager
def watching(folder: Path, ports: Collection[int], thresholds: dict[str, str]) -> Iterator[Prometheus]:
    """Watch the servers with these ports of metrics, until the end of the block."""
    rules, config, port = folder / "rules.yml", folder / "prometheus.yml", free_port()
    rules.write_text(hastened(RULES.read_text(encoding="utf-8"), thresholds), encoding="utf-8")
    targets = ", ".join(json.dumps(f"{HOST}:{each}") for each in ports)
    config.write_text(_CONFIG.format(rules=rules, targets=targets), encoding="utf-8")
    command = [
        str(PROGRAM),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            prometheus = Prometheus(f"http://{HOST}:{port}")
            prometheus.until(
                lambda: prometheus_is_up(prometheus, len(ports)),
                lambda: (folder / "prometheus.log").read_text(encoding="utf-8"),
            )
            yield prometheus
        finally:
            process.kill()


def prometheus_is_up(prometheus: Prometheus, targets: int) -> bool:
    """Whether it responds, and has scraped all targets."""
    try:
        return prometheus.value("sum(up)") == [targets]
    except httpx.HTTPError:
        return False
