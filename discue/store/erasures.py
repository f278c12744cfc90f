"""Erasures: delete all messages of a queue with one key, and the records of their attempts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from operator import itemgetter
from typing import Final

import msgspec

from discue.domain.attempts import NOT_RECEIVED
from discue.domain.causes import Cause
from discue.domain.ids import event_id_of
from discue.domain.messages import decode_options
from discue.domain.model import Erasure
from discue.store import feed, intake, messages, purge
from discue.store.engine import QueueKey, Transaction
from discue.store.message_filters import WithKey
from discue.store.pagination import Part
from discue.store.purge import Job
from discue.store.redeliveries import JobTable
from discue.store.tables import ERASED_MESSAGE, insert_rows, read_number, rows_among, within_bytes

ERASURE_TABLE: Final = JobTable("erasure", Erasure, "delivered", dict[str, int], owner="queue")

LATE_MS: Final = 600_000
"""Time until records of attempts in flight are erased: the longest timeout, and as long again to store the outcome."""
_IN_INTAKE: Final = "intake"
"""Begins the progress of a job that has not reached the log yet. Two ids follow: the one reached, and the last one."""
_BYTES_OF_ATTEMPT: Final = purge.BYTES_A_STEP // purge.ROWS_A_STEP

_HEAD: Final = "SELECT head FROM queue_head WHERE organization = $1 AND queue = $2"
_COUNT_ATTEMPTS: Final = """
    SELECT seq, count(*) FROM attempt WHERE organization = $1 AND queue = $2 AND seq IN ({}) GROUP BY seq"""
_DELIVERIES: Final = """
    SELECT listener, seq, state, cause FROM delivery WHERE organization = $1 AND queue = $2 AND seq IN ({})"""
_DELETE_ATTEMPTS: Final = """
    DELETE FROM attempt WHERE organization = $1 AND queue = $2 AND seq IN ({})
    RETURNING id, listener, seq, error, status"""
_DELETE_DETAILS: Final = "DELETE FROM attempt_detail WHERE organization = $1 AND id IN ({}) RETURNING id"
# A row with a hash holds its key until the lane finds that the message was deleted. An open redelivery counts the other
# rows as gone. The condition is one expression, so that no planner uses the index of all missed deliveries.
_DELETE_MISSED: Final = """
    DELETE FROM delivery
    WHERE organization = $1 AND queue = $2 AND seq IN ({})
        AND CASE WHEN key_hash IS NULL THEN state END = 'missed' AND NOT EXISTS (
            SELECT 1 FROM redelivery r WHERE r.organization = delivery.organization
                AND r.listener = delivery.listener AND r.ended_at IS NULL
        ) RETURNING seq"""
# Groups and stopped redeliveries show one response, to any message with the cause. Attempts are matched by status.
_BLANK_CAUSE: Final = "UPDATE missed_cause SET text = '' WHERE organization = $1 AND listener = $2 AND cause = $3"
_BLANK_STATUS: Final = "UPDATE missed_cause SET text = '' WHERE organization = $1 AND listener = $2 AND status = $3"
_STOPPED: Final = "SELECT id, stopped_by FROM redelivery WHERE organization = $1 AND listener = $2 AND stopped_by <> ''"
_BLANK_STOPPED: Final = "UPDATE redelivery SET stopped_by = $1 WHERE organization = $2 AND id = $3"
_LISTENERS: Final = "SELECT id, public_id FROM listener WHERE organization = $1 AND id IN ({})"
_COUNTED: Final = "SELECT spec FROM erasure WHERE organization = $1 AND id = $2"
_COUNT: Final = """
    UPDATE erasure SET erased = erased + $1, spec = $2, updated_at = $3 WHERE organization = $4 AND id = $5"""
_SET_HEAD: Final = "UPDATE erasure SET until_seq = $1 WHERE organization = $2 AND id = $3"
_END: Final = """
    UPDATE erasure SET state = 'done', updated_at = $1, ended_at = $1
    WHERE organization = $2 AND id = $3 AND ended_at IS NULL"""
_ERASED: Final = """
    SELECT organization, queue, erasure, seq FROM erased_message WHERE erased_at < $1 ORDER BY erased_at LIMIT $2"""
_FORGET: Final = "DELETE FROM erased_message WHERE organization = $1 AND queue = $2 AND seq IN ({}) RETURNING seq"


async def begin(tx: Transaction, queue: QueueKey, row_id: int, *, key: str, now: int) -> Job:
    """Store an erasure of the messages that the queue has now. Returns its job: call `step` until it returns True.

    Call this in an exclusive transaction, so that no message moves from the intake into the log meanwhile.
    """
    until_seq, public_id = await read_number(tx, _HEAD, *queue), event_id_of(row_id)
    made = Erasure(queue[0], row_id, public_id, queue[1], "running", key, until_seq, created_at=now, updated_at=now)
    await ERASURE_TABLE.insert(tx, made)
    job = Job(queue[0], row_id, "erase", queue=queue[1])
    await purge.enqueue(tx, job)
    last = await intake.last_id(tx, queue)
    if last:
        await purge.advance(tx, job, f"{_IN_INTAKE} 0 {last}")
    return job


async def step(tx: Transaction, job: Job, now: int) -> bool:
    """Erase some messages. Returns True if none is left; then the erasure has ended, and the job is deleted.

    Steps go up the intake, then the log. A delayed message that becomes due meanwhile moves to the log's end, where a
    later step erases it.
    """
    await tx.exclusive()
    erasure = await ERASURE_TABLE.get(tx, job.organization, event_id_of(job.id))
    if erasure is None:
        await purge.finish(tx, job)
        return True
    reached, queue = (await purge.progress(tx, job)).split(), (erasure.organization, erasure.queue)
    if reached and reached[0] == _IN_INTAKE:
        await _step_of_intake(tx, job, erasure, after=int(reached[1]), last=int(reached[2]), now=now)
        return False
    after = int(reached[0]) if reached else 0
    part = Part(after, None, purge.ROWS_A_STEP, newest_first=False)
    rows = await WithKey(*queue, erasure.key).read(tx, part)
    # The hashes of different keys can be equal.
    has_key = [row for row in rows if decode_options(row.extra).key == erasure.key]
    found = [row for row in has_key if row.origin_seq <= erasure.until_seq]
    attempts: dict[int, int] = dict(await rows_among(tx, _COUNT_ATTEMPTS, queue, [row.seq for row in found]))
    sizes = [(row.seq, row.size + attempts.get(row.seq, 0) * _BYTES_OF_ATTEMPT) for row in found]
    seqs = [seq for seq, _ in within_bytes(sizes, purge.BYTES_A_STEP)]
    if seqs:
        received = await _delete_traces(tx, queue, seqs)
        deleted = await messages.delete_at(tx, queue, seqs)
        await insert_rows(tx, ERASED_MESSAGE, [(*queue, seq, erasure.id, now) for seq in seqs])
        await _count(tx, (erasure.organization, erasure.id), received, erased=deleted, now=now)
        await feed.record(tx, "message", *queue)
    if len(seqs) < len(found):
        await purge.advance(tx, job, str(seqs[-1]))
        return False
    if len(rows) == purge.ROWS_A_STEP:
        await purge.advance(tx, job, str(rows[-1].seq))
        return False
    await tx.execute(_END, now, erasure.organization, erasure.id)
    await purge.finish(tx, job)
    return True


async def _step_of_intake(tx: Transaction, job: Job, erasure: Erasure, *, after: int, last: int, now: int) -> None:
    """Erase some messages that applications have published and that were not in the log at the beginning."""
    queue = (erasure.organization, erasure.queue)
    deleted, after = await intake.erase(tx, queue, erasure.key, after=after, last=last)
    await _count(tx, (erasure.organization, erasure.id), {}, erased=deleted, now=now)
    if after < last:
        await purge.advance(tx, job, f"{_IN_INTAKE} {after} {last}")
        return
    # Since the beginning, some may have moved into the log. None moves now: moves and steps are exclusive.
    await tx.execute(_SET_HEAD, await read_number(tx, _HEAD, *queue), erasure.organization, erasure.id)
    await purge.advance(tx, job, "0")


async def erase_late_attempts(tx: Transaction, now: int) -> int:
    """Erase the records of attempts that were in flight at the erasure of their messages. Returns how many messages."""
    await tx.exclusive()
    rows = await tx.rows(_ERASED, now - LATE_MS, purge.ROWS_A_STEP)
    by_erasure = itemgetter(0, 1, 2)
    for (organization, queue, erasure), group in groupby(sorted(map(tuple, rows)), key=by_erasure):
        seqs = [row[-1] for row in group]
        received = await _delete_traces(tx, (organization, queue), seqs)
        await _count(tx, (organization, erasure), received, now=now)
        await rows_among(tx, _FORGET, (organization, queue), seqs)
    return len(rows)


async def _delete_traces(tx: Transaction, queue: QueueKey, seqs: Sequence[int]) -> Mapping[str, int]:
    """Delete attempts and missed deliveries of messages. Returns how many each listener received, by its public id."""
    deliveries = await rows_among(tx, _DELIVERIES, queue, seqs)
    attempts = await rows_among(tx, _DELETE_ATTEMPTS, queue, seqs)
    await rows_among(tx, _DELETE_DETAILS, queue[:1], [row[0] for row in attempts])
    await rows_among(tx, _DELETE_MISSED, queue, seqs)
    causes = {(row[0], row[3]) for row in deliveries if row[3] is not None}
    await _blank_responses(tx, queue[0], causes, {(row[1], row[4]) for row in attempts if row[3]})
    received = {(row[1], row[2]) for row in attempts if row[3] not in NOT_RECEIVED}
    received.update((row[0], row[1]) for row in deliveries if row[2] == "leased")
    counts = Counter(listener for listener, _ in received)
    return {public_id: counts[row] for row, public_id in await rows_among(tx, _LISTENERS, queue[:1], list(counts))}


async def _blank_responses(
    tx: Transaction, organization: int, causes: AbstractSet[tuple[int, int]], statuses: AbstractSet[tuple[int, int]]
) -> None:
    """Remove the stored texts of responses with these causes or statuses. Each is given with its listener."""
    for cause in causes:
        await tx.execute(_BLANK_CAUSE, organization, *cause)
    for status in statuses:
        await tx.execute(_BLANK_STATUS, organization, *status)
    for listener in {listener for listener, _ in causes | statuses}:
        for redelivery, stopped_by in await tx.rows(_STOPPED, organization, listener):
            shown = msgspec.json.decode(stopped_by, type=Cause)
            if (listener, shown.id) in causes or (listener, shown.status) in statuses:
                blank = msgspec.json.encode(msgspec.structs.replace(shown, text="")).decode()
                await tx.execute(_BLANK_STOPPED, blank, organization, redelivery)


async def _count(
    tx: Transaction, key: tuple[int, int], received: Mapping[str, int], *, erased: int = 0, now: int
) -> None:
    row = await tx.row(_COUNTED, *key)
    if row is not None and (erased or received):
        delivered = Counter(msgspec.json.decode(row[0], type=dict[str, int])) + Counter(received)
        await tx.execute(_COUNT, erased, msgspec.json.encode(delivered).decode(), now, *key)
