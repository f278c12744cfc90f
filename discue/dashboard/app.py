"""The dashboard as an RSGI application: who a request comes from, and how a user signs in."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final
from urllib.parse import urlencode

from discue.control.account import Account
from discue.control.sign_in import Browser
from discue.dashboard import cookies
from discue.dashboard.confirmation import CODE, FOLLOWING, PASSWORD, SENDER, Confirmation, without_own
from discue.dashboard.entrance import Callback, Entrance, kept_in
from discue.dashboard.exchange import (
    PageRequest,
    PageResponse,
    page_response,
    problem_response,
    redirect_response,
    stream_response,
)
from discue.dashboard.forms import FORM_BYTES, FieldFaults, fields_of
from discue.dashboard.live import LiveStreams
from discue.dashboard.render import render, render_bare
from discue.dashboard.route import CONFIRMATION_BYTES, PageMatch, PageRoute, PageRouter
from discue.dashboard.sessions import Sessions
from discue.dashboard.steps import PageSteps, problem_page, requested_act, require_opened, with_hints
from discue.dashboard.visit import NOTICES, Page, PageUser, Visit
from discue.domain.errors import DiscueError, Forbidden, MethodNotAllowed, NotFound, Unprocessable
from discue.http.frame import named_theme, read_cookie, theme_of
from discue.http.negotiation import ACCEPT_CHARACTERS, HTML, negotiate
from discue.http.rsgi import HttpProtocol, HttpScope
from discue.http.services import Services

ROOT: Final = "/dashboard"

SIGN_IN: Final = "/sign-in"
SIGN_OUT: Final = "/sign-out"
OPEN: Final = "/open"
"""The page that links with a one-time code lead to."""
CONFIRM: Final = "/confirm"
"""The page on which users prove again who they are."""
CONFIRMED: Final = "/confirmed"
"""The page that a tab shows in which a user has signed in again at an identity provider."""
INVITATION: Final = "/invitation"
THEME: Final = "/theme"
LIVE: Final = "/live"
"""The stream of events that pages listen to."""
LIVE_HEADER: Final = "x-discue-live"
"""The header of requests that a page makes by itself."""

_PLACE: Final = re.compile(r"(?:/[0-9A-Za-z_-]+)*(?:\?[0-9A-Za-z_=&.:%-]*)?")
"""The path of a page with its query: nothing that leads to another site."""
_NAMED: Final = re.compile(r"/queues/[^/]+(?:/listeners/[^/]+)?")
"""The path of a queue or a listener: with a name instead of an id, there is no page."""
_LINK_ENDED: Final = "This link was used already, or is older than a minute: it signs in once."
_AFTER_LINK: Final = "Sign in with an email address and a password. `discue demo` prints those of its users."
_AFTER_LINK_OF_DEV: Final = (
    "Restart `discue dev` for a new one. To sign in at any time, run `discue users create EMAIL` in the same folder."
)
_TOO_OLD: Final = "Your sign-in is still older than 15 minutes. Sign in again first, then continue."
_NOTHING: Final[Mapping[str, str]] = {}


class DashboardRequest(PageRequest):
    """A request for a page of the dashboard."""

    __slots__ = ("theme", "user")

    def __init__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        super().__init__(scope, exchange, ROOT)
        self.theme = theme_of(self.headers)
        self.user: PageUser | None = None


class Dashboard:
    """The pages of the dashboard, for requests whose path begins with `ROOT`."""

    def __init__(self, services: Services, routes: Iterable[PageRoute]) -> None:
        self._services = services
        self._sessions = Sessions(services)
        self._entrance = Entrance(services)
        self._streams = LiveStreams(services)
        self._entries: Mapping[tuple[str, bool], Callable[[DashboardRequest], Awaitable[PageResponse]]] = {
            (SIGN_IN, False): self._sign_in_page,
            (SIGN_IN, True): self._sign_in,
            (SIGN_OUT, True): self._sign_out,
            (OPEN, False): self._open,
            (INVITATION, False): self._invitation_page,
            (INVITATION, True): self._accept,
            (THEME, True): self._set_theme,
        }
        """Pages that need no user, by path and whether the request is a POST."""
        self._own_entries: Mapping[
            tuple[str, bool], Callable[[DashboardRequest, PageUser], Awaitable[PageResponse]]
        ] = {
            (LIVE, False): self._live,
            (LIVE, True): self._live,
            (CONFIRM, False): self._show_confirm,
            (CONFIRM, True): self._confirm,
            (CONFIRMED, False): self._confirmed_page,
        }
        """Pages of a user that are not in the frame, in the same way."""
        self._find = PageRouter(routes).find
        settings = services.control.settings
        has_own_port = settings.dashboard_port is not None
        self._steps = PageSteps(services, settings.dashboard_url if has_own_port else settings.public_url)
        self._api_url = settings.service_url if has_own_port else None

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        """Respond to one request. Raises nothing."""
        await self._steps.serve(DashboardRequest(scope, exchange), self._respond, self._problem)

    async def _respond(self, request: DashboardRequest) -> PageResponse:
        response = self._steps.receive(request)
        if response is not None:
            return response
        request.token = read_cookie(request.headers, cookies.session_name(self._url(request)))
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
        entry = self._entries.get((path, posts))
        if entry is not None:
            return await entry(request)
        if path.startswith(f"{SIGN_IN}/") and not posts:
            return await self._with_provider(request)
        found = self._find(path)
        page = None if found is None else partial(self._page, found=found)
        show = self._own_entries.get((path, posts), page)
        if show is None and not posts and _NAMED.fullmatch(path):
            show = self._search_by_name
        if show is None:
            raise NotFound("There is no such page.")
        if request.user is None:
            # The path is percent-decoded: it may have characters that no header can.
            place = "" if posts else _place(path)
            following = f"?next={place}" if place else ""
            return redirect_response(f"{request.base}{SIGN_IN}{following}")
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
        written = route.writes or route.needs
        # Pages that everyone sees need no scope for their form, either: it is about the user's own account.
        if written and (act is not None or route.is_form):
            user.principal.require(written, "write", *found.ids)
        if route.lets_in and (act is not None or route.is_form) and user.details.session.needs_confirmation(visit.now):
            place = _place(request.path)
            if act is None:
                return redirect_response(f"{request.base}{CONFIRM}?next={place}")
            form = await _kept_fields(await self._steps.form(request, route.form_bytes, user.principal.organization))
            return await self._confirm_page(request, user, Confirmation(place, user.principal.key_public_id, form))
        return await self._steps.page(
            request, route, visit, act, fields=_kept_fields, render=lambda page: render(page, visit)
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
            self._url(request),
            self._api_url or self._url(request),
            self._services.control.clock.now(),
            ids=ids,
            query=request.query,
            theme=request.theme,
            address=request.address,
        )

    async def _sign_in_page(
        self, request: DashboardRequest, error: DiscueError | None = None, fields: Mapping[str, str] = _NOTHING
    ) -> PageResponse:
        following = _place((fields or request.query).get("next", ""))
        if request.user is not None and error is None:
            return redirect_response(request.base + following)
        values = {
            "email": fields.get("email", ""),
            "organization": fields.get("organization", ""),
            "needs_code": await self._sessions.needs_code(request.token),
            "error": error,
            "following": following,
            "providers": self._entrance.providers,
            "left": request.query.get("from", ""),
            "notice": NOTICES.get(request.query.get("done", ""), ""),
        }
        return self._bare(request, Page("sign_in.html", "Sign in", values), 200 if error is None else error.status)

    async def _sign_in(self, request: DashboardRequest) -> PageResponse:
        fields = await self._form(request)
        try:
            signed_in = await self._sessions.sign_in(fields, self._browser(request))
        except DiscueError as error:
            if error.status >= 500:
                raise
            return await self._sign_in_page(request, error, fields)
        place = _place(fields.get("next", ""))
        if signed_in.needs_code:
            place = f"{SIGN_IN}?next={place}" if place else SIGN_IN
        return self._started(request, signed_in.token, place)

    async def _show_confirm(self, request: DashboardRequest, user: PageUser) -> PageResponse:
        return await self._confirm_page(request, user, Confirmation(_place(request.query.get("next", ""))))

    async def _confirm_page(
        self, request: DashboardRequest, user: PageUser, asked: Confirmation, error: DiscueError | None = None
    ) -> PageResponse:
        if error is None and not self._needs_confirmation(user):
            return redirect_response(request.base + asked.following)
        known, account = user.details.user, self._account(request, user)
        values = {
            "name": user.name,
            "has_password": account.user.password_hash is not None,
            "has_factor": await account.is_confirmed_by_code(),
            "error": error,
            "faults": FieldFaults(error),
            "asked": asked,
            "providers": self._entrance.providers if known is not None and known.has_identity else [],
        }
        return self._bare(request, Page("confirm.html", "Confirm", values), 200 if error is None else error.status)

    async def _confirmed_page(self, request: DashboardRequest, user: PageUser) -> PageResponse:
        """Show where to go on: the form waits in the tab from which the user went to the identity provider."""
        if self._needs_confirmation(user):
            return redirect_response(request.base)
        return self._bare(request, Page("confirmed.html", "Confirmed"), 200)

    async def _confirm(self, request: DashboardRequest, user: PageUser) -> PageResponse:
        fields = await fields_of(
            await self._steps.form(request, FORM_BYTES + CONFIRMATION_BYTES, user.principal.organization)
        )
        asked = Confirmation(_place(fields.get(FOLLOWING, "")), fields.get(SENDER, ""), without_own(fields))
        password, code = fields.get(PASSWORD, ""), fields.get(CODE, "").strip()
        if asked.sender and asked.sender != user.principal.key_public_id:
            raise Forbidden("Somebody else has signed in since this form was sent. Open its page again.")
        place = request.base + asked.following
        if asked.sender and not (password or code):
            if self._needs_confirmation(user):
                return await self._confirm_page(request, user, asked, Unprocessable(_TOO_OLD, code="invalid_value"))
            # The user has signed in again in another tab.
            return redirect_response(place, resends=True)
        account, browser = self._account(request, user), self._browser(request)
        try:
            opened = await (account.confirm_by_code(code, browser) if code else account.confirm(password, browser))
        except DiscueError as error:
            if error.status >= 500:
                raise
            return await self._confirm_page(request, user, asked, error)
        response = redirect_response(place, resends=bool(asked.sender))
        response.headers.append(cookies.session(cookies.session_name(self._url(request)), opened.token))
        return response

    def _account(self, request: DashboardRequest, user: PageUser) -> Account:
        return Account(self._services.control, self._services.authenticator, user.details, request.address)

    def _needs_confirmation(self, user: PageUser) -> bool:
        return user.details.session.needs_confirmation(self._services.control.clock.now())

    async def _open(self, request: DashboardRequest) -> PageResponse:
        require_opened(request.headers)
        if request.scope.method == "HEAD":
            # Programs that only look at a link must not use it up.
            return redirect_response(request.base)
        token = await self._sessions.redeem(request.query.get("code", ""), self._browser(request))
        if token is None:
            remedy = _AFTER_LINK if self._services.inbox is None else _AFTER_LINK_OF_DEV
            raise Forbidden(f"{_LINK_ENDED} {remedy}")
        return self._started(request, token, _place(request.query.get("next", "")))

    async def _with_provider(self, request: DashboardRequest) -> PageResponse:
        """Lead the browser to an identity provider, or take it back from there."""
        name, _, rest = request.path.removeprefix(f"{SIGN_IN}/").partition("/")
        url, cookie = self._url(request), cookies.pending_name(self._url(request))
        try:
            if not rest:
                following, again = _place(request.query.get("next", "")), request.user is not None
                departure = await self._entrance.begin(name, url, following, again=again)
                response = redirect_response(departure.url)
                response.headers.append(cookies.pending(cookie, departure.kept.text))
                return response
            if rest == "sign-out":
                return redirect_response(await self._entrance.sign_out_url(name, url) or f"{request.base}{SIGN_IN}")
            if rest != "callback":
                raise NotFound("There is no such page.")
            response = await self._arrive(request, name, read_cookie(request.headers, cookie))
        except DiscueError as error:
            if request.user is not None:
                raise
            response = await self._sign_in_page(request, error)
        response.headers.append(cookies.pending(cookie, ""))
        return response

    async def _arrive(self, request: DashboardRequest, name: str, text: str) -> PageResponse:
        callback = Callback(name, self._url(request), request.query, kept_in(text))
        if callback.kept is not None and callback.kept.permit and request.user is not None:
            await self._entrance.connect(callback, request.user.principal)
            return redirect_response(f"{request.base}/account?done=connected")
        arrival = await self._entrance.arrive(callback, self._browser(request))
        return self._started(request, arrival.token, _place(arrival.place))

    async def _invitation_page(
        self, request: DashboardRequest, error: DiscueError | None = None, token: str = "", email: str = ""
    ) -> PageResponse:
        page = Page("invitation.html", "Choose a password", {"error": error, "token": token, "email": email})
        return self._bare(request, page, 200 if error is None else error.status)

    async def _accept(self, request: DashboardRequest) -> PageResponse:
        """Set the password. Without one, show who the token invites: the script of the page asks for it."""
        fields, email = await self._form(request), ""
        refusal: DiscueError | None = None
        try:
            # First: a password that is refused is asked for again, on a page that names the user.
            email = await self._entrance.invited(fields, request.address)
            if "password" in fields:
                await self._entrance.accept(fields, request.address)
                return redirect_response(f"{request.base}{SIGN_IN}?done=password_set")
        except DiscueError as error:
            if error.status >= 500:
                raise
            refusal = error
        return await self._invitation_page(request, refusal, fields.get("token", ""), email)

    def _browser(self, request: DashboardRequest) -> Browser:
        return Browser(request.address, request.headers.get("user-agent", ""), request.token)

    def _started(self, request: DashboardRequest, token: str, place: str) -> PageResponse:
        response = redirect_response(request.base + place)
        response.headers.append(cookies.session(cookies.session_name(self._url(request)), token))
        return response

    async def _sign_out(self, request: DashboardRequest) -> PageResponse:
        if request.token:
            await self._sessions.sign_out(request.token)
        provider = request.user.details.session.provider if request.user is not None else ""
        # The page offers to sign out there, too: by the policy of pages, a form must not lead to another site.
        response = redirect_response(f"{request.base}{SIGN_IN}{f'?from={provider}' if provider else ''}")
        response.headers.append(cookies.session(cookies.session_name(self._url(request)), ""))
        return response

    async def _set_theme(self, request: DashboardRequest) -> PageResponse:
        fields = await self._form(request)
        response = redirect_response(request.base + _place(fields.get("next", "")))
        response.headers.append(cookies.theme(named_theme(fields.get("theme", ""))))
        return response

    async def _form(self, request: DashboardRequest) -> Mapping[str, str]:
        organization = request.user.principal.organization if request.user is not None else 0
        return await fields_of(await self._steps.form(request, FORM_BYTES, organization))

    def _url(self, request: DashboardRequest) -> str:
        return self._steps.url(request.scope)

    def _problem(self, request: DashboardRequest, error: DiscueError) -> PageResponse:
        """Return the page of an error: within the frame, if the user is known. JSON without HTML in `Accept`."""
        if negotiate(request.headers.get("accept", "")[:ACCEPT_CHARACTERS], HTML) == "nothing":
            return with_hints(problem_response(error), error)
        page = problem_page(error)
        if request.user is None:
            response = self._bare(request, page, error.status)
        else:
            response = page_response(render(page, self._visit(request, request.user)), error.status)
        return with_hints(response, error)

    def _bare(self, request: DashboardRequest, page: Page, status: int) -> PageResponse:
        now = self._services.control.clock.now()
        return page_response(render_bare(page, base=request.base, theme=request.theme, now=now), status)


async def _kept_fields(content: bytes) -> Mapping[str, str]:
    """Return the fields of a form, without those of the page that may have kept it."""
    return without_own(await fields_of(content))


def _place(given: str) -> str:
    """Return where to go next, below `ROOT`: the start page, unless it is the path of one of our pages."""
    return given if _PLACE.fullmatch(given) is not None else ""
