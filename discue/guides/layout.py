"""The frame of every page of the documentation: contents, search, and the style of the dashboard.

A page is one request: its style, script and icon are in it. It loads nothing else but the results of a search.
"""

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Final, NamedTuple

from discue import __version__
from discue.guides.search import LONGEST_QUERY
from discue.http.frame import ICON, ICON_TYPE, STYLE, Theme

HTML_TYPE: Final = "text/html"

ROOT: Final = "docs"
"""The path of the start page. Paths of pages are relative to the service, and begin with this one."""
SEARCH: Final = f"{ROOT}/search"
"""The path of the page that searches the documentation."""

_FILES: Final = files("discue.guides")
_STYLE: Final = STYLE.decode() + _FILES.joinpath("page.css").read_text("utf-8")
_SCRIPT: Final = _FILES.joinpath("page.js").read_text("utf-8")

# Within the page, so that browsers do not ask the service for /favicon.ico.
_ICON_URL: Final = f"data:{ICON_TYPE};base64,{base64.b64encode(ICON).decode()}"
_LOGO: Final = ICON.decode().replace("<svg ", '<svg width="20" height="20" aria-hidden="true" ', 1)

_THEME: Final = "\0theme\0"
_WITHOUT_DASHBOARD: Final = "\0dashboard\0"
SLOTS: Final = (_THEME.encode(), _WITHOUT_DASHBOARD.encode())
"""Placeholders in a page. `values_of` returns the values that replace them, in the same order."""

QUERY: Final = "\0query\0"
"""Stands for the query of a search, in the page that shows its results."""
ANYWHERE: Final = "\0anywhere\0"
"""In place of a path: the page is served at every path. In links, it stands for `base_of` the actual path."""


def values_of(theme: Theme, *, has_dashboard: bool) -> tuple[bytes, bytes]:
    """Return the values for `SLOTS`. The page links to the dashboard if there is one at the same address."""
    return theme.encode(), b"" if has_dashboard else b" hidden"


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# The policy allows this style and this script by their hashes, so that nothing that gets into a page can add another.
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_digest(_STYLE)}'; script-src 'sha256-{_digest(_SCRIPT)}'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

SECURITY_HEADERS: Final = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)
"""Allow the inline style, script and icon, and searches in this service; nothing else from anywhere."""


class ContentsEntry(NamedTuple):
    """An entry of the contents. `path` is that of a page, with an anchor for a section of it."""

    path: str
    title: str
    below: Sequence["ContentsEntry"] = ()


class Group(NamedTuple):
    """Pages under one title in the contents."""

    title: str
    entries: Sequence[ContentsEntry]


def text(value: object) -> str:
    return html.escape(str(value))


def prose(value: str) -> str:
    """Escape a text in which backticks mark code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(value))


def relative(target: str, path: str) -> str:
    """Return the link from the page at `path` to another one. It works under every host and prefix of the service."""
    page, _, anchor = target.partition("#")
    return f"#{anchor}" if anchor and page == path else base_of(path) + target


def base_of(path: str) -> str:
    """Return the link from the page at `path` to the address that all paths are relative to."""
    return ANYWHERE if path == ANYWHERE else "../" * path.count("/")


def page(title: str, body: str, *, path: str, contents: Sequence[Group] = (), within: str = "") -> bytes:
    """Return a page of the documentation, with `SLOTS`. `body` is HTML; `path` is where the page is served.

    A page that the contents do not list is `within` one that they do.
    """
    name = title if title == "discue" else f"{title} · discue"
    return (
        f'<!doctype html><html lang="en" data-theme="{_THEME}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{text(name)}</title><link rel="icon" href="{_ICON_URL}">'
        f'<style>{_STYLE}</style></head><body class="guide">'
        '<a class="skip" href="#main">Skip to the page</a><header class="side"><div>'
        f'<a class="brand" href="{relative(ROOT, path)}">{_LOGO}discue <span>{text(__version__)}</span></a>'
        # On a small screen, the menu opens the contents, also without a script.
        '<details class="burger"><summary>Menu</summary></details>'
        f'<form class="find" role="search" action="{base_of(path)}{SEARCH}">'
        '<input type="search" name="q" placeholder="Search" aria-label="Search the documentation" autocomplete="off" '
        f'maxlength="{LONGEST_QUERY}" value="{QUERY if path == SEARCH else ""}"><kbd aria-hidden="true" hidden>/</kbd>'
        '<div class="found" hidden><p class="soft" role="status"></p><ol></ol></div></form>'
        f'<nav id="contents" aria-label="Contents">{_contents(contents, path, within)}</nav>'
        f'<div class="who"><a href="{base_of(path)}dashboard"{_WITHOUT_DASHBOARD}>Open the dashboard</a>'
        f'<button class="link" type="button" id="theme" hidden>Theme: {_THEME}</button></div>'
        f'</div></header><main id="main" tabindex="-1">{body}</main>'
        '<p class="sr" role="status" id="announcer"></p>'
        f'<script type="module">{_SCRIPT}</script></body></html>\n'
    ).encode()


def _contents(groups: Sequence[Group], path: str, within: str) -> str:
    return "".join(
        f"<div><h2>{text(group.title)}</h2>{_entries(group.entries, path, within)}</div>" for group in groups
    )


def _entries(entries: Sequence[ContentsEntry], path: str, within: str) -> str:
    marks = {within: ' aria-current="true"', path: ' aria-current="page"'}
    items = []
    for entry in entries:
        current = marks.get(entry.path, "")
        link = f'<a href="{text(relative(entry.path, path))}"{current}>{prose(entry.title)}</a>'
        items.append(f"<li>{link}{_entries(entry.below, path, within) if entry.below else ''}</li>")
    return f"<ul>{''.join(items)}</ul>"
