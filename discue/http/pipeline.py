"""The steps of every request, to the API and to pages: count the caller, respond, and send the response."""

import re
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, Final, Protocol, TypeVar

import msgspec

from discue.auth.client_ip import canonical, subject_of
from discue.auth.rate_limiter import address_caller, key_of_all, rate_limit_key
from discue.domain.errors import BadRequest, DiscueError, LockedOut, Unauthorized
from discue.domain.model import Organization
from discue.domain.rate import RateLimitKey, RateLimitStatus
from discue.domain.reservations import ReadBound
from discue.domain.retry import RetryOptions
from discue.domain.scopes import Principal
from discue.domain.trace_context import TRACEPARENT, parse_traceparent, trace_id_of
from discue.http.body import WITH_BODY
from discue.http.negotiation import ACCEPT_CHARACTERS, HTML, JSON
from discue.http.rsgi import ClientGone, HttpHeaders, HttpProtocol, HttpScope, connection_of
from discue.http.services import Services
from discue.http.unread import SMALL_BYTES, UnreadResponse
from discue.observability.metrics import Operation
from discue.store.ledger import Reservation

DASHBOARD: Final = "dashboard"
SOURCES: Final = "in"
"""The first step of the paths at which sources receive webhooks."""
_STARTS: Final = ("/dashboard", "/portal", f"/{SOURCES}/")
"""Prefixes of all paths outside the API: one comparison finds them."""

URI_CHARACTERS = 8_192
"""Maximum length of the decoded path and the query together."""

HEADER_LINES = 100
HEADER_BYTES = 32_768
_LINE_EXTRA = len(": \r\n")
_SINGLE = ("content-length", "content-type", "host", "x-api-key")

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

HOST_MISSING: Final = "An HTTP/1.1 request needs the header Host, with the host of the URL."

ANONYMOUS: Final = Principal(0, "", 0, "", {}, is_operator=False)
"""The principal of a request without a key."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

KEY: Final = "x-api-key"
_HEALTH_CHECKS = frozenset(f"{version}/health/{what}" for version in ("", "/v1") for what in ("live", "ready"))


class Request:
    """A request and what is known of it so far, with what is known of its response."""

    is_page: ClassVar = False
    """Whether the request is for a page. Pages have no rate limit headers, and their requests are not logged."""
    callers: ClassVar = "All keys of the organization together may make"
    """The start of the error for a request beyond the limit of all callers of an organization."""

    __slots__ = (
        "accept",
        "address",
        "body_is_left",
        "content",
        "exchange",
        "headers",
        "id",
        "operation",
        "organization",
        "principal",
        "rate_limit",
        "received",
        "reservation",
        "response_headers",
        "scope",
        "services",
        "status",
        "stream",
    )

    def __init__(self, services: Services, scope: HttpScope, exchange: HttpProtocol, request_id: str) -> None:
        self.services = services
        self.scope = scope
        self.exchange = exchange
        self.headers = scope.headers
        self.id = request_id
        self.response_headers = [("content-type", JSON), ("x-request-id", self.id)]
        accept: str = self.headers.get("accept", "")
        self.accept = ",".join(self.headers.get_all("accept")) if accept else accept
        """The Accept header; several lines are one list."""
        if len(self.accept) > ACCEPT_CHARACTERS:
            self.accept = self.accept[:ACCEPT_CHARACTERS].rpartition(",")[0]
        # Most requests have neither header: then the address of the connection counts.
        is_forwarded = "x-forwarded-for" in self.headers or "forwarded" in self.headers
        self.address = services.addresses.of(scope.client, self.headers) if is_forwarded else canonical(scope.client)
        self.operation: Operation = "other"
        self.principal = ANONYMOUS
        self.organization: Organization | None = None
        """The caller's organization; None for callers that are counted by their address."""
        self.rate_limit: RateLimitStatus | None = None
        """The caller's rate limit, once the request is counted."""
        self.body_is_left = (
            scope.method in WITH_BODY or "content-length" in self.headers or "transfer-encoding" in self.headers
        )
        """Whether more of the body may arrive that was not read yet."""
        self.received: bytes | None = None
        """The body; None until it is read."""
        self.content = b""
        self.status = 200
        self.stream: AsyncGenerator[bytes, None] | None = None
        self.reservation: Reservation | None = None
        """The reservation of the request, until its client has read the response; None before, and for publishes."""

    @property
    def default_retry(self) -> RetryOptions | None:
        """The retry options of the caller's organization."""
        return None if self.organization is None else self.organization.retry


