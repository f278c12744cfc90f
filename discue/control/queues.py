"""Queues. A queue is a log of messages, and each listener receives all messages stored after its creation."""

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.control import topics, usage
from discue.control.context import (
    ControlContext,
    Record,
    changed_settings,
    chosen,
    one_of,
    reading,
    require_found,
    within,
)
from discue.control.listener_fields import chosen_retry
from discue.domain.aliases import NameFields, changed_alias, check_alias, check_customer, new_alias
from discue.domain.errors import Conflict, NotFound, Unprocessable, invalid
from discue.domain.model import OnMissed, Queue, SchemaLanguage
from discue.domain.retry import RetryOptions
from discue.domain.schemas import Schema, parse_schema
from discue.domain.scopes import Principal
from discue.domain.system_events import SYSTEM_QUEUE_ALIAS, check_not_reserved
from discue.store import aliases, purge, queues, schedules, sources
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection
from discue.store.purge import Job
from discue.store.queues import Head, QueueBacklog, ResourceRef

SHOWN_LISTENERS = 100
ON_MISSED: tuple[OnMissed, ...] = get_args(OnMissed)
LARGEST_MESSAGE_BYTES = 8_388_608
LONGEST_RETENTION_SECONDS = 3_153_600_000


class ClearedSchema(msgspec.Struct, frozen=True):
    """A request to remove the queue's schema if it is written in one of these languages."""

    languages: frozenset[SchemaLanguage]


class QueueFields(NameFields, frozen=True):
    """The fields of a queue in a request. UNSET keeps the stored value, None restores the server's default."""

    retention_seconds: int | UnsetType | None = UNSET
    max_message_bytes: int | UnsetType | None = UNSET
    schema: Schema | ClearedSchema | UnsetType = UNSET
    retry: RetryOptions | UnsetType | None = UNSET
    ordered: bool | UnsetType | None = UNSET
    on_missed: str | UnsetType | None = UNSET
    customer: str | UnsetType | None = UNSET


class QueueDetails(msgspec.Struct, frozen=True):
    """A queue, the head of its log, and its oldest listeners, at most 100."""

    queue: Queue
    head: Head
    listeners: tuple[ResourceRef, ...]

    @property
    def listener_count(self) -> int:
        return len(self.listeners)


class QueueSummary(msgspec.Struct, frozen=True):
    """A queue, the head of its log, and the number of its listeners, of which at most 100 are counted."""

    queue: Queue
    head: Head
    listener_count: int


async def create(control: ControlContext, principal: Principal, fields: QueueFields) -> QueueDetails:
    """Create a queue; its default alias is its id.

    Raises Unprocessable for a taken or invalid alias and values out of range, and QuotaUsedUp.
    """
    principal.require("queues", "write")
    draft = _draft(control, principal.organization)
    queue = _changed(draft, fields, new_alias(fields, draft.public_id, _check_alias), draft.created_at)

    async def work(tx: Transaction, record: Record) -> QueueDetails:
        await usage.require_room(tx, control, queue, "queues")
        await queues.insert(tx, queue)
        await record("queue_added", queue)
        return QueueDetails(queue, Head(0, 0, 0), ())

    return await control.write_as(principal, work)


def new_system_queue(control: ControlContext, organization: int) -> Queue:
    """Return the queue to which the service publishes the events of an organization that is created now."""
    draft = _draft(control, organization)
    return msgspec.structs.replace(draft, alias=SYSTEM_QUEUE_ALIAS, config_version=1, is_system=True)


def _draft(control: ControlContext, organization: int) -> Queue:
    public_id, now = control.public_ids.next(), control.clock.now()
    return Queue(
        organization=organization,
        id=control.row_ids.next(),
        public_id=public_id,
        alias=public_id,
        retention_seconds=None,
        max_message_bytes=None,
        config_version=0,
        created_at=now,
        updated_at=now,
    )


async def get(control: ControlContext, principal: Principal, public_id: str) -> QueueDetails:
    principal.require("queues", "read", public_id)

    async def work(tx: Transaction) -> QueueDetails:
        found = await queues.get_with_head(tx, principal.organization, public_id)
        if found is None:
            raise NotFound
        queue, head = found
        shown = await queues.listeners_of(tx, queue.organization, [queue.id], SHOWN_LISTENERS)
        return QueueDetails(queue, head, tuple(shown.get(queue.id, ())))

    return await control.store.read(work)


