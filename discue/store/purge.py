"""Removing what has expired and what was deleted, in small steps that hold the writer only for a moment."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final, Literal

import msgspec

from discue.domain.ids import row_id_at
from discue.store import listeners, message_log, organizations, queues
from discue.store.engine import QueueKey, Row, Transaction
from discue.store.message_log import last_seq_stored_before
from discue.store.pagination import CLOCKS_APART_MS, LARGEST
from discue.store.tables import Key, delete_older, placeholders, read_one, rows_given, within_bytes

JobKind = Literal["purge_listener", "purge_queue", "purge_organization", "purge_replay", "erase"]

_JOB_COLUMNS: Final = "organization, id, kind, listener, spec"
_INSERT_JOB: Final = f"INSERT INTO job ({_JOB_COLUMNS}, progress, state) VALUES ($1, $2, $3, $4, $5, '', 'waiting')"
_PROGRESS: Final = "SELECT progress FROM job WHERE organization = $1 AND id = $2"
_ADVANCE: Final = "UPDATE job SET progress = $1 WHERE organization = $2 AND id = $3"
_NEXT_JOB: Final = f"SELECT {_JOB_COLUMNS} FROM job WHERE state = 'waiting' AND id > $1 ORDER BY id LIMIT 1"


class Job(msgspec.Struct, frozen=True):
    """A job of a kind for a resource, by row ids; fields that the kind does not need are None."""

    organization: int
    id: int
    kind: JobKind
    listener: int | None = None
    queue: int | None = None
    stream: int = 0
    """The stream of one cursor of the listener."""


class _Spec(msgspec.Struct, omit_defaults=True):
    queue: int | None = None
    stream: int = 0


async def enqueue(tx: Transaction, job: Job) -> None:
    """Insert a job."""
    spec = msgspec.json.encode(_Spec(job.queue, job.stream)).decode()
    await tx.execute(_INSERT_JOB, job.organization, job.id, job.kind, job.listener, spec)


async def next_after(tx: Transaction, job_id: int = 0) -> Job | None:
    """Read the oldest job with a higher id."""
    return await read_one(tx, _from_row, _NEXT_JOB, job_id)


async def progress(tx: Transaction, job: Job) -> str:
    """Read the progress that `advance` stored last; empty before that."""
    return await read_one(tx, itemgetter(0), _PROGRESS, job.organization, job.id) or ""


async def advance(tx: Transaction, job: Job, reached: str) -> None:
    await tx.execute(_ADVANCE, reached, job.organization, job.id)


async def finish(tx: Transaction, job: Job) -> None:
    await tx.execute("DELETE FROM job WHERE organization = $1 AND id = $2", job.organization, job.id)


def _from_row(row: Row) -> Job:
    organization, job, kind, listener, spec = row
    read = msgspec.json.decode(spec, type=_Spec)
    return Job(organization, job, kind, listener, read.queue, read.stream)


ROWS_A_STEP: Final = 500
DETAILS_A_STEP: Final = 100
"""An attempt's details can have 32 KiB."""
SCHEDULES_A_STEP: Final = 50
"""A schedule can have 64 KiB."""
BYTES_A_STEP: Final = 4_194_304

_NEWEST_MESSAGES: Final = """
    SELECT seq, size FROM log WHERE organization = $1 AND queue = $2 ORDER BY seq DESC LIMIT $3"""
_REMOVE_MESSAGES: Final = "DELETE FROM log WHERE organization = $1 AND queue = $2 AND seq >= $3 RETURNING size, body_id"

ATTEMPTS_LOOKED_AT: Final = 2_000
_LAST_LOOKED_AT: Final = """
    SELECT id FROM attempt WHERE organization = $1 AND id > $2 AND id < $3 ORDER BY id DESC LIMIT 1 OFFSET $4"""
_REMOVE_ATTEMPTS: Final = "DELETE FROM attempt WHERE organization = $1 AND listener = $2 AND id >= $3 AND id < $4"

_OF_LISTENER: Final = (
    ("delivery", "stream, seq", ROWS_A_STEP),
    ("missed_range", "seq_from", ROWS_A_STEP),
    ("missed_cause", "cause", ROWS_A_STEP),
    ("listener_tally", "period", ROWS_A_STEP),
    ("listener_history", "period", ROWS_A_STEP),
    ("redelivery", "id", ROWS_A_STEP),
    ("replay", "id", ROWS_A_STEP),
    ("attempt_detail", "id", DETAILS_A_STEP),
)
"""Tables with rows of a listener, the rest of their key, and the number of rows per step."""


