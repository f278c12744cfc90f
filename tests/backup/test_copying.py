"""A copy keeps every row of an installation, and is refused when it would not be one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from discue.backup import copying
from discue.backup.copying import Copy, Side, compare
from discue.domain.errors import StoreUnusable
from discue.domain.message_data import TEXT
from discue.store import encryption, tables
from discue.store.encryption import Encryption
from discue.store.engine import PULL_OWNER, Append, NewEntry, Row, Transaction, Value
from discue.store.store import Store
from discue.store.tables import CURSOR, DELIVERY_ROW, LOG, TABLES, TableSpec
from tests.store.rows import a_queue, public_id, publish, row_id, stored_listener, stored_organization, stored_queue
from tests.support.clocks import NOON
from tests.support.everywhere import EVERYWHERE
from tests.support.installations import OWNER, furnish
from tests.support.stores import ENGINES, opened_store

LATER: Final = NOON + 3_600_000
QUEUE: Final = a_queue(row_id(1), 10)
OF_THE_DATABASE: Final = {"allowance", "meta", "replay_slot", "worker"}

# Applications that publish from SQL are roles of the server, and their messages were moved before a copy begins.
OF_POSTGRES: Final = {"intake", "intake_role"}


# A copy uses the engines' contract only, so one pair is enough in the default run.
_PAIRS = list(product(sorted(ENGINES), repeat=2)) if EVERYWHERE else [("sqlite", "postgres")]


on_files = pytest.mark.parametrize(
    "engines", _PAIRS if EVERYWHERE else [("sqlite", "sqlite")], indirect=True, ids="-to-".join
)
"""For rules of a copy that do not depend on what the engines store."""


@pytest.fixture(params=_PAIRS, ids="-to-".join)
def engines(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Return the names of the engines of source and target."""
    found: tuple[str, str] = request.param
    return found


def _side(runner: asyncio.Runner, engine: str, folder: Path) -> Iterator[Side]:
    folder.mkdir()
    with opened_store(runner, engine, folder) as store:
        side = Side(store, folder.name, is_held=False)
        # Databases of one test server may be made from one template.
        runner.run(run(side, "UPDATE meta SET value = $1 WHERE key = 'epoch'", folder.name))
        yield side


@pytest.fixture
def empty(runner: asyncio.Runner, engines: tuple[str, str], tmp_path: Path) -> Iterator[Side]:
    yield from _side(runner, engines[0], tmp_path / "source")


@pytest.fixture
def source(runner: asyncio.Runner, empty: Side) -> Side:
    """A source with a queue of three messages and a listener."""
    runner.run(a_small_installation(empty))
    return empty


@pytest.fixture
def target(runner: asyncio.Runner, engines: tuple[str, str], tmp_path: Path) -> Iterator[Side]:
    yield from _side(runner, engines[1], tmp_path / "target")


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "ROWS_A_STEP", 3)


async def copied(source: Side, target: Side, steps: int = 1_000_000, copy_id: str = "first") -> Copy:
    copy = await copying.begin(source, target, LATER, copy_id)
    async with some_steps(copy, steps):
        return copy


@asynccontextmanager
async def some_steps(copy: Copy, steps: int) -> AsyncIterator[AsyncIterator[tuple[str, int]]]:
    """Yield the steps after the first ones."""
    async with aclosing(copying.fill(copy)) as filling:
        while steps:
            try:
                await anext(filling)
            except StopAsyncIteration:
                break
            steps -= 1
        yield filling


async def differences(copy: Copy) -> list[str]:
    return [look.difference async for look in compare(copy) if look.difference]


async def rows(side: Side, table: TableSpec, columns: tuple[str, ...] = ()) -> list[Row]:
    order = ", ".join(table.key)
    sql = f"SELECT {', '.join(columns or table.columns)} FROM {table.name} ORDER BY {order}"
    return [tuple(row) for row in await side.store.read(lambda tx: tx.rows(sql))]


async def run(side: Side, sql: str, *values: Value) -> int:
    return await side.store.write(lambda tx: tx.execute(sql, *values))


