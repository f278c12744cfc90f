"""No filter of a list walks what it leaves out: each is a bound of a key, or a key of an index."""

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import msgspec
import pytest

from discue.domain.model import Listener, MissedSelection, Queue
from discue.store import (
    api_keys,
    attempts,
    cursors,
    deliveries,
    domains,
    listeners,
    message_log,
    messages,
    missed,
    organizations,
    pull_leases,
    queues,
    recipients,
    redeliveries,
    users,
)
from discue.store.engine import Transaction
from discue.store.pagination import Selection
from discue.store.redeliveries import REDELIVERY_TABLE
from discue.store.sqlite.engine import SqliteEngine
from discue.store.store import Store
from tests.store.postgres_plans import index_conditions
from tests.store.prepared import Prepared, on_prepared
from tests.store.rows import a_redelivery, public_id, row_id
from tests.store.test_plans import (
    Explaining,
    ExplainingOnce,
    _is_slow,
    _no_slow_plans,
    _with_those_of_few_rows,
    _with_those_of_many_rows,
    _without_statistics,
    _world,
    name_of,
    prepared,
)
from tests.support.clocks import NOON
from tests.support.messages import facts_of, read_message

__all__ = ["prepared"]

OURS = row_id(1)
STATES = ("acknowledged", "pending", "retrying", "missed")
FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"alias": "orders"},
    {"alias": public_id(33)},
    {"created_after": NOON, "created_before": NOON + 50},
    {"alias": "orders", "created_after": NOON},
    {"customer": "acme"},
    {"customer": "acme", "created_after": NOON, "created_before": NOON + 50},
)
MESSAGE_FILTERS: tuple[dict[str, Any], ...] = (
    {"key": "k"},
    {"header": "x-shop:north", "alias": "orders"},
    {"state": "missed"},
    {"state": "pending", "key": "k", "created_after": NOON, "created_before": NOON + 50},
)
PLACES: tuple[dict[str, Any], ...] = ({}, {"page": 3}, {"after": public_id(30)}, {"before": public_id(30)})
SELECTIONS = tuple(Selection(**place, **filters) for place, filters in product(PLACES, FILTERS))


def _of_listener(listener: Listener) -> Iterator[Selection]:
    for place, filters, state in product(PLACES, FILTERS, (None, *STATES)):
        yield Selection(listener=listener.public_id, state=state, **place, **filters)


every_prepared = pytest.mark.parametrize(
    "prepared", [_without_statistics, _with_those_of_few_rows, _with_those_of_many_rows], indirect=True, ids=name_of
)


async def _list_everything(tx: Transaction, queue: Queue, listener: Listener) -> None:
    for selection, only in product(SELECTIONS, (None, {queue.public_id, public_id(33)})):
        await organizations.page(tx, selection, only)
        await api_keys.page(tx, OURS, selection, only)
        await queues.page(tx, OURS, selection, only)
        await users.page(tx, OURS, selection, only)
        await domains.page(tx, OURS, selection, only)
        await listeners.page(tx, OURS, selection, only)
        await listeners.page_of_queue(tx, queue, selection, only)
        await messages.page(tx, OURS, selection, only)
        await messages.page_of_queue(tx, queue, selection, only)
    for place, filters, only in product(PLACES, MESSAGE_FILTERS, (None, {queue.public_id, public_id(33)})):
        await messages.page(tx, OURS, Selection(**place, **filters), only)
        await messages.page_of_queue(tx, queue, Selection(**place, **filters), only)
        await messages.page(tx, OURS, Selection(listener=listener.public_id, **place, **filters), only)
    await queues.listeners_of(tx, OURS, [queue.id, row_id(33)], 20)
    await listeners.inactive(tx, OURS, 50)
    await _read_states(tx, queue, listener)
    for selection, only in product(_of_listener(listener), (None, {public_id(33)})):
        await messages.page(tx, OURS, selection, only)
    await _see_what_happened(tx, queue, listener)
    await users.of_role(tx, OURS, "owner", 0, limit=10)
    await users.by_email(tx, OURS, "ada@example.com")
    await users.invited(tx, b"hash")


async def _read_states(tx: Transaction, queue: Queue, listener: Listener) -> None:
    found = await messages.page_of_queue(tx, queue, Selection(per_page=100))
    await messages.states_of_all(tx, OURS, {queue.id: found.items})
    await messages.states_of_all(tx, OURS, {queue.id: found.items, row_id(33): found.items[:2]})
    of = await recipients.find_recipient(tx, OURS, listener.public_id)
    assert of is not None
    await recipients.states_of(tx, of, [each.seq for each in found.items])


