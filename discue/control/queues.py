"""Queues. A queue is a log of messages, and each listener receives all messages stored after its creation."""

from typing import get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.control import channels, usage
from discue.control.context import ControlContext, require_found
from discue.control.listener_options import chosen_retry
from discue.domain.aliases import changed_alias, new_alias
from discue.domain.errors import Forbidden, NotFound, invalid
from discue.domain.model import OnMissed, Queue, SchemaLanguage
from discue.domain.retry import RetryOptions
from discue.domain.schemas.schema import Schema
from discue.domain.scopes import Access, Principal
from discue.store import events, feed, listeners, purge, queues
from discue.store.engine import Transaction
from discue.store.listeners import ResourceRef
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.purge import Job
from discue.store.queues import Head

SHOWN_LISTENERS = 100
ON_MISSED: tuple[OnMissed, ...] = get_args(OnMissed)
LARGEST_MESSAGE_BYTES = 8_388_608
LONGEST_RETENTION_SECONDS = 3_153_600_000


class ClearedSchema(msgspec.Struct, frozen=True):
    """A request to remove the queue's schema if it is written in one of these languages."""

    languages: frozenset[SchemaLanguage]


class QueueFields(msgspec.Struct, frozen=True):
    """The fields of a queue in a request. UNSET keeps the stored value, None restores the server's default."""

    alias: str | None = None
    name: str | None = None
    retention_seconds: int | UnsetType | None = UNSET
    max_message_bytes: int | UnsetType | None = UNSET
    schema: Schema | ClearedSchema | UnsetType = UNSET
    retry: RetryOptions | UnsetType | None = UNSET
    ordered: bool | UnsetType | None = UNSET
    on_missed: str | UnsetType | None = UNSET


class QueueDetails(msgspec.Struct, frozen=True):
    """A queue, the head of its log, and its oldest listeners, at most 100."""

    queue: Queue
    head: Head
    listeners: tuple[ResourceRef, ...]


async def create(control: ControlContext, principal: Principal, fields: QueueFields) -> QueueDetails:
    """Create a queue; its default alias is its id.

    Raises Unprocessable for a taken or invalid alias and values out of range, and QuotaUsedUp.
    """
    if not principal.allows_all("queues", "write"):
        raise Forbidden
    draft = _draft(control, principal)
    queue = _changed(draft, fields, new_alias(fields, draft.alias), draft.created_at)
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> QueueDetails:
        await usage.require_queue(tx, control, queue.organization)
        await queues.insert(tx, queue)
        await feed.record(tx, "queue", queue.organization, queue.id)
        await events.record(tx, occurrence, "queue_added", queue.organization, ref=queue.public_id, name=queue.alias)
        return QueueDetails(queue, Head(0, 0, 0), ())

    return await control.write(work)


async def get(control: ControlContext, principal: Principal, public_id: str) -> QueueDetails:
    async def work(tx: Transaction) -> QueueDetails:
        return await _details(tx, await _own(tx, principal, "read", public_id))

    return await control.store.read(work)


