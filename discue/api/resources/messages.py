"""`/messages`, the messages of a queue, and publishing to it."""

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Final, TypeAlias, get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.api.decoding import EventBody
from discue.api.delivery_options import (
    DELAY_SECONDS,
    KEY_LIMITS,
    SEQUENCE,
    HeadersSent,
    HeadersShown,
    RetrySent,
    RetryShown,
    TypeSent,
    TypeShown,
    due_at,
    key_given,
    retry_given,
    retry_view,
)
from discue.api.message_data import (
    EITHER_DATA,
    Base64Sent,
    Base64Shown,
    ContentTypeSent,
    ContentTypeShown,
    DataShown,
    content_type_given,
    data_fields,
    data_given,
    fields_of_any_data,
)
from discue.api.pagination import MESSAGE_PAGES
from discue.api.resource import LinkTarget, ResourceKind, links_of, or_unset, view_of
from discue.api.resources.deliveries import DeliveryView, delivery_view
from discue.api.route import (
    BATCH_BYTES,
    BATCH_MESSAGES,
    CREATE,
    GET,
    POST,
    PUT,
    Call,
    Needs,
    Route,
    body_limit,
)
from discue.api.structs import (
    NOT_SENT,
    QUEUE_ID,
    ApiResponse,
    AsSent,
    Body,
    Integer,
    NamedBody,
    Text,
    View,
    doc,
    id_doc,
    instant_doc,
    names_given,
    read_only,
    text_given,
    within,
)
from discue.auth.control_plane_cache import QueueRecord
from discue.control import messages
from discue.control.listener_fields import chosen_retry
from discue.domain import headers
from discue.domain.aliases import NameFields, check_alias, reconcile
from discue.domain.clock import LAST_INSTANT, check_unit
from discue.domain.errors import invalid
from discue.domain.etags import version_of
from discue.domain.event_types import checked_type
from discue.domain.message_data import JSON_VALUE, QUOTE, data_of
from discue.domain.messages import MessageOptions, MessageState, StoredMessage
from discue.domain.reservations import FEW_ROWS, MESSAGE, MESSAGES, PUBLISHES
from discue.domain.scopes import Principal
from discue.domain.trace_context import traceparent_in
from discue.http.services import Services
from discue.publishing.publish import NewMessage, publish, stored_messages
from discue.store.idempotency import StoredResponse
from discue.store.time_slice import TimeSlice

_READ, _LIST, _WRITE = Needs.of("messages")

DATA: Final = doc("The data: a string, or any other JSON value, which is delivered as written.", {"order": 17})
BATCH: Final = doc("The messages, in order.", [{"data": "one"}, {"data": "two"}], minItems=1, maxItems=BATCH_MESSAGES)
MESSAGE_ALIAS: Final = doc(
    "The name, which need not be unique. Default: the id.", "order-17", pattern="^[A-Za-z0-9._/-]{1,64}$"
)
MESSAGE_NAME: Final = doc("A synonym of `alias`.", "order-17", pattern="^[A-Za-z0-9._/-]{1,64}$")
_EXPIRES_AT: Final = instant_doc(
    "When it expires: a listener that has not received it by then misses it", 1_893_456_000_000
)
DeliverAtShown: TypeAlias = Annotated[
    int | UnsetType, instant_doc("When it is delivered, if later than its creation", 1_767_225_600_000)
]
_NO_OPTIONS: Final = (*(UNSET,) * 8, NOT_SENT)
_KEY_DESCRIPTION: Final = "In an ordered queue, messages with the same key are delivered one after the other."


@read_only("queue_id", "queues", "deliveries", "size", "state", "sequence")
class MessageBody(NamedBody, kw_only=True):
    """A message to publish."""

    sample: ClassVar = {"type": "order.paid", "data": {"order": 17, "state": "paid"}}
    opaque_fields = ("data", "data_base64")
    exactly_one: ClassVar = EITHER_DATA

    data: Annotated[AsSent, DATA] = NOT_SENT
    data_base64: Base64Sent = NOT_SENT
    content_type: ContentTypeSent = UNSET
    type: TypeSent = UNSET
    deliver_at: Annotated[
        Integer,
        doc(
            "When to deliver it, in milliseconds since the epoch: at most a year ahead; at once if it has passed. "
            "Cannot be combined with `delay`.",
            1_767_225_600_000,
            minimum=0,
        ),
    ] = UNSET
    delay: Annotated[
        Integer,
        doc(
            "How long to hold it back, in seconds. Cannot be combined with `deliver_at`.",
            3_600,
            **within(DELAY_SECONDS),
        ),
    ] = UNSET
    expires_at: Annotated[Integer, _EXPIRES_AT] = UNSET
    key: Annotated[Text, doc(_KEY_DESCRIPTION, "customer-9", **KEY_LIMITS)] = UNSET
    headers: HeadersSent = UNSET
    retry: RetrySent = UNSET

    @property
    def has_options(self) -> bool:
        """Whether anything was sent besides data as JSON and a name."""
        # One comparison, as this runs for every message that is published.
        timing = self.deliver_at, self.delay, self.expires_at
        return (
            *timing,
            self.type,
            self.key,
            self.headers,
            self.retry,
            self.content_type,
            self.data_base64,
        ) != _NO_OPTIONS

    def least_bytes(self) -> int:
        # {"data":…} with ,"alias":… and ,"name":… if they were sent. A character takes at least one byte.
        least = len(self.data) + 9
        if self.alias is not UNSET:
            least += 9 + _least_text(self.alias)
        if self.name is not UNSET:
            least += 8 + _least_text(self.name)
        return least


