"""The API as an RSGI application: the same few steps for every request."""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, Final

import msgspec
from granian._granian import RSGIProtocolClosed as ProtocolClosed

from discue.api.decoding import EventBody, event_reader
from discue.api.idempotency import KEY_HEADER, IdempotentResponses, key_in
from discue.api.pagination import require_known, rows_of, shows_data
from discue.api.path_names import PathNames, give_name
from discue.api.pretty import indented, is_pretty
from discue.api.resources.service import MissingPage
from discue.api.route import SMALL_BODY, VERSION, Call, EventStream, RawResponse, Route
from discue.api.router import CompiledRoute, Match, Router
from discue.api.structs import NamedBody
from discue.api.unknown_paths import dashboard_hint, is_of_page, metrics_hint
from discue.domain.errors import (
    BadRequest,
    DiscueError,
    Forbidden,
    NotAcceptable,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from discue.domain.etags import EntityTags, etag_of, parse_etags
from discue.domain.idempotency import idempotency_key
from discue.domain.reservations import LARGE_BYTES, NOTHING, ROW_BYTES, STREAM, Publishes, ReadBound
from discue.domain.trace_context import TRACEPARENT, parse_traceparent, trace_id_of
from discue.http.admission import Admission, Request, RequestIds, base_url, check_request, port_of
from discue.http.body import BodyReader
from discue.http.frame import theme_of
from discue.http.negotiation import (
    EVENTS,
    HTML,
    JSON,
    accepts_gzip,
    asks_for_page,
    is_json,
    negotiate,
    prefers_events,
    prefers_json,
)
from discue.http.problems import headers_of, problem_of
from discue.http.rsgi import Application, ClientGone, HttpHeaders, HttpProtocol, HttpScope
from discue.http.services import Services
from discue.http.sockets import connection_of
from discue.http.unread import SMALL_BYTES, UnreadResponse
from discue.observability.measures import Operation
from discue.store.time_slice import ON_THREAD_BYTES

_encode: Callable[[object], bytes] = msgspec.json.Encoder().encode

_DASHBOARD: Final = "dashboard"
_METRICS: Final = "metrics"
_STARTS: Final = ("/dashboard", "/portal")
"""How paths of pages begin: all others are told by one comparison."""
_OK: Final = 200
_NOT_MODIFIED: Final = 304
_TRIES: Final = 3
_NAMED_ANOTHER: Final = frozenset({404, 422})
"""Statuses of requests for which a name may have come to mean something else."""
_SMALL_DIGITS: Final = 4
"""A Content-Length with this many digits is below every limit."""


class App:
    """The API as an RSGI application."""

    def __init__(
        self,
        services: Services,
        routes: Iterable[Route],
        *,
        body_deadline_seconds: float | None = None,
        pages: Mapping[str, Application] = MappingProxyType({}),
        public_url: str | None = None,
        missing: MissingPage | None = None,
    ) -> None:
        """`body_deadline_seconds` and `public_url` replace the settings. `pages` respond below the path with their
        name: `dashboard`, also to browsers at `/`, and `portal`. `missing` returns the page for browsers at a path of
        the documentation or the dashboard that leads to no page; None: they get an error like other clients.
        """
        settings = services.control.settings
        self._services = services
        self._admission = Admission(services)
        self._find = Router(routes).find
        self._check_capacity = services.control.store.check_capacity
        self._idempotent = IdempotentResponses(services.control.store)
        public_url = public_url or settings.public_url
        self._public_url = public_url.rstrip("/") if public_url else None
        self._pages = pages
        self._missing = missing
        hint = "" if _DASHBOARD in pages else dashboard_hint(settings)
        self._hints: Mapping[str, str] = {_DASHBOARD: hint, _METRICS: metrics_hint(settings)}
        """Errors for paths that a setting would serve, by their first step; empty for none."""
        self._names = PathNames(services.control)
        store = services.control.store
        self._bodies = BodyReader(
            deadline_seconds=body_deadline_seconds or settings.request_body_timeout_seconds,
            max_bytes=settings.max_waiting_bytes,
            is_store_healthy=lambda: store.healthy,
        )
        self._ledger = store.ledger
        self._unread = services.unread
        self._measures = store.measures
        self._logs_requests = settings.log_requests
        self._monotonic = services.control.clock.monotonic
        self._ids = RequestIds(services.control.random_bytes)

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        """Respond to one request. Raises nothing."""
        if (scope.path.startswith(_STARTS) or scope.path == "/") and (
            pages := self._pages.get(_first_step(scope))
        ) is not None:
            await pages.__rsgi__(scope, exchange)
            return
        started = self._monotonic()
        request = Request(scope, exchange, self._ids)
        status = _OK
        try:
            content = await self._respond(request)
            status = request.status
            if len(content) > SMALL_BYTES:
                await self._reserve_response(request, len(content))
            if scope.query_string and is_pretty(request):
                is_large = len(content) > ON_THREAD_BYTES
                # After the entity tag, which is that of the compact body: both are the same version of the resource.
                content = (
                    await asyncio.to_thread(indented, request, content, self._ledger)
                    if is_large
                    else indented(request, content, self._ledger)
                )
        except (ProtocolClosed, ClientGone):
            self._end_read(request)
            return
        except DiscueError as error:
            status, content = error.status, self._problem(request, error)
            if is_pretty(request):
                content = indented(request, content, self._ledger)
            # A frame that raised it may refer to it: in that cycle, the exchange would keep its connection open.
            error.__traceback__ = error.__context__ = None
        except Exception as error:
            self._services.log.error(
                "request_failed", exc_info=error, method=scope.method, path=scope.path, **_identity(request)
            )
            status, content = 500, self._problem(request, DiscueError())
        except BaseException:
            self._end_read(request)
            raise
        self._end_read(request, len(content))
        if request.body_is_left:
            # Before the response: the server closes a connection on which a body is still arriving, and a client that
            # is still sending then sees a reset instead of the response.
            await self._bodies.discard(exchange, scope)
        request.response_headers += self._admission.rate_headers(request)
        unread = await self._send(request, status, content)
        seconds = self._monotonic() - started
        self._count(request.operation, status, seconds)
        if self._logs_requests:
            self._log(request, status, len(content), seconds)
        if unread is not None:
            # The server has a copy of the content, and the body of the request is not needed any more.
            del content, request
            await self._unread.until_read(exchange, unread)

    async def _send(self, request: Request, status: int, content: bytes) -> UnreadResponse | None:
        """Send a response. Returns the response to wait for, or None if it is small or has no body."""
        if request.stream is not None and status == _OK:
            await self._stream(request, request.stream)
        elif len(content) > SMALL_BYTES and request.scope.method != "HEAD" and status != _NOT_MODIFIED:
            return await self._unread.start(
                request.exchange,
                connection_of(request.scope),
                status,
                headers=request.response_headers,
                content=content,
                # A request that has changed something always gets its response.
                reservation=request.reservation or self._ledger.hold(request.principal.organization, len(content)),
            )
        else:
            if request.reservation is not None:
                request.reservation.release()
            _send_at_once(request, status, content)
        return None

    def _count(self, operation: Operation, status: int, seconds: float) -> None:
        counts = self._measures.requests[operation]
        counts[status] = counts.get(status, 0) + 1
        timed = self._measures.request_seconds.get(operation)
        if timed is not None:
            # As `Histogram.observe` does it, without a call for each request.
            timed.counts[bisect_left(timed.bounds, seconds)] += 1
            timed.total += seconds

    async def _reserve_response(self, request: Request, size: int) -> None:
        """Reserve the memory of a response that is larger than what the route reads. Raises Overloaded."""
        reservation = request.reservation
        if reservation is not None and size > reservation.bytes and request.scope.method == "GET":
            await reservation.enlarge(ReadBound(0, size))

    def _end_read(self, request: Request, size: int = 0) -> None:
        """End the read of a request. `size` bytes of its response stay reserved; the memory of its body is released."""
        if request.reservation is not None:
            request.reservation.keep(size)
        if self._bodies.held:
            self._bodies.release()

    async def _stream(self, request: Request, pieces: AsyncGenerator[bytes, None]) -> None:
        try:
            response = request.exchange.response_stream(_OK, request.response_headers)
            with self._unread.window(connection_of(request.scope), request.principal.organization) as window:
                async with aclosing(pieces):
                    async for piece in pieces:
                        await window.send(response, piece)
                await window.finish()
        except (ProtocolClosed, ClientGone):
            return
        except Exception as error:
            # The response has started, so all that can be done is to end it.
            self._services.log.error(
                "stream_failed", exc_info=error, method="GET", path=request.scope.path, **_identity(request)
            )

    async def _respond(self, request: Request) -> bytes:
        found = self._route(request)
        if isinstance(found, DiscueError):
            await self._admission.admit_unrouted(request)
            return await self._missing_page(request, found)
        request.operation = found.route.operation
        # Counting comes before authorization: a valid key without the scope uses its rate limit, too.
        await self._admission.admit(request, needs_key=found.route.row.needs is not None)
        if request.scope.query_string:
            require_known(request.scope.query_string, found.route.parameters)
        if found.has_names:
            return await self._handle_named(request, found)
        try:
            return await self._handle(request, found)
        except (NotFound, Forbidden) as error:
            # Only now, so that an id wins over an alias with the form of one, and costs no lookup.
            other = await self._names.find_lookalikes(request.principal, found)
            if other is None:
                return await self._missing_page(request, error)
        return await self._handle(request, other)

    async def _missing_page(self, request: Request, error: DiscueError) -> bytes:
        """Return the page for a browser that looks for one. Raises the error for all other requests."""
        scope, version, path = request.scope, "", request.scope.path
        if path.startswith(f"{VERSION}/"):
            version, path = VERSION, path.removeprefix(VERSION)
        is_for_page = is_of_page(scope.method, path) and asks_for_page(request.accept)
        if self._missing is None or error.status != NotFound.status or not is_for_page:
            raise error
        # The error about a route is for programs.
        is_for_people = error.code != "no_route" or error.detail == self._hints[_DASHBOARD]
        base = (self._public_url or base_url(scope, request.headers)) + version
        call = Call(
            self._services,
            (),
            base,
            path,
            "",
            request.principal,
            None,
            request.response_headers,
            accepts_gzip=_accepts_gzip(scope),
            theme=theme_of(request.headers),
        )
        found = await self._missing(call, error.detail if is_for_people else "There is no such page.")
        request.status = error.status
        request.response_headers[0] = ("content-type", f"{HTML}; charset=utf-8")
        return found.content

    async def _handle_named(self, request: Request, found: Match) -> bytes:
        """Handle a request whose path has names."""
        method, principal = request.scope.method, request.principal
        named = await self._names.find(principal, found, method)
        for _ in range(_TRIES):
            try:
                return await self._handle(request, named)
            except DiscueError as error:
                # The resource may have been renamed or deleted since, or another request may have created it first.
                if error.status not in _NAMED_ANOTHER:
                    raise
                before, named = named, await self._names.find(principal, found, method, cached=False)
                if named == before and named.missing == error.detail:
                    raise await self._names.missing(principal, found, named) from None
                if named == before:
                    raise
        return await self._handle(request, named)

    async def _reserve(self, request: Request, compiled: CompiledRoute, body_bytes: int = 0) -> None:
        """Reserve what the handler reads, and the time to decode a large body. Raises Overloaded.

        The memory of the body is counted while the body is read.
        """
        # A request with names may be handled twice, with one reservation.
        if request.reservation is not None:
            return
        organization, reads = request.principal.organization, compiled.reads
        is_large = organization and (body_bytes > LARGE_BYTES or compiled.row.events == "many")
        rows = 1 + body_bytes // ROW_BYTES if is_large else 0
        if reads is STREAM:
            # It takes over the reservation of the round that leases its messages.
            request.reservation = self._ledger.hold(organization, 0)
            return
        if isinstance(reads, Publishes):
            bound = ReadBound(rows, 0)
        else:
            query = request.scope.query_string
            bound = reads if isinstance(reads, ReadBound) else reads.of(rows_of(query), with_data=shows_data(query))
            bound = ReadBound(max(rows, bound.rows), bound.bytes)
        if bound != NOTHING:
            request.reservation = await self._ledger.reserve(organization, bound)

    async def _handle(self, request: Request, found: Match) -> bytes:
        scope = request.scope
        compiled, ids = found.route, found.ids
        route = compiled.row
        if route.needs is not None:
            route.needs.check(request.principal, ids)
        if found.missing and (not found.creates_named or "if-match" in request.headers):
            raise NotFound(found.missing)
        if compiled.publishes:
            # Before the body is read: under overload, refusing must be cheap.
            self._ledger.note(request.principal.organization)
            self._check_capacity(request.principal.organization)
        base = (self._public_url or base_url(scope, request.headers)) + found.version
        # Headers are read before the body: a request that is refused for them need not be received.
        given_key = key_in(request.headers) if compiled.creates and KEY_HEADER in request.headers else None
        match = _etags(request.headers, "If-Match") if compiled.changes else None
        body = await (self._body(request, compiled, ids) if compiled.takes_body else self._reserve(request, compiled))
        if found.creates_named and isinstance(body, NamedBody):
            give_name(body, found.name)
        call = Call(
            self._services,
            ids,
            base,
            found.path,
            scope.query_string,
            request.principal,
            body,
            request.response_headers,
            route.query,
            match,
            address=request.address,
            method=scope.method,
            disconnected=request.exchange.client_disconnect,
            prefers_events=_is_event_stream(route, request.accept),
            prefers_json=route.media_type != JSON and route.has_json and prefers_json(request.accept),
            name=found.name,
            accepts_gzip=route.compresses and _accepts_gzip(scope),
            theme=theme_of(request.headers) if route.compresses else "auto",
            port=port_of(scope),
            traceparent=_traceparent(request.headers) if compiled.publishes else None,
            reservation=request.reservation,
        )
        if given_key is not None:
            organization = request.principal.organization
            call.idempotency_key = idempotency_key(
                organization, given_key, scope.method, found.path, body=request.content
            )
            content = await self._idempotent.respond(call, call.idempotency_key, route)
        else:
            response = await route.handler(call)
            if isinstance(response, EventStream):
                call.headers[0] = ("content-type", EVENTS)
                request.stream = response.pieces
                return b""
            if isinstance(response, RawResponse):
                content = response.content
                if route.media_type != JSON:
                    call.headers[0] = ("content-type", _page_type(request.accept, route.media_type))
            else:
                content = _encode(response)
        if call.version and compiled.has_etag:
            # After the content: the second part of an entity tag depends on everything that the response shows.
            is_large = len(content) > ON_THREAD_BYTES
            etag = (
                await asyncio.to_thread(etag_of, call.version, content) if is_large else etag_of(call.version, content)
            )
            # Elsewhere If-None-Match is ignored: the request has taken effect already.
            known = _etags(request.headers, "If-None-Match") if scope.method in {"GET", "HEAD"} else None
            request.response_headers.append(("etag", etag))
            if known is not None and known.matches(etag):
                request.status = _NOT_MODIFIED
        return content

    def _route(self, request: Request) -> Match | DiscueError:
        """Return the route, or the error: the request must be counted before that is raised."""
        scope, headers = request.scope, request.headers
        try:
            check_request(scope, headers)
            found = self._find(scope.method, scope.path)
        except NotFound as error:
            hint = self._hints.get(_first_step(scope))
            return NotFound(hint, code=error.code) if hint else error
        except DiscueError as error:
            return error
        route = found.route.row
        is_refused = negotiate(request.accept) == "nothing" and not _is_event_stream(route, request.accept)
        # The handler of a page first decides whether the page exists: a 404 is JSON whatever the client accepts.
        if is_refused and route.media_type == JSON:
            return NotAcceptable()
        return found

    async def _body(self, request: Request, compiled: CompiledRoute, ids: tuple[str, ...]) -> Any:
        route, headers = compiled.row, request.headers
        length = headers.get("content-length")
        read_events = event_reader(headers, route.events) if route.events is not None else None
        is_supported = read_events is not None or is_json(headers.get("content-type", ""))
        if not is_supported and length is not None and length != "0":
            raise UnsupportedMediaType
        limit = SMALL_BODY
        if isinstance(route.limit, int):
            limit = route.limit
        elif length is None or len(length) > _SMALL_DIGITS:
            # Finding the limit may read the store, which most requests can do without.
            limit = await route.limit(self._services, request.principal, ids)
        request.body_is_left = False
        organization = request.principal.organization
        try:
            # A body can be read only once, and a request with names may be handled twice.
            content = request.received
            if content is None:
                content = await self._bodies.read(request.exchange, headers, limit, organization=organization)
        except PayloadTooLarge as error:
            # A body that is announced as too large is not read. Any other has been: its reader has discarded the rest.
            request.body_is_left = length is not None
            raise PayloadTooLarge(f"{error.detail} {route.way_out(limit)}") from None
        request.received = content
        if content and not is_supported:
            raise UnsupportedMediaType
        # Most requests publish one small message.
        if not compiled.publishes or route.events == "many" or len(content) > LARGE_BYTES:
            await self._reserve(request, compiled, len(content))
        is_large = len(content) > ON_THREAD_BYTES
        if read_events is not None:
            events: EventBody = await asyncio.to_thread(read_events, content) if is_large else read_events(content)
            request.content = events.content
            return events
        request.content = content
        return await asyncio.to_thread(compiled.decode, content) if is_large else compiled.decode(content)

    def _problem(self, request: Request, error: DiscueError) -> bytes:
        request.response_headers = [
            *headers_of(error, negotiate(request.accept)),
            ("x-request-id", request.id),
        ]
        try:
            origin = self._public_url or base_url(request.scope, request.headers)
        except DiscueError:
            # The error may be that the Host header is not a host: its links are relative to the service then.
            origin = ""
        return _encode(problem_of(error, request.id, origin))

    def _log(self, request: Request, status: int, size: int, duration_seconds: float) -> None:
        scope, principal = request.scope, request.principal
        self._services.log.info(
            "request",
            **_identity(request),
            method=scope.method,
            path=scope.path,
            status=status,
            bytes=size,
            took_ms=round(duration_seconds * 1000, 1),
            client=request.address,
            protocol=scope.http_version,
            organization=principal.organization_public_id,
            api_key_id=principal.key_public_id,
        )


def _first_step(scope: HttpScope) -> str:
    """Return the first step of a path. Browsers at `/` are led to the dashboard: clients of the API ask for no HTML."""
    first, _, _ = scope.path[1:].partition("/")
    is_for_page = not first and scope.method == "GET" and HTML in scope.headers.get("accept", "")
    return _DASHBOARD if is_for_page else first


def _is_event_stream(route: Route, accept: str) -> bool:
    return route.streams and prefers_events(accept)


def _page_type(accept: str, media_type: str) -> str:
    """Return the Content-Type of a page. Raises NotAcceptable."""
    if negotiate(accept, media_type) == "nothing":
        raise NotAcceptable(
            "This page is HTML, which the Accept header excludes. Accept `text/html`, or omit the header."
        )
    return f"{media_type}; charset=utf-8"


def _accepts_gzip(scope: HttpScope) -> bool:
    # A client that wants the text indented reads it on a terminal, or compares it.
    return "pretty=" not in scope.query_string and accepts_gzip(scope.headers.get("accept-encoding", ""))


def _etags(headers: HttpHeaders, name: str) -> EntityTags | None:
    """Return the entity tags in a header (RFC 9110, 13). Raises BadRequest if it cannot be parsed."""
    values = headers.get_all(name.lower())
    if not values and name.lower() not in headers:
        return None
    try:
        return parse_etags(",".join(values))
    except ValueError:
        detail = f'The header {name} must be * or a list of entity tags such as "abc", "def".'
        raise BadRequest(detail, code="invalid_header") from None


def _traceparent(headers: HttpHeaders) -> str | None:
    """Return the trace that a request belongs to. A header that occurs twice is as good as malformed."""
    # Most requests have none.
    if TRACEPARENT not in headers:
        return None
    values = headers.get_all(TRACEPARENT)
    return parse_traceparent(values[0]) if len(values) == 1 else None


def _identity(request: Request) -> dict[str, str]:
    """Return the fields of a log line that say which request it is about."""
    traceparent = _traceparent(request.headers)
    known = {"request_id": request.id}
    return known if traceparent is None else {**known, "trace_id": trace_id_of(traceparent)}


def _send_at_once(request: Request, status: int, content: bytes) -> None:
    """Send a response that is small, or has no body."""
    exchange, headers = request.exchange, request.response_headers
    if status == _NOT_MODIFIED:
        exchange.response_empty(status, [line for line in headers if line[0] != "content-type"])
    elif request.scope.method == "HEAD":
        # Granian would send the body over HTTP/2.
        headers.append(("content-length", str(len(content))))
        exchange.response_empty(status, headers)
    else:
        exchange.response_bytes(status, headers, content)