async def summary(control: ControlContext, principal: Principal, public_id: str) -> QueueSummary:
    """Return a queue like `get`, in one statement."""
    principal.require("queues", "read", public_id)
    found = await control.store.read(
        lambda tx: queues.get_with_count(tx, principal.organization, public_id, counted=SHOWN_LISTENERS)
    )
    return QueueSummary(*require_found(found))


@reading
async def page(
    tx: Transaction,
    principal: Principal,
    selection: Selection = FIRST_PAGE,
    *,
    shown_listeners: int = SHOWN_LISTENERS,
) -> Listing[QueueDetails]:
    """Return a page of the queues that the caller may read, with at most `shown_listeners` listeners of each.

    Raises Forbidden without the scope, and BadRequest for a numbered page that is too far from the first.
    """
    targets = principal.targets_of("queues", "read")
    found = await queues.page(tx, principal.organization, selection, targets)
    ids = [queue.id for queue in found.items]
    heads = await queues.heads(tx, principal.organization, ids)
    shown: Mapping[int, list[ResourceRef]] = {}
    if shown_listeners:
        shown = await queues.listeners_of(tx, principal.organization, ids, shown_listeners)
    items = [QueueDetails(queue, heads[queue.id], tuple(shown.get(queue.id, ()))) for queue in found.items]
    return found.with_items(items)


@reading
async def backlogs(
    tx: Transaction, principal: Principal, found: Sequence[Queue], shown_listeners: int
) -> Mapping[int, QueueBacklog]:
    """Return what waits and was missed, by row id of the queue. At most `shown_listeners` of each queue are counted.

    Empty for a caller who may not read all listeners.
    """
    if not principal.allows_all("listeners", "read"):
        return {}
    return await queues.backlogs(tx, principal.organization, [each.id for each in found], shown_listeners)


async def names(control: ControlContext, principal: Principal, public_ids: AbstractSet[str]) -> dict[str, str]:
    """Return the aliases of queues by their ids. Cached queues are not read."""
    cached = {each: control.cache.cached_queue(principal.organization, each) for each in public_ids}
    found = {public_id: record.alias for public_id, record in cached.items() if record is not None}
    if others := public_ids - found.keys():
        found |= await control.store.read(lambda tx: aliases.of_ids(tx, "queue", principal.organization, others))
    return found


async def change(control: ControlContext, principal: Principal, public_id: str, fields: QueueFields) -> QueueDetails:
    """Change a queue. Raises what `create` raises."""
    now = control.clock.now()

    async def work(tx: Transaction, record: Record) -> QueueDetails:
        stored = control.require_match(await _own(tx, principal, public_id))
        changed = _changed(stored, fields, changed_alias(fields, stored.alias, _check_alias), now)
        _check_system_queue(stored, changed)
        await queues.update(tx, changed)
        await record("queue_updated", changed, changes=changed_settings(stored, changed))
        return await _details(tx, changed)

    return await control.write_as(principal, work)


async def delete(control: ControlContext, principal: Principal, public_id: str) -> None:
    """Delete a queue with its listeners, messages and the channels into it; a background job purges their rows.

    Raises Conflict for the system queue.
    """
    now = control.clock.now()
    job_id = control.row_ids.next()

    async def work(tx: Transaction, record: Record) -> None:
        stored = control.require_match(await _own(tx, principal, public_id))
        if stored.is_system:
            detail = f"The queue {stored.alias} cannot be deleted. Delete its listeners instead."
            raise Conflict(detail, code="system_queue")
        await topics.delete_channels_into(tx, stored)
        await sources.delete_into(tx, stored.organization, stored.id)
        await schedules.release_bytes_of_queue(tx, stored.organization, stored.id)
        # Only marked: deleting a whole log here would hold up every other write.
        await queues.mark_deleted(tx, stored.organization, stored.id, now)
        await purge.enqueue(tx, Job(stored.organization, job_id, "purge_queue", queue=stored.id))
        await record("queue_deleted", stored)

    await control.write_as(principal, work)


async def _own(tx: Transaction, principal: Principal, public_id: str) -> Queue:
    """Return the queue to change. Raises NotFound, and Forbidden."""
    principal.require("queues", "write", public_id)
    return require_found(await queues.get(tx, principal.organization, public_id))


async def _details(tx: Transaction, queue: Queue) -> QueueDetails:
    head = require_found(await queues.head(tx, queue.organization, queue.id))
    shown = await queues.listeners_of(tx, queue.organization, [queue.id], SHOWN_LISTENERS)
    return QueueDetails(queue, head, tuple(shown.get(queue.id, ())))