def _least_text(value: Text) -> int:
    return len(value) + 2 if isinstance(value, str) else 4


class BatchBody(Body, kw_only=True):
    """Messages to publish."""

    sample: ClassVar = {"messages": [{"data": "one"}, {"alias": "second", "data": {"two": 2}}]}

    messages: Annotated[tuple[MessageBody, ...], BATCH]

    def least_bytes(self) -> int:
        # {"messages":[…,…]}
        return 15 + sum(message.least_bytes() + 1 for message in self.messages) - bool(self.messages)

    def opaque(self) -> Sequence[msgspec.Raw]:
        return [value for message in self.messages for value in (message.data, message.data_base64)]


@read_only(
    "data",
    "data_base64",
    "content_type",
    "deliver_at",
    "expires_at",
    "key",
    "headers",
    "retry",
    "type",
    "queue_id",
    "deliveries",
    "size",
    "state",
    "sequence",
)
class MessageChangeBody(NamedBody, kw_only=True):
    """A new alias for a message. Nothing else of a message can change."""


class MessageView(View, kw_only=True, frozen=True):
    """A message. Responses to a publish have the base fields only; lists also `queue_id`, `size`, `state`, `type`,
    `sequence`, `key` and `headers`.

    Options that were not set are omitted.
    """

    id: Annotated[str, id_doc("message_id", "The id, assigned when it is published.")]
    alias: Annotated[str, MESSAGE_ALIAS]
    name: Annotated[str, MESSAGE_NAME]
    queue_id: Annotated[str | UnsetType, QUEUE_ID] = UNSET
    data: DataShown = UNSET
    data_base64: Base64Shown = UNSET
    content_type: ContentTypeShown = UNSET
    type: TypeShown = UNSET
    sequence: Annotated[int | UnsetType, SEQUENCE] = UNSET
    deliver_at: DeliverAtShown = UNSET
    expires_at: Annotated[int | UnsetType, _EXPIRES_AT] = UNSET
    key: Annotated[str | UnsetType, doc(_KEY_DESCRIPTION, "customer-9")] = UNSET
    headers: HeadersShown = UNSET
    size: Annotated[int | UnsetType, doc("The size of the data, in bytes.", 13, minimum=0)] = UNSET
    state: Annotated[
        str | UnsetType,
        doc(
            "The first that a delivery has of `missed`, `retrying` and `pending`, else `acknowledged`, which includes "
            "deliveries that filters exclude; `no_listeners`: published before the queue had any. In lists with a "
            "`listener`, the state for that one. Omitted where reading it takes too long: in queues with "
            "more than 1,000 listeners, and on pages with more than 10,000 deliveries that are missed or wait for a "
            "retry; the listeners of a page of several queues share the 1,000, with at least 100 for each queue.",
            "acknowledged",
            enum=list(get_args(MessageState)),
        ),
    ] = UNSET
    retry: RetryShown = UNSET
    deliveries: Annotated[list[DeliveryView] | UnsetType, doc("Deliveries to the oldest 100 listeners.")] = UNSET


_MESSAGES: Final = ResourceKind[StoredMessage](
    path="/queues/{queue_id}/messages",
    name="message",
    view_type=MessageView,
    view=lambda _, message: _listed(message),
    needs=(_READ, _LIST, _WRITE),
)
_response: Final[Callable[..., ApiResponse]] = _MESSAGES.response
_batch_response: Final[Callable[..., ApiResponse]] = _MESSAGES.page_response