_OF_QUEUE: Final = (
    # Attempts of one message are removed together, since the index finds them by seq.
    ("attempt", "seq", ROWS_A_STEP),
    ("schedule", "id", SCHEDULES_A_STEP),
    ("scheduled", "origin_seq", ROWS_A_STEP),
    ("erasure", "id", ROWS_A_STEP),
    ("erased_message", "seq", ROWS_A_STEP),
)
_ALL_SEEN: Final = "attempts"
"""The progress of a listener's job that has scanned all attempts."""

_OF_ORGANIZATION: Final = (
    ("api_key", "id"),
    ("organization_user", "id"),
    ("session", "id"),
    ("sign_in_code", "id"),
    ("second_factor", "id"),
    ("user_identity", "id"),
    ("portal_session", "id"),
    ("portal_theme", "id"),
    ("portal", "organization"),
    ("domain", "id"),
    ("channel", "id"),
    ("topic", "id"),
    ("event_type", "id"),
    ("source", "id"),
    ("event", "id"),
    ("idempotency_response", "id"),
    ("allowance", "caller, minute"),
    ("replay_slot", "number"),
    ("tally", "period, kind, slot"),
    ("listener_history", "listener, period"),
)
"""Tables with rows of an organization, other than those of its queues."""


async def step(tx: Transaction, job: Job) -> bool:
    """Remove at most 500 rows. Returns True if nothing is left; then the job is deleted, too."""
    organization, listener, queue = job.organization, job.listener or 0, job.queue or 0
    if job.kind == "purge_listener":
        finished = await _remove_attempts(tx, job, listener) and await _purge_listener(tx, organization, listener)
    elif job.kind == "purge_replay":
        deliveries = {"organization": organization, "listener": listener, "stream": job.stream}
        finished = not await _remove_some(tx, "delivery", deliveries, "seq")
    elif job.kind == "purge_queue":
        finished = await _purge_queue(tx, organization, queue)
    else:
        finished = await _purge_organization(tx, organization)
    if finished:
        await finish(tx, job)
    return finished


async def _purge_listener(tx: Transaction, organization: int, listener: int) -> bool:
    # The cursor is deleted first: without it no settle is applied, so nothing is added during the purge.
    for table in ("cursor", "liveness", "missed_report"):
        await tx.execute(f"DELETE FROM {table} WHERE organization = $1 AND listener = $2", organization, listener)
    for table, key, rows in _OF_LISTENER:
        if await _remove_some(tx, table, {"organization": organization, "listener": listener}, key, rows=rows):
            return False
    await tx.execute("DELETE FROM listener WHERE organization = $1 AND id = $2", organization, listener)
    return True


async def _remove_attempts(tx: Transaction, job: Job, listener: int) -> bool:
    """Remove some attempts of a listener. Returns whether none is left.

    No index has them: the attempts of the organization are scanned once, newest first. None is older than its listener,
    except by clock skew.
    """
    key, low = (job.organization, listener), listener - row_id_at(CLOCKS_APART_MS)
    await tx.execute("DELETE FROM cursor WHERE organization = $1 AND listener = $2", *key)
    reached = await progress(tx, job)
    if reached == _ALL_SEEN:
        return True
    high = int(reached or LARGEST)
    last = await tx.row(_LAST_LOOKED_AT, job.organization, low, high, ATTEMPTS_LOOKED_AT - 1)
    removed = await tx.execute(_REMOVE_ATTEMPTS, *key, last[0] if last is not None else low, high)
    await advance(tx, job, str(last[0]) if last is not None else _ALL_SEEN)
    return last is None and not removed


async def _purge_queue(tx: Transaction, organization: int, queue: int) -> bool:
    for listener in await listeners.ids_of_queue(tx, organization, queue, 0, limit=1):
        await _purge_listener(tx, organization, listener)
        return False
    for table, key, rows in _OF_QUEUE:
        if await _remove_some(tx, table, {"organization": organization, "queue": queue}, key, rows=rows):
            return False
    if await _remove_messages(tx, organization, queue):
        return False
    await queues.delete(tx, organization, queue)
    return True


async def _purge_organization(tx: Transaction, organization: int) -> bool:
    # Queues come first: deleting their messages writes tallies, which are deleted after them.
    for queue in await queues.ids_after(tx, organization, 0, 1):
        await _purge_queue(tx, organization, queue)
        return False
    for table, key in _OF_ORGANIZATION:
        if await _remove_some(tx, table, {"organization": organization}, key):
            return False
    await organizations.delete(tx, organization)
    return True


async def _remove_messages(tx: Transaction, organization: int, queue: int) -> int:
    """Remove messages, newest first: lists that read from there soon find those of other queues."""
    found = within_bytes(await tx.rows(_NEWEST_MESSAGES, organization, queue, ROWS_A_STEP), BYTES_A_STEP)
    if not found:
        return 0
    oldest, _ = found[-1]
    removed = await tx.rows(_REMOVE_MESSAGES, organization, queue, oldest)
    return await message_log.release_bodies(tx, organization, removed)


