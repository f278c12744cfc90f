"""Erasures delete the right messages in bounded steps, and leave nothing of them in any table."""

from functools import partial

import msgspec
import pytest

from discue.domain.attempts import Attempt
from discue.domain.causes import Cause
from discue.domain.ids import event_id_of
from discue.domain.message_data import TEXT
from discue.domain.messages import MessageOptions, encode_options, hash_key
from discue.domain.model import Erasure, Listener, Queue
from discue.store import erasures, purge
from discue.store.engine import Append, DeliveryRow, NewEntry
from discue.store.erasures import ERASURE_TABLE, LATE_MS
from discue.store.purge import Job
from discue.store.redeliveries import REDELIVERY_TABLE
from discue.store.store import Store
from tests.store.rows import a_redelivery, a_settle, public_id, row_id, rows, stored_listener, stored_queue
from tests.store.test_delayed_messages import DUE, deliver
from tests.support.clocks import NOON

OURS, THEIRS = row_id(1), row_id(2)
KEY = "customer-7"
LONG = b"x" * 2_000
"""A body that SQLite stores apart from the row of its message."""


def _entry(number: int, key: str = KEY, *, hashed: str | None = None, due_at: int | None = None) -> NewEntry:
    options = MessageOptions(headers=(("name", f"header {number}"),), key=key, deliver_at=due_at)
    body, extra = b"body %d" % number if number % 2 else LONG, encode_options(options)
    return NewEntry(public_id(number), TEXT, body, key_hash=hash_key(hashed or key), extra=extra, due_at=due_at)


async def _publish(store: Store, queue: Queue, *entries: NewEntry) -> None:
    await store.append(Append(queue.organization, queue.id, queue.config_version, NOON, entries))


async def _begun(store: Store, queue: Queue, number: int = 90, key: str = KEY) -> Job:
    work = partial(erasures.begin, queue=(queue.organization, queue.id), row_id=row_id(number), key=key, now=NOON)
    return await store.write_exclusively(work)


async def _ended(store: Store, job: Job, now: int = NOON) -> int:
    steps = 1
    while not await store.write(partial(erasures.step, job=job, now=now)):
        steps += 1
    return steps


async def _erasure(store: Store, job: Job) -> Erasure:
    found = await store.read(lambda tx: ERASURE_TABLE.get(tx, job.organization, event_id_of(job.id)))
    assert found is not None
    return found


async def _ids(store: Store) -> list[str]:
    return [row[0] for row in await rows(store, "SELECT id FROM log ORDER BY organization, queue, seq")]


async def test_erasure_deletes_the_messages_with_the_key(store: Store) -> None:
    queue, other = await stored_queue(store, OURS, 10), await stored_queue(store, OURS, 11)
    foreign = await stored_queue(store, THEIRS, 12)
    # Hashes of two keys can be equal.
    await _publish(store, queue, _entry(20), _entry(21, "customer-8"), _entry(22, "other", hashed=KEY), _entry(23))
    await _publish(store, queue, _entry(24, due_at=DUE), _entry(25, "customer-8", due_at=DUE))
    await _publish(store, other, _entry(26))
    await _publish(store, foreign, _entry(27))
    job = await _begun(store, queue)
    await _publish(store, queue, _entry(28), _entry(29, due_at=DUE))
    assert await store.read(purge.next_after) == job
    await _ended(store, job, NOON + 7)
    assert await _ids(store) == [public_id(each) for each in (21, 22, 25, 28, 29, 26, 27)]
    assert await rows(store, "SELECT origin_seq FROM scheduled ORDER BY origin_seq") == [(6,), (8,)]
    # PostgreSQL stores long bodies in the log. SQLite's table of bodies has those of the messages 22, 26 and 28.
    assert await rows(store, "SELECT count(*) FROM body") in ([(0,)], [(3,)])
    assert await store.read(purge.next_after) is None
    ended = await _erasure(store, job)
    assert (ended.state, ended.erased, ended.delivered, ended.ended_at) == ("done", 3, {}, NOON + 7)
    sizes = await rows(store, f"SELECT sum(size) FROM log WHERE organization = {OURS}")
    counted = await rows(store, f"SELECT sum(n) FROM tally WHERE organization = {OURS} AND period = 0")
    assert sizes == counted


