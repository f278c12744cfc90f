"""Purge removes everything of a deleted resource, and nothing else, in bounded steps."""

from functools import partial
from typing import Final

import pytest

from discue.domain.attempts import Attempt
from discue.domain.message_data import TEXT
from discue.domain.model import Listener, Queue
from discue.store import (
    api_keys,
    listeners,
    organizations,
    purge,
    queues,
    schedules,
    tallies,
)
from discue.store.engine import Append, DeliveryRow, MissedRange, NewEntry, Row, Transaction
from discue.store.listeners import HealthRecord, ListenerHealth
from discue.store.purge import Job
from discue.store.redeliveries import REDELIVERY_TABLE
from discue.store.replays import REPLAY_TABLE
from discue.store.store import Store
from discue.store.tables import TABLES
from tests.store.rows import (
    a_key,
    a_redelivery,
    a_replay,
    a_schedule,
    a_settle,
    an_organization,
    public_id,
    publish,
    row_id,
    stored_listener,
    stored_queue,
)
from tests.support.clocks import NOON

OURS, THEIRS = row_id(1), row_id(2)
MESSAGES = 1_200
OWNED: Final = [each.name for each in TABLES if "organization" in each.key or each.name == "organization"]


async def _filled(store: Store, number: int, organization: int, messages: int) -> tuple[Queue, Listener]:
    """A queue with a listener that has missed everything: each table has rows of it."""
    queue = await stored_queue(store, organization, number)
    listener = await stored_listener(store, queue, number + 1)
    await publish(store, queue, [public_id(number + 2 + each) for each in range(messages)])
    seqs = range(1, messages + 1)
    settled = a_settle(
        listener,
        messages,
        missed=messages,
        attempts=tuple(
            Attempt(row_id(number) + seq, organization, listener.id, queue.id, seq, 1, 500, "status", 1) for seq in seqs
        ),
        delivery_rows=tuple(DeliveryRow(seq, "missed", 1, NOON, "failed") for seq in seqs),
        missed_ranges=tuple(MissedRange(seq, seq, "too_old", NOON) for seq in seqs),
        details=tuple((row_id(number) + seq, b"detail") for seq in seqs),
    )
    assert await store.settle(settled)
    await store.write(partial(tallies.add_of_listeners, counted=store.listener_counts.take()))
    standing = HealthRecord(
        organization, listener.id, 0, listener.liveness_url, listener.config_version, ListenerHealth()
    )
    assert await store.write(lambda tx: listeners.write_health(tx, [standing])) == {listener.id}
    await store.write(partial(REDELIVERY_TABLE.insert, made=a_redelivery(listener, number, until_seq=messages)))
    await store.write(partial(schedules.insert, schedule=a_schedule(queue, number)))
    await store.write(partial(REPLAY_TABLE.insert, made=a_replay(listener, number)))
    return queue, listener


async def _rows_of(store: Store, organization: int) -> dict[str, list[Row]]:
    async def work(tx: Transaction) -> dict[str, list[Row]]:
        found = {}
        for table in OWNED:
            column = "id" if table == "organization" else "organization"
            found[table] = await tx.rows(f"SELECT * FROM {table} WHERE {column} = $1", organization)
        return found

    return await store.read(work)


async def _purge(store: Store, job: Job) -> int:
    """How many steps it took."""
    await store.write(lambda tx: purge.enqueue(tx, job))
    steps = 1
    while not await store.write(lambda tx: purge.step(tx, job)):
        steps += 1
    return steps


