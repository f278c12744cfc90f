"""The adapter between HTTP and the handlers: the same few steps for every route of the table."""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any

import msgspec
from granian._granian import RSGIProtocolClosed as ProtocolClosed

from discue.api.admission import Admission
from discue.api.body import BodyReader
from discue.api.conditional import if_match, status_of
from discue.api.event_bodies import reader_of
from discue.api.idempotency import IdempotentResponses, key_sent
from discue.api.links import base_of
from discue.api.negotiation import EVENTS, JSON, is_json, negotiate, prefers_events
from discue.api.problems import headers_of, problem_of
from discue.api.request import Request
from discue.api.request_checks import accepted, check_request
from discue.api.route import SMALL_BODY, Call, EventStream, RawResponse, Route
from discue.api.router import CompiledRoute, Match, Router
from discue.api.routes import ROUTES
from discue.api.rsgi import ClientGone, HttpProtocol, HttpScope
from discue.api.services import Services
from discue.domain.errors import DiscueError, NotAcceptable, Overloaded, PayloadTooLarge, UnsupportedMediaType
from discue.domain.idempotency import idempotency_key

_encode: Callable[[object], bytes] = msgspec.json.Encoder().encode

_REQUEST_ID_BYTES = 6
_OK = 200
_NOT_MODIFIED = 304
_SMALL_DIGITS = 4
"""A Content-Length of so many digits is below any limit."""


class InternalError(DiscueError):
    """Something went wrong inside. The request id leads to what is known of it."""


