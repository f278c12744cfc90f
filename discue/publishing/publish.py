"""Publishing to queues. Messages are checked, numbered and durable when this returns; the lanes deliver them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import msgspec

from discue.auth.control_plane_cache import ControlPlaneCache, QueueRecord
from discue.domain.clock import Clock
from discue.domain.errors import DiscueError, Fault, NotFound, PayloadTooLarge, Unavailable, Unprocessable, invalid
from discue.domain.idempotency import RETENTION_MS, IdempotencyKey
from discue.domain.ids import PublicIds, RowIds, postponed
from discue.domain.message_data import Codec, is_json
from discue.domain.messages import NO_KEY_HASH, Entry, MessageOptions, encode_options, encode_traceparent, hash_key
from discue.domain.quotas import PublishUsage, Quotas
from discue.domain.schemas import MAX_FAULTS, SchemaValidator
from discue.domain.system_events import publishing_refused
from discue.observability.tracing import Tracer
from discue.publishing.quota_gate import QuotaGate
from discue.store.engine import (
    AlreadyDone,
    Append,
    Appended,
    IdempotencyRecord,
    NewEntry,
    QueueClosed,
    StaleConfiguration,
)
from discue.store.store import Store
from discue.store.time_slice import TimeSlice

TRIES = 5
_NO_OPTIONS = MessageOptions()

_pack: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
stored_messages = msgspec.msgpack.Decoder(list[tuple[str, str | None, int | None]]).decode
"""Returns ids, aliases and due times of the messages of an earlier request, from the content stored with its key.

