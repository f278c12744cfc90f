"""Retention deletes expired rows, and nothing else."""

import msgspec
import pytest

from discue.domain.ids import row_id_at
from discue.domain.model import Queue
from discue.store import organizations, purge, queues
from discue.store.engine import Transaction, Value
from discue.store.message_log import last_seq_stored_before
from discue.store.purge import LogToTrim
from discue.store.store import Store
from tests.store.rows import (
    a_queue,
    an_organization,
    head_of,
    public_id,
    publish,
    publish_each,
    row_id,
    rows,
    stored_listener,
    stored_organization,
    stored_queue,
)
from tests.store.test_pagination import Counting
from tests.support.clocks import NOON

ORGANIZATION = row_id(1)
MINUTE = 60_000


async def a_log(store: Store, *ages: int) -> Queue:
    """A queue with a message of each age (in minutes before noon), oldest first."""
    queue = await stored_queue(store, ORGANIZATION, 10)
    await publish_each(store, queue, ((public_id(100 + index), NOON - age * MINUTE) for index, age in enumerate(ages)))
    return queue


async def seqs(store: Store) -> list[int]:
    return [row[0] for row in await rows(store, "SELECT seq FROM log ORDER BY seq")]


async def run(store: Store, sql: str, *values: Value) -> None:
    await store.write(lambda tx: tx.execute(sql, *values))


async def log_of(store: Store, queue: Queue) -> LogToTrim:
    [log] = await store.read(lambda tx: purge.logs_after(tx, (queue.organization, queue.id - 1), 1))
    assert log.queue == queue.id
    return log


async def trimmed(store: Store, queue: Queue, minutes: int) -> int:
    """Trim all that is older; how many steps that took."""
    log = await log_of(store, queue)
    steps, at, reached = 0, -1, log.tail
    while reached > at:
        at = reached
        reached = await store.write(
            lambda tx, at=at: purge.trim_log(tx, log, at, NOON - minutes * MINUTE)  # type: ignore[misc]
        )
        steps += 1
    return steps


async def delivery_row(store: Store, queue: Queue, seq: int, state: str) -> None:
    await run(
        store,
        "INSERT INTO delivery (organization, listener, stream, seq, queue, state, attempts, due_at, reason) "
        "VALUES ($1, $2, 0, $3, $4, $5, 1, $6, '')",
        queue.organization,
        row_id(11),
        seq,
        queue.id,
        state,
        NOON,
    )


async def missed_range(store: Store, queue: Queue, first: int, last: int, *, at: int = NOON) -> None:
    await run(
        store,
        "INSERT INTO missed_range (organization, listener, seq_from, queue, seq_to, reason, missed_at) "
        "VALUES ($1, 1, $2, $3, $4, 'too_old', $5)",
        queue.organization,
        first,
        queue.id,
        last,
        at,
    )


async def test_only_messages_older_than_the_limit_go(store: Store) -> None:
    queue = await a_log(store, 50, 40, 30, 20, 10)
    await trimmed(store, queue, 30)
    assert await seqs(store) == [3, 4, 5]
    head = await head_of(store, queue)
    assert (head.head, head.tail) == (5, 2)


async def test_retention_keeps_unsettled_messages(store: Store) -> None:
    queue = await a_log(store, 50, 40, 30, 20, 10)
    for number, position in ((11, 3), (12, 2)):
        await stored_listener(store, queue, number)
        await run(store, "UPDATE cursor SET position = $1 WHERE listener = $2", position, row_id(number))
    await trimmed(store, queue, 0)
    assert await seqs(store) == [3, 4, 5]


@pytest.mark.parametrize("state", ["retry", "sending", "missed"])
async def test_message_with_a_delivery_row_stays(store: Store, state: str) -> None:
    queue = await a_log(store, 50, 40, 30, 20)
    await delivery_row(store, queue, 2, state)
    await trimmed(store, queue, 15)
    assert await seqs(store) == [2]
    await run(store, "DELETE FROM delivery")
    await trimmed(store, queue, 15)
    assert await seqs(store) == []


async def test_messages_that_wait_for_their_key_stay(store: Store) -> None:
    queue = await a_log(store, 60, 50, 40, 30, 20)
    await run(store, "UPDATE log SET key_hash = 7 WHERE seq IN (1, 2, 4)")
    await run(store, "UPDATE log SET key_hash = 8 WHERE seq = 3")
    await delivery_row(store, queue, 2, "retry")
    await run(store, "UPDATE delivery SET key_hash = 7, blocked = 1")
    await trimmed(store, queue, 10)
    assert await seqs(store) == [2, 4]
    await run(store, "UPDATE delivery SET blocked = 0")
    await trimmed(store, queue, 10)
    assert await seqs(store) == [2]


async def test_messages_of_a_missed_range_stay(store: Store) -> None:
    queue = await a_log(store, 60, 50, 40, 30, 20)
    await missed_range(store, queue, 2, 3)
    await trimmed(store, queue, 10)
    assert await seqs(store) == [2, 3]


async def test_a_long_log_goes_in_steps_and_its_numbers_are_not_used_again(store: Store) -> None:
    queue = await stored_queue(store, ORGANIZATION, 10)
    await publish(store, queue, [public_id(100 + number) for number in range(1_200)], NOON - 50 * MINUTE)
    steps = await trimmed(store, queue, 40)
    assert await seqs(store) == []
    assert 3 <= steps <= 4
    head = await head_of(store, queue)
    assert (head.head, head.tail) == (1_200, 1_200)
    appended = await publish(store, queue, [public_id(5_000)])
    assert appended.entries[0].seq == 1_201


