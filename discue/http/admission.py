"""Admission of requests: their size, their caller, and the caller's rate limit."""

import re
from collections.abc import AsyncGenerator, Callable
from functools import lru_cache
from typing import Final

import msgspec

from discue.auth.client_ip import subject_of
from discue.auth.control_plane_cache import KeyRecord
from discue.auth.rate_limiter import address_caller
from discue.config.settings import Settings
from discue.domain.errors import (
    BadRequest,
    DiscueError,
    HeadersTooLarge,
    LockedOut,
    Unauthorized,
    Unavailable,
    UriTooLong,
)
from discue.domain.model import Organization
from discue.domain.rate import KEYS_AT_THE_LIMIT, UNLIMITED, RateLimitKey, RateLimitStatus
from discue.domain.scopes import Principal
from discue.http.negotiation import ACCEPT_CHARACTERS, JSON
from discue.http.rsgi import HttpHeaders, HttpProtocol, HttpScope
from discue.http.services import Services
from discue.observability.measures import Operation
from discue.store.ledger import Reservation

URI_CHARACTERS = 8_192
"""Maximum length of the decoded path and the query together."""

HEADER_LINES = 100
HEADER_BYTES = 32_768
_LINE_EXTRA = len(": \r\n")
_SINGLE = ("content-length", "content-type", "host", "x-api-key")

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_CACHED_BASES: Final = 1_024

HOST_MISSING: Final = "An HTTP/1.1 request needs the header Host, with the host of the URL."

ANONYMOUS: Final = Principal(0, "", 0, "", {}, is_operator=False)
"""The principal of a request without a key."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ID_PREFIX_BYTES: Final = 6
_WITH_BODY = frozenset({"POST", "PUT"})

_KEY = "x-api-key"
_HEALTH_CHECKS = frozenset(f"{version}/health/{what}" for version in ("", "/v1") for what in ("live", "ready"))


class RequestIds:
    """The ids of requests: those that clients send, or numbered ids of the service."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._prefix = random_bytes(_ID_PREFIX_BYTES).hex()
        self._requests = 0

    def of(self, headers: HttpHeaders) -> str:
        """Return the `X-Request-Id` of a request if it is well-formed, else a new id."""
        given: str | None = headers.get("x-request-id")
        if given and _REQUEST_ID.fullmatch(given):
            return given
        self._requests += 1
        return f"{self._prefix}-{self._requests:x}"


class Request:
    """A request and what is known of it so far."""

    __slots__ = (
        "accept",
        "address",
        "body_is_left",
        "content",
        "exchange",
        "headers",
        "id",
        "operation",
        "principal",
        "rate_limit",
        "received",
        "record",
        "reservation",
        "response_headers",
        "scope",
        "status",
        "stream",
    )

    def __init__(self, scope: HttpScope, exchange: HttpProtocol, ids: RequestIds) -> None:
        self.scope = scope
        self.exchange = exchange
        self.headers = scope.headers
        self.id = ids.of(self.headers)
        self.response_headers = [("content-type", JSON), ("x-request-id", self.id)]
        accept: str = self.headers.get("accept", "")
        self.accept = ",".join(self.headers.get_all("accept")) if accept else accept
        """The Accept header; several lines are one list."""
        if len(self.accept) > ACCEPT_CHARACTERS:
            self.accept = self.accept[:ACCEPT_CHARACTERS].rpartition(",")[0]
        self.address = ""
        """The client's address."""
        self.operation: Operation = "other"
        self.principal = ANONYMOUS
        self.record: KeyRecord | None = None
        """The caller's key."""
        self.rate_limit: RateLimitStatus | None = None
        """The caller's rate limit, once the request is counted."""
        self.body_is_left = (
            scope.method in _WITH_BODY or "content-length" in self.headers or "transfer-encoding" in self.headers
        )
        """Whether more of the body may arrive that was not read yet."""
        self.received: bytes | None = None
        """The body; None until it is read."""
        self.content = b""
        self.status = 200
        self.stream: AsyncGenerator[bytes, None] | None = None
        self.reservation: Reservation | None = None
        """The reservation of the request, until its client has read the response; None before, and for publishes."""


