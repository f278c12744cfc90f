"""`/queues/{queue_id}/messages`, its `/batch`, and `/messages`."""

import msgspec
from msgspec import UNSET

from discue.api import bodies, wire
from discue.api.delivery_options import retry_shown
from discue.api.event_bodies import EventBody
from discue.api.fields import names_changed, names_given
from discue.api.links import Link, LinkTarget, link_to, links_of
from discue.api.message_options import with_options
from discue.api.pagination import paged
from discue.api.parameters import MESSAGE_PAGES
from discue.api.resources.deliveries import delivery_shown
from discue.api.route import CREATE, SMALL_BODY, Call, Needs, Route
from discue.api.services import Services
from discue.auth.control_plane_cache import QueueRecord
from discue.control import messages
from discue.control.messages import MessageFields
from discue.domain.aliases import check_alias, reconcile
from discue.domain.errors import Fault, Unprocessable
from discue.domain.messages import MessageOptions, StoredMessage
from discue.domain.scopes import Principal
from discue.publishing.publish import NewMessage, publish, stored_messages
from discue.store.idempotency import StoredResponse

BATCH_MESSAGES = 1_000
BATCH_BYTES = 8_388_608

_READ = Needs("messages", "read")
_LIST = Needs("messages", "read", listing=True)
_WRITE = Needs("messages", "write")

LONGEST_ESCAPE = 6
"""Every byte of a string may come as an escape of six characters."""

_QUOTE = 0x22
_MAYBE_JSON = frozenset(b'{["-0123456789tfn \t\r\n')

_text_of = msgspec.json.Decoder(str).decode
_check_syntax = msgspec.json.Decoder(msgspec.Raw).decode


async def create(call: Call) -> wire.Message:
    [draft] = events_of(call.body) if isinstance(call.body, EventBody) else [draft_of(call, call.body, "")]
    queue = await _queue(call)
    (entry,) = await publish(call.services.publisher, queue, (draft,), once=call.once)
    return _created(call, _published(entry.id, draft.alias, entry.stored_at))


def create_again(call: Call, kept: StoredResponse) -> wire.Message:
    """What `create` answered."""
    [(message_id, alias)] = stored_messages(kept.content)
    return _created(call, _published(message_id, alias, kept.stored_at))


def _created(call: Call, message: wire.MessageShown) -> wire.Message:
    return wire.Message(message=message, links={"self": Link(f"{call.url}/{message.id}")})


async def create_batch(call: Call) -> wire.Messages:
    drafts = events_of(call.body) if isinstance(call.body, EventBody) else drafts_of(call, call.body)
    entries = await publish(call.services.publisher, await _queue(call), drafts, once=call.once)
    shown = [_published(entry.id, draft.alias, entry.stored_at) for entry, draft in zip(entries, drafts, strict=True)]
    return _created_batch(call, shown)


def create_batch_again(call: Call, kept: StoredResponse) -> wire.Messages:
    """What `create_batch` answered."""
    messages_before = stored_messages(kept.content)
    shown = [_published(message_id, alias, kept.stored_at) for message_id, alias in messages_before]
    return _created_batch(call, shown)


def _created_batch(call: Call, shown: list[wire.MessageShown]) -> wire.Messages:
    url = call.url.removesuffix("/batch")
    below = [LinkTarget(message.alias, message.id, f"{url}/{message.id}") for message in shown]
    return wire.Messages(messages=shown, links=links_of(url, below))


async def get(call: Call) -> wire.Message:
    details = await messages.get(call.control, call.principal, *call.ids)
    options = details.message.options
    message = msgspec.structs.replace(
        _shown(details.message),
        data=details.message.body.decode(),
        deliveries=[delivery_shown(delivery) for delivery in details.deliveries],
        deliver_at=UNSET if options.deliver_at is None else options.deliver_at,
        expires_at=details.message.expires_at or UNSET,
        key=UNSET if options.key is None else options.key,
        headers=dict(options.headers) if options.headers else UNSET,
        retry=retry_shown(options.retry),
        subject=UNSET if options.subject is None else options.subject,
    )
    return call.with_etag(details.message, wire.Message(message=message, links=link_to(call.url)))


async def list_all(call: Call) -> wire.Messages:
    items, links = await paged(
        call,
        lambda selection: messages.page(call.control, call.principal, selection),
        lambda item: _named(call, item),
        of_messages=True,
    )
    return wire.Messages(messages=[_shown(item) for item in items], links=links)


async def list_of_queue(call: Call) -> wire.Messages:
    items, links = await paged(
        call,
        lambda selection: messages.page_of_queue(call.control, call.principal, call.ids[0], selection),
        lambda item: _named(call, item),
        of_messages=True,
    )
    return wire.Messages(messages=[_shown(item) for item in items], links=links)


async def change(call: Call) -> wire.Message:
    queue_id, message_id = call.ids
    fields = MessageFields(*names_changed(call.body, message_id))
    changed = await messages.change(call.control, call.principal, queue_id, message_id, fields)
    return call.with_etag(changed, wire.Message(message=_shown(changed), links=link_to(call.url)))


async def delete(call: Call) -> wire.Deleted:
    await messages.delete(call.control, call.principal, *call.ids)
    return wire.Deleted(links=link_to(call.url))


async def message_limit(services: Services, principal: Principal, ids: tuple[str, ...]) -> int:
    """Bytes that the body of a publish can need: the queue's largest message, however it is escaped."""
    queue = await services.control.cache.queue(principal.organization, ids[0])
    return queue.max_message_bytes * LONGEST_ESCAPE + SMALL_BODY


async def batch_limit(services: Services, principal: Principal, ids: tuple[str, ...]) -> int:
    """The same for every queue that exists."""
    await services.control.cache.queue(principal.organization, ids[0])
    return BATCH_BYTES


