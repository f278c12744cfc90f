"""Style, icon and theme, which the pages of the dashboard, the portal and the documentation share."""

from importlib.resources import files
from typing import Final, Literal

from discue.http.rsgi import HttpHeaders

Theme = Literal["auto", "light", "dark"]

_FILES: Final = files("discue.http")

STYLE: Final = _FILES.joinpath("frame.css").read_bytes()
"""Colours, the sidebar, tables and code. Each kind of pages adds its own rules."""

ICON: Final = _FILES.joinpath("icon.svg").read_bytes()
ICON_TYPE: Final = "image/svg+xml"

THEME_COOKIE: Final = "discue-theme"
"""The cookie with the theme. It is no secret, so scripts may read and set it."""

_THEMES: Final[dict[str, Theme]] = {"light": "light", "dark": "dark"}


def theme_of(headers: HttpHeaders) -> Theme:
    """Return the theme that a browser has chosen; `auto` follows the preference of the system."""
    return named_theme(read_cookie(headers, THEME_COOKIE))


def named_theme(name: str) -> Theme:
    """Return the theme with a name; `auto` for any other name."""
    return _THEMES.get(name, "auto")


def read_cookie(headers: HttpHeaders, *names: str) -> str:
    """Return the value of the first of these cookies that was sent; "" if none was.

    Returns "", too, if that cookie was sent twice: another site may have set one of them.
    """
    pairs = [pair.strip().partition("=") for line in headers.get_all("cookie") for pair in line.split(";")]
    for name in names:
        found = [value for key, _, value in pairs if key == name]
        if found:
            return found[0] if len(found) == 1 else ""
    return ""
