"""Routes, and what their handlers receive: one row of the table drives routing, authorization and documentation."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args, get_type_hints

import msgspec

from discue.api.decoding import EventFormat
from discue.api.negotiation import JSON
from discue.api.pagination import Parameter
from discue.api.structs import Body, LinkTarget, NoBody
from discue.auth.authenticator import Authenticator
from discue.auth.rate_limiter import RateLimiter
from discue.control.context import ControlContext
from discue.control.domains import DomainChecker
from discue.control.listener_tests import SampleSender
from discue.control.pulls import Puller
from discue.domain.etags import EntityTags, version_of
from discue.domain.idempotency import IdempotencyKey
from discue.domain.scopes import Access, Principal
from discue.observability.logs import Log
from discue.publishing.publish import Publisher
from discue.store.idempotency import StoredResponse
from discue.store.store import Store

Phase = Literal["starting", "serving", "draining"]
Method = Literal["GET", "POST", "PUT", "DELETE"]
Response = TypeVar("Response", bound=msgspec.Struct)

GET: Final[tuple[Method, ...]] = ("GET",)
POST: Final[tuple[Method, ...]] = ("POST",)
PUT: Final[tuple[Method, ...]] = ("PUT",)
DELETE: Final[tuple[Method, ...]] = ("DELETE",)
CREATE: Final[tuple[Method, ...]] = ("POST", "PUT")
"""Methods that create in a collection. Older clients use `PUT`."""

SMALL_BODY: Final = 65_536
"""Maximum size of a body in bytes, unless the route has a `limit` of its own."""

BATCH_BYTES: Final = 8_388_608
BATCH_MESSAGES: Final = 1_000

ANONYMOUS: Final = Principal(0, "", 0, "", {}, is_operator=False)
"""The principal of a request without a key."""


class Readiness:
    """Whether the worker serves requests. The worker changes `phase` as it starts and stops."""

    def __init__(self, store: Store) -> None:
        self.phase: Phase = "starting"
        self._store = store

    @property
    def obstacle(self) -> str | None:
        """The reason why the service is not ready; None if it is."""
        if self.phase != "serving":
            return f"The service is {self.phase}."
        return None if self._store.healthy else "The database cannot take writes."


@dataclass(frozen=True, slots=True)
class Services:
    """The services that handlers use."""

    control: ControlContext
    publisher: Publisher
    readiness: Readiness
    log: Log
    domain_checks: DomainChecker
    rates: RateLimiter
    authenticator: Authenticator
    samples: SampleSender
    puller: Puller


class Call(msgspec.Struct):
    """A request as its handler sees it: authenticated, authorized, its body decoded."""

    services: Services
    ids: tuple[str, ...]
    """The ids in the path, in order."""
    base: str
    """The URL in front of the resource's path, with the version if the request has one."""
    path: str
    """The path without the version."""
    query: str
    principal: Principal
    body: Any
    headers: list[tuple[str, str]]
    """The headers of the response, to be added to."""
    parameters: tuple[Parameter, ...] = ()
    """The query parameters of the route."""
    match: EntityTags | None = None
    """The `If-Match` header."""
    idempotency_key: IdempotencyKey | None = None
    version: str = ""
    """The version of the resource in the response; empty: the response has no ETag."""
    address: str = ""
    """The client's address."""
    method: str = "GET"
    disconnected: Callable[[], Awaitable[None]] | None = None
    """Returns when the client has disconnected."""
    prefers_events: bool = False
    """Whether the client prefers server-sent events."""

    @property
    def url(self) -> str:
        """The URL of the request, without its query."""
        return self.base + self.path

    @property
    def control(self) -> ControlContext:
        """The control plane. It applies the request's `If-Match` to changes and deletions."""
        control = self.services.control
        return control if self.match is None else replace(control, match=self.match)

    @property
    def listener_path(self) -> tuple[str, str]:
        """The ids of the queue and the listener in the path."""
        return self.ids[0], self.ids[1]

    def item(self, alias: str, public_id: str) -> LinkTarget:
        """Return the link to an item of this collection."""
        return LinkTarget(alias, public_id, f"{self.url}/{public_id}")

    def with_etag(self, stored: msgspec.Struct, response: Response) -> Response:
        """Give the response an ETag: it shows one resource, and all that requests can change of it is `stored`."""
        self.version = version_of(stored)
        return response