class Admission:
    """Identifies the caller of each request, and counts the request against its rate limit."""

    def __init__(self, services: Services) -> None:
        control = services.control
        self._rates = services.rates
        self._settings = control.settings
        self._readiness = services.readiness
        self._cached = services.authenticator.known
        self._check = services.authenticator.check

    async def admit(self, request: Request, *, needs_key: bool, has_route: bool = True) -> None:
        """Set the caller of the request.

        Raises Unauthorized, Forbidden and Locked if a key is needed, Unavailable unless the worker is serving, and
        TooManyRequests. On an unknown route, a key is checked as well, because failed attempts count everywhere, but
        only LockedOut is raised.
        """
        refusal: DiscueError | None = None
        if needs_key:
            try:
                # While the worker starts or drains, the key may not be readable: a valid key must not get a 401.
                if self._readiness.phase != "serving":
                    raise self._readiness.refusal()
                presented: str = request.headers.get(KEY, "")
                if not presented:
                    raise Unauthorized
                known = self._cached(presented, request.address) or await self._check(presented, request.address)
                request.organization, request.principal = known.organization, known.principal
            except DiscueError as error:
                # Counted before it is refused: otherwise guessing keys would not use up the rate limit of the address.
                refusal = error
        await self.count(request)
        if refusal is not None and (has_route or isinstance(refusal, LockedOut)):
            raise refusal

    def rate_headers(self, request: Request) -> list[tuple[str, str]]:
        """Return the rate limit headers: of the caller, or of its address if the request was not counted."""
        status = request.rate_limit or self._rates.peek(self._address_caller(request))
        return [
            ("x-ratelimit-limit", str(status.limit)),
            ("x-ratelimit-remaining", str(status.remaining)),
            ("x-ratelimit-reset", str(status.reset_at)),
        ]

    def require_budget(self, request: Request) -> None:
        """Raise TooManyRequests if an address has used up its rate limit. Counts nothing.

        A request must not cost the lookup of a session, which may not exist, only to be refused afterwards.
        """
        status = self._rates.peek(self._address_caller(request))
        if not status.remaining:
            raise self._rates.refusal(status, "address_rate_limit")

    async def count(self, request: Request) -> None:
        """Count a request against the limit of its caller and of its organization. Raises TooManyRequests.

        Unless the worker is serving, requests are counted without reading the store.
        """
        if request.scope.path in _HEALTH_CHECKS:
            self._count_health_check(request)
            return
        organization, rates = request.organization, self._rates
        together = None
        if organization is None:
            caller = self._address_caller(request)
        else:
            caller = rate_limit_key(organization, request.principal, self._settings)
            together = key_of_all(caller)
        # `take` may read the budget of all workers from the store, which may be unreadable while the worker starts or
        # drains.
        if self._readiness.phase != "serving":
            request.rate_limit = rates.count(caller)
            return
        request.rate_limit = status = rates.take_now(caller) or await rates.take(caller)
        if status.refused:
            raise rates.refusal(status, "address_rate_limit" if organization is None else "rate_limit")
        if together is not None:
            of_all = rates.take_now(together) or await rates.take(together)
            if of_all.remaining < status.remaining or of_all.refused:
                request.rate_limit = msgspec.structs.replace(status, remaining=of_all.remaining)
            if of_all.refused:
                raise rates.refusal(of_all, "rate_limit", request.callers)

    def _count_health_check(self, request: Request) -> None:
        """Count a health check. Raises TooManyRequests.

        Health checks have a budget of their own, and never wait for the store. Forwarded health checks have another
        budget: clients of an untrusted proxy must not use up the budget of the proxy's own checks.
        """
        kind = "forwarded health" if {"x-forwarded-for", "forwarded"} & set(request.headers.keys()) else "health"
        caller = address_caller(f"{kind} {subject_of(request.address)}", self._settings.address_rate_limit)
        request.rate_limit = status = self._rates.count(caller)
        if status.refused:
            raise self._rates.refusal(status, "address_rate_limit")

    async def count_address(self, request: Request) -> None:
        """Count a request against the limit of its address. Raises TooManyRequests."""
        caller = self._address_caller(request)
        request.rate_limit = status = self._rates.take_now(caller) or await self._rates.take(caller)
        if status.refused:
            raise self._rates.refusal(status, "address_rate_limit")

    def _address_caller(self, request: Request) -> RateLimitKey:
        return address_caller(subject_of(request.address), self._settings.address_rate_limit)


R = TypeVar("R", bound=Request)


class Site(Protocol[R]):
    """A part of the service with requests and responses of its own kind: the API, the dashboard or the portal."""

    @property
    def request_type(self) -> Callable[[Services, HttpScope, HttpProtocol, str], R]:
        """Makes its requests, each with its id."""

    async def respond(self, request: R) -> bytes:
        """Return the body of the response. Everything else about the response is set in the request."""

    def problem(self, request: R, error: DiscueError) -> bytes:
        """Return the body of an error, and set the headers of the response."""


