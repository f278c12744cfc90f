"""Structs that request and response bodies are built from, and how their fields are documented.

A field is described where it is declared: `Annotated[int, doc("Messages per second.", 100, minimum=1)]`. The OpenAPI
document is derived from these annotations.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from discue.domain.clock import LAST_INSTANT
from discue.domain.errors import invalid

B = TypeVar("B", bound="Body")

Text: TypeAlias = str | None | UnsetType
Integer: TypeAlias = int | None | UnsetType
Flag: TypeAlias = bool | None | UnsetType

AsSent: TypeAlias = msgspec.Raw
"""A value that is kept as the client wrote it. Empty if it was not sent."""

READ_ONLY: Final = "Read-only: ignored in requests."

# No JSON is empty, so this cannot be mistaken for anything that a client sends, null included.
NOT_SENT: Final = msgspec.Raw()

INSTANT: Final = {"minimum": 0, "maximum": LAST_INSTANT}
PUBLIC_ID: Final = "^[0-9A-Za-z]{21}$"
SCHEMA_ID: Final = "^[0-9a-f]{64}$"
PAGE_NAME: Final = "^[a-z][a-z_-]{0,63}$"
ERROR_CODE: Final = "^[a-z_]{1,64}$"

EXAMPLE_IDS: Final[Mapping[str, str]] = {
    "organization_id": "0VbuJFS900Mq2Zk4ExGp8",
    "api_key_id": "0VbuJFSC00bYtW1nQhRk7",
    "queue_id": "0VbuJFSo00H8Lq7zazFOL",
    "listener_id": "0VbuJFSq00EIoG6UqhRtU",
    "secret_id": "0VbuJFSr00Wd4Tn9kLxEe",
    "message_id": "0VbuJFW500I0yWwoGXXf6",
    "user_id": "0VbuJFSt00rT5Kd9wNqXc",
    "domain_id": "0VbuJFSx00Gv3Jm8yPzBa",
    "topic_id": "0VbuJFSm00Tq3Nd7vRwYh",
    "channel_id": "0VbuJFSn00Cm5Xs1kZpBj",
    "event_type_id": "0VbuJFSo00Et5Yp2qRwXs",
    "source_id": "0VbuJFSp00Sr6Zq3rSxYt",
    "attempt_id": "0VbuJFNC00000000000Ju",
    "schedule_id": "0VbuJFSy00Kp3Vn6tDxQm",
    "redelivery_id": "0VbuJFSr00mWc2Xv8TqLd",
    "replay_id": "0VbuJFSr008x0dWq5LmTs",
    "erasure_id": "0VbuJFSr00Er4Sx9TqLwZ",
    "portal_session_id": "0VbuJFSz00Pq7Rt3sVxYb",
    "schema_id": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}
"""Ids for examples, by the name that they have in paths."""


MISSED_GROUP: Final = "0LygHAWm4JB5TP7dkRhqTm"
"""The id of a group of missed messages, for examples."""


def doc(description: str, example: object = UNSET, **limits: Any) -> Meta:
    """Describe a field. `limits` are keywords of JSON Schema.

    They are documentation only: decoding checks types (400), and the code that uses a field checks its limits (422).
    """
    return Meta(description=description, examples=None if example is UNSET else [example], extra_json_schema=limits)


def instant_doc(description: str, example: int = 1_795_536_280_000) -> Meta:
    """Describe a time. The unit is inserted before the first punctuation of the description."""
    end = len(re.split("[;:.]", description, maxsplit=1)[0])
    return doc(f"{description[:end]}, in milliseconds since the epoch{description[end:]}.", example, **INSTANT)


def id_doc(kind: str, description: str = "The id, assigned at creation.") -> Meta:
    """Describe the public id of a resource. `kind` is its name in `EXAMPLE_IDS`."""
    return doc(description, EXAMPLE_IDS[kind], pattern=PUBLIC_ID)


def within(bounds: range) -> dict[str, int]:
    """Return the range as limits of a field."""
    return {"minimum": bounds.start, "maximum": bounds.stop - 1}


ALIAS_PATTERN: Final = "^[A-Za-z0-9._/-]{1,64}$"
ALIAS: Final = doc("The unique name. Default: the id.", "orders", pattern=ALIAS_PATTERN)
NAME: Final = doc("A synonym of `alias`.", "orders", pattern=ALIAS_PATTERN)
SECRET: Final = {"pattern": "^whsec_[A-Za-z0-9+/]+=*$"}
SECRET_EXAMPLE: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - not in use anywhere
STATUS: Final = doc("Whether it is in use.", "enabled", enum=["enabled", "disabled"])
QUEUE_ID: Final = id_doc("queue_id", "The id of the queue.")
LISTENER_ID: Final = id_doc("listener_id", "The id of the listener.")


class Body(msgspec.Struct, forbid_unknown_fields=True, rename={"links": "_links"}, kw_only=True):
    """The body of a request."""

    opaque_fields: ClassVar[tuple[str, ...]] = ()
    """Fields with values of the client's own, which may hold any JSON."""
    exactly_one: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Fields of which exactly one must be sent, each with the schema of a value that counts as sent."""
    sample: ClassVar[Mapping[str, Any]] = {}
    """A body that works as it is."""

    def least_bytes(self) -> int:
        """Return a lower bound of the length of the JSON that this was decoded from; 0 if unknown."""
        return 0

    def opaque(self) -> Sequence[msgspec.Raw]:
        """Return the values of the opaque fields, in the order in which they were sent."""
        return [getattr(self, name) for name in self.opaque_fields]


def read_only(*names: str) -> Callable[[type[B]], type[B]]:
    """Let clients send back fields of responses: requests may have them, and they are ignored."""
    fields = [(name, Annotated[msgspec.Raw, Meta(description=READ_ONLY)], NOT_SENT) for name in names]

    def extend(kind: type[B]) -> type[B]:
        namespace = {"__doc__": kind.__doc__}
        extended = msgspec.defstruct(
            kind.__name__, fields, bases=(kind,), module=kind.__module__, namespace=namespace, kw_only=True
        )
        return cast("type[B]", extended)

    return extend


class NoBody(Body, kw_only=True):
    """No body: whatever is sent is not read."""


@read_only("id", "created_at", "updated_at", "links")
class ResourceBody(Body, kw_only=True):
    """Read-only fields that every resource has."""

    handles: ClassVar[tuple[str, ...]] = ()
    """Fields that hold the name of the resource in paths. They are synonyms."""


class NamedBody(ResourceBody, kw_only=True):
    """A resource that clients can name."""

    handles = ("alias", "name")

    alias: Annotated[Text, ALIAS] = UNSET
    name: Annotated[Text, NAME] = UNSET


class Link(msgspec.Struct, frozen=True):
    """An entry of `_links`."""

    href: Annotated[str, doc("An absolute URL.", "https://discue.example.com/v1/queues")]


Links = dict[str, Link]


class ItemView(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """An item that has an id, as clients see it."""

    id: Annotated[str, id_doc("queue_id", "The id, assigned at creation. Ids sort by time.")]

    def without_secrets(self) -> Self:
        """Return the item as it is stored for repeated requests with the same idempotency key."""
        return self


class View(ItemView, kw_only=True, frozen=True):
    """The fields that every resource has in responses."""

    alias: Annotated[str, ALIAS]
    name: Annotated[str, NAME]
    created_at: Annotated[int, instant_doc("When it was created")]
    updated_at: Annotated[int, instant_doc("When it was last changed")]


class ReferenceView(msgspec.Struct, frozen=True):
    """A related resource."""

    id: Annotated[str, id_doc("listener_id", "The id.")]
    alias: Annotated[str, ALIAS]
    name: Annotated[str, NAME]


class ApiResponse(msgspec.Struct, rename={"links": "_links"}, kw_only=True, frozen=True):
    """The body of a response with status 200."""

    links: Annotated[
        Links,
        doc(
            "The URL of this resource (`self`), and of its sub-resources by alias.",
            {"self": {"href": "https://discue.example.com/v1"}},
            required=["self"],
        ),
    ]

    def without_secrets(self) -> Self:
        """Return what is stored of the response for repeated requests with the same idempotency key."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        kept = {name: view.without_secrets() for name, view in shown.items() if isinstance(view, ItemView)}
        return replace(self, **kept)


class DeletedResponse(ApiResponse, kw_only=True, frozen=True):
    """The response to every `DELETE`."""


def names_given(body: NamedBody) -> tuple[str | None, str | None]:
    """Return the alias and the name in a request, which are synonyms. None means null or not given."""
    return text_given(body.alias), text_given(body.name)


def status_given(sent: Text) -> Literal["enabled", "disabled"] | None:
    """Return the requested status; None if it stays as it is. null means enabled. Raises Unprocessable."""
    if sent is UNSET:
        return None
    if sent is None or sent == "enabled":
        return "enabled"
    if sent == "disabled":
        return "disabled"
    raise invalid("/status", "must be enabled or disabled")


def text_given(sent: Text) -> str | None:
    return sent if isinstance(sent, str) else None


def number_given(sent: Integer, bounds: range, pointer: str, unit: str = "") -> int | None:
    """Return the number; None if none is given. Raises Unprocessable if it is out of bounds."""
    if not isinstance(sent, int):
        return None
    if sent not in bounds:
        raise invalid(pointer, f"must be from {bounds.start} to {bounds.stop - 1}{unit}")
    return sent
