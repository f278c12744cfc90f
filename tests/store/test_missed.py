"""Missed messages of an organization: the lists of its listeners one after the other, whatever a page is limited to."""

from functools import partial
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest

from discue.domain.errors import BadRequest
from discue.domain.model import Listener, Queue
from discue.store import listeners, messages, missed, missed_scan, recipients
from discue.store.engine import DeliveryRow, MissedRange, Transaction
from discue.store.missed_scan import MissedMessage, position_of
from discue.store.pagination import Listing, ScanLimits, Selection
from discue.store.store import Store
from tests.store.rows import (
    a_settle,
    public_id,
    publish_each,
    row_id,
    stored_listener,
    stored_organization,
    stored_queue,
)
from tests.store.test_pagination import Counting
from tests.support.clocks import NOON
from tests.support.everywhere import seeds
from tests.support.messages import read_message

OURS = row_id(1)
COUNT = 14
REDELIVERED: list[tuple[Any, ...]] = [
    ("retry", 2, NOON + 3_000, ""),
    ("ended", 3, NOON + 4_000, "expired"),
    ("missed", 4, NOON + 5_000, "final_status"),
]
Shown = tuple[str, str]
"""The ids of the listener and the message."""


class World(NamedTuple):
    queues: list[Queue]
    listeners: list[Listener]


async def _made(store: Store, seed: int, count: int = 6) -> World:
    """Store listeners of two queues, of which each but one missed messages, singly and in ranges."""
    chance = Random(seed)  # noqa: S311 - repeatable
    await stored_organization(store, 1)
    owners = [await stored_queue(store, OURS, number) for number in (10, 11)]
    made = [await stored_listener(store, owners[number % 2], 20 + number) for number in range(count)]
    for place, queue in enumerate(owners):
        await publish_each(
            store, queue, ((public_id(100 + 50 * place + number), NOON + 10 * number) for number in range(COUNT))
        )
    for listener in made[1:]:
        rows, ranges, seq = [], [], 1
        while seq <= COUNT:
            last = min(COUNT, seq + chance.randrange(3))
            if chance.random() < 0.5:
                rows.append(DeliveryRow(seq, "missed", 12, NOON + seq, "attempts_used_up"))
            elif chance.random() < 0.5:
                ranges.append(MissedRange(seq, last, "too_old", NOON + last))
                # Redelivered, and missed again or not.
                rows += chance.choice([[], *([DeliveryRow(last, *each)] for each in REDELIVERED)])
            seq = last + 1
        settle = a_settle(listener, COUNT, delivery_rows=tuple(rows), missed_ranges=tuple(ranges))
        assert await store.settle(settle)
    for place in range(2):
        gone = await store.read(partial(read_message, queue=owners[place], public_id=public_id(104 + 50 * place)))
        assert gone is not None
        await store.write(partial(messages.delete, message=gone))
    return World(owners, made)


async def _expected(store: Store, world: World, selection: Selection) -> list[MissedMessage]:
    """Read the list of each listener by itself, as long as no limits are set."""

    async def work(tx: Transaction) -> list[MissedMessage]:
        found: list[MissedMessage] = []
        aliases = {queue.id: queue.alias for queue in world.queues}
        for listener in reversed(world.listeners):
            of = await recipients.find_recipient(tx, OURS, listener.public_id)
            assert of is not None
            page = await missed.page_of_listener(tx, of, msgspec.structs.replace(selection, per_page=100))
            found += [
                msgspec.structs.replace(
                    item,
                    listener_public_id=listener.public_id,
                    listener_alias=listener.alias,
                    queue_public_id=of.queue_public_id,
                    queue_alias=aliases[listener.queue],
                )
                for item in page.items
            ]
        return found

    return await store.read(work)


async def _walk(
    store: Store, selection: Selection, only: set[str] | None = None, *, newest_first: bool = True
) -> list[MissedMessage]:
    """Follow the links of the list from one of its ends to the other."""
    found: list[MissedMessage] = []
    if not newest_first:
        selection = msgspec.structs.replace(selection, before=position_of((0, 0)))
    for _ in range(300):
        page: Listing[MissedMessage] = await store.read(
            partial(missed.page, organization=OURS, selection=selection, only=only)
        )
        assert len(page.items) <= selection.per_page
        found = [*found, *page.items] if newest_first else [*page.items, *found]
        if not (page.has_next if newest_first else page.has_previous):
            return found
        if newest_first:
            selection = msgspec.structs.replace(selection, after=page.resumes_after)
        else:
            selection = msgspec.structs.replace(selection, before=page.resumes_before)
    raise AssertionError("the list has no end")


