"""Queues: logs of messages, each of which goes to every listener."""

from typing import get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.control import channels, usage
from discue.control.context import ControlContext, require_found
from discue.control.listener_options import chosen_retry
from discue.domain.aliases import changed_alias, new_alias
from discue.domain.errors import Fault, Forbidden, NotFound, Unprocessable
from discue.domain.model import OnMissed, Queue, RetryOptions, SchemaLanguage
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
    """That a queue shall have no schema, if it has one in one of these languages."""

    languages: frozenset[SchemaLanguage]


class QueueFields(msgspec.Struct, frozen=True):
    """What a request says of a queue. None goes back to what the service's settings say."""

    alias: str | None = None
    name: str | None = None
    retention_seconds: int | UnsetType | None = UNSET
    max_message_bytes: int | UnsetType | None = UNSET
    schema: Schema | ClearedSchema | UnsetType = UNSET
    retry: RetryOptions | UnsetType | None = UNSET
    ordered: bool | UnsetType | None = UNSET
    on_missed: str | UnsetType | None = UNSET


class QueueDetails(msgspec.Struct, frozen=True):
    """A queue, the end of its log, and its oldest listeners: at most 100."""

    queue: Queue
    head: Head
    listeners: tuple[ResourceRef, ...]


async def create(control: ControlContext, principal: Principal, fields: QueueFields) -> QueueDetails:
    """Without a name it is called by its id.

    Raises Unprocessable for a taken or unfit alias, and for values out of range, and QuotaUsedUp.
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
        await events.record(tx, occurrence, "queue_added", queue.organization, queue.public_id, queue.alias)
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
    """Raises what `create` raises."""
    now = control.clock.now()
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> QueueDetails:
        stored = await _own(tx, principal, "write", public_id)
        control.require_match(stored)
        changed = _changed(stored, fields, changed_alias(fields, stored.alias), now)
        await queues.update(tx, changed)
        await feed.record(tx, "queue", stored.organization, stored.id)
        await events.record(tx, occurrence, "queue_updated", stored.organization, stored.public_id, changed.alias)
        return await _details(tx, changed)

    return await control.write(work)


async def delete(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Its listeners, its messages and the channels into it go with it. Nothing is found or published from now on."""
    now = control.clock.now()
    job_id = control.row_ids.next()
    occurrence = control.occurrence(principal)

    async def work(tx: Transaction) -> None:
        stored = await _own(tx, principal, "write", public_id)
        control.require_match(stored)
        await channels.leave(tx, stored)
        await queues.mark_deleted(tx, stored.organization, stored.id, now)
        await purge.enqueue(tx, Job(stored.organization, job_id, "purge_queue", queue=stored.id))
        await feed.record(tx, "queue", stored.organization, stored.id)
        await events.record(tx, occurrence, "queue_deleted", stored.organization, stored.public_id, stored.alias)

    await control.write(work)


async def _own(tx: Transaction, principal: Principal, access: Access, public_id: str) -> Queue:
    principal.require("queues", access, public_id)
    return require_found(await queues.get(tx, principal.organization, public_id))


async def _details(tx: Transaction, queue: Queue) -> QueueDetails:
    head = require_found(await queues.head(tx, queue.organization, queue.id))
    shown = await listeners.references(tx, queue.organization, queue.id, SHOWN_LISTENERS)
    return QueueDetails(queue, head, tuple(shown))


def _draft(control: ControlContext, principal: Principal) -> Queue:
    """A queue that nothing was said of. Its version is 0: the first one stored is 1."""
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
        ordered=_order(stored, fields.ordered),
        on_missed=_on_missed(stored, fields),
        config_version=stored.config_version + 1,
        updated_at=now,
    )


def _order(stored: Queue, asked: bool | UnsetType | None) -> bool:  # noqa: FBT001 - it is the field itself
    """Chosen when the queue is made: what was passed by its cursors in no order could not be put into one."""
    if isinstance(asked, UnsetType):
        return stored.ordered
    ordered = bool(asked)
    if ordered != stored.ordered and stored.config_version > 0:
        rule = "is chosen when the queue is created"
        raise Unprocessable(f"The value at /ordered {rule}.", faults=(Fault("/ordered", rule),))
    return ordered


def _on_missed(stored: Queue, fields: QueueFields) -> OnMissed:
    """Chosen with the order: what was missed and has let others pass holds no key."""
    if isinstance(fields.on_missed, UnsetType):
        return stored.on_missed
    asked = next((each for each in ON_MISSED if each == (fields.on_missed or "pass")), None)
    if asked is None:
        raise _unfit_choice(f"must be one of {', '.join(ON_MISSED)}")
    if asked != stored.on_missed and stored.config_version > 0:
        raise _unfit_choice("is chosen when the queue is created")
    if asked == "block" and not _order(stored, fields.ordered):
        raise _unfit_choice("blocks keys of ordered queues alone: ordered must be true")
    return asked


def _unfit_choice(rule: str) -> Unprocessable:
    return Unprocessable(f"The value at /on_missed {rule}.", faults=(Fault("/on_missed", rule),))


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
        rule = f"must be from {bounds.start} to {bounds.stop - 1}"
        raise Unprocessable(f"The value at {pointer} {rule}.", faults=(Fault(pointer, rule),))
    return value


async def get_schema(control: ControlContext, principal: Principal, queue_public_id: str, schema_id: str) -> Queue:
    """The queue that has this schema now. Raises NotFound for another one, also for one that it had before."""
    principal.require("schemas", "read", schema_id, queue_public_id)

    async def work(tx: Transaction) -> Queue:
        return require_found(await queues.get(tx, principal.organization, queue_public_id))

    queue = await control.store.read(work)
    if queue.schema_id != schema_id:
        raise NotFound
    return queue
