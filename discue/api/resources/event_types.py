"""`/event_types`, the catalogue of event types, and the catalogue as an OpenAPI document."""

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.delivery_options import TYPE_LIMITS
from discue.api.resource import ResourceKind, sent_fields, view_of
from discue.api.route import GET, SMALL_BODY, Call, Needs, RawResponse, Route
from discue.api.structs import (
    NOT_SENT,
    AsSent,
    ResourceBody,
    Text,
    View,
    doc,
    id_doc,
    read_only,
    text_given,
)
from discue.control import event_types
from discue.control.event_types import MAX_DESCRIPTION, STATUSES, EventTypeFields
from discue.domain import model
from discue.domain.event_catalogue import webhooks_of
from discue.domain.json_text import MAX_BYTES
from discue.domain.reservations import CATALOGUE, LARGE_RESOURCE

_TYPE: Final = doc("The type of the messages. Unique in the organization.", "order.paid", **TYPE_LIMITS)
_DESCRIPTION: Final = doc("When the event happens, for customers.", "An order was paid.", maxLength=MAX_DESCRIPTION)
_STATUS: Final = doc(
    "A `deprecated` event type is offered only to listeners that have it. Its messages are still published.",
    "enabled",
    enum=list(STATUSES),
)
_SCHEMA_TEXT: Final = (
    f"JSON Schema (2020-12) of the data. The schema and the example have at most {MAX_BYTES:,} bytes together."
)
_SCHEMA_EXAMPLE: Final = {"type": "object", "required": ["order"], "properties": {"order": {"type": "integer"}}}
_SCHEMA: Final[list[dict[str, Any]]] = [{"type": "object"}, {"type": "boolean"}]
_EXAMPLE_TEXT: Final = "An example of the data, for customers, forms and tests."


@read_only("alias", "name")
class EventTypeBody(ResourceBody, kw_only=True):
    """An event type to create, or the changes to one."""

    handles = ("type",)
    sample: ClassVar = {"type": "order.paid", "description": "An order was paid.", "example": {"order": 17}}
    opaque_fields = ("json_schema", "example")

    type: Annotated[str | UnsetType, _TYPE] = UNSET
    description: Annotated[Text, _DESCRIPTION] = UNSET
    status: Annotated[Text, _STATUS] = UNSET
    json_schema: Annotated[
        AsSent, doc(f"{_SCHEMA_TEXT} null: none.", _SCHEMA_EXAMPLE, anyOf=[*_SCHEMA, {"type": "null"}])
    ] = NOT_SENT
    example: Annotated[AsSent, doc(f"{_EXAMPLE_TEXT} null: none.", {"order": 17})] = NOT_SENT


class EventTypeView(View, kw_only=True, frozen=True):
    """An event type."""

    id: Annotated[str, id_doc("event_type_id")]
    type: Annotated[str, _TYPE]
    alias: Annotated[str, doc("A synonym of `type`.", "order.paid")]
    name: Annotated[str, doc("A synonym of `type`.", "order.paid")]
    status: Annotated[str, _STATUS]
    description: Annotated[str | UnsetType, _DESCRIPTION] = UNSET
    json_schema: Annotated[msgspec.Raw | UnsetType, doc(_SCHEMA_TEXT, _SCHEMA_EXAMPLE, anyOf=_SCHEMA)] = UNSET
    example: Annotated[msgspec.Raw | UnsetType, doc(_EXAMPLE_TEXT, {"order": 17})] = UNSET


class WebhooksDocument(msgspec.Struct, frozen=True):
    """The catalogue, as an OpenAPI document."""

    openapi: Annotated[str, doc("The version of OpenAPI.", "3.1.0")]
    info: Annotated[dict[str, object], doc("The catalogue.", {"title": "Webhooks", "version": "1"})]
    webhooks: Annotated[dict[str, object], doc("The request of each event type.", {})]


def _fields(call: Call) -> EventTypeFields:
    body: EventTypeBody = call.body
    texts = {"json_schema": _text_given(body.json_schema), "example": _text_given(body.example)}
    return sent_fields(body, EventTypeFields, type=text_given(body.type), **texts)


def _text_given(sent: AsSent) -> bytes | UnsetType | None:
    text = bytes(sent)
    return UNSET if not text else None if text == b"null" else text


def _view(event_type: model.EventType) -> EventTypeView:
    texts = {"json_schema": event_type.json_schema, "example": event_type.example}
    shown = {name: UNSET if text is None else msgspec.Raw(text.encode()) for name, text in texts.items()}
    return view_of(EventTypeView, event_type, type=event_type.alias, **shown)


async def webhooks(call: Call) -> RawResponse:
    """Get the catalogue as OpenAPI. Returns `webhooks` of OpenAPI 3.1, for your customers' code generators."""
    return RawResponse(webhooks_of(await event_types.catalogue(call.control, call.principal)))


_EVENT_TYPES: Final = ResourceKind[model.EventType](
    path="/event_types",
    name="event_type",
    view_type=EventTypeView,
    view=lambda _, event_type: _view(event_type),
    needs=Needs.of("schemas"),
    body=EventTypeBody,
    fields=_fields,
    codes=("alias_taken", "invalid_schema", "schema_violation", "too_many"),
    # Leaves room for texts that are too large: the error for them has a pointer.
    limit=SMALL_BODY + 2 * MAX_BYTES,
    reads=LARGE_RESOURCE,
)

ROUTES = (
    _EVENT_TYPES.list_route(event_types.page, "List event types."),
    _EVENT_TYPES.create_route(event_types.create, "Create an event type.", required=("type",)),
    _EVENT_TYPES.get_route(event_types.get, "Get an event type."),
    _EVENT_TYPES.change_route(event_types.change, "Change an event type.", example={"status": "deprecated"}),
    _EVENT_TYPES.delete_route(event_types.delete, "Delete an event type. Messages and listeners keep their types."),
    Route(
        GET,
        "/event_types.openapi.json",
        webhooks,
        Needs("schemas", "read"),
        response=WebhooksDocument,
        reads=CATALOGUE,
    ),
)