@pytest.mark.parametrize("seed", seeds(4))
@pytest.mark.parametrize("is_cut", [False, True])
async def test_list_of_an_organization_has_the_lists_of_its_listeners(
    store: Store,
    seed: int,
    is_cut: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await _made(store, seed)
    every: list[dict[str, Any]] = [{}, {"reason": "too_old"}, {"created_after": NOON + 30, "created_before": NOON + 90}]
    lists = [await _expected(store, world, Selection(**filters)) for filters in every]
    for each in world.listeners:
        in_state = Selection(per_page=100, listener=each.public_id, state="missed")
        by_state = await store.read(partial(messages.page, organization=OURS, selection=in_state))
        of_each = [item.id for item in lists[0] if item.listener_public_id == each.public_id]
        assert [message.id for message in by_state.items] == of_each
    if is_cut:
        for name in ("_LIMITS", "_LIMITS_OF_ONE", "_LIMITS_OF_REASON", "_LIMITS_OF_SEVERAL", "_LIMITS_OF_TIMES"):
            monkeypatch.setattr(missed, name, ScanLimits(2, 2, 3))
        for name in ("_LISTENERS_AT_ONCE", "_LISTENERS_LOOKED_AT", "_CHOSEN_LOOKED_AT"):
            monkeypatch.setattr(missed_scan, name, 2)
    for filters, expected in zip(every, lists, strict=True):
        selection = Selection(per_page=4, **filters)
        # Of a message that was missed again after a redelivery, the last reason counts.
        assert selection.reason is None or expected == [item for item in lists[0] if item.reason == selection.reason]
        assert len({item.listener_public_id for item in expected}) > 2
        assert await _walk(store, selection) == expected
        assert await _walk(store, selection, newest_first=False) == expected
        queue, one = world.queues[1].public_id, world.listeners[2].public_id
        of_queue = [item for item in expected if item.queue_public_id == queue]
        of_one = [item for item in expected if item.listener_public_id == one]
        only = {queue, one}
        for is_newest_first in (True, False):
            selection = Selection(per_page=4, queue=queue, **filters)
            assert await _walk(store, selection, newest_first=is_newest_first) == of_queue
            assert await _walk(store, Selection(per_page=4, **filters), only, newest_first=is_newest_first) == [
                item for item in expected if only & {item.queue_public_id, item.listener_public_id}
            ]
            selection = Selection(per_page=4, listener=one, **filters)
            assert await _walk(store, selection, newest_first=is_newest_first) == of_one


async def test_page_between_two_times_takes_few_statements(store: Store) -> None:
    world = await _made(store, 1, 30)
    times = Selection(created_after=NOON + 90, created_before=NOON + 120)
    whole = await _expected(store, world, times)

    async def work(tx: Transaction) -> tuple[Listing[MissedMessage], int]:
        counting: Any = Counting(tx)
        return await missed.page(counting, OURS, times), counting.statements

    page, statements = await store.read(work)
    assert list(page.items) == whole[:10]
    assert page.has_next
    assert statements <= 10


async def test_ranges_that_begin_before_the_times_are_listed_from_both_ends(store: Store) -> None:
    await stored_organization(store, 1)
    queue = await stored_queue(store, OURS, 10)
    made = [await stored_listener(store, queue, 20 + number) for number in range(3)]
    await publish_each(store, queue, ((public_id(100 + number), NOON + 10 * number) for number in range(COUNT)))
    for listener in made:
        assert await store.settle(a_settle(listener, COUNT, missed_ranges=(MissedRange(2, 9, "too_old", NOON),)))
    expected = [(listener.public_id, seq) for listener in reversed(made) for seq in (8, 7, 6)]
    times: dict[str, Any] = {"created_after": NOON + 45, "created_before": NOON + 75}
    of_all, of_queue = (Selection(per_page=2, queue=of, **times) for of in (None, queue.public_id))
    for selection, only in ((of_all, None), (of_queue, None), (of_all, {each.public_id for each in made})):
        for is_newest_first in (True, False):
            found = await _walk(store, selection, only, newest_first=is_newest_first)
            assert [(each.listener_public_id, each.seq) for each in found] == expected


async def test_numbered_pages_of_missed_messages_follow_each_other(store: Store) -> None:
    world = await _made(store, 3)
    expected = await _expected(store, world, Selection())
    found: list[MissedMessage] = []
    for number in range(1, 40):
        page = await store.read(partial(missed.page, organization=OURS, selection=Selection(page=number)))
        found += page.items
        assert page.has_previous == (number > 1 and bool(page.items))
        if not page.has_next:
            break
    assert found == expected


async def test_list_is_limited_to_targets_a_queue_and_a_listener(store: Store) -> None:
    world = await _made(store, 2)
    everything = await _expected(store, world, Selection())
    queue, listener = world.queues[1].public_id, world.listeners[2].public_id
    for only in ({queue}, {listener}, {queue, listener}, {public_id(99)}):
        expected = [item for item in everything if only & {item.queue_public_id, item.listener_public_id}]
        assert await _walk(store, Selection(per_page=3), only) == expected
    of_queue = [item for item in everything if item.queue_public_id == queue]
    assert await _walk(store, Selection(queue=queue)) == of_queue
    of_listener = [item for item in everything if item.listener_public_id == listener]
    assert await _walk(store, Selection(listener=listener)) == of_listener
    assert await _walk(store, Selection(queue=queue, listener=listener)) == []
    assert await _walk(store, Selection(queue=queue), {listener}) == []


async def test_unknown_listener_and_queue_are_refused(store: Store) -> None:
    world = await _made(store, 2)
    await store.write(lambda tx: listeners.mark_deleted(tx, OURS, world.listeners[3].id, NOON))
    for selection, pointer in (
        (Selection(listener=world.listeners[3].public_id), "?listener"),
        (Selection(queue=world.listeners[2].public_id), "?queue"),
    ):
        with pytest.raises(BadRequest) as refused:
            await store.read(partial(missed.page, organization=OURS, selection=selection))
        assert refused.value.faults[0].pointer == pointer
    deleted = world.listeners[3].public_id
    assert deleted not in {item.listener_public_id for item in await _walk(store, Selection())}
