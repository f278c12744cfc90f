"""What a route is: one row of the table from which routing, authorisation and documentation follow."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import msgspec

from discue.api.bodies import Body, Nothing
from discue.api.event_bodies import Takes
from discue.api.negotiation import JSON
from discue.api.parameters import Parameter
from discue.domain.etags import EntityTags, version_of
from discue.domain.idempotency import IdempotencyKey
from discue.domain.scopes import Access, Principal
from discue.store.idempotency import StoredResponse

if TYPE_CHECKING:
    from discue.api.services import Services
    from discue.control.context import ControlContext

Gone: TypeAlias = Callable[[], Awaitable[None]]

Shown = TypeVar("Shown", bound=msgspec.Struct)

Method = Literal["GET", "POST", "PUT", "DELETE"]

CREATE: tuple[Method, ...] = ("POST", "PUT")
"""What creates in a collection: older clients put."""

NOBODY = Principal(0, "", 0, "", {}, is_operator=False)
"""Who calls a route that needs no key."""


class Call(msgspec.Struct):
    """One request as a handler sees it: authenticated, authorised, its body decoded.

    `ids` are those in the path, in order. `base` is the URL before the resource's path, with the version
    if the request had one; `path` is the path without it. `headers` are those of the response, to be added to.
    `match` is what the request's If-Match asks for, `once` its idempotency key, `address` the client's. `version` is
    that of the single resource that is shown; without one the response has no ETag. `gone` returns
    when the client has gone away.
    """

    services: "Services"
    ids: tuple[str, ...]
    base: str
    path: str
    query: str
    principal: Principal
    body: Any
    headers: list[tuple[str, str]]
    match: EntityTags | None = None
    once: IdempotencyKey | None = None
    version: str = ""
    address: str = ""
    method: str = "GET"
    gone: Gone | None = None
    wants_events: bool = False

    @property
    def url(self) -> str:
        """Where the request went, without its query."""
        return self.base + self.path

    @property
    def control(self) -> "ControlContext":
        """The control plane for this request: changes and deletions are bound to its If-Match."""
        control = self.services.control
        return control if self.match is None else replace(control, match=self.match)

    def with_etag(self, stored: msgspec.Struct, answer: Shown) -> Shown:
        """The answer, which then has an ETag: it shows one stored thing, and nothing but that can be changed of it."""
        self.version = version_of(stored)
        return answer


class RawResponse(msgspec.Struct, frozen=True):
    """An answer that is there as bytes already. It is sent with the media type of its route."""

    content: bytes


class EventStream(msgspec.Struct, frozen=True):
    """An answer of server-sent events, in pieces that come one after another until the client goes away."""

    pieces: AsyncGenerator[bytes, None]


Handler: TypeAlias = Callable[[Call], Awaitable[msgspec.Struct]]
"""Answers with the response's struct, with a Page, or where that is wanted with a Stream."""

Limit: TypeAlias = Callable[["Services", Principal, tuple[str, ...]], Awaitable[int]]
"""How many bytes a body can have, where that depends on what the path names."""

Repeat: TypeAlias = Callable[[Call, StoredResponse], msgspec.Struct]
"""Makes the first answer again from what was kept of it."""

SMALL_BODY = 65_536


class Needs(msgspec.Struct, frozen=True):
    """The scope that a key must have.

    A key that is confined to targets must have one of the path's ids among them, and where the path has
    none (something is created in a root collection) must not be confined. A `listing` is open to every
    key with the scope: its handler leaves out what the targets do not cover.
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


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One row: `path` is a template without a version, `needs` is None where no key is needed.

    `statuses` are those beyond the ones that follow from the rest of the row. `limit` is asked for bodies that are
    not small. `repeat` is for what creates and keeps less than its whole answer under an idempotency key. What
    `publishes` is refused before its body is read when too much waits for the store already.
    `events`: whether it takes CloudEvents in place of its body.
    `media_type` is that of the answer; where it is not JSON, the handler answers with a Page. One that
    `keeps_nothing` takes no idempotency key. One that `streams` answers with a Stream whoever wants that.

    The rest is for the documentation. Every row needs a `summary` (a few words that begin with a verb), one
    that takes a body an `example` of it that works as it stands, one whose query is read the parameters of that
    (`query`; PAGES for a list). `required` are fields that are missing only at the cost of a 400, though the
    type of the request does not say so; `required_unless` is a field, and a value of it with which they cannot be there
    at all. New fields of requests and responses are described in `field_rules`.
    """

    methods: tuple[Method, ...]
    path: str
    handler: Handler
    response: type[msgspec.Struct]
    needs: Needs | None
    request: type[Body] = Nothing
    statuses: tuple[int, ...] = ()
    limit: Limit | None = None
    repeat: Repeat | None = None
    publishes: bool = False
    events: Takes | None = None
    media_type: str = JSON
    ignores_idempotency_key: bool = False
    streams: bool = False
    summary: str = ""
    description: str = ""
    query: tuple[Parameter, ...] = ()
    required: tuple[str, ...] = ()
    required_unless: tuple[str, str] | None = None
    example: Mapping[str, Any] | None = None

    @property
    def creates(self) -> bool:
        """Whether it takes an idempotency key, which is an organization's. What needs to read alone keeps nothing."""
        writes = "POST" in self.methods and self.needs is not None and self.needs.access == "write"
        return writes and not self.ignores_idempotency_key

    @property
    def changes(self) -> bool:
        """Whether it takes an If-Match: its path names what it changes or deletes."""
        return self.is_single_resource and ("PUT" in self.methods or "DELETE" in self.methods)

    @property
    def is_single_resource(self) -> bool:
        """Whether it is about a single resource."""
        return self.path.endswith("}")

    @property
    def takes_body(self) -> bool:
        return self.request is not Nothing