async def _queue(call: Call) -> QueueRecord:
    cache, organization, queue_id = call.control.cache, call.principal.organization, call.ids[0]
    return cache.cached_queue(organization, queue_id) or await cache.queue(organization, queue_id)


def events_of(body: EventBody) -> list[NewMessage]:
    """The messages that events are. Raises Unprocessable."""
    _check_number(len(body.events), "")
    return [
        NewMessage(
            event.data,
            event.is_json,
            pointer=event.pointer,
            options=MessageOptions(event.headers, event.key, media_type=event.media_type),
        )
        for event in body.events
    ]


def _check_number(messages: int, pointer: str) -> None:
    if not 1 <= messages <= BATCH_MESSAGES:
        rule = f"must have 1 to {BATCH_MESSAGES} messages"
        raise Unprocessable(f"A batch {rule}.", faults=(Fault(pointer, rule),))


def drafts_of(call: Call, body: bodies.BatchBody | bodies.TopicBatchBody) -> list[NewMessage]:
    """The messages of a batch, each checked by itself. Raises BadRequest and Unprocessable."""
    _check_number(len(body.messages), "/messages")
    return [draft_of(call, message, f"/messages/{index}") for index, message in enumerate(body.messages)]


def draft_of(call: Call, body: bodies.MessageBody, place: str) -> NewMessage:
    """A message of a request, in which it stands at `place`. Raises Unprocessable."""
    alias = None
    if body.alias is not UNSET or body.name is not UNSET:
        alias = _alias(body, place)
    content, is_json = content_of(body.data)
    draft = NewMessage(content, is_json, alias, f"{place}/data")
    return with_options(draft, body, place, call.control.clock.now()) if body.has_options else draft


def content_of(sent: msgspec.Raw) -> tuple[bytes, bool]:
    """The bytes that are delivered, and whether they are JSON."""
    data = memoryview(sent)
    if data[0] != _QUOTE:
        return bytes(data), True
    content = _text_of(data).encode()
    return content, is_json_text(content)


def _alias(body: bodies.MessageBody, place: str) -> str | None:
    alias = reconcile(*names_given(body), None)
    if alias is not None:
        check_alias(alias, f"{place}/alias")
    return alias


def is_json_text(content: bytes) -> bool:
    """Whether a string's content is JSON itself (RFC 8259): then its listeners are told so."""
    if not content or content[0] not in _MAYBE_JSON:
        return False
    try:
        _check_syntax(content)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _published(message_id: str, given: str | None, stored_at: int) -> wire.MessageShown:
    alias = given or message_id
    return wire.MessageShown(id=message_id, alias=alias, name=alias, created_at=stored_at, updated_at=stored_at)


def _named(call: Call, message: StoredMessage) -> LinkTarget:
    return LinkTarget(message.alias, message.id, f"{call.base}/queues/{message.queue_public_id}/messages/{message.id}")


def _shown(message: StoredMessage) -> wire.MessageShown:
    return wire.MessageShown(
        id=message.id,
        alias=message.alias,
        name=message.alias,
        created_at=message.stored_at,
        updated_at=message.updated_at,
    )


ROUTES = (
    Route(
        methods=("GET",),
        path="/messages",
        handler=list_all,
        response=wire.Messages,
        needs=_LIST,
        query=MESSAGE_PAGES,
        summary="List the messages of all queues",
    ),
    Route(
        methods=("GET",),
        path="/queues/{queue_id}/messages",
        handler=list_of_queue,
        response=wire.Messages,
        needs=_LIST,
        statuses=(404,),
        query=MESSAGE_PAGES,
        summary="List the messages of a queue",
    ),
    Route(
        methods=CREATE,
        path="/queues/{queue_id}/messages",
        handler=create,
        request=bodies.MessageBody,
        response=wire.Message,
        needs=_WRITE,
        statuses=(402, 404, 422),
        limit=message_limit,
        repeat=create_again,
        publishes=True,
        events="one",
        summary="Publish a message",
        description="The message is durable when the answer comes. Every listener of the queue gets it. With headers "
        "`ce-…`, `ce-specversion` among them, the request is a CloudEvent in binary mode: the body, of whatever type, "
        "is its data.",
        example={"data": {"order": 17, "state": "paid"}},
    ),
    Route(
        methods=("POST",),
        path="/queues/{queue_id}/messages/batch",
        handler=create_batch,
        request=bodies.BatchBody,
        response=wire.Messages,
        needs=_WRITE,
        statuses=(402, 404, 422),
        limit=batch_limit,
        repeat=create_batch_again,
        publishes=True,
        events="many",
        summary="Publish many messages",
        description="All of them or none.",
        example={"messages": [{"data": "one"}, {"alias": "second", "data": {"two": 2}}]},
    ),
    Route(
        methods=("GET",),
        path="/queues/{queue_id}/messages/{message_id}",
        handler=get,
        response=wire.Message,
        needs=_READ,
        statuses=(404,),
        summary="Get a message and its deliveries",
    ),
    Route(
        methods=("PUT",),
        path="/queues/{queue_id}/messages/{message_id}",
        handler=change,
        request=bodies.MessageChange,
        response=wire.Message,
        needs=_WRITE,
        statuses=(404, 422),
        summary="Change the alias of a message",
        example={"alias": "order-17"},
    ),
    Route(
        methods=("DELETE",),
        path="/queues/{queue_id}/messages/{message_id}",
        handler=delete,
        response=wire.Deleted,
        needs=_WRITE,
        statuses=(404,),
        summary="Delete a message",
        description="Deliveries not yet made are not made.",
    ),
)