async def _see_what_happened(tx: Transaction, queue: Queue, listener: Listener) -> None:
    message = await read_message(tx, queue, public_id(33))
    assert message is not None
    times = {"created_after": NOON, "created_before": NOON + 50}
    for place, filters in product(PLACES, ({}, times)):
        for state in (None, *STATES):
            selection = Selection(state=state, **place, **filters)  # type: ignore[arg-type]
            await deliveries.page_of_message(tx, await facts_of(tx, message), selection)
        for outcome, status in product((None, "acknowledged", "failed"), (None, "503", "2xx")):
            selection = Selection(outcome=outcome, status=status, **place, **filters)  # type: ignore[arg-type]
            await attempts.of_message(tx, message, selection)
            await attempts.of_listener(tx, listener, selection)
    for of in (message, listener):
        await attempts.get(tx, OURS, public_id(33), of)
    await attempts.contents(tx, OURS, [public_id(33)])
    await attempts.last_failures_of_listeners(tx, OURS, [listener.id, row_id(33)])
    await attempts.last_failures_of_deliveries(tx, OURS, [(queue.id, seq, listener.id) for seq in (1, 2, 3)])
    await attempts.glances(tx, OURS, {(queue.id, 1): True, (queue.id, 2): False, (queue.id, 3): True}, 120)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
async def test_every_filter_goes_by_an_index_and_sorts_nothing(store: Store) -> None:
    queue, listener = await _world(store)

    async def work(tx: Transaction) -> None:
        explaining = Explaining(tx)
        with _no_slow_plans(explaining, _is_slow):
            await _list_everything(explaining, queue, listener)
        # The index of inactive listeners has no others.
        walks = {
            sql: " ".join(plan).replace("INDEX liveness_inactive (organization=?)", "")
            for sql, plan in explaining.plans.items()
        }
        by_organization = [sql for sql, walk in walks.items() if "(organization=?)" in walk]
        assert by_organization == []

    await store.write(work)


@on_prepared
@every_prepared
async def test_every_filter_goes_by_an_index_on_a_server_with_any_statistics(prepared: Prepared) -> None:
    async def work(tx: Transaction) -> None:
        explaining = ExplainingOnce(tx)
        with _no_slow_plans(explaining, bool):
            await _list_everything(explaining, prepared.queue, prepared.listener)

    await prepared.try_out(work)


async def _list_by_alias(tx: Transaction, queue: Queue) -> None:
    for selection in (Selection(alias="orders"), Selection(alias="orders", page=2, created_after=NOON)):
        await organizations.page(tx, selection)
        await queues.page(tx, OURS, selection)
        await api_keys.page(tx, OURS, selection)
        await users.page(tx, OURS, selection)
        await domains.page(tx, OURS, selection)
        await listeners.page(tx, OURS, selection)
        await listeners.page_of_queue(tx, queue, selection)
        await messages.page(tx, OURS, selection)
        await messages.page_of_queue(tx, queue, selection)


@on_prepared
@every_prepared
async def test_an_alias_is_found_by_an_index_of_aliases_on_a_server(prepared: Prepared) -> None:
    async def work(tx: Transaction) -> dict[str, dict[str, str]]:
        explaining = ExplainingOnce(tx, index_conditions)
        await _list_by_alias(explaining, prepared.queue)
        return {sql: plan for sql, plan in explaining.plans.items() if _asks_for_an_alias(sql)}  # type: ignore[misc]

    plans = await prepared.try_out(work)
    assert len(plans) > 9
    for sql, plan in plans.items():
        assert any(re.search("alias|email", condition) for condition in plan.values()), (sql, plan)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
async def test_an_alias_is_found_by_an_index_of_aliases_in_a_file(store: Store) -> None:
    queue, _ = await _world(store)

    async def work(tx: Transaction) -> dict[str, list[str]]:
        explaining = Explaining(tx)
        await _list_by_alias(explaining, queue)
        return {sql: plan for sql, plan in explaining.plans.items() if _asks_for_an_alias(sql)}

    plans = await store.write(work)
    assert len(plans) > 9
    for sql, plan in plans.items():
        assert any(re.search(r"alias=\?|email_key=\?", step) for step in plan), (sql, plan)


def _asks_for_an_alias(sql: str) -> bool:
    return re.search(r"(alias|email_key) (= \$|IN)", sql) is not None


_STATE_INDEXES = {"missed": "delivery_missed", "retrying": "delivery_open", "pending": "delivery_open"}