The content is not encrypted: the log contains the same values.
"""


class NewMessage(msgspec.Struct, frozen=True, gc=False):
    """A validated message of a request. Fields that the request omits are None."""

    body: bytes
    codec: Codec
    alias: str | None = None
    pointer: str = "/data"
    """JSON pointer to the data in the request."""
    expires_at: int | None = None
    options: MessageOptions | None = None
    traceparent: str | None = None
    """The trace that the message is published in, as `parse_traceparent` returns it."""

    @property
    def deliver_at(self) -> int | None:
        """When it is due, in milliseconds since the epoch; None: at once."""
        return None if self.options is None else self.options.deliver_at


class Publisher(msgspec.Struct, frozen=True):
    """The dependencies of publishing."""

    store: Store
    cache: ControlPlaneCache
    clock: Clock
    public_ids: PublicIds
    quotas: QuotaGate
    row_ids: RowIds
    tracer: Tracer | None = None
    """Records publishes in sampled traces; None unless spans are exported."""


async def publish(
    publisher: Publisher,
    queue: QueueRecord,
    messages: Sequence[NewMessage],
    *,
    once: IdempotencyKey | None = None,
    name: str = "",
) -> tuple[Entry, ...]:
    """Store messages in a queue, all or none, and return them as stored in its log.

    `name` is the alias that the queue must still have, if it was found by it. Raises NotFound if the queue was deleted
    or has another alias, PayloadTooLarge, Unprocessable with a fault for each violation of the queue's schema (at most
    100), QuotaExceeded and Overloaded. Raises Forbidden for the queue of system events. Raises AlreadyDone if the
    idempotency key was used before. Raises StoreUnavailable if it is unknown whether the messages were stored.
    """
    if queue.is_system:
        raise publishing_refused()
    # Made once: a try after a changed configuration must not give the messages other ids.
    new_id, ordered = publisher.public_ids.next, queue.ordered
    if len(messages) == 1:
        new: tuple[NewEntry, ...] = (entry_for(new_id(), messages[0], ordered=ordered),)
    else:
        entries, time_slice = [], TimeSlice()
        for message in messages:
            entries.append(entry_for(new_id(), message, ordered=ordered))
            await time_slice.pause_if_over()
        new = tuple(entries)
    kept = None
    if once is not None:
        kept = record_of(publisher, once, [(each.id, each.alias, each.due_at) for each in new])
    # Most publishes need neither of these, and each coroutine between the request and the store has its cost.
    publish_new = _publish if queue.quotas is None else partial(_publish_within_quotas, quotas=queue.quotas)
    if publisher.tracer is not None and is_any_recorded(publisher.tracer, messages):
        with recorded_publish(publisher.tracer, queue.alias, [each.id for each in new], messages):
            return await publish_new(publisher, queue, messages, new, kept=kept, name=name)
    return await publish_new(publisher, queue, messages, new, kept=kept, name=name)


async def _publish_within_quotas(
    publisher: Publisher,
    queue: QueueRecord,
    messages: Sequence[NewMessage],
    new: tuple[NewEntry, ...],
    *,
    kept: IdempotencyRecord | None,
    name: str,
    quotas: Quotas,
) -> tuple[Entry, ...]:
    size = sum(entry.size for entry in new) + (0 if kept is None else kept.size)
    async with publisher.quotas.reserve(queue.account, quotas, PublishUsage(len(new), size)):
        return await _publish(publisher, queue, messages, new, kept=kept, name=name)


async def _publish(
    publisher: Publisher,
    queue: QueueRecord,
    messages: Sequence[NewMessage],
    new: tuple[NewEntry, ...],
    *,
    kept: IdempotencyRecord | None,
    name: str,
) -> tuple[Entry, ...]:
    for _ in range(TRIES):
        version = publisher.cache.version
        try:
            check_sizes(messages, queue.max_message_bytes)
            if queue.checker is not None:
                await check_schema(messages, queue.checker)
            if queue.has_known_types:
                await check_types(publisher.cache, queue.organization, messages)
        except (PayloadTooLarge, Unprocessable):
            await publisher.cache.catch_up()
            current = await publisher.cache.queue(queue.organization, queue.public_id)
            if current is queue and publisher.cache.version == version:
                raise
            # Another worker has just changed the queue, or may have changed the event types.
            queue = current
            await check_messages(publisher.cache, queue, messages)
        now = publisher.clock.now()
        append = Append(queue.organization, queue.id, queue.config_version, now, new, kept)
        try:
            appended: Appended = await publisher.store.append(append)
        except StaleConfiguration:
            await publisher.cache.catch_up()
            queue = await publisher.cache.queue(queue.organization, queue.public_id)
            if name and queue.alias != name:
                # Renamed by another worker. Another queue may have the name by now.
                raise NotFound from None
        except QueueClosed as error:
            raise NotFound from error
        else:
            return appended.entries
    raise Unavailable("The configuration of the queue changed during the request. Try again.")


def record_of(publisher: Publisher, once: IdempotencyKey, messages: object) -> IdempotencyRecord:
    """Return what is stored with an idempotency key: the messages, which the response to a repeated request names."""
    row_id = publisher.row_ids.next()
    if once.kept_ms > RETENTION_MS:
        row_id = postponed(row_id, once.kept_ms - RETENTION_MS)
    return IdempotencyRecord(once.hash, once.fingerprint, _pack(messages), row_id)


def entry_for(public_id: str, message: NewMessage, *, ordered: bool = False, body_id: int | None = None) -> NewEntry:
    """Return the message as a row to append. In an `ordered` queue it has a key hash even without a key."""
    if message.options is None and not ordered:
        extra = None if message.traceparent is None else encode_traceparent(message.traceparent)
        return NewEntry(public_id, message.codec, message.body, message.alias, extra=extra, body_id=body_id)
    options = message.options or _NO_OPTIONS
    if message.traceparent is not None:
        options = msgspec.structs.replace(options, traceparent=message.traceparent)
    without = NO_KEY_HASH if ordered else None
    return NewEntry(
        public_id,
        message.codec,
        message.body,
        message.alias,
        expires_at=message.expires_at,
        key_hash=without if options.key is None else hash_key(options.key),
        extra=encode_options(options),
        due_at=options.deliver_at,
        body_id=body_id,
    )


async def check_schema(
    messages: Sequence[NewMessage],
    checker: SchemaValidator,
    *,
    destination: str = "",
    time_slice: TimeSlice | None = None,
) -> None:
    """Raise Unprocessable unless the messages fit the schema of a queue. Lets other tasks run between messages.

    `destination` names the queue in the error, if the request did not name it. `time_slice` is that of a larger check.
    """
    faults: list[Fault] = []
    time_slice = time_slice or TimeSlice()
    for message in messages:
        faults.extend(_violations(message, checker))
        if len(faults) >= MAX_FAULTS:
            break
        await time_slice.pause_if_over()
    if faults:
        sentence = (
            f"The schema of {destination or 'the queue'} rejects the data: {faults[0].pointer} {faults[0].detail}."
        )
        raise Unprocessable(sentence, code="schema_violation", faults=tuple(faults[:MAX_FAULTS]))


async def check_types(cache: ControlPlaneCache, organization: int, messages: Sequence[NewMessage]) -> None:
    """Raise Unprocessable unless each message has a type of the organization's catalogue and fits its schema."""
    by_type: dict[str, list[NewMessage]] = {}
    for message in messages:
        by_type.setdefault((message.options or _NO_OPTIONS).type or "", []).append(message)
    time_slice = TimeSlice()
    for event_type, some in by_type.items():
        try:
            known = await cache.event_type(organization, event_type)
        except NotFound:
            pointer = f"{some[0].pointer.rpartition('/')[0]}/type"
            rule = "must be an event type (GET /event_types lists them): the organization has require_known_types"
            raise invalid(pointer, rule if event_type else f"is required, and {rule}", code="unknown_type") from None
        if known.checker is not None:
            name = f"the event type {event_type}"
            check_sizes(some, known.checker.max_bytes, destination=name)
            await check_schema(some, known.checker, destination=name, time_slice=time_slice)


