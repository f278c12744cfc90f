"""The dashboard behind the pipeline: who a request comes from, and which page it is for."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final
from urllib.parse import urlencode

from discue.dashboard import confirmation, cookies, sign_in
from discue.dashboard.confirmation import CONFIRM, CONFIRMED, form_fields
from discue.dashboard.exchange import (
    PageResponse,
    page_response,
    problem_response,
    redirect_response,
    stream_response,
)
from discue.dashboard.forms import fields_of, next_path, safe_path
from discue.dashboard.inbox import Inbox
from discue.dashboard.live import LiveStreams
from discue.dashboard.missed_mark import MissedMark
from discue.dashboard.render import bare_response, render
from discue.dashboard.sign_in import SIGN_IN
from discue.dashboard.steps import PageSteps, problem_page, read_form, requested_act
from discue.dashboard.users import sessions
from discue.dashboard.users.provider import Provider
from discue.dashboard.visit import PageRoute, Visit, found_page
from discue.domain.errors import DiscueError, MethodNotAllowed, NotFound
from discue.http.frame import named_theme, read_cookie
from discue.http.negotiation import HTML, hints_of, negotiate
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
        self._control = services.control
        self.streams = LiveStreams(services, inbox)
        self._missed = MissedMark(self._control)
        self._routes = {route.path: route for route in routes}

    async def respond(self, visit: Visit) -> bytes:
        with self._steps.reservation():
            return visit.set_response(await self._respond(visit))

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
            visit.signed_in = user = await sessions.session_of(self._control, visit.token, is_use=is_use)
            if user is not None:
                visit.organization, visit.principal = user.organization, sessions.principal_of(user)
        await self._steps.admission.count(visit)
        if visit.scope.method == "POST":
            self._steps.require_own_origin(visit.scope, "this dashboard")
        return await self._dispatch(visit)

    async def _dispatch(self, visit: Visit) -> PageResponse:
        """Respond to a request that is counted: a POST comes from a page of the dashboard."""
        path, posts = visit.path, visit.scope.method == "POST"
        handle = _WITHOUT_USER.get((path, posts))
        if handle is not None:
            return await handle(visit)
        if path.startswith(f"{SIGN_IN}/") and not posts:
            return await sign_in.with_provider(visit)
        found = found_page(self._routes, path)
        page = None if found is None else partial(self._page, route=found[0], ids=found[1])
        show = self._live if path == LIVE else _OF_USER.get((path, posts), page)
        if show is None and not posts and _NAMED.fullmatch(path):
            show = _search_by_name
        if show is None:
            raise NotFound("There is no such page.")
        if visit.signed_in is None:
            # The path is percent-decoded: it may have characters that no header can.
            following = "" if posts else safe_path(path)
            return redirect_response(f"{visit.base}{SIGN_IN}{f'?next={following}' if following else ''}")
        return await show(visit)

    async def _page(self, visit: Visit, route: PageRoute, ids: tuple[str, ...]) -> PageResponse:
        visit.ids = ids
        if route.needs:
            visit.principal.require(route.needs, "read", *ids)
        act = requested_act(route, visit.scope.method)
        uses_form = act is not None or route.is_form
        written = route.writes or route.needs
        # Pages that everyone sees need no scope for their form, either: it is about the user's own account.
        if written and uses_form:
            visit.principal.require(written, "write", *ids)
        if route.grants_access and uses_form and confirmation.is_needed(visit):
            return await confirmation.ask_before(visit, form_bytes=route.form_bytes)
        # After a form, the user is redirected to a page with `done` in its query, which shows the effect.
        is_fresh = "done" in visit.query
        visit.missed = await self._missed.text(visit.principal, visit.now, is_fresh=is_fresh)
        return await self._steps.page(route, visit, act, fields=form_fields, render=lambda page: render(page, visit))

    async def _live(self, visit: Visit) -> PageResponse:
        if visit.scope.method != "GET":
            raise MethodNotAllowed(allow=("GET",))
        token = visit.token

        async def is_allowed() -> bool:
            return await sessions.session_of(self._control, token, is_use=False) is not None

        account, gone = visit.user.organization.account, visit.exchange.client_disconnect
        return stream_response(await self.streams.watch(visit.principal, account, is_allowed, gone))

    def problem(self, visit: Visit, error: DiscueError) -> bytes:
        """Return the page of an error: within the frame, if the user is known. JSON without HTML in `Accept`."""
        if negotiate(visit.accept, HTML) == "nothing":
            return visit.set_response(problem_response(visit, error, visit.api_url))
        page = problem_page(visit, error)
        if visit.signed_in is None:
            response = bare_response(visit, page, error)
        else:
            response = page_response(render(page, visit), error.status)
        response.headers.extend(hints_of(error))
        return visit.set_response(response)


async def _search_by_name(visit: Visit) -> PageResponse:
    """Lead to the search for the queue or the listener that a path names, as paths of the API may."""
    *_, kind, name = visit.path.split("/")
    return redirect_response(f"{visit.base}/search?{urlencode({'q': f'{kind[:-1]}:{name}'})}")


async def _set_theme(visit: Visit) -> PageResponse:
    fields = await fields_of(await read_form(visit))
    response = redirect_response(visit.base + next_path(fields))
    response.headers.append(cookies.theme(named_theme(fields.get("theme", ""))))
    return response


_Handlers = Mapping[tuple[str, bool], Callable[[Visit], Awaitable[PageResponse]]]
"""By path and whether the request is a POST."""

_WITHOUT_USER: Final[_Handlers] = {
    (SIGN_IN, False): sign_in.show,
    (SIGN_IN, True): sign_in.enter,
    (SIGN_OUT, True): sign_in.sign_out,
    (OPEN, False): sign_in.open_link,
    (INVITATION, False): sign_in.show_invitation,
    (INVITATION, True): sign_in.accept,
    (THEME, True): _set_theme,
}
_OF_USER: Final[_Handlers] = {
    (CONFIRM, False): confirmation.show,
    (CONFIRM, True): confirmation.confirm,
    (CONFIRMED, False): confirmation.show_confirmed,
}
"""Handlers that need a user, and whose pages are outside of the frame with the navigation."""
