"""The steps that requests for pages of the dashboard and of the portal have in common."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

from discue.dashboard.exchange import (
    BY_PATH,
    SECURITY_HEADERS,
    PageResponse,
    page_response,
    plain_response,
    redirect_response,
)
from discue.dashboard.forms import FORM_BYTES, FORM_TYPE, parse_query
from discue.dashboard.visit import Act, Download, Page, PageRoute, Redirect, Visit
from discue.domain.errors import (
    DiscueError,
    Forbidden,
    MethodNotAllowed,
    PayloadTooLarge,
    PreconditionFailed,
    UnsupportedMediaType,
    reason_phrase,
)
from discue.domain.reservations import FEW_ROWS, HTML_PAGE, ROW_BYTES, ReadBound
from discue.http.negotiation import accepts_gzip, hints_of, is_of_type
from discue.http.pipeline import Admission, base_url, check_request, port_of
from discue.http.rsgi import HttpHeaders, HttpScope
from discue.http.services import Services
from discue.store.ledger import Reservation

METHODS: Final = ("GET", "HEAD", "POST")
SHOWN_AGAIN: Final = frozenset({400, 402, 409, 412, 413, 422, 429})
"""Statuses of forms that can be corrected or sent again: the page is shown again with what was typed."""
_CHANGED_MEANWHILE: Final = (
    "This was changed after you opened the page. Nothing is saved yet: save again to replace the change."
)
OPENED_AS: Final = frozenset({"document"})
"""Values of `Sec-Fetch-Dest` for a page that has a tab of its own."""

_IMMUTABLE: Final = ("cache-control", "public, max-age=31536000, immutable")


class PageSteps:
    """Answers requests for the pages of one application, within the limits of the service."""

    def __init__(self, services: Services, url: str | None, host: str, *, api_url: str | None = None) -> None:
        """`url` is the URL of the service, which the paths of pages follow.

        Without it, the URL is the one that the browser uses; links for other people then use `host`, the address that
        the server listens on. `api_url` is the URL of the API if it differs.
        """
        self._services = services
        self.admission = Admission(services)
        self._url = url.rstrip("/") if url else None
        self._host = host
        self._api_url = api_url or ""
        self._ledger = services.control.store.ledger

    def reservation(self) -> Reservation:
        """Hold what sessions and sign-in pages read. Other pages reserve more."""
        return self._ledger.hold(0, FEW_ROWS.bytes)

    def receive(self, visit: Visit, script: PageResponse | None = None) -> PageResponse | None:
        """Check a request, and respond to it unless it is for a page. Returns None for a page.

        Sets `query` and the URLs of a request for a page.

        `script` is the response if the request is for the script that other sites load. Raises MethodNotAllowed and
        Unavailable, and what `check_request` raises.
        """
        scope = visit.scope
        visit.api_url = self._api_url
        check_request(scope, visit.headers)
        if scope.method in {"GET", "HEAD"}:
            file = BY_PATH.get(visit.path)
            if file is not None:
                shown = [
                    ("content-type", file.content_type),
                    _IMMUTABLE,
                    *SECURITY_HEADERS,
                    ("vary", "accept-encoding"),
                ]
                if not accepts_gzip(visit.headers.get("accept-encoding") or ""):
                    return PageResponse(200, shown, file.content)
                return PageResponse(200, [*shown, ("content-encoding", "gzip")], file.compressed)
            if script is not None:
                return script
        visit.url = self._url_of(scope)
        visit.api_url = self._api_url or visit.url
        if scope.method not in METHODS:
            raise MethodNotAllowed(allow=METHODS)
        if visit.path == "/":
            # The start of the service, which leads browsers to the dashboard, or a slash too many.
            return redirect_response(visit.base)
        readiness = self._services.readiness
        if readiness.phase != "serving":
            raise readiness.refusal()
        visit.query = parse_query(scope.query_string)
        visit.sent_url = self._url or self._services.control.settings.url_at(self._host, port_of(scope))
        return None

    def _url_of(self, scope: HttpScope) -> str:
        """Return the URL of the service, as the browser sees it."""
        return self._url or base_url(scope, scope.headers)

    def require_own_origin(self, scope: HttpScope, pages: str) -> None:
        """Raise Forbidden unless the request comes from one of our pages, which `pages` names in the error.

        Browsers send `Sec-Fetch-Site` over HTTPS and on loopback, and `Origin` with every POST. Sent by neither, a form
        is refused: a browser so old cannot be told from another site.
        """
        headers = scope.headers
        site = headers.get("sec-fetch-site")
        if site is not None:
            is_ours = site == "same-origin"
        else:
            # Without the scheme: a proxy that terminates TLS may not tell it.
            hosts = {urlsplit(self._url_of(scope)).netloc, urlsplit(base_url(scope, headers)).netloc}
            is_ours = urlsplit(headers.get("origin") or "").netloc in hosts
        if not is_ours:
            raise Forbidden(f"This form was not sent from a page of {pages}. Open the page again and retry.")

    async def page(
        self,
        route: PageRoute,
        visit: Visit,
        act: Act | None,
        *,
        fields: Callable[[bytes], Awaitable[Mapping[str, str]]],
        render: Callable[[Page], bytes],
    ) -> PageResponse:
        """Show a page, or do what its form asks for: `act`, with the `fields` of the form."""
        # Before the turn: a browser may send slowly.
        content = b"" if act is None else await read_form(visit, route.most_bytes)
        reads = ReadBound(max(HTML_PAGE.rows, 1 + len(content) // ROW_BYTES), HTML_PAGE.bytes)
        visit.reservation = reservation = await self._ledger.reserve(visit.principal.organization, reads)
        done = None
        if act is not None:
            visit.form = await fields(content)
            if route.waits:
                reservation.release()
            done = await done_by(visit, act)
            if route.waits:
                await reservation.enlarge(HTML_PAGE)
        return _response(done or await route.show(visit), visit, render)


async def read_form(visit: Visit, most_bytes: int = FORM_BYTES) -> bytes:
    headers = visit.headers
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return b""
    if not is_of_type(headers.get("content-type", ""), FORM_TYPE):
        raise UnsupportedMediaType("A form is sent as application/x-www-form-urlencoded.")
    visit.body_is_left = False
    try:
        return await visit.services.bodies.read(
            visit.exchange, headers, most_bytes, organization=visit.principal.organization
        )
    except PayloadTooLarge:
        # A body that is announced as too large is not read.
        visit.body_is_left = "content-length" in headers
        raise


def requested_act(route: PageRoute, method: str) -> Act | None:
    """Return what a request asks a page to do; None: to show itself. Raises MethodNotAllowed."""
    if method != "POST":
        return None
    if route.act is None:
        raise MethodNotAllowed(allow=("GET", "HEAD"))
    return route.act


async def done_by(visit: Visit, act: Act) -> Page | Redirect | None:
    """Do what a form asks for. Returns None after an error of `SHOWN_AGAIN`: it is `visit.error`."""
    try:
        return await act(visit)
    except DiscueError as error:
        if error.status not in SHOWN_AGAIN:
            raise
        # The frames in it refer to the visit: in that cycle, the exchange would keep its connection open.
        error.__traceback__ = error.__context__ = None
        visit.error = error
        if isinstance(error, PreconditionFailed):
            # The message of the API names a header, which no form has.
            visit.error = PreconditionFailed(_CHANGED_MEANWHILE)
        return None


def require_opened(headers: HttpHeaders, destinations: Collection[str] = OPENED_AS) -> None:
    """Raise Forbidden if the browser loads the page of a link for something else: as the image of another page.

    Browsers say over HTTPS and on loopback what they load a page for. Programs do not.
    """
    if headers.get("sec-fetch-dest", "document") not in destinations:
        raise Forbidden("This link leads to a page, and was loaded as a part of another one. Open it in a new tab.")


def problem_page(visit: Visit, error: DiscueError) -> Page:
    """Return the page that shows an error, and nothing of the page that was asked for."""
    visit.ids, visit.error, visit.wrong = (), None, []
    phrase, detail = reason_phrase(error.status), error.detail
    if error.code == "scope_missing":
        # Scopes are those of an API key in the text of the API; here they come with the user's role.
        detail = detail.replace("The API key needs", "This page needs", 1)
    return Page("problem.html", phrase, {"status": error.status, "phrase": phrase, "detail": detail})


def _response(done: Page | Redirect | Download, visit: Visit, render: Callable[[Page], bytes]) -> PageResponse:
    if isinstance(done, Download):
        return plain_response(done.content, done.name)
    if isinstance(done, Redirect):
        response = redirect_response(f"{visit.base}{done.path}{f'?done={done.done}' if done.done else ''}")
    else:
        response = page_response(render(done), 200 if visit.error is None else visit.error.status, visit.security)
        if visit.error is not None:
            response.headers.extend(hints_of(visit.error))
    response.headers.extend(done.headers)
    return response
