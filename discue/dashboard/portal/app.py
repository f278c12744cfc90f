"""The portal behind the pipeline: which session a request belongs to, and what the session permits."""

import hmac
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from discue.dashboard import cookies
from discue.dashboard.exchange import (
    FILES,
    SECURITY_HEADERS,
    PageResponse,
    page_response,
    redirect_response,
)
from discue.dashboard.forms import fields_of
from discue.dashboard.portal import sessions
from discue.dashboard.portal.sessions import PortalDetails
from discue.dashboard.portal.theme import stylesheet
from discue.dashboard.portal.visit import FRAMES, THEME, PortalRoute, PortalVisit, render, render_bare
from discue.dashboard.steps import (
    OPENED_AS,
    PageSteps,
    problem_page,
    read_form,
    requested_act,
    require_opened,
)
from discue.dashboard.visit import Page, found_page
from discue.domain.errors import DiscueError, Forbidden, NotFound, Unauthorized
from discue.http.frame import read_cookie
from discue.http.negotiation import hints_of
from discue.http.services import Services

OPEN: Final = "/open"
"""The page that the URL of a new session leads to."""
EMBED: Final = "/embed.js"
SIGN_OUT: Final = "/sign-out"

FORM_TOKEN: Final = "csrf"  # noqa: S105 - the name of a field

_FOR_MINUTES: Final = ("cache-control", "public, max-age=300")
_OPENED_AS: Final = frozenset({*OPENED_AS, *FRAMES})
_ENDED: Final = "The session has ended. Open the page again from the application that you came from."
_USED: Final = (
    "This link has already been used or has expired. Open the page again from the application that you came from."
)


class Portal:
    """The pages of the portal, for requests whose path begins with `/portal`."""

    request_type = PortalVisit

    def __init__(self, services: Services, routes: Iterable[PortalRoute]) -> None:
        settings = services.control.settings
        self._control = services.control
        self._routes = {route.path: route for route in routes}
        self._steps = PageSteps(services, settings.public_url, settings.host)

    async def respond(self, visit: PortalVisit) -> bytes:
        with self._steps.reservation():
            return visit.set_response(await self._respond(visit))

    async def _respond(self, visit: PortalVisit) -> PageResponse:
        response = self._steps.receive(visit, _embed_script() if visit.path == EMBED else None)
        if response is not None:
            return response
        visit.token = read_cookie(visit.headers, *_cookies(visit))
        if visit.token:
            self._steps.admission.require_budget(visit)
            visit.opened = details = await sessions.details_of(self._control, visit.token)
            if details is not None:
                visit.organization, visit.principal = details.organization, details.principal
        await self._steps.admission.count(visit)
        # Not for HEAD: programs that only look at a link must not use it up.
        if visit.path == OPEN and visit.scope.method == "GET":
            return await self._open(visit)
        if visit.opened is None:
            raise Unauthorized(_ENDED)
        if visit.path == THEME and visit.scope.method != "POST":
            headers = [("content-type", "text/css; charset=utf-8"), ("cache-control", "no-store"), *SECURITY_HEADERS]
            return PageResponse(200, headers, stylesheet(visit.opened.theme))
        return await self._page(visit, visit.opened)

    async def _open(self, visit: PortalVisit) -> PageResponse:
        """Exchange the code for a cookie. The page that follows has an address without the code."""
        require_opened(visit.headers, _OPENED_AS)
        cookie = _cookies(visit)[0]
        replaced = read_cookie(visit.headers, cookie)
        token = await sessions.open_session(self._control, visit.query.get("code", ""), replaced)
        if token is None:
            raise Forbidden(_USED)
        response = redirect_response(visit.base)
        response.headers.append(cookies.session(cookie, token))
        return response

    async def _page(self, visit: PortalVisit, details: PortalDetails) -> PageResponse:
        if visit.scope.method == "POST":
            self._steps.require_own_origin(visit.scope, "the portal")
            if visit.path == SIGN_OUT:
                return await self._sign_out(visit, details)
        found = found_page(self._routes, visit.path)
        if found is None:
            raise NotFound("There is no such page.")
        route, visit.ids = found
        act = requested_act(route, visit.scope.method)
        if (
            route.action is not None
            and (act is not None or route.is_form)
            and not details.may(route.action, *visit.ids[:1])
            # The page itself says that the customer has no queue yet.
            and (visit.ids or route.action not in details.session.grant.may)
        ):
            raise Forbidden("Your session does not include this action.")
        fields = partial(_own_fields, visit)
        return await self._steps.page(route, visit, act, fields=fields, render=lambda page: render(page, visit))

    async def _sign_out(self, visit: PortalVisit, details: PortalDetails) -> PageResponse:
        """End the sessions of the browser. The page that follows is shown in the frames that may embed this one."""
        await _own_fields(visit, await read_form(visit))
        names, control = _cookies(visit), self._control
        # Also that of the other cookie: users who sign out expect no session to continue in the same browser.
        await sessions.sign_out(control, {read_cookie(visit.headers, name) for name in names})
        page = Page("signed_out.html", "Signed out", {"return_url": details.session.grant.return_url})
        content = render_bare(page, visit)
        response = page_response(content, 200, visit.security)
        response.headers.extend(cookies.session(name, "") for name in names)
        return response

    def problem(self, visit: PortalVisit, error: DiscueError) -> bytes:
        page, is_known = problem_page(visit, error), visit.opened is not None
        content = render(page, visit) if is_known else render_bare(page, visit)
        response = page_response(content, error.status, visit.security)
        response.headers.extend(hints_of(error))
        return visit.set_response(response)


def _cookies(visit: PortalVisit) -> tuple[str, str]:
    return cookies.portal_names(visit.url, is_framed=visit.is_framed)


async def _own_fields(visit: PortalVisit, content: bytes) -> Mapping[str, str]:
    """Return the fields of a form that a page of this session has sent. Raises Forbidden for others."""
    fields = dict(await fields_of(content))
    # In a frame, the cookie is `SameSite=None`, so the origin alone would be all that protects the form.
    if not hmac.compare_digest(fields.pop(FORM_TOKEN, "").encode(), visit.form_token.encode()):
        raise Forbidden("This form belongs to another session. Open the page again and retry.")
    return fields


def _embed_script() -> PageResponse:
    # Pages of other sites load it as a script.
    script = FILES["embed.js"]
    shared = [each for each in SECURITY_HEADERS if each[0] != "cross-origin-resource-policy"]
    headers = [("content-type", script.content_type), _FOR_MINUTES, *shared]
    return PageResponse(200, [*headers, ("cross-origin-resource-policy", "cross-origin")], script.content)