class Pipeline:
    """Responds to the requests of all sites, as an RSGI application."""

    def __init__(
        self, services: Services, api: Site[Any], pages: Mapping[str, Site[Any]] = MappingProxyType({})
    ) -> None:
        """`pages` respond below the path with their name: `dashboard`, also to browsers at `/`, `portal` and `in`."""
        control = services.control
        self._services = services
        self._api = api
        self.pages = pages
        self._log = services.log
        self._rate_headers = Admission(services).rate_headers
        self._bodies = services.bodies
        self._ledger = control.store.ledger
        self._unread = services.unread
        self._measures = control.store.measures
        self._logs_requests = control.settings.log_requests
        self._monotonic = control.clock.monotonic
        self._id_prefix = control.random_bytes(6).hex()
        self._requests = 0

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        """Respond to one request. Raises nothing."""
        started = self._monotonic()
        site = self._api
        if scope.path.startswith(_STARTS) or scope.path == "/":
            site = self.pages.get(first_step(scope), site)
        request: Request = site.request_type(self._services, scope, exchange, self._id_of(scope.headers))
        try:
            content = await site.respond(request)
            if len(content) > SMALL_BYTES:
                await self._reserve_response(request, len(content))
        except ClientGone:
            self._end_read(request)
            return
        except DiscueError as error:
            request.status, content = error.status, site.problem(request, error)
            # A frame that raised it may refer to it: in that cycle, the exchange would keep its connection open.
            error.__traceback__ = error.__context__ = None
        except Exception as error:
            self._log_failure(request, error)
            request.status, content = 500, site.problem(request, DiscueError())
        except BaseException:
            self._end_read(request)
            raise
        self._end_read(request, len(content))
        if request.body_is_left:
            # Before the response: the server closes a connection on which a body is still arriving, and a client that
            # is still sending then sees a reset instead of the response.
            await self._bodies.discard(exchange, scope)
        if not request.is_page:
            request.response_headers += self._rate_headers(request)
        unread = await self._send(request, content)
        seconds = self._monotonic() - started
        self._count(request.operation, request.status, seconds)
        if self._logs_requests and not request.is_page:
            self._log_request(request, len(content), seconds)
        if unread is not None:
            # The server has a copy of the content, and the body of the request is not needed any more.
            del content, request
            await self._unread.until_read(exchange, unread)

    def _id_of(self, headers: HttpHeaders) -> str:
        """Return the `X-Request-Id` of a request if it is well-formed, else a new id."""
        given: str | None = headers.get("x-request-id")
        if given and _REQUEST_ID.fullmatch(given):
            return given
        self._requests += 1
        return f"{self._id_prefix}-{self._requests:x}"

    async def _reserve_response(self, request: Request, size: int) -> None:
        """Reserve the memory of a response that is larger than what its site reads. Raises Overloaded."""
        reservation = request.reservation
        if reservation is not None and size > reservation.bytes and request.scope.method == "GET":
            await reservation.enlarge(ReadBound(0, size))

    def _end_read(self, request: Request, size: int = 0) -> None:
        """End the read of a request. `size` bytes of its response stay reserved; the memory of its body is released."""
        if request.reservation is not None:
            request.reservation.keep(size)
        if self._bodies.held:
            self._bodies.release()

    async def _send(self, request: Request, content: bytes) -> UnreadResponse | None:
        """Send a response. Returns the response to wait for, or None if it is small or has no body."""
        exchange, status, headers = request.exchange, request.status, request.response_headers
        is_head = request.scope.method == "HEAD"
        if request.stream is not None and status == 200:
            await self._stream(request, request.stream)
            return None
        if len(content) > SMALL_BYTES and not is_head and status != 304:
            return await self._unread.start(
                exchange,
                connection_of(request.scope),
                status,
                headers=headers,
                content=content,
                # A request that has changed something always gets its response.
                reservation=request.reservation or self._ledger.hold(request.principal.organization, len(content)),
            )
        if request.reservation is not None:
            request.reservation.release()
        if status == 304:
            exchange.response_empty(status, [line for line in headers if line[0] != "content-type"])
        elif is_head:
            # Granian would send the body over HTTP/2.
            exchange.response_empty(status, [*headers, ("content-length", str(len(content)))])
        else:
            exchange.response_bytes(status, headers, content)
        return None

    async def _stream(self, request: Request, pieces: AsyncGenerator[bytes, None]) -> None:
        try:
            async with aclosing(pieces):
                response = request.exchange.response_stream(200, request.response_headers)
                if request.is_page:
                    # Not counted: a page gets a few bytes a second.
                    async for piece in pieces:
                        await response.send_bytes(piece)
                    return
                with self._unread.window(connection_of(request.scope), request.principal.organization) as window:
                    async for piece in pieces:
                        await window.send(response, piece)
                    await window.finish()
        except ClientGone:
            return
        except Exception as error:
            # The response has started, so all that can be done is to end it.
            self._log_failure(request, error, in_stream=True)

    def _count(self, operation: Operation, status: int, seconds: float) -> None:
        counts = self._measures.requests[operation]
        counts[status] = counts.get(status, 0) + 1
        timed = self._measures.request_seconds.get(operation)
        if timed is not None:
            # As `Histogram.observe` does it, without a call for each request.
            timed.counts[bisect_left(timed.bounds, seconds)] += 1
            timed.total += seconds

    def _log_failure(self, request: Request, error: Exception, *, in_stream: bool = False) -> None:
        method, path = request.scope.method, request.scope.path
        if request.is_page:
            self._log.error("page_failed", exc_info=error, method=method, path=path, request_id=request.id)
        else:
            self._log.error(
                "stream_failed" if in_stream else "request_failed",
                exc_info=error,
                method=method,
                path=path,
                **_identity(request),
            )

    def _log_request(self, request: Request, size: int, seconds: float) -> None:
        scope, principal = request.scope, request.principal
        self._log.info(
            "request",
            **_identity(request),
            method=scope.method,
            path=scope.path,
            status=request.status,
            bytes=size,
            took_ms=round(seconds * 1000, 1),
            client=request.address,
            protocol=scope.http_version,
            organization=principal.organization_public_id,
            api_key_id=principal.key_public_id,
        )