@pytest.mark.parametrize("store", ["postgres", "sqlite"], indirect=True)
@pytest.mark.parametrize("state", sorted(_STATE_INDEXES))
async def test_deliveries_in_a_state_are_found_by_the_index_of_that_state(store: Store, state: Any) -> None:
    _, listener = await _world(store)

    async def work(tx: Transaction) -> str:
        explaining = Explaining(tx) if isinstance(store.engine, SqliteEngine) else ExplainingOnce(tx, index_conditions)
        await messages.page(explaining, OURS, Selection(listener=listener.public_id, state=state))
        return " ".join(
            str(plan) for sql, plan in explaining.plans.items() if "FROM delivery" in sql and "given" not in sql
        )

    plans = await store.write(work)
    assert _STATE_INDEXES[state] in plans
    assert ("delivery_ended" in plans) == (state == "missed")
    assert "delivery_pkey" not in plans
    assert "PRIMARY KEY (organization=? AND listener=? AND stream" not in plans


@pytest.mark.parametrize("store", ["postgres", "sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(outcome="failed"), {"attempt_failed"}),
        (Selection(status="5xx", created_after=NOON), {"attempt_failed"}),
        (Selection(), {"attempt_pkey"}),
        (Selection(status="2xx", outcome="acknowledged"), {"attempt_pkey"}),
    ],
)
async def test_failures_of_a_listener_are_found_by_their_index_and_the_rest_by_time(
    store: Store, selection: Selection, expected: set[str]
) -> None:
    _, listener = await _world(store)

    async def work(tx: Transaction) -> str:
        explaining = Explaining(tx) if isinstance(store.engine, SqliteEngine) else ExplainingOnce(tx, index_conditions)
        await attempts.of_listener(explaining, listener, selection)
        assert len(explaining.plans) == 1
        return " ".join(str(plan) for plan in explaining.plans.values()).replace("PRIMARY KEY", "attempt_pkey")

    plans = await store.write(work)
    assert {name for name in ("attempt_failed", "attempt_message") if name in plans} == expected - {"attempt_pkey"}
    assert ("attempt_pkey (organization=? AND id>?" in plans or "'attempt_pkey'" in plans) == (
        "attempt_pkey" in expected
    )


@on_prepared
@every_prepared
@pytest.mark.parametrize("count", [1, 30])
async def test_states_of_messages_read_no_others_of_the_log_on_a_server(prepared: Prepared, count: int) -> None:
    async def work(tx: Transaction) -> list[dict[str, str]]:
        found = await messages.page_of_queue(tx, prepared.queue, Selection(per_page=count))
        explaining = ExplainingOnce(tx, index_conditions)
        await messages.states_of_all(explaining, OURS, {prepared.queue.id: found.items})
        await messages.states_of_all(explaining, OURS, {prepared.queue.id: found.items, row_id(33): found.items[:2]})
        return list(explaining.plans.values())  # type: ignore[arg-type]

    plans = await prepared.try_out(work)
    assert len(plans) == 2
    for plan in plans:
        assert [condition for index, condition in plan.items() if index.startswith("log_")] != []
        for index, condition in plan.items():
            assert "queue = " in condition or index in {"cursor_pkey", "missed_range_pkey"}, plan
            assert not index.startswith("log_") or "seq = " in condition, plan


@on_prepared
@every_prepared
async def test_deliveries_of_many_messages_are_read_by_whole_keys_on_a_server(prepared: Prepared) -> None:
    async def work(tx: Transaction) -> list[dict[str, str]]:
        explaining = ExplainingOnce(tx, index_conditions)
        of = await recipients.find_recipient(explaining, OURS, prepared.listener.public_id)
        assert of is not None
        await recipients.states_of(explaining, of, range(1, 101))
        await missed.page(explaining, OURS, Selection())
        for state in STATES:
            await messages.page(explaining, OURS, Selection(listener=prepared.listener.public_id, state=state))  # type: ignore[arg-type]
        return [plan for sql, plan in explaining.plans.items() if "given" in sql and "FROM delivery" in sql]  # type: ignore[misc]

    plans = await prepared.try_out(work)
    assert len(plans) >= 4
    for plan in plans:
        assert "seq = " in plan["delivery_pkey"]
        assert "key_hash = " in plan.get("delivery_key", "key_hash = ")


