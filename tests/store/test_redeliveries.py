"""Redeliveries: lists of missed messages, and the batches that make them due again."""

from functools import partial
from random import Random
from typing import NamedTuple

import msgspec
import pytest

from discue.domain.model import Listener, MissedSelection, Queue, Redelivery
from discue.domain.window import subtract
from discue.store import missed, purge, recipients, redeliveries
from discue.store.engine import DeliveryRow, MissedRange, RedeliveryStep, Settle, Transaction
from discue.store.missed_scan import MissedMessage
from discue.store.pagination import Listing, Selection
from discue.store.recipients import Recipient
from discue.store.redeliveries import REDELIVERY_TABLE, JobPreview, RedeliveryBatch, next_batch
from discue.store.store import Store
from tests.store.rows import a_redelivery, a_settle, public_id, publish_each, row_id, stored_listener, stored_queue
from tests.store.walks import backwards, forwards
from tests.support.clocks import NOON
from tests.support.everywhere import seeds

OURS = row_id(1)
COUNT = 60
REASONS = ("attempts_used_up", "no_retry", "too_old")


class World(NamedTuple):
    """`reasons` are those for which messages were missed, by seq; `gone` are seqs of messages that were deleted."""

    queue: Queue
    listener: Listener
    reasons: dict[int, str]
    gone: set[int]

    @property
    def there(self) -> list[int]:
        return [seq for seq in sorted(self.reasons) if seq not in self.gone]


def _id(seq: int) -> str:
    return public_id(100 + seq)


async def _made(store: Store, seed: int) -> World:
    """Messages missed one by one and in ranges, others acknowledged or waiting for another attempt, some deleted."""
    chance = Random(seed)  # noqa: S311 - repeatable
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 20)
    await publish_each(store, queue, ((_id(seq), NOON + 10 * seq) for seq in range(1, COUNT + 1)))
    rows, ranges, reasons, seq = [], [], {}, 1
    while seq <= COUNT:
        fate, last = chance.random(), min(COUNT, seq + chance.randrange(8))
        reason = chance.choice(REASONS)
        if fate < 0.3:
            ranges.append(MissedRange(seq, last, reason, NOON + seq))
            reasons.update(dict.fromkeys(range(seq, last + 1), reason))
        elif fate < 0.7:
            rows += [DeliveryRow(each, "missed", 12, NOON + each, reason) for each in range(seq, last + 1)]
            reasons.update(dict.fromkeys(range(seq, last + 1), reason))
        elif fate < 0.8:
            rows.append(DeliveryRow(seq, "retry", 1, NOON, ""))
        seq = last + 1
    settle = a_settle(listener, COUNT, delivery_rows=tuple(rows), missed_ranges=tuple(ranges), missed=len(reasons))
    assert await store.settle(settle)
    gone = {seq for seq in range(1, COUNT + 1) if chance.random() < 0.2}
    await store.write(partial(_delete_messages, queue=queue, seqs=gone))
    return World(queue, listener, reasons, gone)


async def _delete_messages(tx: Transaction, queue: Queue, seqs: set[int]) -> None:
    for seq in seqs:
        await tx.execute("DELETE FROM log WHERE organization = $1 AND queue = $2 AND seq = $3", OURS, queue.id, seq)


async def _recipient(tx: Transaction, listener: Listener) -> Recipient:
    found = await recipients.find_recipient(tx, OURS, listener.public_id)
    assert found is not None
    return found


async def _page(tx: Transaction, selection: Selection, world: World) -> Listing[MissedMessage]:
    return await missed.page_of_listener(tx, await _recipient(tx, world.listener), selection)


def _asked(world: World, chosen: MissedSelection, position: int = 0, until_seq: int = COUNT) -> Redelivery:
    return a_redelivery(world.listener, 500, chosen=chosen, position=position, until_seq=until_seq)


async def _store_step(store: Store, world: World, step: RedeliveryBatch, version: int) -> Settle:
    """Store a batch as a lane does."""
    seqs = [*step.apart, *(seq for cut in step.cuts for seq in cut.there)]
    settle = a_settle(
        world.listener,
        COUNT,
        version=version,
        delivery_rows=tuple(DeliveryRow(seq, "retry", 0, NOON, "", redelivered_at=NOON + 7) for seq in seqs),
        resolved=step.lost,
        unmissed=tuple(cut.whole.seq_from for cut in step.cuts),
        missed_ranges=tuple(
            MissedRange(first, last, cut.whole.reason, cut.whole.missed_at)
            for cut in step.cuts
            for first, last in subtract((cut.whole.seq_from, cut.whole.seq_to), cut.taken)
        ),
        redelivery=RedeliveryStep(
            step.redelivery.id, step.position, len(seqs), step.gone, NOON + 7, NOON + 7 if step.ends else None
        ),
    )
    assert await store.settle(settle)
    return settle


