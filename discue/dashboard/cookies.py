"""The cookies of the dashboard: the session, the device, and the theme."""

from typing import Final
from urllib.parse import urlsplit

from discue.domain.egress import literal_address
from discue.http.frame import THEME_COOKIE, Theme

SECURE_NAME: Final = "__Host-discue"
"""The prefix makes browsers refuse the cookie unless this host has set it over HTTPS, for all of its paths."""

LOOPBACK_NAME: Final = "discue"
"""The name on loopback over plain HTTP, where browsers refuse the prefix."""

_PENDING_SECONDS: Final = 600
_DEVICE_SECONDS: Final = 400 * 86_400
"""Browsers keep no cookie for longer."""
_FRAME_SUFFIX: Final = "-frame"
_THEME_SECONDS: Final = 31_536_000


def session_name(url: str) -> str:
    """Return the name of the session's cookie at the service's URL, as the browser sees it."""
    parts = urlsplit(url)
    return LOOPBACK_NAME if parts.scheme == "http" and is_loopback(parts.hostname or "") else SECURE_NAME


def session(name: str, token: str, seconds: int | None = None) -> tuple[str, str]:
    """Return the header that sets the cookie of a session; an empty token deletes it.

    Without `seconds`, the browser keeps it until it is closed. In a frame on a page of another site, the cookie belongs
    to that site's partition: no third site gets it sent.
    """
    secure = "; Secure" if name.startswith(SECURE_NAME) else ""
    sites = "None; Secure; Partitioned" if name.endswith(_FRAME_SUFFIX) else f"Lax{secure}"
    lifetime = "; Max-Age=0" if not token else "" if seconds is None else f"; Max-Age={seconds}"
    return "set-cookie", f"{name}={token}; Path=/; HttpOnly; SameSite={sites}{lifetime}"


def pending_name(url: str) -> str:
    return f"{session_name(url)}-sign-in"


def pending(name: str, value: str) -> tuple[str, str]:
    """Return the header that keeps a sign-in that has begun, for ten minutes; an empty value deletes it."""
    return session(name, value, _PENDING_SECONDS)


def device_name(url: str) -> str:
    return f"{session_name(url)}-device"


def device(url: str, value: str) -> tuple[str, str]:
    """Return the header that sets the cookie of a browser in which a user has signed in."""
    return session(device_name(url), value, _DEVICE_SECONDS)


def portal_names(url: str, *, is_framed: bool) -> tuple[str, str]:
    """Return the names of the cookies with a customer's session in the portal: the one to set and to prefer first.

    Frames and tabs have a cookie each. A browser keeps them apart even under one name, but sends both to a frame on a
    page of the same site, such as that of a sibling subdomain.
    """
    tab = f"{session_name(url)}-portal"
    frame = f"{tab}{_FRAME_SUFFIX}"
    return (frame, tab) if is_framed else (tab, frame)


def theme(chosen: Theme) -> tuple[str, str]:
    """Return the header that sets the theme's cookie, which the documentation reads, too."""
    return "set-cookie", f"{THEME_COOKIE}={chosen}; Path=/; SameSite=Lax; Max-Age={_THEME_SECONDS}"


def is_loopback(host: str) -> bool:
    """Return whether browsers treat a host as this machine."""
    address = literal_address(host)
    return host == "localhost" or (address is not None and address.is_loopback)
