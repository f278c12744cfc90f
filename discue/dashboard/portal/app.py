"""The portal as an RSGI application: which session a request belongs to, and what the session permits."""

import hmac
from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import sha256
from typing import Final, cast

from discue.dashboard import cookies, static
from discue.dashboard.exchange import (
    SECURITY_HEADERS,
    Headers,
    PageRequest,
    PageResponse,
    page_response,
    redirect_response,
    security_headers,
)
from discue.dashboard.forms import FORM_BYTES, fields_of
from discue.dashboard.portal import sessions
from discue.dashboard.portal.render import render, render_bare
from discue.dashboard.portal.route import PortalRoute, PortalVisit
from discue.dashboard.portal.sessions import PortalDetails
from discue.dashboard.portal.theme import stylesheet
from discue.dashboard.route import PageRouter
from discue.dashboard.steps import (
    OPENED_AS,
    PageSteps,
    problem_page,
    requested_act,
    require_opened,
    with_hints,
)
from discue.dashboard.visit import Page
from discue.domain.errors import DiscueError, Forbidden, NotFound, Unauthorized
from discue.http.frame import read_cookie
from discue.http.rsgi import HttpProtocol, HttpScope
from discue.http.services import Services

ROOT: Final = "/portal"

OPEN: Final = "/open"
"""The page that the URL of a new session leads to."""
THEME: Final = "/theme.css"
EMBED: Final = "/embed.js"
SIGN_OUT: Final = "/sign-out"

FRAMED: Final = "framed"
"""The parameter of the style sheet's URL in a frame."""

FORM_TOKEN: Final = "csrf"  # noqa: S105 - the name of a field

_FOR_MINUTES: Final = ("cache-control", "public, max-age=300")
_FRAMES: Final = frozenset({"iframe", "frame"})
_OPENED_AS: Final = frozenset({*OPENED_AS, *_FRAMES})
_ENDED: Final = "The session has ended. Open the page again from the application that you came from."
_USED: Final = (
    "This link has already been used or has expired. Open the page again from the application that you came from."
)


class PortalRequest(PageRequest):
    """A request for a page of the portal."""

    __slots__ = ("details",)

    def __init__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        super().__init__(scope, exchange, ROOT)
        self.details: PortalDetails | None = None

    @property
    def is_framed(self) -> bool:
        """Whether a frame asks. For the style sheet, which says nothing of it, the page's link tells."""
        is_part = self.path == THEME and FRAMED in self.query
        return is_part or self.headers.get("sec-fetch-dest") in _FRAMES

    @property
    def security(self) -> Headers:
        """The headers of its page. Without a session, no origin is known that may embed it."""
        return security_headers(() if self.details is None else self.details.frame_ancestors)

    def form_token(self) -> str:
        """Return what forms of this session send back. It is derived from the cookie, which other sites cannot read."""
        return sha256(f"form {self.token}".encode()).hexdigest()


