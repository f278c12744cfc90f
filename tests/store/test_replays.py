"""Replays as rows, and their cursors: whose they are, and what becomes of them."""

from functools import partial

import msgspec
import pytest

from discue.domain.ids import event_id_of
from discue.domain.model import Listener, Queue, Replay, ReplaySpec
from discue.store import cursors, organizations, purge, replays, workers
from discue.store.cursors import ReplayPlan
from discue.store.engine import DeliveryRow, ReplayStep, Row, Settle
from discue.store.replays import REPLAY_TABLE
from discue.store.store import Store
from tests.store.rows import (
    a_settle,
    an_organization,
    counts_of,
    public_id,
    publish,
    row_id,
    stored_listener,
    stored_organization,
    stored_queue,
)
from tests.support.clocks import NOON

OURS = row_id(1)
ME, OTHER = 71, 72
STREAM = row_id(500)


async def _made(store: Store) -> tuple[Queue, Listener, Replay]:
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 20)
    await publish(store, queue, [public_id(100 + seq) for seq in range(1, 10)], NOON)
    key = (OURS, STREAM, event_id_of(STREAM), listener.id)
    return queue, listener, Replay(*key, "waiting", 3, 8, 2, 6, NOON, NOON, 9, ReplaySpec('{"a": 1}'))


async def _owners(store: Store) -> dict[int, tuple[int | None, int]]:
    """Owner and token of each cursor, by stream."""
    rows = await store.read(lambda tx: tx.rows("SELECT stream, owner, token FROM cursor"))
    return {row[0]: (row[1], row[2]) for row in rows}


async def _insert(store: Store, replay: Replay) -> None:
    await store.write(partial(REPLAY_TABLE.insert, made=replay))


async def _claim(store: Store, owner: int, listener: Listener) -> list[tuple[int, int, int]]:
    return await store.write(partial(cursors.claim, owner=owner, cursors=[(OURS, listener.id, 0)]))


def _settle(listener: Listener, **changes: object) -> Settle:
    settle = a_settle(listener, 5, stream=STREAM, token=1, acknowledged=2, missed=1, retrying=1)
    return msgspec.structs.replace(settle, replay=ReplayStep(3, 2, NOON + 5), **changes)


async def _stored(store: Store) -> Replay:
    found = await store.read(lambda tx: REPLAY_TABLE.get(tx, OURS, event_id_of(STREAM)))
    assert found is not None
    return found


async def test_replay_cursor_belongs_to_the_owner_of_the_live_cursor(store: Store) -> None:
    _, listener, replay = await _made(store)
    await store.write(lambda tx: organizations.insert(tx, an_organization(1)))
    await _claim(store, ME, listener)
    await _insert(store, replay)
    assert await _owners(store) == {0: (ME, 1), STREAM: (ME, 1)}
    live, ours = await store.read(lambda tx: cursors.lanes_of(tx, ME, OURS, listener.id))
    assert (live.stream, live.replay) == (0, None)
    assert (ours.stream, ours.position, ours.start_seq, ours.has_redeliveries) == (STREAM, 2, 0, False)
    assert ours.replay == ReplayPlan(replay.public_id, 8, NOON, 9, '{"a": 1}')


async def test_claim_of_the_live_cursor_claims_the_replay_cursor_from_any_owner(store: Store) -> None:
    _, listener, replay = await _made(store)
    await _insert(store, replay)
    assert await _owners(store) == {0: (None, 0), STREAM: (None, 1)}
    assert (await store.engine.poll(())).free == ((OURS, listener.id, 0),)
    both = [(OURS, listener.id, 0), (OURS, listener.id, STREAM)]
    assert await _claim(store, ME, listener) == both
    await store.write(partial(cursors.release, owner=ME, cursors=both[:1]))
    assert await _claim(store, OTHER, listener) == both
    assert await _owners(store) == {0: (OTHER, 3), STREAM: (OTHER, 3)}
    assert await _claim(store, ME, listener) == []
    assert await store.write(partial(workers.release_cursors, dead=OTHER, limit=10)) == 2


async def test_replay_cursor_is_released_only_with_the_live_cursor(store: Store) -> None:
    """A worker that releases a replay's cursor, but fails to release the live one, keeps both."""
    _, listener, replay = await _made(store)
    await _claim(store, ME, listener)
    await _insert(store, replay)
    assert await store.settle(_settle(listener, releases=True))
    assert await _owners(store) == {0: (ME, 1), STREAM: (ME, 2)}
    await store.write(partial(cursors.release, owner=ME, cursors=[(OURS, listener.id, STREAM)]))
    assert await _owners(store) == {0: (ME, 1), STREAM: (ME, 3)}
    await store.write(partial(cursors.release, owner=ME, cursors=[(OURS, listener.id, 0)]))
    assert await _claim(store, OTHER, listener) == [(OURS, listener.id, 0), (OURS, listener.id, STREAM)]
    assert await _owners(store) == {0: (OTHER, 3), STREAM: (OTHER, 4)}


async def test_claim_leaves_the_replays_of_other_listeners(store: Store) -> None:
    queue, listener, replay = await _made(store)
    neighbour = await stored_listener(store, queue, 30)
    await _insert(store, msgspec.structs.replace(replay, listener=neighbour.id))
    assert await _claim(store, ME, listener) == [(OURS, listener.id, 0)]
    assert (await _owners(store))[STREAM] == (None, 1)