async def _remove_some(
    tx: Transaction, table: str, owner: Mapping[str, int], key: str, *, rows: int = ROWS_A_STEP
) -> int:
    """Remove the last `rows` rows of an owner in the order of the rest of their key, and return how many."""
    where = " AND ".join(f"{column} = ${number}" for number, column in enumerate(owner, 1))
    descending = ", ".join(f"{column} DESC" for column in key.split(", "))
    limit = f"ORDER BY {descending} LIMIT 1 OFFSET {rows - 1}"
    # PostgreSQL has no DELETE with a limit: the step ends at a key, which is looked up first.
    boundary = await tx.row(f"SELECT {key} FROM {table} WHERE {where} {limit}", *owner.values())
    if boundary is None:
        return await tx.execute(f"DELETE FROM {table} WHERE {where}", *owner.values())
    numbers = placeholders(len(owner) + 1, len(boundary))
    sql = f"DELETE FROM {table} WHERE {where} AND ({key}) >= ({numbers})"
    return await tx.execute(sql, *owner.values(), *boundary)


class LogToTrim(msgspec.Struct, frozen=True):
    """A queue's log, and how long its messages are kept."""

    organization: int
    queue: int
    tail: int
    head: int
    retention_seconds: int | None
    """The queue's own, or else that of its organization; None: neither has one."""


_LOGS = """
SELECT h.organization, h.queue, h.tail, h.head, q.settings, coalesce(o.settings, '{}')
FROM queue_head h JOIN queue q ON q.organization = h.organization AND q.id = h.queue
LEFT JOIN organization o ON o.id = h.organization
WHERE (h.organization, h.queue) > ($1, $2) ORDER BY h.organization, h.queue LIMIT $3"""
_LOWEST_CURSOR = "SELECT min(position) FROM cursor WHERE organization = $1 AND queue = $2"
_STEP_END = """
SELECT max(seq), count(*) FROM (
    SELECT seq FROM log WHERE organization = $1 AND queue = $2 AND seq > $3 AND seq <= $4
    ORDER BY seq LIMIT $5
) AS step"""
_DELETE_MESSAGES = """
DELETE FROM log WHERE organization = $1 AND queue = $2 AND seq > $3 AND seq <= $4 AND kind = 0
AND NOT EXISTS (
    SELECT 1 FROM delivery e
    WHERE e.organization = log.organization AND e.queue = log.queue AND e.seq = log.seq
) AND NOT EXISTS (
    SELECT 1 FROM missed_range m WHERE m.organization = log.organization AND m.queue = log.queue
    AND m.seq_to >= log.seq AND m.seq_from <= log.seq
) AND NOT EXISTS (
    SELECT 1 FROM delivery b WHERE b.organization = log.organization AND b.queue = log.queue
    AND b.key_hash = log.key_hash AND b.seq < log.seq AND b.blocked > 0
) RETURNING size, body_id"""
_OLDEST = """
SELECT seq, stored_at FROM log WHERE organization = $1 AND queue = $2 AND seq > $3 ORDER BY seq LIMIT 1"""
_OLDEST_OF_LOGS = """
WITH given (organization, queue, tail) AS ({})
SELECT organization, queue, (
    SELECT l.stored_at FROM log l
    WHERE l.organization = given.organization AND l.queue = given.queue AND l.seq > given.tail ORDER BY l.seq LIMIT 1
) FROM given"""
_RAISE_TAIL = """
UPDATE queue_head SET tail = $1 WHERE organization = $2 AND queue = $3 AND tail < $1"""
# The state is checked again in the deletion: a delivery may be made due again at this moment.
_DELETE_MISSED = """
DELETE FROM delivery WHERE state = 'missed' AND (organization, listener, stream, seq) IN (
    SELECT organization, listener, stream, seq FROM delivery
    WHERE state = 'missed' AND key_hash IS NULL AND due_at < $1
    ORDER BY due_at LIMIT $2
)"""
_USING_CAUSE: Final = """
SELECT d.seq FROM delivery d WHERE d.organization = {0}organization AND d.listener = {0}listener AND d.state = 'missed'
AND d.cause = {0}cause LIMIT 1"""
_CAUSES_AFTER: Final = f"""
SELECT c.organization, c.listener, c.cause, coalesce(({_USING_CAUSE.format("c.")}), 0) FROM missed_cause c
WHERE (c.organization, c.listener, c.cause) > ($1, $2, $3) ORDER BY c.organization, c.listener, c.cause LIMIT $4"""
_DELETE_CAUSE: Final = f"""
DELETE FROM missed_cause WHERE organization = $1 AND listener = $2 AND cause = $3
AND coalesce(({_USING_CAUSE.format("missed_cause.")}), 0) = 0"""
_DELETE_OLD = """
DELETE FROM {0} WHERE (organization, id) IN (
    SELECT organization, id FROM {0} WHERE organization = $1 AND id < $2 ORDER BY id LIMIT $3
)"""
_NEXT_ORGANIZATION = "SELECT id FROM organization WHERE id > $1 ORDER BY id LIMIT 1"


