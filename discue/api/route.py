"""Routes, and what their handlers receive and return.

One row of the table of routes drives routing, authorization and documentation.
"""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, get_args, get_type_hints

import msgspec

from discue.api.decoding import BodyDecoder, EventFormat
from discue.api.pagination import PRETTY, Parameter, read_parameters
from discue.api.structs import Body, Link, Links, NoBody, names_given
from discue.control.context import ControlContext
from discue.domain.etags import EntityTags
from discue.domain.idempotency import IdempotencyKey
from discue.domain.message_data import LONGEST_ESCAPE, Codec, most_bytes_as_sent
from discue.domain.reservations import SMALL_READ_BYTES, ReadBound, Reads
from discue.domain.scopes import Access, Principal
from discue.http.negotiation import JSON
from discue.http.pipeline import Request, port_of
from discue.http.services import Services
from discue.observability.metrics import Operation
from discue.store.aliases import NAMED_KINDS, NamedKind
from discue.store.idempotency import StoredResponse

Method = Literal["GET", "POST", "PUT", "DELETE"]

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

VERSION: Final = "/v1"
"""The version that paths may begin with."""

NAMED: Final[Mapping[str, NamedKind]] = {f"{{{kind}_id}}": kind for kind in NAMED_KINDS}
"""The steps in braces for which the alias of the resource can stand, too."""


def body_limit(data_bytes: int) -> int:
    """Return the maximum size of a body with data of at most this size, if every character of it is escaped."""
    return data_bytes * LONGEST_ESCAPE + SMALL_BODY


class Call(Request):
    """A request to the API. Its handler gets it authenticated, authorized, and with its body decoded."""

    __slots__ = (
        "base",
        "body",
        "idempotency_key",
        "ids",
        "match",
        "name",
        "parameters",
        "path",
        "traceparent",
        "version",
    )

    ids: tuple[str, ...]
    """The ids in the path, in order."""
    base: str
    """The URL in front of the resource's path, with the version if the request has one."""
    path: str
    """The path without the version."""
    body: Any
    parameters: tuple[Parameter, ...]
    """The query parameters of the route."""
    match: EntityTags | None
    """The `If-Match` header."""
    idempotency_key: IdempotencyKey | None
    version: str
    """The version of the resource in the response; empty: the response has no ETag."""
    name: str
    """The alias in the path of the queue or topic that the request publishes to; empty if there is its id."""
    traceparent: str | None
    """The trace that a publish belongs to, as `parse_traceparent` returns it; None for other requests."""

    @property
    def given(self) -> dict[str, Any]:
        """The value of each query parameter that was given, or else its default or None. Raises BadRequest."""
        return read_parameters(self.scope.query_string, self.parameters)

    async def reserve_data(self, size: int, codec: Codec) -> None:
        """Reserve a read of data and the response that shows it. Raises Overloaded."""
        if size > SMALL_READ_BYTES and self.reservation is not None:
            await self.reservation.enlarge(ReadBound.of_data(size, most_bytes_as_sent(size, codec)))

    @property
    def url(self) -> str:
        """The URL of the request, without its query."""
        return self.base + self.path

    @property
    def root(self) -> str:
        """The URL in front of the paths of pages, which have no version."""
        return self.base.removesuffix(VERSION)

    @property
    def sent_root(self) -> str:
        """The root of URLs for other people. The client's `Host` must not decide where a link with a secret leads."""
        return self.control.settings.service_url_on(port_of(self.scope))

    @property
    def control(self) -> ControlContext:
        """The control plane. It applies the request's `If-Match` to changes and deletions."""
        # Most requests have no If-Match, and share one control plane.
        control = self.services.control
        return control if self.match is None else replace(control, match=self.match)

    def url_of(self, public_id: str) -> str:
        """Return the URL of the resource that the request names, or of one in the collection that it names."""
        url = self.base + self.path
        # A request names the resource that it shows, or, to create it, the collection that it will be in.
        return url if public_id in self.ids else f"{url}/{public_id}"

    def links(self, public_id: str | None = None) -> Links:
        """Return the links of a response without sub-resources, to `url_of` the given id or to the request's URL."""
        return {"self": Link(self.url if public_id is None else self.url_of(public_id))}

    def names(self) -> tuple[str | None, str | None]:
        """Return the names in the body. null resets the alias of an existing resource to its id."""
        given, body = names_given(self.body), self.body
        # A new resource without a name gets its id as the alias anyway. An existing one would keep its alias.
        if given == (None, None) and None in (body.alias, body.name) and self.ids and self.path.endswith(self.ids[-1]):
            return self.ids[-1], None
        return given


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
    reads: str = ""
    """Another resource that the key must be able to read, with the same targets; empty: none."""

    @classmethod
    def of(cls, resource: str) -> tuple["Needs", "Needs", "Needs"]:
        """Return the scopes to read a resource, to list what a key may read, and to write."""
        return cls(resource, "read"), cls(resource, "read", listing=True), cls(resource, "write")

    def check(self, principal: Principal, ids: tuple[str, ...]) -> None:
        """Raises Forbidden."""
        if self.listing:
            principal.targets_of(self.resource, self.access)
        else:
            principal.require(self.resource, self.access, *ids)
            if self.reads:
                principal.require(self.reads, "read", *ids)