class Admission:
    """Identifies the caller of each request, and counts the request against its rate limit."""

    def __init__(self, services: Services) -> None:
        control = services.control
        self._rates = services.rates
        self._settings = control.settings
        self._readiness = services.readiness
        self._address_of = services.addresses.of
        self._authenticate = services.authenticator.authenticate

    async def admit(self, request: Request, *, needs_key: bool) -> None:
        """Set the caller of the request.

        Raises Unauthorized, Forbidden and Locked if a key is needed, Unavailable unless the worker is serving, and
        TooManyRequests.
        """
        request.address = self._address_of(request.scope.client, request.headers)
        # Counted before it is refused: otherwise guessing keys would not use up the rate limit of the address.
        refusal = await self._identify(request) if needs_key else None
        await self._count(request)
        if refusal is not None:
            raise refusal

    async def admit_unrouted(self, request: Request) -> None:
        """Count a request for which there is no route. Raises LockedOut and TooManyRequests.

        A key is checked too: failed attempts count everywhere, and a caller that is locked out is told so.
        """
        request.address = self._address_of(request.scope.client, request.headers)
        presents_key = len(request.headers.get_all(_KEY)) == 1
        refusal = await self._identify(request) if presents_key else None
        await self._count(request)
        if isinstance(refusal, LockedOut):
            raise refusal

    def rate_headers(self, request: Request) -> list[tuple[str, str]]:
        """Return the rate limit headers: of the caller, or of its address if the request was not counted."""
        status = request.rate_limit or self._rates.peek(self._address_caller(request))
        return [
            ("x-ratelimit-limit", str(status.limit)),
            ("x-ratelimit-remaining", str(status.remaining)),
            ("x-ratelimit-reset", str(status.reset_at)),
        ]

    async def _count(self, request: Request) -> None:
        """Raises TooManyRequests.

        Unless the worker is serving, requests are counted without reading the store.
        """
        if request.scope.path in _HEALTH_CHECKS:
            self._count_health_check(request)
            return
        record, rates = request.record, self._rates
        together = None
        if record is None:
            caller = self._address_caller(request)
        else:
            caller = rate_limit_key(record.organization, record.principal, self._settings)
            together = key_of_all(caller)
        # `take` may read the budget of all workers from the store, which may be unreadable while the worker starts or
        # drains.
        if self._readiness.phase != "serving":
            request.rate_limit = rates.count(caller)
            return
        request.rate_limit = status = rates.take_now(caller) or await rates.take(caller)
        if status.refused:
            raise rates.refusal(status, "address_rate_limit" if record is None else "rate_limit")
        if together is not None:
            of_all = rates.take_now(together) or await rates.take(together)
            if of_all.remaining < status.remaining or of_all.refused:
                request.rate_limit = msgspec.structs.replace(status, remaining=of_all.remaining)
            if of_all.refused:
                raise rates.refusal(of_all, "rate_limit", "All keys of the organization together may make")

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

    def _address_caller(self, request: Request) -> RateLimitKey:
        return address_caller(subject_of(request.address), self._settings.address_rate_limit)

    async def _identify(self, request: Request) -> DiscueError | None:
        """Return, rather than raise, the authentication error: the request must still be counted."""
        # While the worker starts or drains, the key may not be readable: a valid key must not get a 401.
        phase = self._readiness.phase
        if phase != "serving":
            return Unavailable(f"The service is {phase}. Try again soon.", code="not_ready")
        presented: str = request.headers.get(_KEY, "")
        if not presented:
            return Unauthorized()
        try:
            record = await self._authenticate(presented, request.address)
        except DiscueError as error:
            return error
        request.record, request.principal = record, record.principal
        return None


def base_url(scope: HttpScope, headers: HttpHeaders) -> str:
    """Return the scheme and host that the client used. Raises BadRequest if that is no host."""
    return _base_url(scope.scheme, scope.authority or headers.get("host") or scope.server)


# Bounded: clients choose the Host header.
@lru_cache(_CACHED_BASES)
def _base_url(scheme: str, host: str) -> str:
    if _HOST.fullmatch(host) is None:
        raise BadRequest("The Host header is not a host.", code="invalid_header")
    return f"{scheme}://{host}"


def port_of(scope: HttpScope) -> str:
    """Return the port that the server listens on."""
    return scope.server.rpartition(":")[2]


def check_request(scope: HttpScope, headers: HttpHeaders) -> None:
    """Raises UriTooLong, HeadersTooLarge, and BadRequest for a missing `Host` or a repeated header of `_SINGLE`."""
    if len(scope.path) + len(scope.query_string) > URI_CHARACTERS:
        raise UriTooLong(f"The URL has more than {URI_CHARACTERS} characters.")
    # Names are listed once, values once for each line: more values than names means that a header is repeated.
    names, values = headers.keys(), headers.values()
    lines = len(values)
    size = len("".join(names)) + len("".join(values)) + lines * _LINE_EXTRA
    if lines > HEADER_LINES or size > HEADER_BYTES:
        raise HeadersTooLarge(f"The headers have more than {HEADER_LINES} lines or {HEADER_BYTES} bytes.")
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


def rate_limit_key(organization: Organization, principal: Principal, settings: Settings) -> RateLimitKey:
    """Return what the requests of an API key are counted under, and its limit."""
    default = 0 if principal.is_operator else settings.rate_limit
    limit = organization.settings.get("rate_limit", default)
    # The organization's account, without a call: this runs for each request.
    return RateLimitKey(organization.founder or organization.id, principal.key, limit)


def key_of_all(caller: RateLimitKey) -> RateLimitKey | None:
    """Return what the requests of all callers of an organization are counted under; None without a limit."""
    if not caller.limit:
        return None
    return RateLimitKey(caller.organization, 0, min(caller.limit * KEYS_AT_THE_LIMIT, UNLIMITED))