async def _redeliver(store: Store, world: World, rows: int) -> list[int]:
    """Redeliver in batches, and return the seqs in the order in which they became due."""
    seqs: list[int] = []
    cursor = (OURS, world.listener.id, 0)
    for version in range(1, 200):
        step = await store.read(partial(next_batch, cursor=cursor, queue=world.queue.id, rows=rows))
        if step is None:
            return seqs
        assert step.redelivered <= rows
        seqs += sorted([*step.apart, *(seq for cut in step.cuts for seq in cut.there)])
        await _store_step(store, world, step, version)
    raise AssertionError("the redelivery has no end")


async def _still_missed(store: Store) -> set[int]:
    rows = await store.read(lambda tx: tx.rows("SELECT seq FROM delivery WHERE state = 'missed'"))
    ranges = await store.read(lambda tx: tx.rows("SELECT seq_from, seq_to FROM missed_range"))
    return {row[0] for row in rows} | {seq for first, last in ranges for seq in range(first, last + 1)}


@pytest.mark.parametrize("seed", seeds(6))
async def test_missed_list_is_newest_first_with_reasons(store: Store, seed: int) -> None:
    world = await _made(store, seed)
    pages = partial(_page, world=world)
    expected = [_id(seq) for seq in reversed(world.there)]
    assert await forwards(store, pages, Selection(per_page=7)) == expected
    if expected:
        assert await backwards(store, pages, Selection(per_page=7), expected[-1]) == expected[:-1]
    found = await store.read(partial(pages, selection=Selection(per_page=100)))
    assert {item.seq: item.reason for item in found.items} == {seq: world.reasons[seq] for seq in world.there}
    assert {item.seq: item.stored_at for item in found.items} == {seq: NOON + 10 * seq for seq in world.there}
    assert {item.attempts for item in found.items} <= {0, 12}
    assert all(NOON < item.missed_at <= NOON + item.seq for item in found.items)


@pytest.mark.parametrize("reason", REASONS)
async def test_the_list_is_filtered_by_reason_and_by_time(store: Store, reason: str) -> None:
    world = await _made(store, 11)
    selection = Selection(per_page=3, reason=reason, created_after=NOON + 105, created_before=NOON + 450)
    expected = [_id(seq) for seq in reversed(world.there) if world.reasons[seq] == reason and 10 < seq < 45]
    assert await forwards(store, partial(_page, world=world), selection) == expected


@pytest.mark.parametrize("seed", seeds(8))
@pytest.mark.parametrize("rows", [1, 7, 500])
async def test_steps_make_everything_due_once_and_in_order(store: Store, seed: int, rows: int) -> None:
    world = await _made(store, seed)
    asked = _asked(world, MissedSelection())
    await store.write(lambda tx: REDELIVERY_TABLE.insert(tx, asked))
    assert await _redeliver(store, world, rows) == world.there
    assert await _still_missed(store) == set()
    done = await store.read(lambda tx: REDELIVERY_TABLE.get(tx, OURS, asked.public_id))
    assert done is not None
    assert (done.state, done.redelivered, done.gone) == (
        "done",
        len(world.there),
        len(world.reasons) - len(world.there),
    )


@pytest.mark.parametrize("seed", seeds(4))
@pytest.mark.parametrize("rows", [2, 500])
async def test_redelivery_steps_leave_unselected_messages_missed(store: Store, seed: int, rows: int) -> None:
    world = await _made(store, seed)
    await store.write(lambda tx: REDELIVERY_TABLE.insert(tx, _asked(world, MissedSelection(reason="too_old"), 12, 44)))
    chosen = [seq for seq in world.there if world.reasons[seq] == "too_old" and 12 < seq <= 44]
    assert await _redeliver(store, world, rows) == chosen
    taken = {seq for seq, reason in world.reasons.items() if reason == "too_old" and 12 < seq <= 44}
    assert await _still_missed(store) == set(world.reasons) - taken


@pytest.mark.parametrize("seed", seeds(4))
@pytest.mark.parametrize("rows", [2, 500])
async def test_steps_over_messages_take_those_that_are_still_missed(store: Store, seed: int, rows: int) -> None:
    world = await _made(store, seed)
    wanted = tuple(seq for seq in range(1, COUNT + 1) if seq % 3)
    await store.write(lambda tx: REDELIVERY_TABLE.insert(tx, _asked(world, MissedSelection(wanted), 0, wanted[-1])))
    assert await _redeliver(store, world, rows) == [seq for seq in world.there if seq in wanted]
    assert await _still_missed(store) == set(world.reasons) - set(wanted)