async def meta(side: Side) -> dict[str, str]:
    found = await side.store.read(lambda tx: tx.rows("SELECT key, value FROM meta"))
    return {row[0]: row[1] for row in found}


async def refusal(source: Side, target: Side) -> str:
    with pytest.raises(StoreUnusable) as refused:
        await copied(source, target)
    return refused.value.detail


async def a_small_installation(side: Side) -> None:
    await stored_organization(side.store, 1)
    await stored_queue(side.store, QUEUE.organization, 10)
    await stored_listener(side.store, QUEUE, 11)
    await publish(side.store, QUEUE, [public_id(20), public_id(21), public_id(22)])


async def a_member(side: Side, **changes: int) -> None:
    """A worker's row, whose lease has 10 s to go."""
    values = {"session_id": 1, "dead": 0, "left_ms": 10_000} | changes
    await run(
        side,
        "INSERT INTO worker (session_id, dead, lease_until, role, slot, lease_ms, is_leaving) "
        "VALUES ($1, $2, clock_ms() + $3, 'all', 0, 10000, 0)",
        *values.values(),
    )


async def test_copy_has_every_row_of_every_table(empty: Side, target: Side) -> None:
    await furnish(empty.store)
    copy = await copied(empty, target)
    await copying.finish(copy)

    for table in TABLES:
        found = await rows(empty, table)
        assert found, f"nothing is in {table.name} to be copied"
        if table not in (CURSOR, DELIVERY_ROW):
            assert await rows(target, table) == found
    assert await differences(copy) == []


async def test_copy_has_no_cursor_owners_and_no_requests_in_flight(empty: Side, target: Side) -> None:
    await furnish(empty.store)
    await a_member(empty, dead=1)
    await copied(empty, target)

    columns = tuple(column for column in CURSOR.columns if column != "owner")
    assert await rows(target, CURSOR, columns) == await rows(empty, CURSOR, columns)
    assert {row[0] for row in await rows(empty, CURSOR, ("owner",))} == {OWNER}
    assert {row[0] for row in await rows(target, CURSOR, ("owner",))} == {None}
    assert await rows(target, DELIVERY_ROW, ("seq", "state", "attempts", "due_at", "reason", "sender")) == [
        (10, "retry", 3, NOON + 60_000, "", None),
        (11, "retry", 1, NOON + 70_000, "", None),
        (12, "retry", 2, LATER, "", None),
        (13, "retry", 1, LATER, "", None),
        (14, "ended", 2, NOON, "", OWNER),
        (15, "missed", 12, NOON, "failed", None),
    ]
    assert await target.store.read(lambda tx: tx.rows("SELECT * FROM worker")) == []


async def test_copy_keeps_pulled_cursors_and_leases(source: Side, target: Side) -> None:
    await run(source, "UPDATE cursor SET owner = $1", PULL_OWNER)
    await run(
        source,
        "INSERT INTO delivery (organization, listener, stream, seq, queue, state, attempts, due_at, token, reason) "
        "SELECT organization, listener, stream, 1, queue, 'leased', 1, 9, 7, '' FROM cursor",
    )
    await copying.finish(await copied(source, target))
    assert await rows(target, CURSOR) == await rows(source, CURSOR)
    assert await rows(target, DELIVERY_ROW) == await rows(source, DELIVERY_ROW)


async def test_the_target_keeps_its_own_epoch_and_is_not_marked_when_it_is_finished(source: Side, target: Side) -> None:
    await source.store.write(lambda tx: encryption.write(tx, Encryption("a" * 16)))
    before = await meta(target)
    copy = await copied(source, target)
    with pytest.raises(StoreUnusable, match="not finished"):
        await target.store.read(lambda tx: tables.require_copied(tx, "target"))
    await copying.finish(copy)

    await target.store.read(lambda tx: tables.require_copied(tx, "target"))
    assert await meta(target) == {**before, "encryption": (await meta(source))["encryption"]}
    assert before["epoch"] != (await meta(source))["epoch"]