class Portal:
    """The pages of the portal, for requests whose path begins with `ROOT`."""

    def __init__(self, services: Services, routes: Iterable[PortalRoute]) -> None:
        settings = services.control.settings
        self._services = services
        self._find = PageRouter(routes).find
        self._steps = PageSteps(services, settings.public_url, settings.host)

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        """Respond to one request. Raises nothing."""
        await self._steps.serve(PortalRequest(scope, exchange), self._respond, self._problem)

    async def _respond(self, request: PortalRequest) -> PageResponse:
        response = self._steps.receive(request, _embed_script() if request.path == EMBED else None)
        if response is not None:
            return response
        request.token = read_cookie(request.headers, *self._cookies(request))
        if request.token:
            self._steps.require_budget(request.address)
            request.details = await sessions.details_of(self._services.control, request.token)
        if request.details is None:
            await self._steps.count_address(request.address)
        else:
            await self._steps.count(request.details.organization, request.details.principal)
        # Not for HEAD: programs that only look at a link must not use it up.
        if request.path == OPEN and request.scope.method == "GET":
            return await self._open(request)
        if request.details is None:
            raise Unauthorized(_ENDED)
        if request.path == THEME and request.scope.method != "POST":
            return _theme(request.details)
        return await self._page(request, request.details)

    async def _open(self, request: PortalRequest) -> PageResponse:
        """Exchange the code for a cookie. The page that follows has an address without the code."""
        require_opened(request.headers, _OPENED_AS)
        cookie = self._cookies(request)[0]
        replaced = read_cookie(request.headers, cookie)
        opened = await sessions.open_session(self._services.control, request.query.get("code", ""), replaced)
        if opened is None:
            raise Forbidden(_USED)
        response = redirect_response(request.base)
        response.headers.append(cookies.portal_session(cookie, opened.token))
        return response

    async def _page(self, request: PortalRequest, details: PortalDetails) -> PageResponse:
        if request.scope.method == "POST":
            self._steps.require_own_origin(request.scope, "the portal")
            if request.path == SIGN_OUT:
                return await self._sign_out(request, details)
        found = self._find(request.path)
        if found is None:
            raise NotFound("There is no such page.")
        route, visit = cast("PortalRoute", found.route), self._visit(request, details, found.ids)
        act = requested_act(route, request.scope.method)
        if (
            route.action is not None
            and (act is not None or route.is_form)
            and not details.may(route.action, *found.ids[:1])
            # The page itself says that the customer has no queue yet.
            and (found.ids or route.action not in details.session.grant.may)
        ):
            raise Forbidden("Your session does not include this action.")
        return await self._steps.page(
            request,
            route,
            visit,
            act,
            fields=partial(_own_fields, request),
            render=lambda page: render(page, visit),
            security=request.security,
        )

    async def _sign_out(self, request: PortalRequest, details: PortalDetails) -> PageResponse:
        """End the sessions of the browser. The page that follows is shown in the frames that may embed this one."""
        await _own_fields(request, await self._steps.form(request, FORM_BYTES, details.organization.id))
        names, control = self._cookies(request), self._services.control
        # Also that of the other cookie: users who sign out expect no session to continue in the same browser.
        await sessions.sign_out(control, {read_cookie(request.headers, name) for name in names})
        page = Page("signed_out.html", "Signed out", {"return_url": details.session.grant.return_url})
        content = render_bare(page, base=request.base, now=control.clock.now())
        response = page_response(content, 200, request.security)
        response.headers.extend(cookies.portal_session(name, "") for name in names)
        return response

    def _visit(self, request: PortalRequest, details: PortalDetails, ids: tuple[str, ...] = ()) -> PortalVisit:
        return PortalVisit(
            services=self._services,
            path=request.path,
            base=request.base,
            url=request.url,
            sent_url=request.sent_url,
            api_url=request.url,
            now=self._services.control.clock.now(),
            ids=ids,
            query=request.query,
            details=details,
            form_token=request.form_token(),
            is_framed=request.is_framed,
        )

    def _cookies(self, request: PortalRequest) -> tuple[str, str]:
        return cookies.portal_names(request.url, is_framed=request.is_framed)

    def _problem(self, request: PortalRequest, error: DiscueError) -> PageResponse:
        """Return the page of an error."""
        page = problem_page(error)
        if request.details is None:
            content = render_bare(page, base=request.base, now=self._services.control.clock.now())
        else:
            content = render(page, self._visit(request, request.details))
        response = page_response(content, error.status, request.security)
        return with_hints(response, error)


async def _own_fields(request: PortalRequest, content: bytes) -> Mapping[str, str]:
    """Return the fields of a form that a page of this session has sent. Raises Forbidden for others."""
    fields = dict(await fields_of(content))
    # In a frame, the cookie is `SameSite=None`, so the origin alone would be all that protects the form.
    if not hmac.compare_digest(fields.pop(FORM_TOKEN, "").encode(), request.form_token().encode()):
        raise Forbidden("This form belongs to another session. Open the page again and retry.")
    return fields


def _embed_script() -> PageResponse:
    # Pages of other sites load it as a script.
    script = static.FILES["embed.js"]
    shared = [each for each in SECURITY_HEADERS if each[0] != "cross-origin-resource-policy"]
    headers = [("content-type", script.content_type), _FOR_MINUTES, *shared]
    return PageResponse(200, [*headers, ("cross-origin-resource-policy", "cross-origin")], script.content)


def _theme(details: PortalDetails) -> PageResponse:
    headers = [("content-type", "text/css; charset=utf-8"), ("cache-control", "no-store"), *SECURITY_HEADERS]
    return PageResponse(200, headers, stylesheet(details.theme))