async def create(call: Call) -> ApiResponse:
    """Publish a message.

    The message is durable when the response arrives. Every listener of the queue receives it. With headers `ce-…`,
    including `ce-specversion`, the request is a CloudEvent in binary mode: its body is the data, of any media type.
    """
    body = call.body
    [message] = messages_of_events(call, body) if isinstance(body, EventBody) else [message_of_body(call, body, "")]
    queue = await _queue(call)
    (entry,) = await publish(call.services.publisher, queue, (message,), once=call.idempotency_key, name=call.name)
    shown = _published(entry.id, message.alias, entry.stored_at, message.deliver_at)
    return _response(message=shown, links=call.links(shown.id))


def create_again(call: Call, stored: StoredResponse) -> ApiResponse:
    """Recreate the response of `create` or `create_batch`."""
    shown = [
        _published(message_id, alias, stored.stored_at, deliver_at)
        for message_id, alias, deliver_at in stored_messages(stored.content)
    ]
    if call.path.endswith("/batch"):
        return _created_batch(call, shown)
    return _response(message=shown[0], links=call.links(shown[0].id))


async def create_batch(call: Call) -> ApiResponse:
    """Publish many messages. Publishes all of them or none."""
    body = call.body
    if isinstance(body, EventBody):
        batch = messages_of_events(call, body)
    else:
        batch = await messages_of_batch(call, body.messages)
    entries = await publish(
        call.services.publisher, await _queue(call), batch, once=call.idempotency_key, name=call.name
    )
    shown = [
        _published(entry.id, message.alias, entry.stored_at, message.deliver_at)
        for entry, message in zip(entries, batch, strict=True)
    ]
    return _created_batch(call, shown)


def _created_batch(call: Call, shown: list[MessageView]) -> ApiResponse:
    url = call.url.removesuffix("/batch")
    below = [LinkTarget(message.alias, message.id, f"{url}/{message.id}") for message in shown]
    return _batch_response(messages=shown, links=links_of(url, below))


async def get(call: Call) -> ApiResponse:
    """Get a message and its deliveries."""
    details = await messages.get(call.control, call.principal, *call.ids, reserve=call.reserve_data)
    options, body = details.message.options, details.message.body
    return _MESSAGES.one(
        call,
        msgspec.structs.replace(details.message, body=None),
        content_type=options.given_media_type or UNSET,
        state=or_unset(details.state),
        deliveries=[delivery_view(delivery) for delivery in details.deliveries],
        deliver_at=or_unset(options.deliver_at),
        expires_at=details.message.expires_at or UNSET,
        retry=retry_view(options.retry),
        **({} if body is None else await fields_of_any_data(body, details.message.codec)),
    )


async def change(call: Call) -> ApiResponse:
    """Change the alias of a message."""
    changed = await messages.change(call.control, call.principal, *call.ids, fields=NameFields(*call.names()))
    shown = msgspec.structs.replace(
        _published(changed.id, changed.alias, changed.stored_at), updated_at=changed.updated_at
    )
    call.version = version_of(changed)
    return _response(message=shown, links=call.links())


async def message_limit(services: Services, principal: Principal, ids: tuple[str, ...]) -> int:
    """Return the size of the queue's largest message, if every character of it is escaped."""
    queue = await services.control.cache.queue(principal.organization, ids[0])
    return body_limit(queue.max_message_bytes)


async def batch_limit(services: Services, principal: Principal, ids: tuple[str, ...]) -> int:
    """Return the limit, which is the same for every queue. Raises NotFound."""
    # For that error: a body of several megabytes should not be read for a queue that does not exist.
    await services.control.cache.queue(principal.organization, ids[0])
    return BATCH_BYTES


async def _queue(call: Call) -> QueueRecord:
    # Nearly every queue is cached, and a coroutine would cost more than the lookup.
    cache, organization, queue_id = call.control.cache, call.principal.organization, call.ids[0]
    return cache.cached_queue(organization, queue_id) or await cache.queue(organization, queue_id)


def messages_of_events(call: Call, body: EventBody) -> list[NewMessage]:
    """Return the messages to publish for events. Raises Unprocessable."""
    _check_number(len(body.events), "")
    return [
        NewMessage(
            event.data,
            event.codec,
            pointer=event.pointer,
            options=MessageOptions(event.headers, event.key, media_type=event.media_type, type=event.type),
            traceparent=traceparent_in(event.headers) or call.traceparent,
        )
        for event in body.events
    ]


def _check_number(messages: int, pointer: str) -> None:
    if not 1 <= messages <= BATCH_MESSAGES:
        raise invalid(pointer, f"must have 1 to {BATCH_MESSAGES} messages")


async def messages_of_batch(call: Call, batch: Sequence[MessageBody]) -> list[NewMessage]:
    """Return the messages to publish for a batch. Lets other tasks run. Raises BadRequest and Unprocessable."""
    _check_number(len(batch), "/messages")
    messages, time_slice = [], TimeSlice()
    for index, message in enumerate(batch):
        messages.append(message_of_body(call, message, f"/messages/{index}"))
        await time_slice.pause_if_over()
    return messages