@dataclass(eq=False)
class Route:
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
    _: KW_ONLY
    reads: Reads
    """The reservation of each request, made before it reads: see docs/architecture/event-loop-limits.md."""
    codes: tuple[str, ...] = ()
    """Codes of errors that do not follow from the rest of the row."""
    limit: BodyLimit | int = SMALL_BODY
    """The maximum size of a body in bytes. Asked for bodies that are not small."""
    repeat: Repeat | None = None
    """For routes that store less than their whole response under an idempotency key."""
    events: EventFormat | None = None
    """For routes that publish: the CloudEvents that they accept instead of the body."""
    media_type: str = JSON
    """The media type of the response. A handler returns anything but JSON as a RawResponse. With `response`, clients
    that prefer JSON get that struct."""
    ignores_idempotency_key: bool = False
    streams: bool = False
    """Whether it can respond with an EventStream."""
    query: tuple[Parameter, ...] = ()
    required: tuple[str, ...] = ()
    """Fields of the body that this route needs although their type makes them optional."""
    required_unless: tuple[str, str] | None = None
    """A field and a value of it with which the `required` fields are forbidden."""
    required_either: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields of the body of which this route needs exactly one, each with the schema of a value that counts as sent."""
    example: Mapping[str, Any] | None = None
    """A body that works as it is, unless the example of the body's struct does."""

    def __post_init__(self) -> None:
        # Computed once: each request reads these.
        writes = "POST" in self.methods and self.needs is not None and self.needs.access == "write"
        self.creates = writes and not self.ignores_idempotency_key
        """Whether it accepts an idempotency key."""
        is_single_resource = self.path.endswith("}")
        self.changes = is_single_resource and ("PUT" in self.methods or "DELETE" in self.methods)
        """Whether it accepts `If-Match`: its path names what it changes or deletes."""
        self.has_etag = is_single_resource or self.creates
        self.publishes = self.events is not None
        """Whether it is refused before its body is read if too much waits for the store already."""
        self.operation = self._operation()
        """The kind of its requests in the metrics."""
        self.takes_body = self.request is not NoBody
        self.decode = BodyDecoder[Body](self.request).decode
        self.known_parameters = frozenset({PRETTY.name, *(parameter.name for parameter in self.query)})
        self.kinds = tuple(NAMED.get(step) for step in self.path.split("/") if step.startswith("{"))
        """The kind of each step in braces; None if only ids can stand there."""

    def _operation(self) -> Operation:
        if self.needs is None:
            return "other"
        if self.publishes:
            return "publish"
        if self.streams:
            return "pull"
        return "read" if self.methods == GET else "change"

    def path_of(self, ids: Sequence[str]) -> str:
        """Return the path of a request that names its resources by these ids."""
        left = iter(ids)
        return "/".join(next(left) if step.startswith("{") else step for step in self.path.split("/"))

    def way_out(self, limit: int) -> str:
        """Return a sentence that says how to send less, or how to allow more, if a body exceeds the limit."""
        if self.events == "many":
            return "Send several requests."
        if isinstance(self.limit, int):
            return "Send less."
        most = (limit - SMALL_BODY) // LONGEST_ESCAPE
        return f"A message may have {most} bytes of data: raise `max_message_bytes` of its queue to allow more."

    @property
    def has_json(self) -> bool:
        """Whether its response is JSON, or can be."""
        return self.media_type == JSON or self.response is not None

    @property
    def request_example(self) -> Mapping[str, Any]:
        """A body that works as it is; empty if there is none."""
        return self.request.sample if self.example is None else self.example

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