def _check_alias(alias: str) -> None:
    check_alias(alias)
    check_not_reserved(alias)


def _check_system_queue(stored: Queue, changed: Queue) -> None:
    """Raise Unprocessable for a change of the system queue other than its retention and retries."""
    may_change = {"retention_seconds", "retry", "config_version", "updated_at"}
    before, after = msgspec.structs.asdict(stored), msgspec.structs.asdict(changed)
    if stored.is_system and any(before[name] != after[name] for name in before.keys() - may_change):
        detail = f"Of the queue {stored.alias}, only `retention` and `retry` can be changed."
        raise Unprocessable(detail, code="immutable_field")


def _changed(stored: Queue, fields: QueueFields, alias: str, now: int) -> Queue:
    """Return the queue after a request. The version of a new queue is 0 before it, and 1 in the store."""
    retention, size = fields.retention_seconds, fields.max_message_bytes
    retention = within(
        stored.retention_seconds, retention, "/retention", range(LONGEST_RETENTION_SECONDS + 1), unit="seconds"
    )
    size = within(
        stored.max_message_bytes, size, "/max_message_bytes", range(1, LARGEST_MESSAGE_BYTES + 1), unit="bytes"
    )
    retry = chosen_retry(stored.retry, fields.retry)
    ordered = bool(chosen(stored.ordered, fields.ordered, default=False))
    # Cursors have passed older messages in any order.
    if ordered != stored.ordered and stored.config_version > 0:
        raise invalid("/ordered", "cannot be changed: create another queue instead", code="immutable_field")
    return msgspec.structs.replace(
        _with_schema(stored, fields.schema, now),
        alias=alias,
        retention_seconds=retention,
        max_message_bytes=size,
        retry=retry,
        ordered=ordered,
        on_missed=_on_missed(stored, fields.on_missed, ordered=ordered),
        customer=_customer(stored, fields.customer),
        config_version=stored.config_version + 1,
        updated_at=now,
    )


def _on_missed(stored: Queue, given: str | UnsetType | None, *, ordered: bool) -> OnMissed:
    if isinstance(given, UnsetType):
        return stored.on_missed
    asked = one_of(ON_MISSED, given or "pass", "/on_missed")
    # Messages that were missed before do not block their keys.
    if asked != stored.on_missed and stored.config_version > 0:
        raise invalid("/on_missed", "cannot be changed: create another queue instead", code="immutable_field")
    if asked == "block" and not ordered:
        rule = "can be block only in an ordered queue: set ordered to true"
        raise invalid("/on_missed", rule, code="conflicting_fields")
    return asked


def _customer(stored: Queue, given: str | UnsetType | None) -> str:
    check_customer(given)
    customer = chosen(stored.customer, given, "")
    # Listeners of the queue, and sessions that show it, belong to this customer.
    if customer != stored.customer and stored.config_version > 0:
        rule = "cannot be changed after the queue is created: create another queue for that customer"
        raise invalid("/customer", rule, code="immutable_field")
    return customer


def _with_schema(stored: Queue, schema: Schema | ClearedSchema | UnsetType, now: int) -> Queue:
    if isinstance(schema, UnsetType):
        return stored
    if isinstance(schema, ClearedSchema):
        if stored.schema_language not in schema.languages:
            return stored
        return msgspec.structs.replace(
            stored, schema=None, schema_id=None, schema_language="rules", schema_set_at=0, title=""
        )
    is_same = (schema.text, schema.language) == (stored.schema, stored.schema_language)
    return msgspec.structs.replace(
        stored,
        schema=schema.text,
        schema_id=schema.id,
        schema_language=schema.language,
        schema_set_at=stored.schema_set_at if is_same else now,
        title=schema.title,
    )


async def check_schema(control: ControlContext, text: bytes, language: SchemaLanguage) -> Schema:
    """Parse a new schema. Raises Unprocessable with a fault for each invalid place."""
    async with control.checking:
        # Compiling the patterns takes up to 0.3 s.
        return await asyncio.to_thread(parse_schema, text, language)


async def get_schema(control: ControlContext, principal: Principal, queue_public_id: str, schema_id: str) -> Queue:
    """Return the queue whose current schema has this id. Raises NotFound for any other id, also a previous one."""
    principal.require("schemas", "read", schema_id, queue_public_id)
    queue = await control.store.read(lambda tx: queues.get(tx, principal.organization, queue_public_id))
    return require_found(queue if queue is not None and queue.schema_id == schema_id else None)