@pytest.mark.usefixtures("small_steps")
async def test_interrupted_copy_starts_again(empty: Side, target: Side) -> None:
    await furnish(empty.store)
    started_again = [(await copied(empty, target, steps)).starts_again for steps in (0, 1, 20, 1_000_000)]
    copy = await copied(empty, target)

    assert started_again == [False, True, True, True]
    assert await differences(copy) == []
    await copying.finish(copy)


@pytest.mark.parametrize("messages", [4, 5, 6, 7])
@pytest.mark.usefixtures("small_steps")
async def test_no_row_is_lost_where_steps_meet(source: Side, target: Side, messages: int) -> None:
    await publish(source.store, QUEUE, [public_id(100 + number) for number in range(messages - 3)])

    assert await differences(await copied(source, target)) == []
    assert len(await rows(target, LOG)) == messages


@pytest.mark.parametrize("engines", [(name, name) for name in sorted(ENGINES)], indirect=True)
async def test_rows_are_counted_in_stretches(empty: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "ROWS_PER_COUNT", 3)
    queue = await stored_queue(empty.store, row_id(1), 10)
    for messages in range(1, 8):
        await publish(empty.store, queue, [public_id(100 + messages)])
        assert await copying.count(empty.store, LOG) == messages
    assert await copying.count(empty.store, DELIVERY_ROW) == 0


async def test_large_messages_go_a_few_at_a_time(source: Side, target: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "BYTES_A_STEP", 100)
    for number, size in enumerate((85, 1, 500, 99, 1)):
        entry = NewEntry(public_id(50 + number), TEXT, b"x" * size)
        await source.store.append(Append(QUEUE.organization, QUEUE.id, 1, NOON, (entry,)))
    copy = await copying.begin(source, target, LATER, "first")
    counts = [count async for table, count in copying.fill(copy) if table == "log"]

    # The first three have 23 bytes each.
    assert counts == [3, 2, 1, 2]
    assert await differences(await copied(source, target)) == []


@on_files
async def test_a_finished_copy_is_not_begun_again(source: Side, target: Side) -> None:
    await copying.finish(await copied(source, target))

    assert "is not empty" in await refusal(source, target)


@on_files
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE meta SET value = 'another' WHERE key = 'epoch'",
        "UPDATE queue_head SET head = head + 1",
        "UPDATE feed_head SET version = version + 1",
        "DELETE FROM log",
    ],
)
async def test_interrupted_copy_starts_again_although_its_source_has_changed(
    source: Side, target: Side, change: str
) -> None:
    await copied(source, target)
    await run(source, change)

    assert await differences(await copied(source, target)) == []


@on_files
async def test_a_change_during_the_copy_ends_it(source: Side, target: Side) -> None:
    copy = await copying.begin(source, target, LATER, "first")
    async with some_steps(copy, 3) as rest:
        await run(source, "UPDATE feed_head SET version = version + 1")
        with pytest.raises(StoreUnusable, match="source changed"):
            await anext(rest)


@on_files
async def test_a_change_that_comes_last_keeps_the_copy_from_being_finished(source: Side, target: Side) -> None:
    copy = await copied(source, target)
    await publish(source.store, QUEUE, [public_id(50)])
    with pytest.raises(StoreUnusable, match="source changed"):
        await copying.finish(copy)
    assert "copy" in await meta(target)


@on_files
async def test_an_unfinished_copy_is_no_source(source: Side, target: Side) -> None:
    await copied(source, target, steps=3)

    assert "A copy into target is not finished" in await refusal(target, source)


async def test_a_database_is_not_copied_to_itself(source: Side, target: Side) -> None:
    del target

    assert "is the source itself" in await refusal(source, source)


async def test_schemas_of_different_versions_are_refused(source: Side, target: Side) -> None:
    await run(target, "UPDATE meta SET value = '2' WHERE key = 'schema_version'")

    assert "discue migrate" in await refusal(source, target)


@on_files
@pytest.mark.parametrize("served", ["source", "target"])
async def test_a_database_that_is_served_is_refused(source: Side, target: Side, served: str) -> None:
    await a_member(source if served == "source" else target)

    assert f"{served} is served by 1 running worker" in await refusal(source, target)


