"""`/queues`, and the schemas of queues."""

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.delivery_options import RetrySent, RetryShown, retry_given, retry_view
from discue.api.pagination import QUEUE_PAGES
from discue.api.resource import ResourceKind, fields_of, or_unset, view_of
from discue.api.route import GET, SMALL_BODY, Call, Needs, Route
from discue.api.structs import (
    EXAMPLE_IDS,
    NOT_SENT,
    QUEUE_ID,
    SCHEMA_ID,
    ApiResponse,
    AsSent,
    Flag,
    Integer,
    NamedBody,
    ReferenceView,
    Text,
    View,
    doc,
    instant_doc,
    read_only,
)
from discue.control import queues
from discue.control.context import ControlContext, require_found
from discue.control.queues import (
    LARGEST_MESSAGE_BYTES,
    LONGEST_RETENTION_SECONDS,
    ON_MISSED,
    ClearedSchema,
    QueueDetails,
    QueueFields,
)
from discue.domain.errors import Fault, Unprocessable
from discue.domain.json_text import MAX_BYTES as SCHEMA_BYTES
from discue.domain.model import LONGEST_CUSTOMER
from discue.domain.reservations import LARGE_RESOURCE
from discue.domain.schemas import FIELDS, Schema

# Allows for a schema that is too large: that error has a pointer.
_BODY_BYTES: Final = SMALL_BODY + 2 * SCHEMA_BYTES

_RETENTION: Final = doc(
    "How long messages are kept after all listeners have settled them, in seconds. Default: set by the organization or "
    "the operator.",
    86_400,
    minimum=0,
    maximum=LONGEST_RETENTION_SECONDS,
)
_MAX_MESSAGE_BYTES: Final = doc(
    "Maximum size of a message, in bytes. Default: set by the operator.",
    262_144,
    minimum=1,
    maximum=LARGEST_MESSAGE_BYTES,
)
_RULES_EXAMPLE: Final = {
    "order": {"type": "number", "min": 1},
    "note": {"type": "string", "max": 200, "required": False},
}
_RULES_TEXT: Final = "Schema that messages must match, as a rule for each property. null removes it."
_RULES_REF: Final = {"$ref": "#/components/schemas/SchemaRules"}
_JSON_SCHEMA_EXAMPLE: Final = {"type": "object", "required": ["order"], "properties": {"order": {"type": "integer"}}}
_JSON_SCHEMA_TEXT: Final = "Schema that messages must match, as JSON Schema (2020-12). null removes it."
_JSON_SCHEMA: Final[list[dict[str, Any]]] = [{"type": "object"}, {"type": "boolean"}]
_ORDERED: Final = doc(
    "Whether a listener receives messages with the same key one after the other. Messages without a key count as "
    "having the same key. Fixed at creation.",
    False,
)
_ON_MISSED: Final = doc(
    "The effect of a missed message in an ordered queue. `pass`: the next message with its key is sent. `block`: "
    "messages with its key wait until it is redelivered and acknowledged, or deleted. Fixed at creation.",
    "pass",
    enum=list(ON_MISSED),
)
_CUSTOMER: Final = doc(
    "Your name or id of the customer that the queue and its listeners belong to. Sessions of the portal may create and "
    "edit listeners, and replay, only in queues of their customer. null: none. Fixed at creation.",
    "acme",
    maxLength=LONGEST_CUSTOMER,
)


@read_only("schema_id", "listeners", "messages")
class QueueBody(NamedBody, kw_only=True):
    """A queue to create, or the changes to one."""

    sample: ClassVar = {"alias": "orders", "retention": 86_400}
    opaque_fields = ("schema", "json_schema")

    retention: Annotated[Integer, _RETENTION] = UNSET
    max_message_bytes: Annotated[Integer, _MAX_MESSAGE_BYTES] = UNSET
    schema: Annotated[AsSent, doc(_RULES_TEXT, _RULES_EXAMPLE, anyOf=[_RULES_REF, {"type": "null"}])] = NOT_SENT
    json_schema: Annotated[
        AsSent, doc(_JSON_SCHEMA_TEXT, _JSON_SCHEMA_EXAMPLE, anyOf=[*_JSON_SCHEMA, {"type": "null"}])
    ] = NOT_SENT
    retry: RetrySent = UNSET
    ordered: Annotated[Flag, _ORDERED] = UNSET
    on_missed: Annotated[Text, _ON_MISSED] = UNSET
    customer: Annotated[Text, _CUSTOMER] = UNSET


class QueueMessagesView(msgspec.Struct, frozen=True):
    """Statistics of the messages of a queue."""

    published_count: Annotated[int, doc("Number of messages published so far.", 1, minimum=0)]
    last_published_at: Annotated[
        int, instant_doc("When the last message was published, or a delayed one became due; 0: never", 0)
    ]