async def _attempted(store: Store, queue: Queue, listener: Listener, *seqs: int, first: int = 0) -> None:
    """Store attempts of messages, each with details: seq 1 was not received, seq 2 is missed, seq 3 acknowledged."""
    errors = {1: "connect", 2: "status"}
    made = [(row_id(100 + first + seq), seq) for seq in seqs]
    settle = a_settle(
        listener,
        3,
        version=0 if not first else 1,
        attempts=tuple(
            Attempt(each, queue.organization, listener.id, queue.id, seq, 1, 200, errors.get(seq, ""), 1)
            for each, seq in made
        ),
        delivery_rows=(DeliveryRow(1, "retry", 1, NOON + 9, ""), DeliveryRow(2, "missed", 1, NOON, "failed")),
        details=tuple((each, b"body of an attempt") for each, _ in made),
    )
    assert await store.settle(settle)


async def test_attempts_of_erased_messages_are_deleted_with_their_details(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 11)
    await _publish(store, queue, _entry(20), _entry(21), _entry(22), _entry(23, "customer-8"))
    await _attempted(store, queue, listener, 1, 2, 3, 4)
    job = await _begun(store, queue)
    await _ended(store, job)
    assert (await _erasure(store, job)).delivered == {listener.public_id: 2}
    assert await rows(store, "SELECT seq FROM attempt") == [(4,)]
    assert await rows(store, "SELECT count(*) FROM attempt_detail") == [(1,)]
    # The lane drops the retry, as that of any deleted message: it is due now.
    assert await rows(store, "SELECT seq, state, due_at FROM delivery") == [(1, "retry", 0)]
    assert await rows(store, "SELECT kind, ref FROM feed") == [("message", queue.id)]


async def test_attempt_in_flight_is_erased_after_its_longest_timeout(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 11)
    await _publish(store, queue, _entry(20), _entry(21), _entry(22), _entry(23, "customer-8"))
    job = await _begun(store, queue)
    await _ended(store, job)
    await _attempted(store, queue, listener, 2, 4)
    assert await store.write(partial(erasures.erase_late_attempts, now=NOON + LATE_MS)) == 0
    assert await rows(store, "SELECT count(*) FROM attempt") == [(2,)]
    assert await store.write(partial(erasures.erase_late_attempts, now=NOON + LATE_MS + 1)) == 3
    assert await rows(store, "SELECT seq FROM attempt") == [(4,)]
    assert await rows(store, "SELECT count(*) FROM attempt_detail") == [(1,)]
    assert await rows(store, "SELECT seq FROM delivery") == [(1,)]
    assert await rows(store, "SELECT count(*) FROM erased_message") == [(0,)]
    assert (await _erasure(store, job)).delivered == {listener.public_id: 1}


async def test_responses_to_erased_messages_are_removed_from_groups(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 11)
    await _publish(store, queue, _entry(20), _entry(21), _entry(22, "customer-8"))
    causes = [Cause((1 << 62) + number, "no_retry", 500 + number, f"response {number}") for number in range(3)]
    settle = a_settle(
        listener,
        3,
        # The message with the second cause was redelivered since.
        attempts=(Attempt(row_id(60), OURS, listener.id, queue.id, 2, 1, 501, "status", 1),),
        delivery_rows=tuple(
            DeliveryRow(seq, "missed", 1, NOON, "no_retry", cause=causes[seq - 1].id) for seq in (1, 3)
        ),
        causes=tuple(causes),
    )
    assert await store.settle(settle)
    for number, cause in enumerate(causes):
        stopped = {"state": "stopped", "stopped_by": msgspec.json.encode(cause).decode(), "ended_at": NOON}
        await store.write(partial(REDELIVERY_TABLE.insert, made=a_redelivery(listener, 70 + number, **stopped)))
    await _ended(store, await _begun(store, queue))
    assert await rows(store, "SELECT status, text FROM missed_cause ORDER BY status") == [
        *((500, ""), (501, "")),
        (502, "response 2"),
    ]
    stopped_by = [
        msgspec.json.decode(row[0], type=Cause)
        for row in await rows(store, "SELECT stopped_by FROM redelivery ORDER BY id")
    ]
    assert stopped_by == [*(msgspec.structs.replace(cause, text="") for cause in causes[:2]), causes[2]]