def message_of_body(call: Call, body: MessageBody, pointer: str) -> NewMessage:
    """Return the message to publish for a body, which is at `pointer` in the request. Raises Unprocessable."""
    # Most messages have neither a name nor options, and this runs for each message of a batch.
    alias = None
    if body.alias is not UNSET or body.name is not UNSET:
        alias = reconcile(*names_given(body), None)
        if alias is not None:
            check_alias(alias, f"{pointer}/alias")
    if body.data and not body.has_options:
        value = bytes(body.data)
        # `data_of` without the call, for what most messages are.
        data, codec = data_of(value) if value[0] == QUOTE else (value, JSON_VALUE)
        return NewMessage(data, codec, alias, f"{pointer}/data", traceparent=call.traceparent)
    return _with_options(call, body, alias, pointer)


def _with_options(call: Call, body: MessageBody, alias: str | None, pointer: str) -> NewMessage:
    now = call.control.clock.now()
    content_type = content_type_given(body.content_type, pointer)
    data, data_pointer = data_given(body.data, body.data_base64, content_type, pointer)
    deliver_at = due_at(body.deliver_at, body.delay, pointer, now)
    own = headers.check_headers(body.headers, f"{pointer}/headers") if isinstance(body.headers, dict) else ()
    options = MessageOptions(
        headers=own,
        key=key_given(body.key, f"{pointer}/key"),
        retry=chosen_retry(None, retry_given(body.retry), pointer),
        deliver_at=deliver_at,
        type=checked_type(text_given(body.type), own, pointer),
        content_type=content_type,
    )
    expires_at = body.expires_at if isinstance(body.expires_at, int) else None
    if expires_at is not None:
        check_unit(expires_at, f"{pointer}/expires_at")
        if not now < expires_at <= LAST_INSTANT:
            raise invalid(f"{pointer}/expires_at", "must be in the future, in milliseconds since the epoch")
    if expires_at is not None and deliver_at is not None and expires_at <= deliver_at:
        raise invalid(f"{pointer}/expires_at", "must be later than the message is delivered", code="conflicting_fields")
    traceparent = traceparent_in(options.headers) or call.traceparent
    return NewMessage(*data, alias, data_pointer, expires_at, options, traceparent)


def _published(message_id: str, given: str | None, stored_at: int, deliver_at: int | None = None) -> MessageView:
    alias, due = given or message_id, or_unset(deliver_at)
    return MessageView(
        id=message_id, alias=alias, name=alias, created_at=stored_at, updated_at=stored_at, deliver_at=due
    )


def _listed(message: StoredMessage) -> MessageView:
    options, data = message.options, {}
    if message.body is not None:
        data = {"content_type": options.given_media_type or UNSET, **data_fields(message.body, message.codec)}
    return view_of(
        MessageView,
        message,
        created_at=message.stored_at,
        queue_id=message.queue_public_id,
        expires_at=UNSET,
        type=or_unset(options.type),
        # A delayed message gets its place when it is due.
        sequence=UNSET if message.is_delayed else message.seq,
        key=or_unset(options.key),
        headers=dict(options.headers) or UNSET,
        **data,
    )


ROUTES = (
    _MESSAGES.list_route(
        messages.page,
        "List the messages of all queues.",
        MESSAGE_PAGES,
        path="/messages",
        collection=lambda item: f"/queues/{item.queue_public_id}/messages",
        reads=MESSAGES,
    ),
    _MESSAGES.list_route(messages.page_of_queue, "List the messages of a queue.", MESSAGE_PAGES, reads=MESSAGES),
    Route(
        CREATE,
        _MESSAGES.path,
        create,
        _WRITE,
        MessageBody,
        _MESSAGES.response,
        codes=("system_queue_read_only",),
        limit=message_limit,
        repeat=create_again,
        events="one",
        reads=PUBLISHES,
    ),
    Route(
        POST,
        _MESSAGES.path + "/batch",
        create_batch,
        _WRITE,
        BatchBody,
        _MESSAGES.page_response,
        codes=("system_queue_read_only",),
        limit=batch_limit,
        repeat=create_again,
        events="many",
        reads=PUBLISHES,
    ),
    Route(GET, _MESSAGES.item, get, _READ, response=_MESSAGES.response, reads=MESSAGE),
    Route(
        PUT,
        _MESSAGES.item,
        change,
        _WRITE,
        MessageChangeBody,
        _MESSAGES.response,
        example={"alias": "order-17"},
        reads=FEW_ROWS,
    ),
    _MESSAGES.delete_route(messages.delete, "Delete a message. Pending deliveries are dropped."),
)
