"""Names of browsers and systems, for the list of sessions."""

import re
from typing import Final

# The first that matches decides: most browsers also claim to be others.
_BROWSERS: Final = (
    ("Edge", re.compile(r"Edg(?:A|iOS)?/(\d+)")),
    ("Opera", re.compile(r"OPR/(\d+)")),
    ("Samsung Internet", re.compile(r"SamsungBrowser/(\d+)")),
    ("Firefox", re.compile(r"(?:Firefox|FxiOS)/(\d+)")),
    ("Chrome", re.compile(r"(?:Chrome|CriOS|HeadlessChrome)/(\d+)")),
    ("Safari", re.compile(r"Version/(\d+)[\d.]* (?:Mobile/\S+ )?Safari/")),
    ("curl", re.compile(r"curl/(\d+)")),
)
_SYSTEMS: Final = (
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
_SHOWN_CHARACTERS: Final = 60


def browser_name(user_agent: str) -> str:
    """Return a short name for a User-Agent header, such as "Firefox 140 on Linux". The header may say anything."""
    found = ((name, pattern.search(user_agent)) for name, pattern in _BROWSERS)
    name = next((f"{name} {match[1]}" for name, match in found if match is not None), "")
    if not name:
        return user_agent[:_SHOWN_CHARACTERS] or "unknown"
    system = next((shown for mark, shown in _SYSTEMS if mark in user_agent), "")
    return f"{name} on {system}" if system else name