async def check_messages(cache: ControlPlaneCache, queue: QueueRecord, messages: Sequence[NewMessage]) -> None:
    """Raise what `publish` raises for messages that the queue does not accept."""
    check_sizes(messages, queue.max_message_bytes)
    if queue.checker is not None:
        await check_schema(messages, queue.checker)
    if queue.has_known_types:
        await check_types(cache, queue.organization, messages)


def check_sizes(messages: Sequence[NewMessage], limit: int, *, destination: str = "") -> None:
    """Raise PayloadTooLarge unless the messages fit the size limit of a queue."""
    for message in messages:
        if len(message.body) > limit:
            fault = Fault(message.pointer, f"has {len(message.body)} bytes; at most {limit} are allowed")
            sentence = f"A message of {destination or 'this queue'} can have at most {limit} bytes (max_message_bytes)."
            raise PayloadTooLarge(sentence, code="message_too_large", faults=(fault,))


def _violations(message: NewMessage, checker: SchemaValidator) -> Sequence[Fault]:
    if not is_json(message.codec):
        return (Fault(message.pointer, "must be JSON: it must fit a schema"),)
    return checker.violations(message.body, message.pointer, time.perf_counter)


def is_any_recorded(tracer: Tracer, messages: Sequence[NewMessage]) -> bool:
    """Return whether the trace of any of these messages is recorded."""
    # No generator: this runs for each publish while spans are exported.
    for message in messages:  # noqa: SIM110
        if message.traceparent is not None and tracer.records(message.traceparent):
            return True
    return False


@contextmanager
def recorded_publish(
    tracer: Tracer, destination: str, ids: Sequence[str], messages: Sequence[NewMessage]
) -> Iterator[None]:
    """Record a span for each recorded trace that messages belong to, when the block that stores them ends."""
    started_at, error, by_trace = tracer.now(), "", dict[str, list[str]]()
    for public_id, message in zip(ids, messages, strict=True):
        if message.traceparent is not None and tracer.records(message.traceparent):
            by_trace.setdefault(message.traceparent, []).append(public_id)
    try:
        yield
    except AlreadyDone:
        # A repeated request published nothing, and its messages have other ids.
        by_trace.clear()
        raise
    except DiscueError as failure:
        error = failure.code
        raise
    finally:
        for creation, published in by_trace.items():
            attributes: dict[str, str | int] = {"messaging.operation.type": "send"}
            if len(published) == 1:
                attributes["messaging.message.id"] = published[0]
            else:
                attributes["messaging.batch.message_count"] = len(published)
            tracer.end(
                "publish",
                destination,
                "producer",
                creation=creation,
                started_at=started_at,
                attributes=attributes,
                error=error,
            )