async def page(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[QueueDetails]:
    targets = principal.targets_of("queues", "read")

    async def work(tx: Transaction) -> Listing[QueueDetails]:
        found = await queues.page(tx, principal.organization, selection, targets)
        ids = [queue.id for queue in found.items]
        heads = await queues.heads(tx, principal.organization, ids)
        shown = await listeners.references_of(tx, principal.organization, ids, SHOWN_LISTENERS)
        items = [QueueDetails(queue, heads[queue.id], tuple(shown.get(queue.id, ()))) for queue in found.items]
        return Listing(tuple(items), found.has_next, found.has_previous)

    return await control.store.read(work)


async def change(control: ControlContext, principal: Principal, public_id: str, fields: QueueFields) -> QueueDetails:
    """Change a queue. Raises what `create` raises."""
    now = control.clock.now()
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> QueueDetails:
        stored = await _own(tx, principal, "write", public_id)
        control.require_match(stored)
        changed = _changed(stored, fields, changed_alias(fields, stored.alias), now)
        await queues.update(tx, changed)
        await feed.record(tx, "queue", stored.organization, stored.id)
        await events.record(
            tx, occurrence, "queue_updated", stored.organization, ref=stored.public_id, name=changed.alias
        )
        return await _details(tx, changed)

    return await control.write(work)


async def delete(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Delete a queue with its listeners, messages and the channels into it; a background job purges their rows."""
    now = control.clock.now()
    job_id = control.row_ids.next()
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> None:
        stored = await _own(tx, principal, "write", public_id)
        control.require_match(stored)
        await channels.delete_into(tx, stored)
        await queues.mark_deleted(tx, stored.organization, stored.id, now)
        await purge.enqueue(tx, Job(stored.organization, job_id, "purge_queue", queue=stored.id))
        await feed.record(tx, "queue", stored.organization, stored.id)
        await events.record(
            tx, occurrence, "queue_deleted", stored.organization, ref=stored.public_id, name=stored.alias
        )

    await control.write(work)


async def _own(tx: Transaction, principal: Principal, access: Access, public_id: str) -> Queue:
    principal.require("queues", access, public_id)
    queue = await queues.get(tx, principal.organization, public_id)
    if queue is None:
        raise NotFound
    return queue


async def _details(tx: Transaction, queue: Queue) -> QueueDetails:
    head = await queues.head(tx, queue.organization, queue.id)
    if head is None:
        raise NotFound
    shown = await listeners.references(tx, queue.organization, queue.id, SHOWN_LISTENERS)
    return QueueDetails(queue, head, tuple(shown))


def _draft(control: ControlContext, principal: Principal) -> Queue:
    """Return a new queue with the defaults of all fields. Its version is 0; the first stored version is 1."""
    public_id, now = control.public_ids.next(), control.clock.now()
    return Queue(
        organization=principal.organization,
        id=control.row_ids.next(),
        public_id=public_id,
        alias=public_id,
        retention_seconds=None,
        max_message_bytes=None,
        config_version=0,
        created_at=now,
        updated_at=now,
    )


def _changed(stored: Queue, fields: QueueFields, alias: str, now: int) -> Queue:
    retention = _within(fields.retention_seconds, "/retention", range(LONGEST_RETENTION_SECONDS + 1))
    size = _within(fields.max_message_bytes, "/max_message_bytes", range(1, LARGEST_MESSAGE_BYTES + 1))
    return msgspec.structs.replace(
        _with_schema(stored, fields.schema, now),
        alias=alias,
        retention_seconds=stored.retention_seconds if isinstance(retention, UnsetType) else retention,
        max_message_bytes=stored.max_message_bytes if isinstance(size, UnsetType) else size,
        retry=chosen_retry(stored.retry, fields.retry),
        ordered=_ordered(stored, fields.ordered),
        on_missed=_on_missed(stored, fields),
        config_version=stored.config_version + 1,
        updated_at=now,
    )


def _ordered(stored: Queue, asked: bool | UnsetType | None) -> bool:  # noqa: FBT001 - it is the field itself
    """Return whether the queue is ordered. Fixed at creation: cursors have passed older messages in any order."""
    if isinstance(asked, UnsetType):
        return stored.ordered
    ordered = bool(asked)
    if ordered != stored.ordered and stored.config_version > 0:
        raise invalid("/ordered", "cannot be changed after the queue is created")
    return ordered


def _on_missed(stored: Queue, fields: QueueFields) -> OnMissed:
    """Return the policy for missed messages. Fixed at creation: earlier missed messages do not block their keys."""
    if isinstance(fields.on_missed, UnsetType):
        return stored.on_missed
    asked = next((each for each in ON_MISSED if each == (fields.on_missed or "pass")), None)
    if asked is None:
        raise invalid("/on_missed", f"must be one of {', '.join(ON_MISSED)}")
    if asked != stored.on_missed and stored.config_version > 0:
        raise invalid("/on_missed", "cannot be changed after the queue is created")
    if asked == "block" and not _ordered(stored, fields.ordered):
        raise invalid("/on_missed", "can be block only in an ordered queue: set ordered to true")
    return asked


def _with_schema(stored: Queue, schema: Schema | ClearedSchema | UnsetType, now: int) -> Queue:
    if isinstance(schema, UnsetType):
        return stored
    if isinstance(schema, ClearedSchema):
        if stored.schema_language not in schema.languages:
            return stored
        return msgspec.structs.replace(stored, schema=None, schema_id=None, schema_language="rules", schema_set_at=0)
    is_same = (schema.text, schema.language) == (stored.schema, stored.schema_language)
    return msgspec.structs.replace(
        stored,
        schema=schema.text,
        schema_id=schema.id,
        schema_language=schema.language,
        schema_set_at=stored.schema_set_at if is_same else now,
    )


def _within(value: int | UnsetType | None, pointer: str, bounds: range) -> int | UnsetType | None:
    if isinstance(value, int) and value not in bounds:
        raise invalid(pointer, f"must be from {bounds.start} to {bounds.stop - 1}")
    return value


async def get_schema(control: ControlContext, principal: Principal, queue_public_id: str, schema_id: str) -> Queue:
    """Return the queue whose current schema has this id. Raises NotFound for any other id, also a previous one."""
    principal.require("schemas", "read", schema_id, queue_public_id)

    async def work(tx: Transaction) -> Queue:
        return require_found(await queues.get(tx, principal.organization, queue_public_id))

    queue = await control.store.read(work)
    if queue.schema_id != schema_id:
        raise NotFound
    return queue