@pytest.mark.parametrize("seed", seeds(4))
async def test_dry_run_counts_the_selected_messages(store: Store, seed: int) -> None:
    world = await _made(store, seed)

    async def preview(tx: Transaction, reason: str | None) -> JobPreview:
        return await redeliveries.preview(
            tx, await _recipient(tx, world.listener), MissedSelection(reason=reason), (9, 41)
        )

    for reason in (None, *REASONS):
        found = await store.read(partial(preview, reason=reason))
        within = [seq for seq in world.reasons if 9 < seq < 41 and reason in (None, world.reasons[seq])]
        there = [seq for seq in within if seq not in world.gone]
        assert found.selected == len(within)
        assert (found.first, found.last) == ((_id(min(there)), _id(max(there))) if there else ("", ""))


async def test_preview_says_whether_there_may_be_more_than_were_counted(store: Store) -> None:
    world = await _made(store, 1)

    async def preview(tx: Transaction, counted: int) -> JobPreview:
        of = await _recipient(tx, world.listener)
        return await redeliveries.preview(tx, of, MissedSelection(), (0, COUNT + 1), counted=counted)

    assert (await store.read(partial(preview, counted=1))).is_at_least
    assert not (await store.read(partial(preview, counted=COUNT))).is_at_least


async def test_a_step_under_another_version_changes_nothing(store: Store) -> None:
    world = await _made(store, 1)
    asked = _asked(world, MissedSelection())
    await store.write(lambda tx: REDELIVERY_TABLE.insert(tx, asked))
    step = await store.read(partial(next_batch, cursor=(OURS, world.listener.id, 0), queue=world.queue.id))
    assert step is not None
    before = await _still_missed(store)
    settle = await _store_step(store, world, step, 1)
    after = await _still_missed(store)
    assert before > after
    assert not await store.settle(settle)
    done = await store.read(lambda tx: REDELIVERY_TABLE.get(tx, OURS, asked.public_id))
    assert done is not None
    assert done.redelivered == step.redelivered


async def test_deleted_redelivery_stays_deleted_and_its_step_is_delivered(store: Store) -> None:
    world = await _made(store, 1)
    asked = _asked(world, MissedSelection())
    await store.write(lambda tx: REDELIVERY_TABLE.insert(tx, asked))
    step = await store.read(partial(next_batch, cursor=(OURS, world.listener.id, 0), queue=world.queue.id, rows=2))
    assert step is not None
    before = await _still_missed(store)
    assert await store.write(partial(REDELIVERY_TABLE.delete, job=asked, purge_id=0))
    assert not await store.write(partial(REDELIVERY_TABLE.delete, job=asked, purge_id=0))
    await _store_step(store, world, step, 1)
    assert await _still_missed(store) < before
    assert await store.read(lambda tx: REDELIVERY_TABLE.get(tx, OURS, asked.public_id)) is None
    assert await store.read(partial(next_batch, cursor=(OURS, world.listener.id, 0), queue=world.queue.id)) is None


async def test_retry_keeps_the_redelivery_time(store: Store) -> None:
    world = await _made(store, 1)
    rows = [DeliveryRow(3, "retry", 0, NOON, "", redelivered_at=NOON + 7), DeliveryRow(3, "retry", 1, NOON, "failed")]
    for version, row in enumerate(rows, 1):
        assert await store.settle(a_settle(world.listener, COUNT, version=version, delivery_rows=(row,)))
    [(at,)] = await store.read(lambda tx: tx.rows("SELECT redelivered_at FROM delivery WHERE seq = 3"))
    assert at == NOON + 7


async def test_long_ended_redeliveries_are_deleted(store: Store) -> None:
    world = await _made(store, 1)
    ended = msgspec.structs.replace(_asked(world, MissedSelection()), state="done", ended_at=NOON)
    waiting = msgspec.structs.replace(_asked(world, MissedSelection()), id=row_id(501), public_id=public_id(501))
    for each in (ended, waiting):
        await store.write(partial(REDELIVERY_TABLE.insert, made=each))
    assert await store.write(partial(purge.delete_ended, table="redelivery", ended_before=NOON)) == 0
    assert await store.write(partial(purge.delete_ended, table="redelivery", ended_before=NOON + 1)) == 1
    found = await store.read(
        partial(REDELIVERY_TABLE.page, organization=OURS, owner=world.listener.id, selection=Selection())
    )
    assert found.items == (waiting,)