async def test_settle_updates_the_progress_of_a_replay(store: Store) -> None:
    await stored_organization(store, 1)
    _, listener, replay = await _made(store)
    await _insert(store, replay)
    assert await store.settle(_settle(listener))
    assert await store.settle(_settle(listener, version=1, position=6))
    assert not await store.settle(_settle(listener, version=1, position=7))
    running = await _stored(store)
    assert (running.state, running.position, running.updated_at) == ("running", 6, NOON + 5)
    assert (running.delivered, running.failed, running.retrying) == (2, 1, 1)
    assert (running.expired, running.filtered) == (6, 4)
    assert running.remaining == 3
    counts = await counts_of(store, OURS, listener.id)
    assert (counts.acknowledged, counts.missed) == (0, 0)


async def test_replay_ends_only_with_the_expected_cursor_version(store: Store) -> None:
    _, listener, replay = await _made(store)
    await _insert(store, replay)
    key = (OURS, listener.id, STREAM)
    for token, version in ((0, 0), (1, 1)):
        assert not await store.write(partial(replays.end, key=key, token=token, version=version, now=NOON + 9))
    assert (await _stored(store)).ended_at is None
    assert await store.write(partial(replays.end, key=key, token=1, version=0, now=NOON + 9))
    assert not await store.write(partial(replays.end, key=key, token=1, version=0, now=NOON + 10))
    done = await _stored(store)
    assert (done.state, done.ended_at, done.position, done.remaining) == ("done", NOON + 9, 8, 0)
    assert set(await _owners(store)) == {0}
    assert await store.read(lambda tx: REPLAY_TABLE.list_open(tx, OURS, listener.id, 5)) == []


async def test_deleted_replay_is_not_settled_and_its_rows_are_removed(store: Store) -> None:
    _, listener, replay = await _made(store)
    await _insert(store, replay)
    waits = tuple(DeliveryRow(seq, "retry", 1, NOON, "failed") for seq in (3, 4))
    assert await store.settle(_settle(listener, delivery_rows=waits))
    live = _settle(listener, stream=0, token=0, delivery_rows=waits[:1])
    assert await store.settle(msgspec.structs.replace(live, replay=None))
    assert await store.write(partial(REPLAY_TABLE.delete, job=replay, purge_id=row_id(700)))
    assert not await store.write(partial(REPLAY_TABLE.delete, job=replay, purge_id=row_id(701)))
    assert not await store.settle(_settle(listener, version=1))
    job = await store.read(purge.next_after)
    assert job is not None
    assert (job.kind, job.listener, job.stream) == ("purge_replay", listener.id, STREAM)
    while not await store.write(lambda tx: purge.step(tx, job)):
        pass
    assert await _exceptions(store) == [(0, 3)]
    assert await store.read(purge.next_after) is None


async def _exceptions(store: Store) -> list[Row]:
    return await store.read(lambda tx: tx.rows("SELECT stream, seq FROM delivery ORDER BY stream, seq"))


async def test_retention_keeps_messages_that_are_still_to_be_replayed(store: Store) -> None:
    queue, listener, replay = await _made(store)
    assert await store.settle(a_settle(listener, 9, acknowledged=9))
    await _insert(store, replay)
    log = purge.LogToTrim(OURS, queue.id, 0, 9, None)
    await store.write(partial(purge.trim_log, log=log, after=0, stored_before=NOON + 1))
    rows = await store.read(lambda tx: tx.rows("SELECT seq FROM log ORDER BY seq"))
    assert [row[0] for row in rows] == [3, 4, 5, 6, 7, 8, 9]


async def test_the_ends_are_those_of_messages_that_are_there_and_due(store: Store) -> None:
    queue, _, _ = await _made(store)
    await store.write(lambda tx: tx.execute("DELETE FROM log WHERE seq IN (3, 9)"))
    await store.write(lambda tx: tx.execute("UPDATE log SET kind = 1 WHERE seq IN (4, 8)"))

    async def ends(first: int, last: int) -> tuple[str, str]:
        return await store.read(lambda tx: replays.ends_of(tx, OURS, queue.id, first, last=last))

    assert await ends(3, 9) == (public_id(105), public_id(107))
    assert await ends(3, 4) == ("", "")


async def test_messages_of_a_short_range_are_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, _, _ = await _made(store)
    await store.write(lambda tx: tx.execute("DELETE FROM log WHERE seq IN (3, 9)"))
    await store.write(lambda tx: tx.execute("UPDATE log SET kind = 1 WHERE seq IN (4, 8)"))

    async def count(first: int, last: int) -> int:
        return await store.read(lambda tx: replays.count_of(tx, OURS, queue.id, first, last=last))

    assert [await count(3, 9), await count(3, 4), await count(5, 4)] == [3, 0, 0]
    monkeypatch.setattr(replays, "COUNTED", 6)
    assert [await count(3, 9), await count(4, 9)] == [7, 3]


async def test_long_ended_replays_are_deleted(store: Store) -> None:
    _, _, replay = await _made(store)
    await _insert(store, replay)
    ended = msgspec.structs.replace(replay, id=STREAM + 1, public_id=event_id_of(STREAM + 1), ended_at=NOON)
    await _insert(store, ended)
    assert await store.write(partial(purge.delete_ended, table="replay", ended_before=NOON)) == 0
    assert await store.write(partial(purge.delete_ended, table="replay", ended_before=NOON + 1)) == 1
    assert await _stored(store) == replay
