"""Writes the pages of documentation that follow from the code: `python -m docs.generate [--check]`."""

import sys
from collections.abc import Callable
from pathlib import Path

from discue.settings import SETTINGS, Setting
from discue.settings_sources import CONFIG_FLAG, CONFIG_VARIABLE, describe
from docs.commands_page import commands_page
from docs.errors_page import errors_page
from docs.reference_pages import openapi_file, reference_pages

DOCS = Path(__file__).parent

_SETTINGS_INTRODUCTION = f"""# Settings

<!-- Written by `make docs` from discue/settings.py. -->

Every setting is a flag, an environment variable and a key of a TOML file. Where one is given more than once, the flag
wins over the variable, the variable over the file, the file over the default. The file is named by `{CONFIG_FLAG} FILE`
or `{CONFIG_VARIABLE}`; its keys are the names below, at the top level, and an unknown one is an error. An empty variable
counts as none. A list is separated by commas; in the file it may be a list of strings.

```toml
# discue.toml
database = "sqlite:////var/lib/discue/discue.db"
host = "0.0.0.0"
tls_cert = "/etc/discue/tls/fullchain.pem"
tls_key = "/etc/discue/tls/key.pem"
public_url = "https://discue.example.com:3000"
trusted_proxies = ["10.0.0.0/8"]
```

All problems are reported at once, each with the place it came from; nothing starts before there are none. Instead of
the defaults below, `discue dev` begins with some of its own, for a developer's machine.

| setting | value | default | meaning | commands |
| --- | --- | --- | --- | --- |
"""


def settings_page() -> str:
    """The table of settings."""
    return _SETTINGS_INTRODUCTION + "".join(_settings_row(setting) for setting in SETTINGS)


def _settings_row(setting: Setting) -> str:
    names = f"`{setting.name}`<br>`{setting.flag}`<br>`{setting.variable}`"
    default = f"`{describe(setting.default)}`" if setting.default not in (None, ()) else "none"
    meaning = setting.help + (" Secret: never shown." if setting.secret else "")
    return f"| {names} | {setting.kind.expected} | {default} | {meaning} | {', '.join(setting.commands)} |\n"


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "errors.md": errors_page,
    "openapi.json": openapi_file,
    **reference_pages(),
}


def stale() -> list[str]:
    """The generated pages that are not what the code says."""
    return [name for name, page in PAGES.items() if not _is_current(DOCS / name, page())]


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        old = stale()
        if old:
            sys.stderr.write(f"Not up to date: {', '.join(old)}. Run `make docs`.\n")
        return 1 if old else 0
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
