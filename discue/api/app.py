"""The API behind the pipeline: routes, bodies, handlers and their responses."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec

from discue.api.decoding import EventBody, event_reader
from discue.api.idempotency import KEY_HEADER, IdempotentResponses, key_in
from discue.api.pagination import require_known, rows_of, shows_data
from discue.api.route import SMALL_BODY, VERSION, Call, EventStream, RawResponse, Route
from discue.api.router import Match, PathNames, Router, give_name
from discue.api.structs import ResourceBody
from discue.config.settings import Settings
from discue.domain.errors import (
    REASONS,
    BadRequest,
    DiscueError,
    Forbidden,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from discue.domain.etags import EntityTags, etag_of, parse_etags
from discue.domain.idempotency import idempotency_key
from discue.domain.json_text import levels_of
from discue.domain.reservations import LARGE_BYTES, NOTHING, ROW_BYTES, STREAM, Publishes, ReadBound
from discue.http.negotiation import (
    EVENTS,
    HTML,
    JSON,
    asks_for_page,
    headers_of,
    is_json,
    negotiate,
    prefers_events,
    problem_of,
)
from discue.http.pipeline import (
    DASHBOARD,
    KEY,
    Admission,
    Request,
    base_url,
    check_request,
    first_step,
    traceparent_of,
)
from discue.http.rsgi import HttpHeaders
from discue.http.services import Services
from discue.store.time_slice import ON_THREAD_BYTES, on_thread_if_large

_encode: Callable[[object], bytes] = msgspec.json.Encoder().encode

_METRICS: Final = "metrics"
_NOT_MODIFIED: Final = 304
_TRIES: Final = 3
_NAMED_ANOTHER: Final = frozenset({404, 422})
"""Statuses of requests for which a name may have come to mean something else."""
_MOST_INDENTED_BYTES: Final = 2_621_440
"""The largest size of an indented response. Larger ones stay compact."""
_SMALL_DIGITS: Final = 4
"""A Content-Length with this many digits is below every limit."""

_WITH_PAGES: Final = ("/docs", "/dashboard")
"""How paths begin that people type, and follow links to."""
_MOST_STEPS: Final = 16
"""Steps in the path of a page. More of them would make every link of the page that is not found longer."""

MissingPage: TypeAlias = Callable[[Call, str], Awaitable[RawResponse]]
"""Returns the page for a path that leads to no page, from what is wrong."""


class App:
    """The API: finds the route of a request, decodes the body, and calls the handler."""

    request_type = Call

    def __init__(
        self,
        services: Services,
        routes: Iterable[Route],
        *,
        public_url: str | None = None,
        missing: MissingPage | None = None,
    ) -> None:
        """`public_url` replaces the setting. `missing` returns the page for a browser that asks for a page of the
        documentation or the dashboard that does not exist. Without it, browsers get the same errors as other clients.
        """
        settings = services.control.settings
        self._services = services
        self._admission = Admission(services)
        self._find = Router(routes).find
        self._check_capacity = services.control.store.check_capacity
        self._idempotent = IdempotentResponses(services.control.store)
        public_url = public_url or settings.public_url
        self._public_url = public_url.rstrip("/") if public_url else None
        self._missing = missing
        hint = "" if services.has_dashboard else dashboard_hint(settings)
        self._hints: Mapping[str, str] = {DASHBOARD: hint, _METRICS: metrics_hint(settings)}
        """Errors for paths that a setting would serve, by their first step; empty for none."""
        self._names = PathNames(services.control)
        self._bodies = services.bodies
        self._ledger = services.control.store.ledger

    async def respond(self, call: Call) -> bytes:
        """Return the content of the response. Raises DiscueError."""
        found = self._route(call)
        if isinstance(found, DiscueError):
            await self._admission.admit(call, needs_key=len(call.headers.get_all(KEY)) == 1, has_route=False)
            return await self._missing_page(call, found)
        call.operation = found.route.operation
        # Counting comes before authorization: a valid key without the scope uses its rate limit, too.
        await self._admission.admit(call, needs_key=found.route.needs is not None)
        if call.scope.query_string:
            require_known(call.scope.query_string, found.route.known_parameters)
        try:
            return await self._handle_found(call, found)
        except NotFound as error:
            if found.ids and error.detail == REASONS["not_found"].meaning:
                raise found.absent() from None
            raise

    async def _handle_found(self, call: Call, found: Match) -> bytes:
        if found.has_names:
            return await self._handle_named(call, found)
        try:
            return await self._handle(call, found)
        except (NotFound, Forbidden) as error:
            # Only now, so that an id wins over an alias with the form of one, and costs no lookup.
            other = await self._names.find_lookalikes(call.principal, found)
            if other is None:
                return await self._missing_page(call, error)
        return await self._handle(call, other)

    async def _missing_page(self, call: Call, error: DiscueError) -> bytes:
        """Return the page for a browser that looks for one. Raises the error for all other requests."""
        scope, version, path = call.scope, "", call.scope.path
        if path.startswith(f"{VERSION}/"):
            version, path = VERSION, path.removeprefix(VERSION)
        is_for_page = (
            scope.method in {"GET", "HEAD"}
            and path.startswith(_WITH_PAGES)
            and path.count("/") <= _MOST_STEPS
            and asks_for_page(call.accept)
        )
        if self._missing is None or not isinstance(error, NotFound) or not is_for_page:
            raise error
        # The error about a route is for programs.
        is_for_people = error.code != "no_route" or error.detail == self._hints[DASHBOARD]
        base = (self._public_url or base_url(scope, call.headers)) + version
        call.ids, call.base, call.path, call.match = (), base, path, None
        found = await self._missing(call, error.detail if is_for_people else "There is no such page.")
        call.status = error.status
        call.response_headers[0] = ("content-type", f"{HTML}; charset=utf-8")
        return found.content

    async def _handle_named(self, call: Call, found: Match) -> bytes:
        method, principal = call.scope.method, call.principal
        named = await self._names.find(principal, found, method)
        for _ in range(_TRIES):
            try:
                return await self._handle(call, named)
            except DiscueError as error:
                # The resource may have been renamed or deleted since, or another request may have created it first.
                if error.status not in _NAMED_ANOTHER:
                    raise
                before, named = named, await self._names.find(principal, found, method, cached=False)
                if named == before and named.missing == error.detail:
                    raise await self._names.missing(principal, found, named) from None
                if named == before:
                    raise
        return await self._handle(call, named)

    async def _reserve(self, call: Call, route: Route, body_bytes: int = 0) -> None:
        """Reserve what the handler reads, and the time to decode a large body. Raises Overloaded.

        The memory of the body is counted while the body is read.
        """
        # A request with names may be handled twice, with one reservation.
        if call.reservation is not None:
            return
        organization, reads = call.principal.organization, route.reads
        is_large = organization and (body_bytes > LARGE_BYTES or route.events == "many")
        rows = 1 + body_bytes // ROW_BYTES if is_large else 0
        if reads is STREAM:
            # It takes over the reservation of the round that leases its messages.
            call.reservation = self._ledger.hold(organization, 0)
            return
        if isinstance(reads, Publishes):
            bound = ReadBound(rows, 0)
        else:
            query = call.scope.query_string
            bound = reads if isinstance(reads, ReadBound) else reads.of(rows_of(query), with_data=shows_data(query))
            bound = ReadBound(max(rows, bound.rows), bound.bytes)
        if bound != NOTHING:
            call.reservation = await self._ledger.reserve(organization, bound)

    async def _handle(self, call: Call, found: Match) -> bytes:
        scope = call.scope
        route, ids = found.route, found.ids
        if route.needs is not None:
            route.needs.check(call.principal, ids)
        if found.missing and (not found.creates_named or "if-match" in call.headers):
            raise NotFound(found.missing)
        if route.publishes:
            # Before the body is read: under overload, refusing must be cheap.
            self._ledger.note(call.principal.organization)
            self._check_capacity(call.principal.organization)
        base = (self._public_url or base_url(scope, call.headers)) + found.version
        # Headers are read before the body: a request that is refused for them need not be received.
        given_key = key_in(call.headers) if route.creates and KEY_HEADER in call.headers else None
        match = _etags(call.headers, "If-Match") if route.changes else None
        body = await (self._body(call, route, ids) if route.takes_body else self._reserve(call, route))
        if found.creates_named and isinstance(body, ResourceBody):
            give_name(body, found.name)
        call.ids, call.base, call.path, call.body = ids, base, found.path, body
        call.parameters, call.match, call.name, call.version = route.query, match, found.name, ""
        call.idempotency_key = None
        call.traceparent = traceparent_of(call.headers) if route.publishes else None
        if given_key is not None:
            organization = call.principal.organization
            call.idempotency_key = idempotency_key(organization, given_key, scope.method, found.path, body=call.content)
            content = await self._idempotent.respond(call, call.idempotency_key, route)
        else:
            response = await route.handler(call)
            if isinstance(response, RawResponse | EventStream):
                content = _content_of(response, call, route)
            else:
                content = _encode(response)
        if call.version and route.has_etag:
            # After the content: the second part of an entity tag depends on everything that the response shows.
            is_large = len(content) > ON_THREAD_BYTES
            etag = (
                await asyncio.to_thread(etag_of, call.version, content) if is_large else etag_of(call.version, content)
            )
            # Elsewhere If-None-Match is ignored: the request has taken effect already.
            known = _etags(call.headers, "If-None-Match") if scope.method in {"GET", "HEAD"} else None
            call.response_headers.append(("etag", etag))
            if known is not None and known.matches(etag):
                call.status = _NOT_MODIFIED
        if scope.query_string and is_pretty(call):
            # After the entity tag, which is that of the compact body: both are the same version of the resource.
            return await on_thread_if_large(len(content), partial(indented, call, content))
        return content

    def _route(self, call: Call) -> Match | DiscueError:
        """Return the route, or the error: the request must be counted before that is raised."""
        scope, headers = call.scope, call.headers
        try:
            check_request(scope, headers)
            found = self._find(scope.method, scope.path)
        except NotFound as error:
            hint = self._hints.get(first_step(scope))
            return NotFound(hint, code=error.code) if hint else error
        except DiscueError as error:
            return error
        route = found.route
        is_stream = route.streams and prefers_events(call.accept)
        is_refused = negotiate(call.accept) == "nothing" and not is_stream
        # The handler of a page first decides whether the page exists: a 404 is JSON whatever the client accepts.
        if is_refused and route.media_type == JSON:
            return DiscueError(code="not_acceptable")
        return found

    async def _body(self, call: Call, route: Route, ids: tuple[str, ...]) -> Any:
        headers = call.headers
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
            limit = await route.limit(self._services, call.principal, ids)
        call.body_is_left = False
        organization = call.principal.organization
        try:
            # A body can be read only once, and a request with names may be handled twice.
            content = call.received
            if content is None:
                content = await self._bodies.read(call.exchange, headers, limit, organization=organization)
        except PayloadTooLarge as error:
            # A body that is announced as too large is not read. Any other has been: its reader has discarded the rest.
            call.body_is_left = length is not None
            raise PayloadTooLarge(f"{error.detail} {route.way_out(limit)}") from None
        call.received = content
        if content and not is_supported:
            raise UnsupportedMediaType
        # Most requests publish one small message.
        if not route.publishes or route.events == "many" or len(content) > LARGE_BYTES:
            await self._reserve(call, route, len(content))
        is_large = len(content) > ON_THREAD_BYTES
        if read_events is not None:
            events: EventBody = await asyncio.to_thread(read_events, content) if is_large else read_events(content)
            call.content = events.content
            return events
        call.content = content
        return await asyncio.to_thread(route.decode, content) if is_large else route.decode(content)

    def problem(self, call: Call, error: DiscueError) -> bytes:
        """Return the content of an error, as JSON or as a problem document."""
        call.response_headers = [
            *headers_of(error, negotiate(call.accept)),
            ("x-request-id", call.id),
        ]
        try:
            origin = self._public_url or base_url(call.scope, call.headers)
        except DiscueError:
            # The error may be that the Host header is not a host: its links are relative to the service then.
            origin = ""
        content = _encode(problem_of(error, call.id, origin))
        return indented(call, content) if is_pretty(call) else content


def is_pretty(request: Request) -> bool:
    """Return whether the client asks for an indented response, and the response is JSON."""
    query = request.scope.query_string
    return "pretty=true" in query.split("&") and request.response_headers[0][1].endswith("json")


def indented(request: Request, content: bytes) -> bytes:
    """Return the content of a response, indented if that is small, or if the read has reserved the memory for it."""
    if len(content) > _MOST_INDENTED_BYTES:
        return content
    # Data of a message can be nested so deeply that each of its values begins with hundreds of spaces.
    lines = content.count(b",") + 2 * (content.count(b"{") + content.count(b"["))
    # A line adds its end, its indentation and the space after a name.
    size = len(content) + lines * (2 + 2 * levels_of(content))
    reserved = 0 if request.reservation is None else request.reservation.bytes
    if size > min(max(reserved, ON_THREAD_BYTES), _MOST_INDENTED_BYTES):
        return content
    try:
        return msgspec.json.format(content)
    except RecursionError:
        # Data of a message can be nested that deeply.
        return content


def dashboard_hint(settings: Settings) -> str:
    """Return the error for requests to the dashboard on the port of the API; "" unless it has a port of its own."""
    if settings.dashboard_port is None or not settings.dashboard or settings.role == "dispatch":
        return ""
    if settings.dashboard_url is None:
        # Clients of the API need not know the address that the dashboard listens on.
        return "The dashboard has a port of its own: the setting `dashboard_port` says which."
    return f"The dashboard is at {settings.dashboard_url.rstrip('/')}/dashboard."


def metrics_hint(settings: Settings) -> str:
    """Return the error for requests for metrics on the port of the API; "" if that port serves them."""
    if settings.metrics_port is not None:
        return "The metrics have a port of their own: the setting `metrics_port` says which."
    if settings.metrics_key:
        return ""
    return "No metrics are served. Set `metrics_key` or `metrics_port`."


def _content_of(response: RawResponse | EventStream, call: Call, route: Route) -> bytes:
    """Return the content of a response that is encoded already, and set its Content-Type.

    Raises DiscueError if the client does not accept it.
    """
    if isinstance(response, EventStream):
        call.response_headers[0] = ("content-type", EVENTS)
        call.stream = response.pieces
        return b""
    if route.media_type != JSON:
        if negotiate(call.accept, route.media_type) == "nothing":
            detail = "This page is HTML, which the Accept header excludes. Accept `text/html`, or omit the header."
            raise DiscueError(detail, code="not_acceptable")
        call.response_headers[0] = ("content-type", f"{route.media_type}; charset=utf-8")
    return response.content


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
