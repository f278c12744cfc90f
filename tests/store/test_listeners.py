import msgspec

from discue.domain.model import CursorCounts, DeliveryOptions, Listener, Queue
from discue.domain.window import Window
from discue.store import listeners, messages, missed, queues
from discue.store.engine import DeliveryRow, MissedRange
from discue.store.store import Store
from tests.store.rows import (
    a_settle,
    counts_of,
    public_id,
    publish,
    row_id,
    stored_listener,
    stored_organization,
    stored_queue,
)
from tests.support.clocks import NOON
from tests.support.messages import read_message

OURS, THEIRS = row_id(1), row_id(2)


async def _with_messages(store: Store, before: int, after: int) -> tuple[Queue, Listener]:
    """A queue, and a listener registered after the first messages."""
    await stored_organization(store, 1)
    queue = await stored_queue(store, OURS, 10)
    await publish(store, queue, [public_id(number) for number in range(100, 100 + before)] or [public_id(99)])
    listener = await stored_listener(store, queue, 11)
    await publish(store, queue, [public_id(number) for number in range(200, 200 + after)])
    return queue, listener


async def test_a_listener_starts_where_its_queue_stands(store: Store) -> None:
    _, listener = await _with_messages(store, before=3, after=2)
    counts = await counts_of(store, OURS, listener.id)
    assert counts == CursorCounts(5, 3, 0, 0, 0, 0, 0, 0)
    assert counts.pending == 2


async def test_pending_count_excludes_settled_and_missed_messages(store: Store) -> None:
    _, listener = await _with_messages(store, before=1, after=6)
    window = Window(1)
    for seq in (2, 4, 5):
        window.settle(seq)
    settled = a_settle(
        listener,
        window.position,
        ahead=window.encode(),
        acknowledged=1,
        missed=1,
        retrying=1,
        delivery_rows=(DeliveryRow(4, "retry", 1, NOON, "failed"), DeliveryRow(5, "missed", 12, NOON, "used up")),
    )
    assert await store.settle(settled)
    counts = await counts_of(store, OURS, listener.id)
    assert (counts.settled_ahead, counts.pending) == (2, 4)


async def test_missed_messages_are_shown_newest_first_whether_one_by_one_or_in_ranges(store: Store) -> None:
    queue, listener = await _with_messages(store, before=1, after=9)
    settled = a_settle(
        listener,
        10,
        missed=6,
        delivery_rows=(DeliveryRow(3, "missed", 12, NOON, "used up"), DeliveryRow(9, "missed", 12, NOON, "")),
        missed_ranges=(MissedRange(5, 8, "too_old", NOON),),
    )
    assert await store.settle(settled)
    deleted = await store.read(lambda tx: read_message(tx, queue, public_id(204)))
    assert deleted is not None
    await store.write(lambda tx: messages.delete(tx, deleted))
    all_missed = await store.read(lambda tx: missed.newest_ids(tx, listener))
    assert all_missed == [public_id(number) for number in (207, 206, 205, 203, 201)]
    newest = await store.read(lambda tx: missed.newest_ids(tx, listener, limit=2))
    assert newest == [public_id(207), public_id(206)]


async def test_the_listeners_of_a_deleted_queue_are_gone_with_it(store: Store, queue: Queue) -> None:
    listener = await stored_listener(store, queue, 11)
    await store.write(lambda tx: queues.mark_deleted(tx, OURS, queue.id, NOON))
    assert await store.read(lambda tx: listeners.get(tx, OURS, listener.public_id)) is None
    assert await store.read(lambda tx: listeners.by_id(tx, OURS, listener.id)) is None


async def test_every_changed_field_of_a_listener_is_stored(store: Store, queue: Queue) -> None:
    listener = await stored_listener(store, queue, 11)
    changed = msgspec.structs.replace(
        listener,
        alias="renamed",
        status="disabled",
        disabled_by="request",
        status_changed_at=NOON + 1,
        notify_url="https://example.com/changed",
        liveness_url="https://example.com/live",
        options=DeliveryOptions(timeout_seconds=7, description="changed"),
        customer="acme",
        config_version=2,
        updated_at=NOON + 1,
    )
    assert await store.write(lambda tx: listeners.update(tx, changed))
    assert await store.read(lambda tx: listeners.get(tx, OURS, listener.public_id)) == msgspec.structs.replace(
        changed, queue_alias=queue.alias
    )


async def test_a_queue_refers_to_its_oldest_listeners(store: Store, queue: Queue) -> None:
    made = [await stored_listener(store, queue, number) for number in (20, 21, 22)]
    await store.write(lambda tx: listeners.mark_deleted(tx, OURS, made[0].id, NOON))
    shown = await store.read(lambda tx: queues.listeners_of(tx, OURS, [queue.id], 1))
    assert [(each.public_id, each.alias) for each in shown[queue.id]] == [(made[1].public_id, made[1].alias)]


async def test_the_listeners_of_several_queues_are_found_at_once_and_of_each_the_oldest(store: Store) -> None:
    first, second, empty = [await stored_queue(store, OURS, number) for number in (10, 11, 12)]
    await stored_queue(store, THEIRS, 13)
    for number in (20, 21, 22):
        await stored_listener(store, first, number)
    await stored_listener(store, second, 23)
    ids = [first.id, second.id, empty.id]
    found = await store.read(lambda tx: queues.listeners_of(tx, OURS, ids, 2))
    shown = {queue: [each.public_id for each in references] for queue, references in found.items() if references}
    assert shown == {first.id: [public_id(20), public_id(21)], second.id: [public_id(23)]}
