"""`POST /in/{source_id}`: receives the webhooks of other services. Needs no API key, because requests are signed."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Final

import msgspec

from discue.auth.client_ip import subject_of
from discue.auth.control_plane_cache import QueueRecord
from discue.auth.rate_limiter import RateLimiter
from discue.control import encryption
from discue.control.context import require_found
from discue.domain.errors import DiscueError, Locked, MethodNotAllowed, NotFound, Unauthorized, Unprocessable
from discue.domain.headers import Headers
from discue.domain.ids import is_public_id
from discue.domain.model import Organization, RefusedRequest, WebhookSource
from discue.domain.rate import RateLimitKey
from discue.http.negotiation import headers_of, problem_of
from discue.http.pipeline import SOURCES, Admission, Request, base_url, check_request
from discue.http.rsgi import HttpHeaders
from discue.http.services import Services
from discue.publishing.sources import ReceivedMessage, publish_received, received
from discue.store import organizations, sources, tallies
from discue.store.engine import Transaction
from discue.store.time_slice import on_thread_if_large

_names_secret: Final = re.compile("auth|cookie|key|password|secret|token").search
"""Whether a header may be a credential, by its name. GitLab and others send their secret itself: `X-Gitlab-Token`."""
_KEPT_CHARACTERS: Final = 2_048
"""Characters of the headers of a refused request that are kept."""


class IncomingSite:
    """Verifies the requests to sources, and publishes them.

    A verified request counts against the rate limit of its source, any other against that of its address, whatever is
    wrong with it: strangers who know the id of a source use up neither its limit nor that of another tenant. Bodies of
    one organization's sources share a separate budget, of which each address can use a part.
    """

    request_type = Request

    def __init__(self, services: Services) -> None:
        control = services.control
        self._services = services
        self._control = control
        self._cache = control.cache
        self._store = control.store
        self._admission = Admission(services)
        self._rates: RateLimiter = services.rates

    async def respond(self, request: Request) -> bytes:
        """Return the response, once the message is durable. Raises DiscueError."""
        readiness = self._services.readiness
        if readiness.phase != "serving":
            raise readiness.refusal()
        self._admission.require_budget(request)
        try:
            source, owner, queue, given = await self._verified(request)
        except DiscueError:
            await self._admission.count_address(request)
            raise
        self._store.ledger.note(source.organization)
        await self._count(request, source, owner)
        try:
            stored = await publish_received(self._services.publisher, queue, source, given)
        except Unprocessable as error:
            self._note(source, request, error)
            raise
        self._store.measures.source_requests["repeated" if stored.is_repeated else "stored"] += 1
        return msgspec.json.encode({"message": {"id": stored.message_id}, "repeated": stored.is_repeated})

    async def _verified(self, request: Request) -> tuple[WebhookSource, Organization, QueueRecord, ReceivedMessage]:
        """Return the source that the path names, its owner and queue, and the message. Raises DiscueError."""
        check_request(request.scope, request.headers)
        public_id = request.scope.path.removeprefix(f"/{SOURCES}/")
        if not is_public_id(public_id):
            raise NotFound
        # Not cached: another worker may just have deleted the source, or replaced its secrets.
        source, owner = await self._store.read(partial(_read_source, public_id=public_id))
        if request.scope.method != "POST":
            raise MethodNotAllowed(allow=("POST",))
        if owner.state != "active":
            raise Locked
        queue = await self._cache.queue(source.organization, source.queue_public_id)
        # Before the body is read: under overload, refusing must be cheap.
        self._store.check_capacity(source.organization)
        request.body_is_left = False
        body = await self._services.bodies.read(
            request.exchange,
            request.headers,
            queue.max_message_bytes,
            organization=source.organization,
            stranger=subject_of(request.address),
        )
        now = self._control.clock.now()
        secrets = encryption.source_secrets(self._control, source)
        lines = _lines(request.headers)
        work = partial(received, source, secrets, request.headers, lines, body=body, now=now)
        try:
            given = await on_thread_if_large(len(body), work)
        except Unauthorized as error:
            self._note(source, request, error)
            raise
        return source, owner, queue, given

    def _note(self, source: WebhookSource, request: Request, error: DiscueError) -> None:
        """Record a refused request for the owner, who must change something before a repeated one succeeds."""
        self._store.measures.source_requests[error.code] += 1
        request_id, now = self._control.public_ids.next(), self._control.clock.now()
        refused = RefusedRequest(request_id, error.code, error.detail, now, _kept(_lines(request.headers)))
        self._store.refusals.note(source.public_id, refused)

    def problem(self, request: Request, error: DiscueError) -> bytes:
        request.response_headers = [*headers_of(error, "json"), ("x-request-id", request.id)]
        try:
            origin = self._control.settings.public_url or base_url(request.scope, request.headers)
        except DiscueError:
            # The error may be that the Host header is not a host.
            origin = ""
        return msgspec.json.encode(problem_of(error, request.id, origin.rstrip("/")))

    async def _count(self, request: Request, source: WebhookSource, owner: Organization) -> None:
        """Count a verified request against the limit of its source. Raises TooManyRequests."""
        default = self._control.settings.rate_limit
        limit = owner.settings.get("rate_limit", 0 if owner.is_operator else default)
        caller = RateLimitKey(owner.account, _number_of(source), limit)
        request.rate_limit = status = self._rates.take_now(caller) or await self._rates.take(caller)
        if status.refused:
            raise self._rates.refusal(status, "rate_limit")


async def _read_source(tx: Transaction, public_id: str) -> tuple[WebhookSource, Organization]:
    source = require_found(await sources.by_public_id(tx, public_id))
    return source, require_found(await organizations.get(tx, source.organization))


def _number_of(source: WebhookSource) -> int:
    return tallies.number_of(f"source {source.public_id}")


def _lines(headers: HttpHeaders) -> Iterator[tuple[str, str]]:
    for name in headers.keys():  # noqa: SIM118 - it is not a mapping
        for value in headers.get_all(name)[:1]:
            yield name, value


def _kept(lines: Iterator[tuple[str, str]]) -> Headers:
    """Return the headers of a refused request that are kept: without credentials, which may belong to a user."""
    kept, left = [], _KEPT_CHARACTERS
    for name, value in lines:
        left -= len(name)
        if left > 0 and _names_secret(name) is None:
            kept.append((name, value[:left]))
            left -= len(value)
    return tuple(kept)
