"""The dashboard as an RSGI application: who a request comes from, and which page it is for."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final
from urllib.parse import urlencode

from discue.dashboard import cookies
from discue.dashboard.confirmation import CONFIRM, CONFIRMED, ConfirmationPages, form_fields
from discue.dashboard.exchange import (
    PageResponse,
    page_response,
    problem_response,
    redirect_response,
    stream_response,
)
from discue.dashboard.forms import FORM_BYTES, fields_of
from discue.dashboard.inbox import Inbox
from discue.dashboard.live import LiveStreams
from discue.dashboard.provider_sign_in import ProviderSignIn
from discue.dashboard.render import render
from discue.dashboard.request import DashboardRequest, bare_response, next_path, safe_path
from discue.dashboard.route import PageMatch, PageRoute, PageRouter
from discue.dashboard.sessions import Sessions
from discue.dashboard.sign_in import SIGN_IN, SignInPages
from discue.dashboard.steps import PageSteps, problem_page, requested_act, with_hints
from discue.dashboard.users.provider import Provider
from discue.dashboard.visit import PageUser, Visit
from discue.domain.errors import DiscueError, MethodNotAllowed, NotFound
from discue.http.frame import named_theme, read_cookie
from discue.http.negotiation import HTML, negotiate
from discue.http.rsgi import HttpProtocol, HttpScope
from discue.http.services import Services

SIGN_OUT: Final = "/sign-out"
OPEN: Final = "/open"
"""The page that links with a one-time code lead to."""
INVITATION: Final = "/invitation"
THEME: Final = "/theme"
LIVE: Final = "/live"
"""The stream of events that pages listen to."""
LIVE_HEADER: Final = "x-discue-live"
"""The header of requests that a page makes by itself."""

_NAMED: Final = re.compile(r"/queues/[^/]+(?:/listeners/[^/]+)?")
"""The path of a queue or a listener: with a name instead of an id, there is no page."""


class Dashboard:
    """The pages of the dashboard, for requests whose path begins with `request.ROOT`."""

    def __init__(
        self,
        services: Services,
        routes: Iterable[PageRoute],
        providers: Mapping[str, Provider] = MappingProxyType({}),
        inbox: Inbox | None = None,
    ) -> None:
        """`providers` are those whose users may sign in, by name. `inbox` is that of `discue dev`; None elsewhere."""
        self._services = services
        self._inbox = inbox
        self._providers = providers
        settings = services.control.settings
        has_own_port = settings.dashboard_port is not None
        own, shared = (settings.dashboard_url, settings.dashboard_host), (settings.public_url, settings.host)
        self._steps = PageSteps(services, *(own if has_own_port else shared))
        self._api_url = settings.service_url if has_own_port else None
        self._sessions = Sessions(services)
        self._streams = LiveStreams(services, inbox)
        self._find = PageRouter(routes).find
        at_provider = ProviderSignIn(services, providers)
        self._sign_in = sign_in = SignInPages(
            services, self._steps, self._sessions, at_provider, has_inbox=inbox is not None
        )
        self._confirmation = confirmation = ConfirmationPages(services, self._steps, at_provider)
        self._without_user: Mapping[tuple[str, bool], Callable[[DashboardRequest], Awaitable[PageResponse]]] = {
            (SIGN_IN, False): sign_in.show,
            (SIGN_IN, True): sign_in.sign_in,
            (SIGN_OUT, True): sign_in.sign_out,
            (OPEN, False): sign_in.open_link,
            (INVITATION, False): sign_in.show_invitation,
            (INVITATION, True): sign_in.accept,
            (THEME, True): self._set_theme,
        }
        """Handlers that need no user, by path and whether the request is a POST."""
        self._of_user: Mapping[tuple[str, bool], Callable[[DashboardRequest, PageUser], Awaitable[PageResponse]]] = {
            (LIVE, False): self._live,
            (LIVE, True): self._live,
            (CONFIRM, False): confirmation.show,
            (CONFIRM, True): confirmation.confirm,
            (CONFIRMED, False): confirmation.show_confirmed,
        }
        """Handlers that need a user, and whose pages are outside of the frame with the navigation."""

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        """Respond to one request. Raises nothing."""
        await self._steps.serve(DashboardRequest(scope, exchange), self._respond, self._problem)

    async def _respond(self, request: DashboardRequest) -> PageResponse:
        response = self._steps.receive(request)
        if response is not None:
            return response
        request.token = read_cookie(request.headers, cookies.session_name(request.url))
        if request.token:
            self._steps.require_budget(request.address)
            # A page that looks for changes by itself does not keep a session from ending.
            is_use = LIVE_HEADER not in request.headers and request.path != LIVE
            request.user = await self._sessions.user_of(request.token, is_use=is_use)
        if request.user is None:
            await self._steps.count_address(request.address)
        else:
            await self._steps.count(request.user.details.organization, request.user.principal)
        if request.scope.method == "POST":
            self._steps.require_own_origin(request.scope, "this dashboard")
        return await self._dispatch(request)

    async def _dispatch(self, request: DashboardRequest) -> PageResponse:
        """Respond to a request that is counted: a POST comes from a page of the dashboard."""
        path, posts = request.path, request.scope.method == "POST"
        handle = self._without_user.get((path, posts))
        if handle is not None:
            return await handle(request)
        if path.startswith(f"{SIGN_IN}/") and not posts:
            return await self._sign_in.with_provider(request)
        found = self._find(path)
        page = None if found is None else partial(self._page, found=found)
        show = self._of_user.get((path, posts), page)
        if show is None and not posts and _NAMED.fullmatch(path):
            show = self._search_by_name
        if show is None:
            raise NotFound("There is no such page.")
        if request.user is None:
            # The path is percent-decoded: it may have characters that no header can.
            following = "" if posts else safe_path(path)
            return redirect_response(f"{request.base}{SIGN_IN}{f'?next={following}' if following else ''}")
        return await show(request, request.user)

    async def _search_by_name(self, request: DashboardRequest, user: PageUser) -> PageResponse:
        """Lead to the search for the queue or the listener that a path names, as paths of the API may."""
        del user
        *_, kind, name = request.path.split("/")
        return redirect_response(f"{request.base}/search?{urlencode({'q': f'{kind[:-1]}:{name}'})}")

    async def _page(self, request: DashboardRequest, user: PageUser, found: PageMatch) -> PageResponse:
        route, visit = found.route, self._visit(request, user, found.ids)
        if route.needs:
            user.principal.require(route.needs, "read", *found.ids)
        act = requested_act(route, request.scope.method)
        uses_form = act is not None or route.is_form
        written = route.writes or route.needs
        # Pages that everyone sees need no scope for their form, either: it is about the user's own account.
        if written and uses_form:
            user.principal.require(written, "write", *found.ids)
        if route.grants_access and uses_form and self._confirmation.is_needed(user):
            return await self._confirmation.ask_before(request, user, form_bytes=route.form_bytes)
        return await self._steps.page(
            request, route, visit, act, fields=form_fields, render=lambda page: render(page, visit)
        )

    async def _live(self, request: DashboardRequest, user: PageUser) -> PageResponse:
        if request.scope.method != "GET":
            raise MethodNotAllowed(allow=("GET",))
        token = request.token

        async def is_allowed() -> bool:
            return await self._sessions.user_of(token, is_use=False) is not None

        return stream_response(await self._streams.watch(user.principal, user.details.organization.account, is_allowed))

    def _visit(self, request: DashboardRequest, user: PageUser, ids: tuple[str, ...] = ()) -> Visit:
        return Visit(
            self._services,
            user,
            request.path,
            request.base,
            request.url,
            request.sent_url,
            self._api_url or request.url,
            self._services.control.clock.now(),
            ids=ids,
            query=request.query,
            theme=request.theme,
            installed_inbox=self._inbox,
            providers=self._providers,
        )

    async def _set_theme(self, request: DashboardRequest) -> PageResponse:
        fields = await fields_of(await self._steps.form(request, FORM_BYTES, request.organization))
        response = redirect_response(request.base + next_path(fields))
        response.headers.append(cookies.theme(named_theme(fields.get("theme", ""))))
        return response

    def _problem(self, request: DashboardRequest, error: DiscueError) -> PageResponse:
        """Return the page of an error: within the frame, if the user is known. JSON without HTML in `Accept`."""
        if negotiate(request.accept, HTML) == "nothing":
            return problem_response(request, error, self._api_url or request.url)
        page = problem_page(error)
        if request.user is None:
            response = bare_response(request, page, self._services.control.clock.now(), error.status)
        else:
            response = page_response(render(page, self._visit(request, request.user)), error.status)
        return with_hints(response, error)
