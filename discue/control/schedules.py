"""Schedules: messages that are published to a queue at recurring times."""

from typing import Final, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType

from discue.auth.control_plane_cache import QueueRecord
from discue.control.context import ControlContext, chosen, one_of, reading, require_found, within
from discue.control.listener_fields import chosen_retry
from discue.domain.aliases import NameFields, changed_alias, new_alias
from discue.domain.clock import LAST_INSTANT, check_unit
from discue.domain.errors import Conflict, invalid, missing_field
from discue.domain.event_types import checked_type
from discue.domain.headers import Headers
from discue.domain.message_data import BYTES, Data, SentData, as_sent, data_of, data_of_base64
from discue.domain.messages import MessageOptions
from discue.domain.model import Queue
from discue.domain.retry import RetryOptions
from discue.domain.schedule import (
    CATCH_UP,
    CATCH_UP_LIMIT,
    MAX_AHEAD_MS,
    MissedRunAction,
    MissedRunPolicy,
    Schedule,
    Timing,
    check_timing,
    first_run,
)
from discue.domain.scopes import Access, Principal
from discue.domain.system_events import publishing_refused
from discue.publishing.publish import NewMessage, check_messages, check_sizes
from discue.store import queues, schedules
from discue.store.engine import Transaction
from discue.store.pagination import FIRST_PAGE, Listing, Selection

SCHEDULES_A_QUEUE: Final = 1_000
LARGEST_DATA_BYTES: Final = 65_536
EXPIRES_IN_SECONDS: Final = range(1, 31_536_001)
MISSED_RUNS: Final[tuple[MissedRunAction, ...]] = get_args(MissedRunAction)


class ScheduleFields(NameFields, frozen=True):
    """The fields of a schedule in a request. UNSET keeps the stored value, None restores the default.

    `cron` and `data` have no default: None keeps the stored value.
    """

    status: Literal["enabled", "disabled"] | None = None
    cron: str | None = None
    time_zone: str | UnsetType | None = UNSET
    starts_at: int | UnsetType | None = UNSET
    ends_at: int | UnsetType | None = UNSET
    missed_runs: str | UnsetType | None = UNSET
    catch_up_limit: int | UnsetType | None = UNSET
    data: SentData | None = None
    content_type: str | UnsetType | None = UNSET
    type: str | UnsetType | None = UNSET
    key: str | UnsetType | None = UNSET
    headers: Headers | UnsetType = UNSET
    retry: RetryOptions | UnsetType | None = UNSET
    expires_in: int | UnsetType | None = UNSET


async def create(
    control: ControlContext, principal: Principal, queue_public_id: str, fields: ScheduleFields
) -> Schedule:
    """Create a schedule; its default alias is its id.

    Raises BadRequest without `cron` or `data`, Unprocessable for a taken or invalid alias and invalid values,
    PayloadTooLarge, QuotaExceeded, and Conflict if the queue has too many schedules.
    """
    principal.require("messages", "write", queue_public_id)
    public_id, now = control.public_ids.next(), control.clock.now()
    draft = Schedule(
        organization=principal.organization,
        id=control.row_ids.next(),
        public_id=public_id,
        queue=0,
        queue_public_id="",
        alias=public_id,
        status="enabled",
        timing=Timing(""),
        config_version=0,
        created_at=now,
        updated_at=now,
    )
    fresh = _changed(draft, fields, new_alias(fields, public_id), now)
    await _check_message(control, await _current(control, principal, queue_public_id), fresh)

    async def work(tx: Transaction) -> Schedule:
        queue = require_found(await queues.get(tx, principal.organization, queue_public_id))
        if queue.is_system:
            raise publishing_refused()
        made = msgspec.structs.replace(fresh, queue=queue.id, queue_public_id=queue.public_id)
        # Counted in the exclusive transaction: two requests must not both get the last place.
        if await schedules.count(tx, queue.organization, queue.id, SCHEDULES_A_QUEUE) == SCHEDULES_A_QUEUE:
            detail = f"A queue has at most {SCHEDULES_A_QUEUE} schedules. Delete one first."
            raise Conflict(detail, code="limit_reached")
        await control.require_bytes(tx, queue.organization, schedules.size_of(made))
        await control.count_creation(tx, principal, queue.organization, made.id)
        await schedules.insert(tx, made)
        return made

    return await control.write(work)


@reading
async def get(tx: Transaction, principal: Principal, queue_public_id: str, public_id: str) -> Schedule:
    return (await _own(tx, principal, "read", (queue_public_id, public_id)))[1]


@reading
async def page(
    tx: Transaction, principal: Principal, queue_public_id: str, selection: Selection = FIRST_PAGE
) -> Listing[Schedule]:
    principal.require("messages", "read", queue_public_id)
    queue = require_found(await queues.get(tx, principal.organization, queue_public_id))
    return await schedules.page(tx, queue.organization, queue.id, selection)


async def page_of_all(
    control: ControlContext, principal: Principal, selection: Selection = FIRST_PAGE
) -> Listing[Schedule]:
    """Return schedules of all queues. Raises Forbidden if the caller may read messages of some queues only."""
    principal.require("messages", "read")
    return await control.store.read(lambda tx: schedules.page_of_organization(tx, principal.organization, selection))