def first_step(scope: HttpScope) -> str:
    """Return the first step of a path. Browsers at `/` are led to the dashboard: clients of the API ask for no HTML."""
    first, _, _ = scope.path[1:].partition("/")
    is_for_page = not first and scope.method == "GET" and HTML in scope.headers.get("accept", "")
    return DASHBOARD if is_for_page else first


def traceparent_of(headers: HttpHeaders) -> str | None:
    """Return the trace that a request belongs to. A header that occurs twice is as good as malformed."""
    # Most requests have none.
    if TRACEPARENT not in headers:
        return None
    values = headers.get_all(TRACEPARENT)
    return parse_traceparent(values[0]) if len(values) == 1 else None


def _identity(request: Request) -> dict[str, str]:
    """Return the fields of a log line that say which request it is about."""
    traceparent = traceparent_of(request.headers)
    known = {"request_id": request.id}
    return known if traceparent is None else {**known, "trace_id": trace_id_of(traceparent)}


def base_url(scope: HttpScope, headers: HttpHeaders) -> str:
    """Return the scheme and host that the client used. Raises BadRequest if that is no host."""
    return _base_url(scope.scheme, scope.authority or headers.get("host") or scope.server)


# Bounded: clients choose the Host header.
@lru_cache(1_024)
def _base_url(scheme: str, host: str) -> str:
    if _HOST.fullmatch(host) is None:
        raise BadRequest("The Host header is not a host.", code="invalid_header")
    return f"{scheme}://{host}"


def port_of(scope: HttpScope) -> str:
    """Return the port that the server listens on."""
    return scope.server.rpartition(":")[2]


def check_request(scope: HttpScope, headers: HttpHeaders) -> None:
    """Raise DiscueError for a URL that is too long and headers that are too large, and BadRequest for invalid headers:
    a missing `Host` or a repeated header of `_SINGLE`.
    """
    if len(scope.path) + len(scope.query_string) > URI_CHARACTERS:
        raise DiscueError(f"The URL has more than {URI_CHARACTERS} characters.", code="uri_too_long")
    # Names are listed once, values once for each line: more values than names means that a header is repeated.
    names, values = headers.keys(), headers.values()
    lines = len(values)
    size = len("".join(names)) + len("".join(values)) + lines * _LINE_EXTRA
    if lines > HEADER_LINES or size > HEADER_BYTES:
        detail = f"The headers have more than {HEADER_LINES} lines or {HEADER_BYTES} bytes."
        raise DiscueError(detail, code="headers_too_large")
    if lacks_host(scope):
        raise BadRequest(HOST_MISSING, code="invalid_header")
    if len(names) != lines:
        # A proxy might have acted on another of the values than this service does (request smuggling).
        for name in _SINGLE:
            if len(headers.get_all(name)) > 1:
                raise given_twice(name)


def lacks_host(scope: HttpScope) -> bool:
    """Return whether a request lacks a required Host header (RFC 9112, 3.2). HTTP/2 has `:authority` instead."""
    return scope.http_version == "1.1" and "host" not in scope.headers


def given_twice(name: str) -> BadRequest:
    """Return the error for a header that can be given only once."""
    return BadRequest(f"The header {name} is given more than once.", code="invalid_header")