async def test_a_purged_listener_leaves_the_log_and_its_neighbours_as_they_were(store: Store) -> None:
    queue, listener = await _filled(store, 10, OURS, MESSAGES)
    await stored_listener(store, queue, 5_000)
    before = await _rows_of(store, OURS)
    await store.write(lambda tx: listeners.mark_deleted(tx, OURS, listener.id, NOON))
    steps = await _purge(store, Job(OURS, row_id(9_000), "purge_listener", listener=listener.id))
    after = await _rows_of(store, OURS)
    assert steps == 2 * -(-MESSAGES // purge.ROWS_A_STEP) + -(-MESSAGES // purge.DETAILS_A_STEP) + 5
    assert after["redelivery"] == after["replay"] == []
    assert after["delivery"] == after["missed_range"] == after["attempt_detail"] == after["job"] == []
    assert after["attempt"] == []
    assert (len(after["listener"]), len(after["cursor"])) == (1, 1)
    assert (after["log"], after["queue"]) == (before["log"], before["queue"])


async def test_purge_step_is_bounded_and_keeps_attempts_of_other_listeners(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "ATTEMPTS_LOOKED_AT", 7)
    _, gone = await _filled(store, 10, OURS, 30)
    _, kept = await _filled(store, 100, OURS, 25)
    await store.write(lambda tx: listeners.mark_deleted(tx, OURS, gone.id, NOON))
    job = Job(OURS, row_id(9_000), "purge_listener", listener=gone.id)
    await store.write(lambda tx: purge.enqueue(tx, job))
    left = [55]
    while not await store.write(lambda tx: purge.step(tx, job)):
        left.append(len((await _rows_of(store, OURS))["attempt"]))
        assert left[-2] - left[-1] <= 7
    attempts = (await _rows_of(store, OURS))["attempt"]
    assert (len(attempts), {row[2] for row in attempts}) == (25, {kept.id})


async def test_a_settle_that_comes_after_the_purge_began_adds_nothing(store: Store) -> None:
    queue, listener = await _filled(store, 10, OURS, 3)
    job = Job(OURS, row_id(9_000), "purge_listener", listener=listener.id)
    await store.write(lambda tx: purge.step(tx, job))
    late = Attempt(row_id(8_000), OURS, listener.id, queue.id, 1, 2, 500, "status", 1)
    details = ((late.id, b"detail"),)
    settle = a_settle(listener, 3, version=1, missed=3, attempts=(late,), details=details)
    assert not await store.settle(settle)
    left = await _rows_of(store, OURS)
    assert late.id not in [row[1] for row in (*left["attempt"], *left["attempt_detail"])]


async def test_a_purged_queue_leaves_nothing_and_other_queues_whole(store: Store) -> None:
    kept, _ = await _filled(store, 10, OURS, 3)
    before = await _rows_of(store, OURS)
    gone, _ = await _filled(store, 20_000, OURS, MESSAGES)
    await stored_listener(store, gone, 30_000)
    await store.write(lambda tx: queues.mark_deleted(tx, OURS, gone.id, NOON))
    await _purge(store, Job(OURS, row_id(90_000), "purge_queue", queue=gone.id))
    # Messages of the deleted queue stay counted as added.
    assert await _rows_of(store, OURS) | {"tally": before["tally"]} == before
    assert await store.read(lambda tx: queues.by_id(tx, OURS, kept.id)) == kept


async def test_a_purged_organization_leaves_nothing_and_the_other_whole(store: Store) -> None:
    for number, organization in ((1, OURS), (2, THEIRS)):
        await store.write(partial(organizations.insert, organization=an_organization(number)))
        await store.write(partial(api_keys.insert, made=a_key(organization, 3_000 + number)))
        await _filled(store, 10_000 * number, organization, 30)
        await _filled(store, 10_000 * number + 5_000, organization, 3)
    theirs = await _rows_of(store, THEIRS)
    await store.write(lambda tx: organizations.mark_deleted(tx, OURS, NOON))
    await _purge(store, Job(OURS, row_id(90_000), "purge_organization"))
    assert all(rows == [] for rows in (await _rows_of(store, OURS)).values())
    assert await _rows_of(store, THEIRS) == theirs


async def test_large_messages_are_removed_a_few_at_a_time(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    body = b"x" * (purge.BYTES_A_STEP // 4)
    for number in range(9):
        entry = NewEntry(public_id(100 + number), TEXT, body)
        store_more = Append(OURS, queue.id, 1, NOON, (entry,))
        await store.write(partial(_insert, append=store_more))
    assert await _purge(store, Job(OURS, row_id(900), "purge_queue", queue=queue.id)) == 4


async def _insert(tx: Transaction, append: Append) -> None:
    """Past the group commit, whose bound of waiting bytes is small here."""
    for entry in append.entries:
        await tx.execute(
            "INSERT INTO log (organization, queue, seq, id, stored_at, size, codec, body) "
            "SELECT $1, $2, count(*) + 1, $3, $4, $5, 0, $6 FROM log",
            append.organization,
            append.queue,
            entry.id,
            append.now,
            len(entry.body),
            entry.body,
        )


@pytest.mark.parametrize(
    "job",
    [
        Job(OURS, row_id(900), "purge_queue", queue=row_id(5)),
        Job(OURS, row_id(900), "purge_listener", listener=row_id(5)),
        Job(OURS, row_id(900), "purge_organization"),
    ],
    ids=lambda job: job.kind,
)
async def test_purge_of_an_unknown_listener_ends_at_once(store: Store, job: Job) -> None:
    assert await _purge(store, job) == 1
    assert await store.read(purge.next_after) is None


async def test_jobs_come_oldest_first_and_stay_until_they_are_finished(store: Store) -> None:
    older = Job(row_id(1), row_id(10), "purge_queue", queue=row_id(5))
    newer = Job(row_id(2), row_id(11), "purge_listener", listener=row_id(6))
    for job in (newer, older):
        await store.write(partial(purge.enqueue, job=job))
    assert await store.read(purge.next_after) == older
    assert await store.read(purge.next_after) == older
    assert await store.read(lambda tx: purge.next_after(tx, older.id)) == newer
    await store.write(lambda tx: purge.finish(tx, older))
    assert await store.read(purge.next_after) == newer
    await store.write(lambda tx: purge.finish(tx, newer))
    assert await store.read(purge.next_after) is None