async def change(
    control: ControlContext, principal: Principal, queue_public_id: str, public_id: str, *, fields: ScheduleFields
) -> Schedule:
    """Change a schedule. If its timing or status changes, runs that were due before are dropped.

    Raises what `create` raises.
    """
    now = control.clock.now()
    principal.require("messages", "write", public_id, queue_public_id)
    path = (queue_public_id, public_id)
    current = await _current(control, principal, queue_public_id)
    before = (await control.store.read(lambda tx: _own(tx, principal, "write", path)))[1]
    after = _changed(before, fields, before.alias, now)
    # Stored data is not checked again: a newer schema or limit of the queue must not prevent other changes.
    if (after.data, after.options.type) != (before.data, before.options.type):
        await _check_message(control, current, after)

    async def work(tx: Transaction) -> Schedule:
        queue, stored = await _own(tx, principal, "write", path)
        control.require_match(stored)
        changed = _changed(stored, fields, changed_alias(fields, stored.alias), now)
        more = schedules.size_of(changed) - schedules.size_of(stored)
        await control.require_bytes(tx, queue.organization, more)
        await schedules.update(tx, changed)
        return changed

    return await control.write(work)


async def delete(control: ControlContext, principal: Principal, queue_public_id: str, public_id: str) -> None:
    """Delete a schedule. Messages that it has published stay."""

    async def work(tx: Transaction) -> None:
        _, stored = await _own(tx, principal, "write", (queue_public_id, public_id))
        control.require_match(stored)
        await schedules.delete(tx, stored)

    await control.write(work)


async def _own(tx: Transaction, principal: Principal, access: Access, path: tuple[str, str]) -> tuple[Queue, Schedule]:
    queue_public_id, public_id = path
    principal.require("messages", access, public_id, queue_public_id)
    queue = require_found(await queues.get(tx, principal.organization, queue_public_id))
    found = require_found(await schedules.get(tx, principal.organization, public_id))
    return queue, require_found(found if found.queue == queue.id else None)


def _changed(stored: Schedule, fields: ScheduleFields, alias: str, now: int) -> Schedule:
    """Return the schedule after a request. The version of a new schedule is 0 before it, and 1 in the store."""
    content_type = chosen(stored.options.content_type, fields.content_type, None)
    data, codec = _data(stored, fields, content_type)
    headers = stored.options.headers if isinstance(fields.headers, UnsetType) else fields.headers
    changed = msgspec.structs.replace(
        stored,
        alias=alias,
        status=fields.status or stored.status,
        timing=_timing(stored.timing, fields, now),
        data=data,
        codec=codec,
        missed=_missed(stored.missed, fields),
        options=MessageOptions(
            headers=headers,
            key=chosen(stored.options.key, fields.key, None),
            retry=chosen_retry(stored.options.retry, fields.retry),
            type=checked_type(chosen(stored.options.type, fields.type, None), headers),
            content_type=content_type,
        ),
        expires_in=within(stored.expires_in, fields.expires_in, "/expires_in", EXPIRES_IN_SECONDS, unit="seconds"),
        config_version=stored.config_version + 1,
        updated_at=now,
    )
    if (changed.timing, changed.status) == (stored.timing, stored.status):
        return changed
    next_run_at = first_run(changed, now)
    if next_run_at is None and changed.status == "enabled":
        if changed.timing.ends_at is None:
            raise invalid("/cron", "never runs: choose a day that exists in one of its months")
        raise invalid("/ends_at", "leaves no future run: choose a later time")
    return msgspec.structs.replace(changed, next_run_at=next_run_at)


def _data(stored: Schedule, fields: ScheduleFields, content_type: str | None) -> Data:
    """Return the data after a request. A new content type also applies to stored data, as if it were sent again."""
    if fields.data is None and stored.config_version == 0:
        raise missing_field("/data")
    if fields.data is None and content_type == stored.options.content_type:
        return stored.data, stored.codec
    sent = fields.data or as_sent(stored.data, stored.codec)
    return data_of_base64(sent.value, "/data_base64") if sent.is_base64 else data_of(sent.value, content_type)


def _timing(stored: Timing, fields: ScheduleFields, now: int) -> Timing:
    cron = stored.cron if fields.cron is None else fields.cron
    if not cron and fields.cron is None:
        raise missing_field("/cron")
    for given, pointer in ((fields.starts_at, "/starts_at"), (fields.ends_at, "/ends_at")):
        if isinstance(given, int):
            check_unit(given, pointer)
    timing = Timing(
        cron,
        chosen(stored.time_zone, fields.time_zone, "UTC"),
        within(stored.starts_at, fields.starts_at, "/starts_at", range(now + MAX_AHEAD_MS), unit="ms since the epoch"),
        within(stored.ends_at, fields.ends_at, "/ends_at", range(LAST_INSTANT + 1), unit="ms since the epoch"),
    )
    # A new schedule has an empty expression before it: an empty one that is sent does not differ.
    if timing != stored or not cron:
        check_timing(timing)
    return timing


def _missed(stored: MissedRunPolicy, fields: ScheduleFields) -> MissedRunPolicy:
    runs = one_of(MISSED_RUNS, chosen(stored.runs, fields.missed_runs, "skip"), "/missed_runs")
    limit = within(stored.limit, fields.catch_up_limit, "/catch_up_limit", CATCH_UP)
    return MissedRunPolicy(runs, CATCH_UP_LIMIT if limit is None else limit)


async def _current(control: ControlContext, principal: Principal, queue_public_id: str) -> QueueRecord:
    """Return the queue as publishing sees it. Before a transaction, because compiling its schema may take long."""
    await control.cache.catch_up()
    return await control.cache.queue(principal.organization, queue_public_id)


async def _check_message(control: ControlContext, queue: QueueRecord, schedule: Schedule) -> None:
    """Raise Unprocessable and PayloadTooLarge for a schedule whose messages the queue would not accept.

    Runs before the transaction, because compiling a schema may take long.
    """
    pointer = "/data_base64" if schedule.codec == BYTES else "/data"
    draft = NewMessage(schedule.data, schedule.codec, pointer=pointer, options=schedule.options)
    check_sizes([draft], LARGEST_DATA_BYTES)
    await check_messages(control.cache, queue, [draft])