async def logs_after(tx: Transaction, after: tuple[int, int], limit: int) -> list[LogToTrim]:
    """Read logs in the order of organization and queue."""
    rows = await tx.rows(_LOGS, *after, limit)
    return [LogToTrim(row[0], row[1], row[2], row[3], _retention_seconds(row[4], row[5])) for row in rows]


async def oldest_messages(tx: Transaction, logs: Sequence[LogToTrim]) -> dict[QueueKey, int]:
    """Read when the oldest message of each log was stored, in milliseconds since the epoch. Empty logs are left out."""
    found = await rows_given(tx, _OLDEST_OF_LOGS, (), [(log.organization, log.queue, log.tail) for log in logs])
    return {(organization, queue): stored_at for organization, queue, stored_at in found if stored_at is not None}


async def trim_log(tx: Transaction, log: LogToTrim, after: int, stored_before: int) -> int:
    """Delete up to 500 settled messages beyond `after` that were stored before a time.

    A message stays while it is not due, a cursor has not passed it, or a delivery row or missed range refers to it.
    Returns the seq that the step reached; `after` if nothing is left to do.
    """
    # No listener may lose a message that its cursor has not passed, so the slowest cursor limits the step.
    row = await tx.row(_LOWEST_CURSOR, log.organization, log.queue)
    settled = log.head if row is None or row[0] is None else min(log.head, row[0])
    if settled <= after:
        return after
    key = (log.organization, log.queue)
    last = await last_seq_stored_before(tx, *key, (after, settled), before=stored_before)
    # The step counts messages that exist: holes in the log cost nothing.
    step = await tx.row(_STEP_END, *key, after, last, ROWS_A_STEP)
    if step is None or step[0] is None:
        return after
    end: int = step[0]
    await message_log.release_bodies(tx, log.organization, await tx.rows(_DELETE_MESSAGES, *key, after, end))
    # Messages that stay, because something refers to them, hold the tail back. Below the tail, readers expect nothing.
    kept = await tx.row(_OLDEST, *key, log.tail)
    await tx.execute(_RAISE_TAIL, (kept[0] - 1) if kept else end, *key)
    return end


async def delete_missed(tx: Transaction, missed_before: int) -> int:
    """Delete some expired missed deliveries, and return how many."""
    rows, key = await tx.execute(_DELETE_MISSED, missed_before, ROWS_A_STEP), "organization, listener, seq_from"
    return rows + await delete_older(tx, "missed_range", key, "missed_at", before=missed_before, most=ROWS_A_STEP)


async def delete_unused_causes(tx: Transaction, after: Key) -> Key | None:
    """Delete those of the next causes of which no delivery is missed, and return the last one that was looked at."""
    found = await tx.rows(_CAUSES_AFTER, *after, ROWS_A_STEP)
    for *cause, used_by in found:
        if not used_by:
            await tx.execute(_DELETE_CAUSE, *cause)
    return tuple(found[-1][:-1]) if found else None


async def delete_old(
    tx: Transaction, table: Literal["attempt", "attempt_detail", "event"], organization: int, made_before: int
) -> int:
    """Delete some of an organization's old rows, and return how many."""
    rows = DETAILS_A_STEP if table == "attempt_detail" else ROWS_A_STEP
    return await tx.execute(_DELETE_OLD.format(table), organization, row_id_at(made_before), rows)


async def delete_ended(tx: Transaction, table: Literal["redelivery", "replay", "erasure"], ended_before: int) -> int:
    """Delete some ended jobs, and return how many."""
    return await delete_older(tx, table, "organization, id", "ended_at", before=ended_before, most=ROWS_A_STEP)


async def next_organization(tx: Transaction, after: int) -> int | None:
    """Return the next organization by row id, including deleted ones."""
    return await read_one(tx, lambda row: int(row[0]), _NEXT_ORGANIZATION, after)


def _retention_seconds(queue: str, organization: str) -> int | None:
    chosen = queues.read_settings(queue).retention_seconds
    return organizations.read_settings(organization).get("retention_seconds") if chosen is None else chosen
