"""Writes the generated pages: `python -m docs.generate`; with `--check`, fails if one is out of date."""

import json
import re
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from discue.config.settings import SETTINGS, VARIABLE_PREFIX, Setting
from discue.config.sources import CONFIG_FLAG, CONFIG_VARIABLE, describe
from discue.guides.library import SEARCH_ENTRIES
from docs.alerts import rules_file
from docs.board import board_file
from docs.commands_page import commands_page
from docs.log_events_page import log_events_page, log_schema_file
from docs.monitoring_page import monitoring_page
from docs.reference_pages import openapi_file, reference_pages
from docs.reservations_table import reservations_table
from docs.search_entries import search_entries_file
from docs.system_events_page import system_events_page
from tools import python_client, typescript_client

DOCS = Path(__file__).parent

RESULTS = DOCS.parent / "benchmarks" / "RESULTS.md"

_SETTINGS_INTRODUCTION = f"""# Settings

<!-- Written by `make docs` from the settings. -->

For operators. Give each setting as a flag, as an environment variable, or as a key of a TOML file, in this order of
precedence. Name the file with `{CONFIG_FLAG} FILE` or `{CONFIG_VARIABLE}`.

```toml
# discue.toml
database = "sqlite:////var/lib/discue/discue.db"
host = "0.0.0.0"
tls_cert = "/etc/discue/tls/fullchain.pem"
tls_key = "/etc/discue/tls/key.pem"
public_url = "https://discue.example.com:3000"
trusted_proxies = ["10.0.0.0/8"]
```

- The keys of the file are the names below, at the top level. An unknown key, and an unknown variable that starts with `{VARIABLE_PREFIX}`, is an
  error. Variables that Kubernetes sets for Services named `discue` (`DISCUE_SERVICE_HOST`, …) are ignored.
- Separate the elements of a list with commas; in the file, a list of strings works too. An empty variable counts as unset.
- A command that finds invalid settings lists all of them, each with its source, and exits with 2.
- `discue dev` has [defaults of its own](commands.md#discue-dev) for a developer's machine.
"""
_TABLE_HEAD = "| setting | value | default | meaning | commands |\n| --- | --- | --- | --- | --- |\n"


def settings_page() -> str:
    """Return the page with a table of settings for each group."""
    page = _SETTINGS_INTRODUCTION
    for title, settings in groupby(SETTINGS, key=lambda setting: setting.group):
        page += f"\n## {title.capitalize()}\n\n{_TABLE_HEAD}{''.join(_settings_row(setting) for setting in settings)}"
    return page


def _settings_row(setting: Setting) -> str:
    names = f"`{setting.name}`<br>`{setting.flag}`<br>`{setting.variable}`"
    default = f"`{describe(setting.type.shown(setting.default))}`" if setting.default not in (None, ()) else "none"
    meaning = setting.help + (" Secret: never shown." if setting.secret else "")
    return f"| {names} | {setting.type.expected} | {default} | {meaning} | {', '.join(setting.commands)} |\n"


def measured(name: str) -> str:
    """Return the value of the first line of the benchmark results that is called `name`."""
    found = re.search(rf"^\| {re.escape(name)} +\| (.+?) +\|", RESULTS.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise LookupError(f"{RESULTS.name} has no line {name!r}.")
    return found[1]


def _filled(path: Path, mark: str, text: str) -> str:
    """Return the page with `text` between `<!-- mark -->` and `<!-- end -->`."""
    begin, end = f"<!-- {mark} -->\n", "<!-- end -->\n"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    return f"{before}{begin}{text}{end}{rest.partition(end)[2]}"


def readme() -> str:
    """Return the README with the rates and the delay of the newest benchmark run, and their conditions."""
    line = (
        f"- **Fast.** One core stores (with `fsync`), signs and delivers {_rate('end to end')} messages a second, or stores\n"
        f"  {_rate('publish batch of 100, a message')} a second published in batches of 100. At 1,000 a second, 99 of 100 messages"
        f" arrive\n  within {measured('publish to receipt at 1,000/s, p99')} of their publish."
        f" [Measured](benchmarks/RESULTS.md) with messages of 300\n  bytes, on SQLite and over loopback, on {_processor()}.\n"
    )
    return _filled(DOCS.parent / "README.md", "performance", line)


def scaling_page() -> str:
    """Return the page about capacity with the costs of the newest benchmark run."""
    rows = "".join(f"| {what} | {_cpu(worker)} | {_cpu(server)} |\n" for what, worker, server in _COSTS)
    return _filled(
        DOCS / "scaling.md",
        "costs",
        f"On {_processor()}, from the [newest run](../benchmarks/RESULTS.md):\n\n"
        f"| | worker | PostgreSQL server |\n| --- | --- | --- |\n{rows}\n",
    )


def event_loop_page() -> str:
    """Return the page about event loop limits, with the reservations of all routes."""
    return _filled(DOCS / "architecture" / "event-loop-limits.md", "reservations", reservations_table())


_COSTS = (
    ("publish, one message per request", "publish on PostgreSQL", "publish, the PostgreSQL server itself"),
    ("publish, in batches of 100 (SQLite)", "publish batch of 100, a message", ""),
    ("publish and deliver to one listener", "end to end on PostgreSQL", "end to end, the PostgreSQL server itself"),
    ("deliver to one more listener (SQLite)", "one more listener", ""),
    ("pull and acknowledge (SQLite)", "pulling and acknowledging, 100 at a time by 4 consumers", ""),
)


def _cpu(name: str) -> str:
    found = re.search(r"([\d.]+) µs CPU", measured(name)) if name else None
    return f"{round(float(found[1]))} µs" if found else ""


def _rate(name: str) -> str:
    """Return a rate with two significant digits: its noise is about 5 %."""
    rate = int(measured(name).partition("/s")[0].replace(",", ""))
    return f"{round(rate, 2 - len(str(rate))):,}"


def _processor() -> str:
    found = re.search(r"^- processor: (.+)$", RESULTS.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "an unknown processor"


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "openapi.json": openapi_file,
    "../README.md": readme,
    "scaling.md": scaling_page,
    "architecture/event-loop-limits.md": event_loop_page,
    "system-events.md": system_events_page,
    "log-events.md": log_events_page,
    "log-events.json": log_schema_file,
    "monitoring.md": monitoring_page,
    "../deploy/prometheus/rules.yml": rules_file,
    "../deploy/grafana/discue.json": board_file,
    **reference_pages(),
    SEARCH_ENTRIES: search_entries_file,
}
"""The function that writes each generated page, by its path below `docs`. The last one reads all pages."""


def stale() -> list[str]:
    """Return the names of the generated files that do not match the code."""
    pages = [name for name, page in PAGES.items() if not _is_current(DOCS / name, page())]
    return pages + [path.name for path, text in _client_modules().items() if not _is_current(path, text)]


def _client_modules() -> dict[Path, str]:
    document = json.loads(openapi_file())
    return python_client.generated(document) | typescript_client.generated(document)


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        old = stale()
        if old:
            sys.stderr.write(f"Out of date: {', '.join(old)}. Run `make docs`.\n")
        return 1 if old else 0
    for name, page in PAGES.items():
        (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / name).write_text(page(), encoding="utf-8")
    for path, text in _client_modules().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
