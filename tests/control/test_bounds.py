"""Every table has a bound. Bounds that only retention enforces are tested here."""

import re
from functools import partial

import pytest

from discue.config.settings import SETTINGS
from discue.control.context import ControlContext
from discue.domain.lockout import LockoutSubject
from discue.domain.quotas import NAMES
from discue.store import lockouts, tables, tallies
from discue.store.engine import Transaction
from discue.store.events import Occurrence
from discue.store.sqlite.engine import SqliteEngine
from discue.store.tallies import BudgetRequest
from tests.control.bounds import BOUNDS
from tests.support.cast import Cast
from tests.support.clocks import NOON

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
_TABLES_ON_A_SERVER = """
    SELECT relname FROM pg_class
    WHERE relkind = 'r' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"""
_INTAKE = {"intake", "intake_role"}
"""Tables that only applications with a role of the operator's server write to."""


async def test_every_table_of_the_schema_has_a_bound(control: ControlContext) -> None:
    sql = _TABLES if isinstance(control.store.engine, SqliteEngine) else _TABLES_ON_A_SERVER
    there = {name for (name,) in await control.store.read(lambda tx: tx.rows(sql))} - _INTAKE
    assert {table.name for table in tables.TABLES} < there
    assert there == BOUNDS.keys() - _INTAKE


@pytest.mark.parametrize("name", BOUNDS)
def test_bound_refers_to_existing_quotas_settings_and_tables(name: str) -> None:
    bound = BOUNDS[name]
    assert bound.quotas or bound.most or bound.of or bound.setting
    assert set(bound.quotas) <= set(NAMES)
    assert not bound.setting or bound.setting in {setting.name for setting in SETTINGS}
    above = [name]
    while of := BOUNDS[above[-1]].of:
        assert of not in above
        above.append(of)


async def test_oldest_failures_and_budgets_beyond_the_bound_are_deleted(
    cast: Cast, control: ControlContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockouts, "MOST_SUBJECTS", 3)
    monkeypatch.setattr(tallies, "MOST_BUDGETS", 2)

    async def work(tx: Transaction) -> None:
        for number in range(5):
            subject = LockoutSubject.user(f"user{number}@example.com")
            await lockouts.count_failure(tx, subject, NOON + number, Occurrence(control.row_ids.next(), ""))
        requests = [BudgetRequest(0, number, NOON // 60_000 - number, 1, 10) for number in range(4)]
        await tallies.take_budgets(tx, requests)

    await control.store.write(work)
    for delete, table, age, left in (
        (lockouts.delete_beyond, "lockout", "updated_at", [NOON + 2, NOON + 3, NOON + 4]),
        (tallies.delete_beyond, "allowance", "minute", [NOON // 60_000 - 1, NOON // 60_000]),
    ):
        while await control.store.write(delete):
            pass
        rows = await control.store.read(partial(_ages, table=table, age=age))
        assert rows == left


async def _ages(tx: Transaction, table: str, age: str) -> list[int]:
    assert re.fullmatch("[a-z_]+", table + age)
    return [value for (value,) in await tx.rows(f"SELECT {age} FROM {table} ORDER BY {age}")]
