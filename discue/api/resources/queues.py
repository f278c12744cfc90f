"""`/queues`."""

import msgspec
from msgspec import UNSET, UnsetType

from discue.api import bodies, wire
from discue.api.delivery_options import retry_of, retry_shown
from discue.api.fields import Given, names_changed, names_given
from discue.api.idempotency import created
from discue.api.links import LinkTarget, link_to, links_of
from discue.api.pagination import paged
from discue.api.parameters import PAGES
from discue.api.route import CREATE, SMALL_BODY, Call, Needs, Route
from discue.api.services import Services
from discue.control import queues
from discue.control.queues import ClearedSchema, QueueDetails, QueueFields
from discue.domain import model
from discue.domain.errors import Fault, Unprocessable
from discue.domain.schemas.schema import FIELDS, Schema, parse_schema
from discue.domain.schemas.strict_json import MAX_BYTES as SCHEMA_BYTES
from discue.domain.scopes import Principal

_READ = Needs("queues", "read")
_LIST = Needs("queues", "read", listing=True)
_WRITE = Needs("queues", "write")


async def create(call: Call) -> wire.Queue:
    fields = _fields(call.body, names_given(call.body))
    return await created(
        call,
        lambda control: queues.create(control, call.principal, fields),
        lambda made: _answer(call, made, f"{call.url}/{made.queue.public_id}"),
    )


async def get(call: Call) -> wire.Queue:
    return _answer(call, await queues.get(call.control, call.principal, call.ids[0]), call.url)


async def list_all(call: Call) -> wire.Queues:
    items, links = await paged(
        call,
        lambda selection: queues.page(call.control, call.principal, selection),
        lambda item: LinkTarget(item.queue.alias, item.queue.public_id, f"{call.url}/{item.queue.public_id}"),
    )
    return wire.Queues(queues=[_shown(item) for item in items], links=links)


async def change(call: Call) -> wire.Queue:
    public_id = call.ids[0]
    fields = _fields(call.body, names_changed(call.body, public_id))
    return _answer(call, await queues.change(call.control, call.principal, public_id, fields), call.url)


async def delete(call: Call) -> wire.Deleted:
    await queues.delete(call.control, call.principal, call.ids[0])
    return wire.Deleted(links=link_to(call.url))


async def queue_limit(_services: Services, _principal: Principal, _ids: tuple[str, ...]) -> int:
    """Room for a schema, and for one that is too large: that is told with a pointer."""
    return SMALL_BODY + 2 * SCHEMA_BYTES


def _fields(body: bodies.QueueBody, given: Given) -> QueueFields:
    return QueueFields(
        given.alias,
        given.name,
        body.retention,
        body.max_message_bytes,
        _schema(body),
        retry_of(body.retry),
        body.ordered,
        body.on_missed,
    )


def _schema(body: bodies.QueueBody) -> Schema | ClearedSchema | UnsetType:
    """null clears the schema of its own language: a queue that has the other one keeps that."""
    sent = {language: bytes(getattr(body, field)) for language, field in FIELDS.items()}
    given = {language: text for language, text in sent.items() if text not in {b"", b"null"}}
    if len(given) > 1:
        faults = tuple(Fault(f"/{field}", "cannot stand beside the other one") for field in FIELDS.values())
        raise Unprocessable("A queue has one schema: give schema or json_schema.", faults=faults)
    for language, text in given.items():
        return parse_schema(text, language)
    cleared = frozenset(language for language, text in sent.items() if text == b"null")
    return ClearedSchema(cleared) if cleared else UNSET


def _schemas_shown(queue: model.Queue) -> tuple[msgspec.Raw | UnsetType, msgspec.Raw | UnsetType]:
    """As `schema` and as `json_schema`."""
    if queue.schema is None:
        return UNSET, UNSET
    text = msgspec.Raw(queue.schema.encode())
    return (text, UNSET) if queue.schema_language == "rules" else (UNSET, text)


def _answer(call: Call, details: QueueDetails, url: str) -> wire.Queue:
    below = [
        LinkTarget(listener.alias, listener.public_id, f"{url}/listeners/{listener.public_id}")
        for listener in details.listeners
    ]
    return call.with_etag(details.queue, wire.Queue(queue=_shown(details), links=links_of(url, below)))


def _shown(details: QueueDetails) -> wire.QueueShown:
    queue = details.queue
    schema, json_schema = _schemas_shown(queue)
    return wire.QueueShown(
        id=queue.public_id,
        alias=queue.alias,
        name=queue.alias,
        listeners=[
            wire.Reference(listener.public_id, listener.alias, listener.alias) for listener in details.listeners
        ],
        messages=wire.QueueMessages(details.head.published_count, details.head.last_stored_at),
        ordered=queue.ordered,
        on_missed=queue.on_missed,
        retention=UNSET if queue.retention_seconds is None else queue.retention_seconds,
        max_message_bytes=UNSET if queue.max_message_bytes is None else queue.max_message_bytes,
        schema=schema,
        json_schema=json_schema,
        schema_id=UNSET if queue.schema_id is None else queue.schema_id,
        retry=retry_shown(queue.retry),
        created_at=queue.created_at,
        updated_at=queue.updated_at,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path="/queues",
        handler=list_all,
        response=wire.Queues,
        needs=_LIST,
        query=PAGES,
        summary="List queues",
    ),
    Route(
        methods=CREATE,
        path="/queues",
        handler=create,
        request=bodies.QueueBody,
        response=wire.Queue,
        needs=_WRITE,
        statuses=(402, 422),
        limit=queue_limit,
        summary="Create a queue",
        example={"alias": "orders", "retention": 86_400},
    ),
    Route(
        methods=("GET",),
        path="/queues/{queue_id}",
        handler=get,
        response=wire.Queue,
        needs=_READ,
        statuses=(404,),
        summary="Get a queue",
    ),
    Route(
        methods=("PUT",),
        path="/queues/{queue_id}",
        handler=change,
        request=bodies.QueueBody,
        response=wire.Queue,
        needs=_WRITE,
        statuses=(404, 422),
        limit=queue_limit,
        summary="Change a queue",
        example={"retention": 604_800},
    ),
    Route(
        methods=("DELETE",),
        path="/queues/{queue_id}",
        handler=delete,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404,),
        summary="Delete a queue",
        description="Its listeners and messages go with it.",
    ),
)
