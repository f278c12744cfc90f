"""Responses that lead a visit to the dashboard on, by its session and its form."""

import re
from collections.abc import Mapping
from typing import Final

from discue.dashboard import cookies
from discue.dashboard.exchange import PageResponse, page_response, redirect_response
from discue.dashboard.render import render_bare
from discue.dashboard.users.sign_in import Browser
from discue.dashboard.visit import Page, Visit
from discue.http.frame import read_cookie

_NEXT_PATH: Final = re.compile(r"(?:/[0-9A-Za-z_-]+)*(?:\?[0-9A-Za-z_=&.:%-]*)?")
"""The path of a page with its query: nothing that leads to another site."""


def browser_of(visit: Visit) -> Browser:
    """Return the browser that signs in."""
    device = read_cookie(visit.headers, cookies.device_name(visit.url))
    return Browser(visit.address, visit.headers.get("user-agent", ""), visit.token, device)


def safe_path(given: str) -> str:
    """Return a path below `/dashboard` that a link or a form asks for; "", the start page, for a malformed one."""
    return given if _NEXT_PATH.fullmatch(given) is not None else ""


def next_path(fields: Mapping[str, str]) -> str:
    """Return the path of the page to show next, from a query or a form."""
    return safe_path(fields.get("next", ""))


def bare_response(visit: Visit, page: Page, status: int = 200) -> PageResponse:
    """Return a page outside of the frame with the navigation."""
    return page_response(render_bare(page, base=visit.base, theme=visit.theme, now=visit.now), status)


def session_response(visit: Visit, token: str, path: str, *, device: str = "", resends: bool = False) -> PageResponse:
    """Return a redirect to a path below `/dashboard` that sets the cookie of a session; an empty token deletes it.

    `device` is the cookie of a browser in which a user has signed in. If it is empty, the browser keeps its cookie.
    """
    response = redirect_response(visit.base + path, resends=resends)
    response.headers.append(cookies.session(cookies.session_name(visit.url), token))
    if device:
        response.headers.append(cookies.device(visit.url, device))
    return response