async def test_age_of_the_oldest_message_of_each_log_is_read_together(store: Store) -> None:
    queue, empty = await a_log(store, 50, 10), await stored_queue(store, ORGANIZATION, 20)
    other = await stored_queue(store, ORGANIZATION, 30)
    await publish(store, other, [public_id(300)], NOON - 5 * MINUTE)
    logs = await store.read(lambda tx: purge.logs_after(tx, (0, 0), 10))
    assert [log.queue for log in logs] == [queue.id, empty.id, other.id]
    assert await store.read(lambda tx: purge.oldest_messages(tx, logs)) == {
        (ORGANIZATION, queue.id): NOON - 50 * MINUTE,
        (ORGANIZATION, other.id): NOON - 5 * MINUTE,
    }


async def test_only_its_own_queue_is_trimmed(store: Store) -> None:
    queue = await a_log(store, 50)
    other = await stored_queue(store, ORGANIZATION, 20)
    await publish(store, other, [public_id(300)], NOON - 50 * MINUTE)
    await trimmed(store, queue, 0)
    assert await rows(store, "SELECT queue FROM log") == [(other.id,)]


async def test_queue_without_retention_uses_that_of_its_organization(store: Store) -> None:
    organization = msgspec.structs.replace(an_organization(1), settings={"retention_seconds": 120, "rate_limit": 5})
    await store.write(lambda tx: organizations.insert(tx, organization))
    await stored_queue(store, ORGANIZATION, 10)
    short = msgspec.structs.replace(a_queue(ORGANIZATION, 20), retention_seconds=60)
    await store.write(lambda tx: queues.insert(tx, short))
    logs = await store.read(lambda tx: purge.logs_after(tx, (0, 0), 10))
    assert [log.retention_seconds for log in logs] == [120, 60]


async def test_expired_missed_deliveries_are_deleted(store: Store) -> None:
    queue = await a_log(store, *range(60, 0, -1))
    for seq in range(1, 50):
        await delivery_row(store, queue, seq, "missed" if seq % 2 else "retry")
        await run(store, "UPDATE delivery SET due_at = $1 WHERE seq = $2", NOON + seq, seq)
    for seq in (1, 20):
        await missed_range(store, queue, seq, seq, at=NOON + seq)
    deleted = await store.write(lambda tx: purge.delete_missed(tx, NOON + 20))
    assert deleted == 11
    kept = await rows(store, "SELECT seq FROM delivery WHERE state = 'missed' ORDER BY seq")
    assert kept == [(seq,) for seq in range(21, 50, 2)]
    assert await rows(store, "SELECT count(*) FROM delivery WHERE state = 'retry'") == [(24,)]
    assert await rows(store, "SELECT seq_from FROM missed_range") == [(20,)]
    assert await store.write(lambda tx: purge.delete_missed(tx, NOON + 20)) == 0


async def test_attempts_are_deleted_in_steps_by_organization(store: Store) -> None:
    for number in (1, 2):
        await stored_organization(store, number)

    async def insert(tx: Transaction) -> None:
        for organization in (row_id(1), row_id(2)):
            for number in range(700):
                await tx.execute(
                    "INSERT INTO attempt VALUES ($1, $2, 1, 1, 1, 1, 200, '', 1, '', NULL)",
                    organization,
                    row_id_at(NOON + number),
                )
            for number in range(550, 700):
                await tx.execute(
                    "INSERT INTO attempt_detail VALUES ($1, $2, 1, 0, '')", organization, row_id_at(NOON + number)
                )

    await store.write(insert)
    assert await store.read(lambda tx: purge.next_organization(tx, 0)) == row_id(1)
    assert await store.read(lambda tx: purge.next_organization(tx, row_id(2))) is None
    counts = [await store.write(lambda tx: purge.delete_old(tx, "attempt", row_id(1), NOON + 600)) for _ in range(3)]
    assert counts == [500, 100, 0]
    assert await rows(store, "SELECT organization, count(*) FROM attempt GROUP BY 1") == [
        (row_id(1), 100),
        (row_id(2), 700),
    ]
    details = [
        await store.write(lambda tx: purge.delete_old(tx, "attempt_detail", row_id(1), NOON + 660)) for _ in range(3)
    ]
    assert details == [100, 10, 0]
    assert await rows(store, "SELECT organization, count(*) FROM attempt_detail GROUP BY 1") == [
        (row_id(1), 40),
        (row_id(2), 150),
    ]


@pytest.mark.parametrize(("before", "found", "most"), [(NOON - 90 * MINUTE, 0, 1), (NOON - 30 * MINUTE, 40, 8)])
async def test_retention_of_an_empty_log_takes_one_statement(store: Store, before: int, found: int, most: int) -> None:
    queue = await a_log(store, *([60] * 40 + [0] * 40))

    async def work(tx: Transaction) -> tuple[int, int]:
        counting = Counting(tx)
        last = await last_seq_stored_before(counting, ORGANIZATION, queue.id, (0, 80), before=before)
        return last, counting.rows_read

    last, count = await store.read(work)
    assert last == found
    assert count <= most
