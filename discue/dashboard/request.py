"""A request for a page of the dashboard, and what its session and its form say about where to go on."""

import re
from collections.abc import Mapping
from typing import Final

from discue.dashboard import cookies
from discue.dashboard.exchange import PageRequest, PageResponse, page_response, redirect_response
from discue.dashboard.render import render_bare
from discue.dashboard.users.sign_in import Browser
from discue.dashboard.visit import Page, PageUser
from discue.http.frame import read_cookie, theme_of
from discue.http.rsgi import HttpProtocol, HttpScope

ROOT: Final = "/dashboard"

_NEXT_PATH: Final = re.compile(r"(?:/[0-9A-Za-z_-]+)*(?:\?[0-9A-Za-z_=&.:%-]*)?")
"""The path of a page with its query: nothing that leads to another site."""


class DashboardRequest(PageRequest):
    """A request for a page of the dashboard."""

    __slots__ = ("theme", "user")

    def __init__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        super().__init__(scope, exchange, ROOT)
        self.theme = theme_of(self.headers)
        self.user: PageUser | None = None

    @property
    def organization(self) -> int:
        """The organization of the user; 0 without one."""
        return 0 if self.user is None else self.user.principal.organization

    @property
    def browser(self) -> Browser:
        """The browser that signs in."""
        device = read_cookie(self.headers, cookies.device_name(self.url))
        return Browser(self.address, self.headers.get("user-agent", ""), self.token, device)


def safe_path(given: str) -> str:
    """Return a path below `ROOT` that a link or a form asks for; the start page unless it is of the form of our own."""
    return given if _NEXT_PATH.fullmatch(given) is not None else ""


def next_path(fields: Mapping[str, str]) -> str:
    """Return the path of the page to show next, from a query or a form."""
    return safe_path(fields.get("next", ""))


def bare_response(request: DashboardRequest, page: Page, now: int, status: int = 200) -> PageResponse:
    """Return a page outside of the frame with the navigation."""
    return page_response(render_bare(page, base=request.base, theme=request.theme, now=now), status)


def session_response(
    request: DashboardRequest, token: str, path: str, *, device: str = "", resends: bool = False
) -> PageResponse:
    """Return a redirect to a path below `ROOT` that sets the cookie of a session; an empty token deletes it.

    `device` is the cookie of a browser in which a user has signed in. If it is empty, the browser keeps its cookie.
    """
    response = redirect_response(request.base + path, resends=resends)
    response.headers.append(cookies.session(cookies.session_name(request.url), token))
    if device:
        response.headers.append(cookies.device(request.url, device))
    return response
