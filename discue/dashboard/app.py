"""The dashboard behind the pipeline: who a request comes from, and which page it is for."""

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
from discue.dashboard.request import bare_response, next_path, safe_path
from discue.dashboard.route import PageMatch, PageRoute, PageRouter
from discue.dashboard.sessions import Sessions
from discue.dashboard.sign_in import SIGN_IN, SignInPages
from discue.dashboard.steps import PageSteps, problem_page, requested_act, with_hints
from discue.dashboard.users.provider import Provider
from discue.dashboard.visit import PageUser, Visit
from discue.domain.errors import DiscueError, MethodNotAllowed, NotFound
from discue.http.frame import named_theme, read_cookie
from discue.http.negotiation import HTML, negotiate
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
    """The pages of the dashboard, for requests whose path begins with `/dashboard`."""

    request_type = Visit

    def __init__(
        self,
        services: Services,
        routes: Iterable[PageRoute],
        providers: Mapping[str, Provider] = MappingProxyType({}),
        inbox: Inbox | None = None,
    ) -> None:
        """`providers` are those whose users may sign in, by name. `inbox` is that of `discue dev`; None elsewhere."""
        self._inbox = inbox
        self._providers = providers
        settings = services.control.settings
        has_own_port = settings.dashboard_port is not None
        own, shared = (settings.dashboard_url, settings.dashboard_host), (settings.public_url, settings.host)
        api_url = settings.service_url if has_own_port else None
        self._steps = PageSteps(services, *(own if has_own_port else shared), api_url=api_url)
        self._sessions = Sessions(services)
        self.streams = LiveStreams(services, inbox)
        self._find = PageRouter(routes).find
        at_provider = ProviderSignIn(services, providers)
        self._sign_in = sign_in = SignInPages(
            services, self._steps, self._sessions, at_provider, has_inbox=inbox is not None
        )
        self._confirmation = confirmation = ConfirmationPages(services, self._steps, at_provider)
        self._without_user: Mapping[tuple[str, bool], Callable[[Visit], Awaitable[PageResponse]]] = {
            (SIGN_IN, False): sign_in.show,
            (SIGN_IN, True): sign_in.sign_in,
            (SIGN_OUT, True): sign_in.sign_out,
            (OPEN, False): sign_in.open_link,
            (INVITATION, False): sign_in.show_invitation,
            (INVITATION, True): sign_in.accept,
            (THEME, True): self._set_theme,
        }
        """Handlers that need no user, by path and whether the request is a POST."""
        self._of_user: Mapping[tuple[str, bool], Callable[[Visit, PageUser], Awaitable[PageResponse]]] = {
            (LIVE, False): self._live,
            (LIVE, True): self._live,
            (CONFIRM, False): confirmation.show,
            (CONFIRM, True): confirmation.confirm,
            (CONFIRMED, False): confirmation.show_confirmed,
        }
        """Handlers that need a user, and whose pages are outside of the frame with the navigation."""

    async def respond(self, visit: Visit) -> bytes:
        """Return the content of the response. Raises DiscueError."""
        return await self._steps.respond(visit, self._respond)

    async def _respond(self, visit: Visit) -> PageResponse:
        visit.installed_inbox, visit.providers = self._inbox, self._providers
        response = self._steps.receive(visit)
        if response is not None:
            return response
        visit.token = read_cookie(visit.headers, cookies.session_name(visit.url))
        if visit.token:
            self._steps.admission.require_budget(visit)
            # A page that looks for changes by itself does not keep a session from ending.
            is_use = LIVE_HEADER not in visit.headers and visit.path != LIVE
            visit.signed_in = user = await self._sessions.user_of(visit.token, is_use=is_use)
            if user is not None:
                visit.organization, visit.principal = user.details.organization, user.principal
        await self._steps.admission.count(visit)
        if visit.scope.method == "POST":
            self._steps.require_own_origin(visit.scope, "this dashboard")
        return await self._dispatch(visit)

    async def _dispatch(self, visit: Visit) -> PageResponse:
        """Respond to a request that is counted: a POST comes from a page of the dashboard."""
        path, posts = visit.path, visit.scope.method == "POST"
        handle = self._without_user.get((path, posts))
        if handle is not None:
            return await handle(visit)
        if path.startswith(f"{SIGN_IN}/") and not posts:
            return await self._sign_in.with_provider(visit)
        found = self._find(path)
        page = None if found is None else partial(self._page, found=found)
        show = self._of_user.get((path, posts), page)
        if show is None and not posts and _NAMED.fullmatch(path):
            show = self._search_by_name
        if show is None:
            raise NotFound("There is no such page.")
        if visit.signed_in is None:
            # The path is percent-decoded: it may have characters that no header can.
            following = "" if posts else safe_path(path)
            return redirect_response(f"{visit.base}{SIGN_IN}{f'?next={following}' if following else ''}")
        return await show(visit, visit.signed_in)

    async def _search_by_name(self, visit: Visit, user: PageUser) -> PageResponse:
        """Lead to the search for the queue or the listener that a path names, as paths of the API may."""
        del user
        *_, kind, name = visit.path.split("/")
        return redirect_response(f"{visit.base}/search?{urlencode({'q': f'{kind[:-1]}:{name}'})}")

    async def _page(self, visit: Visit, user: PageUser, found: PageMatch) -> PageResponse:
        route, visit.ids = found.route, found.ids
        if route.needs:
            user.principal.require(route.needs, "read", *found.ids)
        act = requested_act(route, visit.scope.method)
        uses_form = act is not None or route.is_form
        written = route.writes or route.needs
        # Pages that everyone sees need no scope for their form, either: it is about the user's own account.
        if written and uses_form:
            user.principal.require(written, "write", *found.ids)
        if route.grants_access and uses_form and self._confirmation.is_needed(user):
            return await self._confirmation.ask_before(visit, user, form_bytes=route.form_bytes)
        return await self._steps.page(route, visit, act, fields=form_fields, render=lambda page: render(page, visit))

    async def _live(self, visit: Visit, user: PageUser) -> PageResponse:
        if visit.scope.method != "GET":
            raise MethodNotAllowed(allow=("GET",))
        token = visit.token

        async def is_allowed() -> bool:
            return await self._sessions.user_of(token, is_use=False) is not None

        account, gone = user.details.organization.account, visit.exchange.client_disconnect
        return stream_response(await self.streams.watch(user.principal, account, is_allowed, gone))

    async def _set_theme(self, visit: Visit) -> PageResponse:
        fields = await fields_of(await self._steps.form(visit, FORM_BYTES))
        response = redirect_response(visit.base + next_path(fields))
        response.headers.append(cookies.theme(named_theme(fields.get("theme", ""))))
        return response

    def problem(self, visit: Visit, error: DiscueError) -> bytes:
        """Return the page of an error: within the frame, if the user is known. JSON without HTML in `Accept`."""
        if negotiate(visit.accept, HTML) == "nothing":
            return visit.set_response(problem_response(visit, error, visit.api_url))
        page = problem_page(visit, error)
        if visit.signed_in is None:
            response = bare_response(visit, page, error.status)
        else:
            response = page_response(render(page, visit), error.status)
        return visit.set_response(with_hints(response, error))
