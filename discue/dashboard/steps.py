"""The steps that requests for pages of the dashboard and of the portal have in common."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeVar
from urllib.parse import urlsplit

from granian._granian import RSGIProtocolClosed as ProtocolClosed

from discue.auth.client_ip import subject_of
from discue.auth.rate_limiter import address_caller, customer_caller
from discue.dashboard import static
from discue.dashboard.exchange import (
    SECURITY_HEADERS,
    Headers,
    PageRequest,
    PageResponse,
    page_response,
    plain_response,
    redirect_response,
    send,
    stream,
)
from discue.dashboard.forms import FORM_TYPE, parse_query
from discue.dashboard.route import Act, PageRoute
from discue.dashboard.visit import Download, Page, Redirect, Visit
from discue.domain.errors import (
    DiscueError,
    Forbidden,
    MethodNotAllowed,
    PayloadTooLarge,
    PreconditionFailed,
    Unavailable,
    UnsupportedMediaType,
    reason_phrase,
)
from discue.domain.model import Organization
from discue.domain.rate import RateLimitKey
from discue.domain.reservations import FEW_ROWS, ROW_BYTES, ReadBound
from discue.domain.scopes import Principal
from discue.http.admission import RequestIds, base_url, check_request, key_of_all, port_of, rate_limit_key
from discue.http.body import BodyReader
from discue.http.negotiation import accepts_gzip, is_of_type
from discue.http.rsgi import ClientGone, HttpHeaders, HttpScope
from discue.http.services import Services
from discue.http.sockets import connection_of
from discue.http.unread import SMALL_BYTES
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

R = TypeVar("R", bound=PageRequest)


class PageSteps:
    """Answers requests for the pages of one application, within the limits of the service."""

    def __init__(self, services: Services, url: str | None, host: str) -> None:
        """`url` is the URL of the service, which the paths of pages follow.

        Without it, the URL is the one that the browser uses; links for other people then use `host`, the address that
        the server listens on.
        """
        control = services.control
        settings, store = control.settings, control.store
        self._services = services
        self._url = url.rstrip("/") if url else None
        self._host = host
        self._bodies = BodyReader(
            deadline_seconds=settings.request_body_timeout_seconds,
            max_bytes=settings.max_waiting_bytes,
            is_store_healthy=lambda: store.healthy,
        )
        self._ledger = store.ledger
        self._unread = services.unread
        self._ids = RequestIds(control.random_bytes)

    async def serve(
        self,
        request: R,
        respond: Callable[[R], Awaitable[PageResponse]],
        problem: Callable[[R, DiscueError], PageResponse],
    ) -> None:
        """Send the response, or the page of the error that `respond` raises. Raises nothing."""
        scope, exchange = request.scope, request.exchange
        request.id = self._ids.of(request.headers)
        try:
            # For the session, and for sign-in pages. Other pages reserve more.
            with self._ledger.hold(0, FEW_ROWS.bytes):
                response = await respond(request)
        except (ProtocolClosed, ClientGone):
            return
        except DiscueError as error:
            if isinstance(error, PayloadTooLarge) and "content-length" in scope.headers:
                # It was refused unread. The server closes a connection on which a body is still arriving, and the
                # browser would see a reset instead of the response.
                await self._bodies.discard(exchange, scope)
            response = problem(request, error)
            error.__traceback__ = error.__context__ = None
        except Exception as error:
            self._services.log.error(
                "page_failed", exc_info=error, method=scope.method, path=scope.path, request_id=request.id
            )
            response = problem(request, DiscueError())
        finally:
            if self._bodies.held:
                self._bodies.release()
        response.headers.append(("x-request-id", request.id))
        counts = self._services.control.store.measures.requests["other"]
        counts[response.status] = counts.get(response.status, 0) + 1
        if response.pieces is not None:
            await self._stream(request, response, response.pieces)
        elif len(response.content) > SMALL_BYTES and scope.method != "HEAD":
            unread = await self._unread.start(
                exchange,
                connection_of(scope),
                response.status,
                headers=response.headers,
                content=response.content,
                reservation=response.reservation or self._ledger.hold(0, len(response.content)),
            )
            await self._unread.until_read(exchange, unread)
        else:
            if response.reservation is not None:
                response.reservation.release()
            send(exchange, scope.method, response)

    def receive(self, request: PageRequest, script: PageResponse | None = None) -> PageResponse | None:
        """Check a request, and respond to it unless it is for a page. Returns None for a page.

        Sets `address`, `query`, `url` and `sent_url` of a request for a page.

        `script` is the response if the request is for the script that other sites load. Raises MethodNotAllowed and
        Unavailable, and what `check_request` raises.
        """
        scope = request.scope
        check_request(scope, request.headers)
        if scope.method in {"GET", "HEAD"}:
            file = static.BY_PATH.get(request.path)
            if file is not None:
                return _static_response(request.headers, file)
            if script is not None:
                return script
        request.url = self._url_of(scope)
        request.address = self._services.addresses.of(scope.client, scope.headers)
        if scope.method not in METHODS:
            raise MethodNotAllowed(allow=METHODS)
        if request.path == "/":
            # The start of the service, which leads browsers to the dashboard, or a slash too many.
            return redirect_response(request.base)
        phase = self._services.readiness.phase
        if phase != "serving":
            raise Unavailable(f"The service is {phase}. Try again soon.", code="not_ready")
        request.query = parse_query(scope.query_string)
        request.sent_url = self._url or self._services.control.settings.url_at(self._host, port_of(scope))
        return None

    def _url_of(self, scope: HttpScope) -> str:
        """Return the URL of the service, as the browser sees it."""
        return self._url or base_url(scope, scope.headers)

    def require_budget(self, address: str) -> None:
        """Raise TooManyRequests if an address has used up its rate limit. Counts nothing.

        A request must not cost the lookup of a session, which may not exist, only to be refused afterwards.
        """
        rates = self._services.rates
        status = rates.peek(self._address_caller(address))
        if not status.remaining:
            raise rates.refusal(status, "address_rate_limit")

    async def count_address(self, address: str) -> None:
        """Count a request without a session against the rate limit of its address. Raises TooManyRequests."""
        await self._take(self._address_caller(address), "address_rate_limit")

    async def count(self, organization: Organization, principal: Principal) -> None:
        """Count a request as the API does, against the same limits. Raises TooManyRequests.

        All sessions of a customer in the portal are one caller: an application may create any number of them.
        """
        caller = rate_limit_key(organization, principal, self._services.control.settings)
        if principal.customer is not None:
            caller = customer_caller(caller, organization.id, principal.customer)
        await self._take(caller, "rate_limit")
        together = key_of_all(caller)
        if together is not None:
            await self._take(
                together, "rate_limit", "All keys, users and customers of the organization together may make"
            )

    def _address_caller(self, address: str) -> RateLimitKey:
        return address_caller(subject_of(address), self._services.control.settings.address_rate_limit)

    async def _take(self, caller: RateLimitKey, setting: str, callers: str = "") -> None:
        rates = self._services.rates
        status = rates.take_now(caller) or await rates.take(caller)
        if status.refused:
            raise rates.refusal(status, setting, callers)

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
        request: PageRequest,
        route: PageRoute,
        visit: Visit,
        act: Act | None,
        *,
        fields: Callable[[bytes], Awaitable[Mapping[str, str]]],
        render: Callable[[Page], bytes],
        security: Headers = SECURITY_HEADERS,
    ) -> PageResponse:
        """Show a page, or do what its form asks for: `act`, with the `fields` of the form."""
        organization = visit.principal.organization
        if act is None:
            reservation = visit.reservation = await self._ledger.reserve(organization, route.reads)
            with _released_after_failure(reservation):
                return _kept(_response(await route.show(visit), visit, render, security), reservation)
        # Before the turn: a browser may send slowly.
        content = await self.form(request, route.most_bytes, organization)
        rows = max(route.reads.rows, 1 + len(content) // ROW_BYTES)
        reservation = visit.reservation = await self._ledger.reserve(organization, ReadBound(rows, route.reads.bytes))
        with _released_after_failure(reservation):
            visit.form = await fields(content)
            if not route.waits:
                done = await done_by(visit, act) or await route.show(visit)
                return _kept(_response(done, visit, render, security), reservation)
            reservation.release()
            acted = await done_by(visit, act)
            await reservation.enlarge(route.reads)
            return _kept(_response(acted or await route.show(visit), visit, render, security), reservation)

    async def form(self, request: PageRequest, most_bytes: int, organization: int) -> bytes:
        """Return a form as it was sent. Raises UnsupportedMediaType and PayloadTooLarge."""
        headers = request.headers
        if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
            return b""
        if not is_of_type(headers.get("content-type", ""), FORM_TYPE):
            raise UnsupportedMediaType("A form is sent as application/x-www-form-urlencoded.")
        return await self._bodies.read(request.exchange, headers, most_bytes, organization=organization)

    async def _stream(self, request: PageRequest, response: PageResponse, pieces: AsyncGenerator[bytes, None]) -> None:
        try:
            await stream(request.exchange, response, pieces)
        except (ProtocolClosed, ClientGone):
            return
        except Exception as error:
            # The response has started, so all that can be done is to end it.
            path = request.scope.path
            self._services.log.error("page_failed", exc_info=error, method="GET", path=path, request_id=request.id)


@contextmanager
def _released_after_failure(reservation: Reservation) -> Iterator[None]:
    """Release a reservation if the block raises; otherwise, it belongs to the response."""
    try:
        yield
    except BaseException:
        reservation.release()
        raise


def _kept(response: PageResponse, reservation: Reservation) -> PageResponse:
    """End the read of a page. Its response stays reserved until the client has read it."""
    reservation.keep(len(response.content))
    return response._replace(reservation=reservation)


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


def problem_page(error: DiscueError) -> Page:
    """Return the page that shows an error."""
    phrase, detail = reason_phrase(error.status), error.detail
    if error.code == "scope_missing":
        # Scopes are those of an API key in the text of the API; here they come with the user's role.
        detail = detail.replace("The API key needs", "This page needs", 1)
    return Page("problem.html", phrase, {"status": error.status, "phrase": phrase, "detail": detail})


def with_hints(response: PageResponse, error: DiscueError) -> PageResponse:
    """Return the page of an error with the headers that say what to do."""
    if error.allow:
        response.headers.append(("allow", ", ".join(error.allow)))
    if error.retry_after_seconds is not None:
        response.headers.append(("retry-after", str(error.retry_after_seconds)))
    return response


def _static_response(headers: HttpHeaders, file: static.StaticFile) -> PageResponse:
    """Return the response for a style or a script, whose URL changes with its content."""
    shown = [("content-type", file.content_type), _IMMUTABLE, *SECURITY_HEADERS, ("vary", "accept-encoding")]
    if not accepts_gzip(headers.get("accept-encoding") or ""):
        return PageResponse(200, shown, file.content)
    return PageResponse(200, [*shown, ("content-encoding", "gzip")], file.compressed)


def _response(
    done: Page | Redirect | Download, visit: Visit, render: Callable[[Page], bytes], security: Headers
) -> PageResponse:
    if isinstance(done, Download):
        return plain_response(done.content, done.name)
    if isinstance(done, Redirect):
        response = redirect_response(f"{visit.base}{done.path}{f'?done={done.done}' if done.done else ''}")
    else:
        response = page_response(render(done), 200 if visit.error is None else visit.error.status, security)
        if visit.error is not None:
            response = with_hints(response, visit.error)
    response.headers.extend(done.headers)
    return response