async def test_group_without_a_text_shows_the_next_response(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 11)
    await _publish(store, queue, _entry(20), _entry(21, "customer-8"))
    cause = (1 << 62) + 1
    for number, seq in enumerate((1, 2, 2)):
        if number == 1:
            await _ended(store, await _begun(store, queue))
            assert await rows(store, "SELECT text FROM missed_cause") == [("",)]
        row = DeliveryRow(seq, "missed", 1, NOON, "no_retry", cause=cause)
        known = Cause(cause, "no_retry", 500, f"response {number}")
        assert await store.settle(a_settle(listener, seq, version=number, delivery_rows=(row,), causes=(known,)))
    assert await rows(store, "SELECT text FROM missed_cause") == [("response 1",)]


async def test_leased_message_counts_as_delivered(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 11)
    await _publish(store, queue, _entry(20))
    leased = DeliveryRow(1, "leased", 1, NOON + 9, "", token=3)
    assert await store.settle(a_settle(listener, 1, delivery_rows=(leased,)))
    job = await _begun(store, queue)
    await _ended(store, job)
    assert (await _erasure(store, job)).delivered == {listener.public_id: 1}


async def test_missed_message_that_holds_its_key_is_left_to_the_lane(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 11)
    await _publish(store, queue, _entry(20))
    holding = DeliveryRow(1, "missed", 1, NOON, "failed", key_hash=hash_key(KEY), blocked=2)
    assert await store.settle(a_settle(listener, 1, delivery_rows=(holding,)))
    await _ended(store, await _begun(store, queue))
    assert await rows(store, "SELECT seq, blocked FROM delivery") == [(1, 2)]


async def test_bounded_steps_erase_messages_that_become_due_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "ROWS_A_STEP", 2)
    queue = await stored_queue(store, OURS, 10)
    await _publish(store, queue, *(_entry(number, due_at=DUE) for number in (20, 21, 22)))
    await _publish(store, queue, _entry(23, due_at=DUE), *(_entry(number) for number in range(24, 28)))
    job = await _begun(store, queue)
    await _publish(store, queue, _entry(28, due_at=DUE))
    assert not await store.write(partial(erasures.step, job=job, now=NOON))
    assert len(await _ids(store)) == 7
    await deliver(store, DUE)
    assert await _ended(store, job) == 4
    assert await _ids(store) == [public_id(28)]
    assert (await _erasure(store, job)).erased == 8


async def test_step_is_bounded_by_bytes_and_attempts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "BYTES_A_STEP", len(LONG) + 1)
    queue = await stored_queue(store, OURS, 10)
    await _publish(store, queue, *(_entry(number) for number in range(20, 30, 2)))
    job = await _begun(store, queue)
    assert not await store.write(partial(erasures.step, job=job, now=NOON))
    assert len(await _ids(store)) == 4
    listener = await stored_listener(store, queue, 11)
    monkeypatch.setattr(purge, "BYTES_A_STEP", 1 << 20)
    monkeypatch.setattr(erasures, "_BYTES_OF_ATTEMPT", 1 << 20)
    await _attempted(store, queue, listener, 2, 3)
    assert await _ended(store, job) == 3


async def test_two_processes_erase_each_message_once(store: Store, second: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    await _publish(store, queue, *(_entry(number) for number in range(20, 25)))
    job = await _begun(store, queue)
    assert await second.write(partial(erasures.step, job=job, now=NOON))
    # The waiting request finds that all messages are erased and the job is finished.
    assert await store.write(partial(erasures.step, job=job, now=NOON + 5))
    ended = await _erasure(store, job)
    assert (ended.erased, ended.ended_at) == (5, NOON)


async def test_erasure_of_a_deleted_queue_ends_with_it(store: Store) -> None:
    queue = await stored_queue(store, OURS, 10)
    await _publish(store, queue, _entry(20), _entry(21))
    first, job = await _begun(store, queue), await _begun(store, queue, 91)
    await _ended(store, first)
    deletion = Job(OURS, row_id(92), "purge_queue", queue=queue.id)
    while not await store.write(lambda tx: purge.step(tx, deletion)):
        pass
    assert await rows(store, "SELECT count(*) FROM erasure") == [(0,)]
    assert await rows(store, "SELECT count(*) FROM erased_message") == [(0,)]
    assert await _ended(store, job) == 1
    assert await store.read(purge.next_after) is None