@on_files
@pytest.mark.parametrize("served", ["source", "target"])
async def test_a_server_that_starts_during_the_copy_ends_it(source: Side, target: Side, served: str) -> None:
    copy = await copying.begin(source, target, LATER, "first")
    async with some_steps(copy, 3) as rest:
        await a_member(source if served == "source" else target)
        with pytest.raises(StoreUnusable, match=f"{served} is served"):
            await anext(rest)


@on_files
async def test_dead_and_expired_workers_do_not_stop_a_copy(source: Side, target: Side) -> None:
    await a_member(source, session_id=1, dead=1)
    await a_member(source, session_id=2, left_ms=-1)
    await a_member(source, session_id=3, left_ms=20_000)

    assert await differences(await copied(source, target)) == []


@on_files
async def test_stale_worker_row_does_not_stop_a_copy_under_the_server_lock(source: Side, target: Side) -> None:
    await a_member(source)
    held = Side(source.store, source.name, is_held=True)

    assert await differences(await copied(held, target)) == []


@on_files
async def test_second_copy_into_the_same_database_ends_the_first(source: Side, target: Side) -> None:
    first = await copying.begin(source, target, LATER, "first")
    async with some_steps(first, 3) as rest:
        second = await copied(source, target, copy_id="second")
        with pytest.raises(StoreUnusable, match="Another process copies"):
            await anext(rest)
    with pytest.raises(StoreUnusable, match="Another process copies"):
        await copying.finish(first)

    assert await differences(second) == []
    await copying.finish(second)


@on_files
@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("DELETE FROM log WHERE seq = 2", "is missing"),
        ("UPDATE log SET size = 1 WHERE seq = 2", "differ"),
        ("UPDATE cursor SET position = 1", "differ"),
        ("UPDATE queue_head SET head = 1", "differ"),
        (
            "INSERT INTO feed (shard, version, kind, organization, ref) VALUES (0, 9, 'queue', 1, 1)",
            "not in the source",
        ),
    ],
)
async def test_a_difference_is_found(source: Side, target: Side, sql: str, told: str) -> None:
    copy = await copied(source, target)
    assert await differences(copy) == []
    await run(target, sql)

    (difference,) = await differences(copy)
    assert told in difference


async def test_a_difference_is_found_however_far_it_is(
    source: Side, target: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "ROWS_PER_COMPARISON", 3)
    await publish(source.store, QUEUE, [public_id(100 + number) for number in range(9)])
    copy = await copied(source, target)
    looks = [look async for look in compare(copy)]
    await run(target, "DELETE FROM log WHERE seq = 12")

    assert sum(look.rows for look in looks if look.table == "log") == 12
    assert [look.difference for look in looks if look.difference] == []
    (difference,) = await differences(copy)
    assert "seq 12 is missing" in difference


async def columns_of(store: Store, engine: str) -> dict[str, set[str]]:
    sql = (
        "SELECT t.name, c.name FROM pragma_table_list t, pragma_table_info(t.name) c "
        "WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite%'"
        if engine == "sqlite"
        else "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
    )
    found: dict[str, set[str]] = {}
    for table, column in await store.read(lambda tx: tx.rows(sql)):
        found.setdefault(str(table), set()).add(str(column))
    return found


async def test_no_table_and_no_column_is_forgotten(source: Side, engines: tuple[str, str]) -> None:
    found = await columns_of(source.store, engines[0])
    kept = {table.name: set(table.columns) for table in TABLES}

    assert kept == {name: columns for name, columns in found.items() if name not in OF_THE_DATABASE | OF_POSTGRES}
    assert found.keys() >= OF_THE_DATABASE


@pytest.mark.parametrize("engines", [("sqlite", "sqlite")], indirect=True)
async def test_every_page_is_found_by_the_key(empty: Side) -> None:
    async def plan(tx: Transaction, table: TableSpec) -> list[Row]:
        sql = tables.select(table, table.columns, is_first=False)
        return await tx.rows(f"EXPLAIN QUERY PLAN {sql}", *range(len(table.key) + 1))

    for table in TABLES:
        (step,) = [row[-1] for row in await empty.store.read(partial(plan, table=table))]
        assert step.startswith(f"SEARCH {table.name} USING")