class RawResponse(msgspec.Struct, frozen=True):
    """A response that is encoded already, in the media type of its route."""

    content: bytes


class EventStream(msgspec.Struct, frozen=True):
    """A response of server-sent events, until the client disconnects."""

    pieces: AsyncGenerator[bytes, None]


Handler: TypeAlias = Callable[[Call], Awaitable[msgspec.Struct]]
"""Returns the response's struct, a RawResponse or an EventStream."""

BodyLimit: TypeAlias = Callable[[Services, Principal, tuple[str, ...]], Awaitable[int]]
"""Returns the maximum size of a body in bytes, which depends on the ids in the path."""

Repeat: TypeAlias = Callable[[Call, StoredResponse], msgspec.Struct]
"""Recreates the first response from what was stored of it."""


class Needs(msgspec.Struct, frozen=True):
    """The scope that a key needs.

    If the key is restricted to targets, one of the ids in the path must be a target. A path without ids (creation in a
    root collection) needs an unrestricted key. A `listing` accepts every key with the scope; its handler leaves out
    what is not a target.
    """

    resource: str
    access: Access
    listing: bool = False

    def check(self, principal: Principal, ids: tuple[str, ...]) -> None:
        """Raises Forbidden."""
        if self.listing:
            principal.targets_of(self.resource, self.access)
        else:
            principal.require(self.resource, self.access, *ids)


class Route(msgspec.Struct, frozen=True):
    """A row of the table of routes. The docstring of its handler is its summary (first sentence) and description."""

    methods: tuple[Method, ...]
    path: str
    """A template without the version."""
    handler: Handler
    needs: Needs | None
    """None: no key is needed."""
    request: type[Body] = NoBody
    response: type[msgspec.Struct] | None = None
    """The struct of the response, if it is not the return type of the handler."""
    statuses: tuple[int, ...] = ()
    """Statuses that do not follow from the rest of the row."""
    limit: BodyLimit | None = None
    """Asked for bodies that are not small."""
    repeat: Repeat | None = None
    """For routes that store less than their whole response under an idempotency key."""
    publishes: bool = False
    """Whether it is refused before its body is read if too much waits for the store already."""
    events: EventFormat | None = None
    """Accepted CloudEvents, instead of the body."""
    media_type: str = JSON
    """The media type of the response. Anything but JSON is returned as a RawResponse."""
    ignores_idempotency_key: bool = False
    streams: bool = False
    """Whether it can respond with an EventStream."""
    query: tuple[Parameter, ...] = ()
    required: tuple[str, ...] = ()
    """Fields of the body that this route needs although their type makes them optional."""
    required_unless: tuple[str, str] | None = None
    """A field and a value of it with which the `required` fields are forbidden."""
    example: Mapping[str, Any] | None = None
    """A body that works as it is."""

    @property
    def creates(self) -> bool:
        """Whether it accepts an idempotency key."""
        writes = "POST" in self.methods and self.needs is not None and self.needs.access == "write"
        return writes and not self.ignores_idempotency_key

    @property
    def changes(self) -> bool:
        """Whether it accepts `If-Match`: its path names what it changes or deletes."""
        return self.is_single_resource and ("PUT" in self.methods or "DELETE" in self.methods)

    @property
    def is_single_resource(self) -> bool:
        return self.path.endswith("}")

    @property
    def takes_body(self) -> bool:
        return self.request is not NoBody

    @property
    def response_type(self) -> type[msgspec.Struct]:
        returned = self.response or get_type_hints(self.handler)["return"]
        kind: type[msgspec.Struct] = get_args(returned)[0] if get_args(returned) else returned
        return kind

    @property
    def summary(self) -> str:
        """A few words that begin with a verb."""
        return self._documentation.partition(".")[0]

    @property
    def description(self) -> str:
        return self._documentation.partition(".")[2].strip()

    @property
    def _documentation(self) -> str:
        """The docstring of the handler in one line, without the paragraph about errors."""
        paragraphs = inspect.cleandoc(self.handler.__doc__ or "").split("\n\n")
        return " ".join(text.replace("\n", " ") for text in paragraphs if not text.startswith("Raises "))