class QueueView(View, kw_only=True, frozen=True):
    """A queue."""

    ordered: Annotated[bool, _ORDERED]
    on_missed: Annotated[str, _ON_MISSED]
    listeners: Annotated[list[ReferenceView], doc("Listeners of the queue, oldest first, at most 100.")]
    messages: Annotated[QueueMessagesView, doc("Statistics of its messages.")]
    retention: Annotated[int | UnsetType, _RETENTION] = UNSET
    max_message_bytes: Annotated[int | UnsetType, _MAX_MESSAGE_BYTES] = UNSET
    schema: Annotated[msgspec.Raw | UnsetType, doc(_RULES_TEXT, _RULES_EXAMPLE, **_RULES_REF)] = UNSET
    json_schema: Annotated[
        msgspec.Raw | UnsetType, doc(_JSON_SCHEMA_TEXT, _JSON_SCHEMA_EXAMPLE, anyOf=_JSON_SCHEMA)
    ] = UNSET
    schema_id: Annotated[str | UnsetType, doc("The id of the schema.", EXAMPLE_IDS["schema_id"], pattern=SCHEMA_ID)] = (
        UNSET
    )
    retry: RetryShown = UNSET
    customer: Annotated[str | UnsetType, _CUSTOMER] = UNSET


class QueueSchemaResponse(ApiResponse, kw_only=True, frozen=True):
    """The schema of a queue."""

    schema: Annotated[msgspec.Raw, doc("The schema as it was sent.", _RULES_EXAMPLE, anyOf=_JSON_SCHEMA)]
    id: Annotated[str, doc("The SHA-256 of the schema's canonical JSON.", EXAMPLE_IDS["schema_id"], pattern=SCHEMA_ID)]
    queue_id: Annotated[str, QUEUE_ID]
    language: Annotated[
        Literal["rules", "json_schema"], doc("The field of the queue that the schema was set with.", "rules")
    ]
    created_at: Annotated[int, instant_doc("When it was created")]
    updated_at: Annotated[int, instant_doc("When it was last changed")]


async def _fields(call: Call) -> QueueFields:
    body: QueueBody = call.body
    schema, retry = await _schema(call.control, body), retry_given(body.retry)
    return fields_of(call, QueueFields, retention_seconds=body.retention, schema=schema, retry=retry)


async def _schema(control: ControlContext, body: QueueBody) -> Schema | ClearedSchema | UnsetType:
    """Read the schema. null removes only a schema that was set with the same field."""
    sent = {language: bytes(getattr(body, field)) for language, field in FIELDS.items()}
    given = {language: text for language, text in sent.items() if text not in {b"", b"null"}}
    if len(given) > 1:
        faults = tuple(Fault(f"/{field}", "cannot be combined with the other one") for field in FIELDS.values())
        raise Unprocessable(
            "A queue has one schema: send schema or json_schema.", code="conflicting_fields", faults=faults
        )
    for language, text in given.items():
        return await queues.check_schema(control, text, language)
    # A client that has replaced `schema` by `json_schema` may still send null for `schema`.
    cleared = frozenset(language for language, text in sent.items() if text == b"null")
    return ClearedSchema(cleared) if cleared else UNSET


def _view(details: QueueDetails) -> QueueView:
    queue = details.queue
    schema: msgspec.Raw | UnsetType = UNSET if queue.schema is None else msgspec.Raw(queue.schema.encode())
    has_rules = queue.schema_language == "rules"
    return view_of(
        QueueView,
        queue,
        listeners=[view_of(ReferenceView, listener) for listener in details.listeners],
        messages=QueueMessagesView(details.head.published_count, details.head.last_stored_at),
        retention=or_unset(queue.retention_seconds),
        schema=schema if has_rules else UNSET,
        json_schema=UNSET if has_rules else schema,
        retry=UNSET if queue.retry is None else retry_view(queue.retry),
    )


async def get_schema(call: Call) -> QueueSchemaResponse:
    """Get a schema. The current schema of the queue. Previous schemas are not found."""
    queue_id, schema_id = call.ids
    queue = await queues.get_schema(call.control, call.principal, queue_id, schema_id)
    call.version = schema_id
    return QueueSchemaResponse(
        schema=msgspec.Raw(require_found(queue.schema).encode()),
        id=schema_id,
        queue_id=queue_id,
        language=queue.schema_language,
        created_at=queue.schema_set_at,
        updated_at=queue.schema_set_at,
        links=call.links(),
    )


_QUEUES: Final = ResourceKind[QueueDetails](
    path="/queues",
    name="queue",
    view_type=QueueView,
    view=lambda _, details: _view(details),
    stored=lambda details: details.queue,
    below="listeners",
    needs=Needs.of("queues"),
    body=QueueBody,
    fields=_fields,
    codes=("alias_taken", "invalid_schema"),
    limit=_BODY_BYTES,
    reads=LARGE_RESOURCE,
)

ROUTES = (
    _QUEUES.list_route(queues.page, "List queues.", QUEUE_PAGES),
    _QUEUES.create_route(queues.create, "Create a queue.", "quota_exceeded"),
    _QUEUES.get_route(queues.get, "Get a queue."),
    _QUEUES.change_route(queues.change, "Change a queue.", "immutable_field", example={"retention": 604_800}),
    _QUEUES.delete_route(queues.delete, "Delete a queue. Also deletes its listeners and messages.", "system_queue"),
    Route(GET, "/queues/{queue_id}/schemas/{schema_id}", get_schema, Needs("schemas", "read"), reads=LARGE_RESOURCE),
)
