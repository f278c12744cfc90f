"""Attempts as lists: what is in them, in which order, whatever is deleted, filtered by, and however they are read."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import msgspec
import pytest

from discue.domain.attempts import Attempt, StoredAttempt
from discue.domain.errors import BadRequest
from discue.domain.ids import event_id_of, millisecond_of
from discue.domain.messages import StoredMessage
from discue.domain.model import Listener, Queue
from discue.store import attempts, listeners, messages
from discue.store.engine import Transaction
from discue.store.pagination import Listing, ScanLimits, Selection
from discue.store.store import Store
from tests.store.rows import a_settle, public_id, publish, row_id, stored_listener, stored_message, stored_queue
from tests.store.walks import backwards, check, forwards
from tests.support.clocks import NOON

OURS = row_id(1)
MESSAGES = 3


class World(msgspec.Struct, frozen=True):
    """Two listeners of one queue, a third of another one, and every attempt, oldest first."""

    queue: Queue
    listeners: list[Listener]
    messages: list[StoredMessage]
    attempts: list[Attempt]


OUTCOMES = ((200, ""), (503, "status"), (0, "connect"), (204, ""), (500, "status"), (200, "timeout"), (301, "redirect"))


async def _world(store: Store) -> World:
    queue, other = [await stored_queue(store, OURS, number) for number in (10, 11)]
    registered = [await stored_listener(store, each, 12 + index) for index, each in enumerate((queue, queue, other))]
    ids = [public_id(number) for number in range(20, 20 + MESSAGES)]
    await publish(store, queue, ids)
    await publish(store, other, [public_id(number) for number in range(30, 30 + MESSAGES)])
    made = []
    for index in range(63):
        listener, seq = registered[index % 3], index % 2 + 1
        status, error = OUTCOMES[index % len(OUTCOMES)]
        made.append(
            Attempt(
                row_id(100 + index // 2) + index % 2,
                OURS,
                listener.id,
                listener.queue,
                seq,
                index // 6 + 1,
                status,
                error,
                index,
                f"Number {index}.",
            )
        )
    for listener in registered:
        theirs = tuple(each for each in made if each.listener == listener.id)
        assert await store.settle(a_settle(listener, MESSAGES, attempts=theirs))
    return World(queue, registered, [await stored_message(store, queue, each) for each in ids], made)


def _ids(attempts: Sequence[Attempt]) -> list[str]:
    """Newest first."""
    return [event_id_of(each.id) for each in sorted(attempts, key=lambda each: -each.id)]


FILTERS: dict[str, tuple[Selection, Callable[[Attempt], bool]]] = {
    "nothing": (Selection(), lambda _: True),
    "acknowledged": (Selection(outcome="acknowledged"), lambda each: not each.error),
    "failed": (Selection(outcome="failed"), lambda each: bool(each.error)),
    "a status": (Selection(status="503"), lambda each: each.status == 503),
    "a class": (Selection(status="5xx"), lambda each: each.status in (500, 503)),
    "a class of both": (Selection(status="2xx"), lambda each: each.status in (200, 204)),
    "no response": (Selection(status="0"), lambda each: each.status == 0),
    "both": (Selection(status="2xx", outcome="failed"), lambda each: each.status == 200 and bool(each.error)),
    "what cannot be": (Selection(status="404", outcome="acknowledged"), lambda _: False),
    "a time": (
        Selection(created_after=NOON + 105, created_before=NOON + 120),
        lambda each: NOON + 105 < millisecond_of(each.id) < NOON + 120,
    ),
    "any time": (Selection(created_after=0, created_before=999_999_999_999_999), lambda _: True),
    "a failure of a time": (
        Selection(created_before=NOON + 110, outcome="failed"),
        lambda each: bool(each.error) and millisecond_of(each.id) < NOON + 110,
    ),
}


@pytest.mark.parametrize(
    ("looked_at", "per_page"),
    [(attempts._LIMITS, 4), (attempts._LIMITS, 100), (ScanLimits(2, 3, 100), 4), (ScanLimits(1, 1, 100), 1)],
)
async def test_a_listener_has_its_attempts(
    store: Store, monkeypatch: pytest.MonkeyPatch, looked_at: ScanLimits, per_page: int
) -> None:
    monkeypatch.setattr(attempts, "_LIMITS", looked_at)
    world = await _world(store)
    listener = world.listeners[1]
    for selection, passes in FILTERS.values():
        expected = _ids([each for each in world.attempts if each.listener == listener.id and passes(each)])
        pages = partial(_of_listener, listener)
        await check(store, pages, msgspec.structs.replace(selection, per_page=per_page), expected)


async def _of_listener(listener: Listener, tx: Transaction, selection: Selection) -> Listing[StoredAttempt]:
    return await attempts.of_listener(tx, listener, selection)


async def _of_message(message: StoredMessage, tx: Transaction, selection: Selection) -> Listing[StoredAttempt]:
    return await attempts.of_message(tx, message, selection)


@pytest.mark.parametrize("per_page", [4, 100])
async def test_a_message_has_its_attempts_to_all_listeners_and_to_one(store: Store, per_page: int) -> None:
    world = await _world(store)
    message = world.messages[1]
    for (selection, passes), listener in product(FILTERS.values(), (None, *world.listeners[:2])):
        expected = _ids(
            [
                each
                for each in world.attempts
                if (each.queue, each.seq) == (message.queue, message.seq)
                and (listener is None or each.listener == listener.id)
                and passes(each)
            ]
        )
        owner = listener.public_id if listener else None
        chosen = msgspec.structs.replace(selection, listener=owner, per_page=per_page)
        await check(store, partial(_of_message, message), chosen, expected)


@pytest.mark.parametrize("name", ["nothing", "acknowledged", "a status"])
async def test_a_page_that_costs_too_much_is_cut_short_and_goes_on_where_it_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(attempts, "_LIMITS", ScanLimits(1, 2, 3))
    world = await _world(store)
    selection, passes = FILTERS[name]
    listener = world.listeners[0]
    expected = _ids([each for each in world.attempts if each.listener == listener.id and passes(each)])
    pages = partial(_of_listener, listener)
    first = await store.read(lambda tx: pages(tx, selection))
    assert len(first.items) < min(10, len(expected))
    assert first.has_next
    assert await forwards(store, pages, selection) == expected
    assert await backwards(store, pages, selection, event_id_of(listener.id)) == expected
    with pytest.raises(BadRequest, match="too far"):
        await store.read(partial(pages, selection=msgspec.structs.replace(selection, page=3)))


async def test_an_attempt_is_found_by_whom_it_belongs_to_alone(store: Store) -> None:
    world = await _world(store)
    made = event_id_of(world.attempts[1].id)
    get = partial(attempts.get, public_id=made)
    assert await store.read(partial(get, organization=OURS, of=world.listeners[0])) is None
    assert await store.read(partial(get, organization=OURS, of=world.messages[0])) is None
    assert await store.read(partial(get, organization=row_id(2), of=world.listeners[1])) is None
    near = [made[:-1] + chr(ord(made[-1]) + 1), "0" * 21, "z" * 21, made[:8] + "z" * 13]
    for other in near:
        assert (
            await store.read(partial(attempts.get, organization=OURS, public_id=other, of=world.listeners[1])) is None
        )
    assert await store.settle(a_settle(world.listeners[1], 3, version=1, details=((world.attempts[1].id, b"kept"),)))
    contents = partial(attempts.contents, public_ids=[made])
    found = [await store.read(partial(contents, organization=each)) for each in (OURS, row_id(2))]
    assert found == [{made: b"kept"}, {}]


async def test_attempts_to_a_deleted_listener_are_not_shown(store: Store) -> None:
    world = await _world(store)
    gone, message = world.listeners[0], world.messages[0]
    await store.write(lambda tx: listeners.mark_deleted(tx, OURS, gone.id, NOON))
    shown = await store.read(partial(_of_message, message, selection=Selection(per_page=100)))
    assert {each.listener_public_id for each in shown.items} == {world.listeners[1].public_id}
    theirs = next(each for each in world.attempts if each.listener == gone.id and each.seq == 1)
    found = partial(attempts.get, organization=OURS, public_id=event_id_of(theirs.id), of=message)
    assert await store.read(found) is None


async def test_attempts_of_a_message_that_is_not_kept_are_shown_without_it(store: Store) -> None:
    world = await _world(store)
    listener = world.listeners[0]
    await store.write(lambda tx: messages.delete(tx, world.messages[0]))
    shown = await store.read(partial(_of_listener, listener, selection=Selection(per_page=100)))
    assert {each.message_id for each in shown.items} == {"", world.messages[1].id}
    assert len(shown.items) == sum(each.listener == listener.id for each in world.attempts)


async def test_last_failure_of_a_listener_is_its_newest_failed_attempt(store: Store) -> None:
    world = await _world(store)
    ids = [each.id for each in world.listeners]
    found = await store.read(lambda tx: attempts.last_failures_of_listeners(tx, OURS, [*ids, row_id(9)]))
    assert {listener: each.id for listener, each in found.items()} == {
        listener: _ids([each for each in world.attempts if each.listener == listener and each.error])[0]
        for listener in ids
    }
    assert await store.read(lambda tx: attempts.last_failures_of_listeners(tx, row_id(2), ids)) == {}


async def test_last_failure_of_a_delivery_is_not_that_of_another_listener_or_of_a_replay(store: Store) -> None:
    world = await _world(store)
    first, second, other = world.listeners
    late = row_id(500)
    made = [
        Attempt(late, OURS, first.id, first.queue, 1, 30, 200, "", 1),
        Attempt(late + 1, OURS, first.id, first.queue, 1, 1, 503, "status", 1, replay=row_id(400)),
    ]
    assert await store.settle(a_settle(first, MESSAGES, attempts=tuple(made), version=1))
    keys = [(each.queue, seq, each.id) for each in (first, second, other) for seq in (1, 2, 3)]
    found = await store.read(lambda tx: attempts.last_failures_of_deliveries(tx, OURS, keys))
    of = {key: [each for each in world.attempts if _key(each) == key and each.error] for key in keys}
    assert {key: each.id for key, each in found.items()} == {key: _ids(each)[0] for key, each in of.items() if each}
    assert len(found) == 6


def _key(attempt: Attempt) -> tuple[int, int, int]:
    return attempt.queue, attempt.seq, attempt.listener


async def test_glance_has_the_last_failure_of_any_listener_if_it_is_wanted(store: Store) -> None:
    world = await _world(store)
    [first, second, _] = [(each.queue, each.seq) for each in world.messages]
    found = await store.read(lambda tx: attempts.glances(tx, OURS, {first: True, second: False}, 5))
    expected = _ids([each for each in world.attempts if (each.queue, each.seq) == first and each.error])[0]
    shown = found[first].last_failure
    assert shown is not None
    assert (shown.id, found[second].last_failure) == (expected, None)