_WHOLE_KEYS = {
    "body_pkey": ("id =",),
    "cursor_pkey": ("organization = ANY", "listener =", "stream ="),
    "delivery_pkey": ("organization = ANY", "listener =", "stream =", "seq ="),
    "liveness_pkey": ("organization = ANY", "listener ="),
    "log_pkey": ("organization = ANY", "queue =", "seq ="),
    "organization_pkey": ("id =",),
    "queue_head_pkey": ("organization = ANY", "queue ="),
}


_OWN = "listener_pkey"
_JOINED = {
    _OWN: ("organization = ANY", "id ="),
    "liveness_pkey": ("organization = ANY", "listener ="),
    "organization_pkey": ("id =",),
    "queue_head_pkey": ("organization = ANY", "queue ="),
    "queue_pkey": ("organization = ANY", "id ="),
    "replay_pkey": ("organization = ANY", "id ="),
}


async def _read_given_keys(tx: Transaction, queue: Queue, listener: Listener, count: int) -> None:
    """Run the statements that read the rows of some given keys."""
    seqs = tuple(range(1, count + 1))
    of = await recipients.find_recipient(tx, OURS, listener.public_id)
    assert of is not None
    await pull_leases.read_open(tx, (*of.key, 0), seqs)
    await messages.page(tx, OURS, Selection(per_page=count))
    await listeners.read_facts(tx, OURS, [msgspec.structs.replace(listener, id=row_id(seq)) for seq in seqs])
    await message_log.rows_by_seq(tx, OURS, queue.id, seqs)
    await message_log.bodies_by_seq(tx, (OURS, queue.id), seqs)
    # A range has the messages 8 and 9.
    around = Selection(reason="too_old", per_page=1 if count == 1 else 50)
    assert [each.seq for each in (await missed.page_of_listener(tx, of, around)).items] == [9, 8][:count]
    chosen = MissedSelection(seqs=seqs, acknowledged=seqs[-1:])
    await REDELIVERY_TABLE.insert(tx, a_redelivery(listener, 90, chosen=chosen))
    assert await redeliveries.next_batch(tx, (*of.key, 0), queue.id) is not None


@pytest.mark.parametrize("store", ["postgres", "sqlite"], indirect=True)
async def test_inactive_listeners_are_found_by_their_index(store: Store) -> None:
    async def work(tx: Transaction) -> str:
        explaining = Explaining(tx) if isinstance(store.engine, SqliteEngine) else ExplainingOnce(tx, index_conditions)
        await listeners.inactive(explaining, OURS, 50)
        return str(explaining.plans.values())

    await _world(store)
    assert "liveness_inactive" in await store.write(work)


@on_prepared
@every_prepared
async def test_tables_joined_with_many_listeners_are_read_by_whole_keys_on_a_server(prepared: Prepared) -> None:
    async def work(tx: Transaction) -> dict[str, dict[str, str]]:
        explaining = ExplainingOnce(tx, index_conditions)
        for place, filters in product(PLACES, FILTERS):
            await listeners.page(explaining, OURS, Selection(**place, **filters))
        await listeners.inactive(explaining, OURS, 50)
        await cursors.lanes_after(explaining, 7, (0, 0, 0), 10)
        await pull_leases.backlogs_after(explaining, (0, 0, 0), 10, now=NOON)
        return {sql: plan for sql, plan in explaining.plans.items() if "JOIN" in sql}  # type: ignore[misc]

    plans = await prepared.try_out(work)
    assert len(plans) > 10
    for sql, plan in plans.items():
        # Of a list of listeners, their own index is read by the organization, and by what the page is bounded by.
        joined = set(_JOINED) if "FROM cursor" in sql else set(_JOINED) - {_OWN}
        for index in joined & set(plan):
            assert [part for part in _JOINED[index] if part not in plan[index]] == [], (sql, plan)
        assert "queue_pkey" in plan


@on_prepared
@every_prepared
@pytest.mark.parametrize("count", [1, 50])
async def test_rows_of_given_keys_are_read_by_whole_keys_on_a_server(prepared: Prepared, count: int) -> None:
    async def work(tx: Transaction) -> dict[str, dict[str, str]]:
        explaining = ExplainingOnce(tx, index_conditions)
        await _read_given_keys(explaining, prepared.queue, prepared.listener, count)
        return {sql: plan for sql, plan in explaining.plans.items() if "AS given" in sql}  # type: ignore[misc]

    plans = await prepared.try_out(work)
    assert len(plans) >= 5
    for sql, plan in plans.items():
        for index, condition in plan.items():
            assert [part for part in _WHOLE_KEYS[index] if part not in condition] == [], (sql, plan)