class App:
    """The API as an RSGI application."""

    def __init__(
        self,
        services: Services,
        routes: Iterable[Route] = ROUTES,
        *,
        body_deadline_seconds: float | None = None,
    ) -> None:
        """`body_deadline_seconds` stands in for the setting."""
        settings = services.control.settings
        self._services = services
        self._admission = Admission(services)
        self._find = Router(routes).find
        self._check_room = services.control.store.check_capacity
        self._repetitions = IdempotentResponses(services.control.store)
        self._public_url = settings.public_url.rstrip("/") if settings.public_url else None
        self._bodies = BodyReader(
            deadline_seconds=body_deadline_seconds or settings.request_body_timeout_seconds,
            max_bytes=settings.max_waiting_bytes,
        )
        self._logs_requests = settings.log_requests
        self._monotonic = services.control.clock.monotonic
        self._id_prefix = services.control.random_bytes(_REQUEST_ID_BYTES).hex()
        self._requests = 0

    async def __rsgi__(self, scope: HttpScope, exchange: HttpProtocol) -> None:
        """Answer one request. Raises nothing."""
        began = self._monotonic() if self._logs_requests else 0.0
        request = Request(scope, exchange, self._next_id)
        status = 200
        try:
            content = await self._answer(request)
            status = request.status
        except (ProtocolClosed, ClientGone):
            return
        except DiscueError as error:
            status, content = error.status, self._problem(request, error)
        except Exception as error:
            self._services.log.error(
                "request_failed", exc_info=error, request_id=request.id, method=scope.method, path=scope.path
            )
            status, content = 500, self._problem(request, InternalError())
        if request.body_is_left:
            await self._bodies.discard(exchange, scope)
        request.answer_headers += self._admission.rate_headers(request)
        if request.stream is not None and status == _OK:
            await self._stream(request, request.stream)
        else:
            _send(request, status, content)
        if self._logs_requests:
            self._log(request, status, len(content), self._monotonic() - began)

    async def _stream(self, request: Request, pieces: AsyncGenerator[bytes, None]) -> None:
        try:
            transport = request.exchange.response_stream(_OK, request.answer_headers)
            async with aclosing(pieces):
                async for piece in pieces:
                    await transport.send_bytes(piece)
        except (ProtocolClosed, ClientGone):
            return
        except Exception as error:
            # It has begun: that it ends is all that can be said.
            self._services.log.error(
                "stream_failed", exc_info=error, request_id=request.id, method="GET", path=request.scope.path
            )

    def _next_id(self) -> str:
        self._requests += 1
        return f"{self._id_prefix}-{self._requests:x}"

    async def _answer(self, request: Request) -> bytes:
        scope = request.scope
        found = self._look(request)
        if isinstance(found, DiscueError):
            await self._admission.admit_unrouted(request)
            raise found
        endpoint, ids = found.endpoint, found.ids
        await self._admission.admit(request, needs_key=endpoint.needs is not None)
        if endpoint.needs is not None:
            endpoint.needs.check(request.principal, ids)
        if endpoint.publishes:
            # Refused before it is read, the surplus leaves time for the rest.
            self._check_room()
        base = (self._public_url or base_of(scope, request.headers)) + found.version
        key_text = key_sent(request.headers) if endpoint.creates else None
        match = if_match(request.headers) if endpoint.changes else None
        body = await self._body(request, endpoint, ids) if endpoint.takes_body else None
        call = Call(
            self._services,
            ids,
            base,
            found.path,
            scope.query_string,
            request.principal,
            body,
            request.answer_headers,
            match,
            address=request.address,
            method=scope.method,
            gone=request.exchange.client_disconnect,
            wants_events=_wants_events(endpoint, accepted(request.headers)),
        )
        if key_text is not None:
            organization = request.principal.organization
            call.once = idempotency_key(organization, key_text, scope.method, found.path, request.content)
            content = await self._repetitions.answer(call, call.once, endpoint)
        else:
            answer = await endpoint.handler(call)
            if isinstance(answer, EventStream):
                call.headers[0] = ("content-type", EVENTS)
                request.stream = answer.pieces
                return b""
            content = _content(endpoint, call, answer)
        if call.version and endpoint.has_etag:
            request.status = status_of(request, call.version, content)
        return content

    def _look(self, request: Request) -> Match | DiscueError:
        """Where the request leads, or why it leads nowhere."""
        scope, headers = request.scope, request.headers
        try:
            check_request(scope, headers)
            found = self._find(scope.method, scope.path)
        except DiscueError as error:
            return error
        accept = accepted(headers)
        if negotiate(accept, found.endpoint.media_type) == "nothing" and not _wants_events(found.endpoint, accept):
            return NotAcceptable()
        return found

    async def _body(self, request: Request, endpoint: CompiledRoute, ids: tuple[str, ...]) -> Any:
        headers = request.headers
        announced = headers.get("content-length")
        read = reader_of(headers, endpoint.events) if endpoint.events is not None else None
        says_json = read is not None or is_json(headers.get("content-type", ""))
        if not says_json and announced is not None and announced != "0":
            raise UnsupportedMediaType
        limit = SMALL_BODY
        if endpoint.limit is not None and (announced is None or len(announced) > _SMALL_DIGITS):
            limit = await endpoint.limit(self._services, request.principal, ids)
        request.body_is_left = False
        try:
            content = await self._bodies.read(request.exchange, headers, limit)
        except (PayloadTooLarge, Overloaded):
            # One that comes in pieces can be read once only, and its reader has done this.
            request.body_is_left = announced is not None
            raise
        if content and not says_json:
            raise UnsupportedMediaType
        if read is not None:
            events = read(content)
            request.content = events.content
            return events
        request.content = content
        return endpoint.decode(content)

    def _problem(self, request: Request, error: DiscueError) -> bytes:
        request.answer_headers = [
            *headers_of(error, negotiate(accepted(request.headers))),
            ("x-request-id", request.id),
        ]
        return _encode(problem_of(error, request.id, self._origin(request)))

    def _origin(self, request: Request) -> str:
        """Where this service is; "" when the request does not say."""
        try:
            return self._public_url or base_of(request.scope, request.headers)
        except DiscueError:
            return ""

    def _log(self, request: Request, status: int, size: int, took_seconds: float) -> None:
        scope, principal = request.scope, request.principal
        self._services.log.info(
            "request",
            request_id=request.id,
            method=scope.method,
            path=scope.path,
            status=status,
            bytes=size,
            took_ms=round(took_seconds * 1000, 1),
            client=request.address,
            protocol=scope.http_version,
            organization=principal.organization_public_id,
            api_key_id=principal.key_public_id,
        )


def _wants_events(endpoint: CompiledRoute, accept: str) -> bool:
    return endpoint.streams and prefers_events(accept)


def _content(endpoint: CompiledRoute, call: Call, answer: msgspec.Struct) -> bytes:
    if not isinstance(answer, RawResponse):
        return _encode(answer)
    if endpoint.media_type != JSON:
        call.headers[0] = ("content-type", f"{endpoint.media_type}; charset=utf-8")
    return answer.content


def _send(request: Request, status: int, content: bytes) -> None:
    query = request.scope.query_string
    if query and "pretty=true" in query.split("&") and request.answer_headers[0][1].endswith("json"):
        content = msgspec.json.format(content)
    if status == _NOT_MODIFIED:
        request.exchange.response_empty(status, [line for line in request.answer_headers if line[0] != "content-type"])
    elif request.scope.method == "HEAD":
        # Over HTTP/2 the server would send the body.
        request.answer_headers.append(("content-length", str(len(content))))
        request.exchange.response_empty(status, request.answer_headers)
    else:
        request.exchange.response_bytes(status, request.answer_headers, content)
