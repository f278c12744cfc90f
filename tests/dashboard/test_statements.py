"""Each page makes few statements, and is small."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from discue.store.engine import Transaction
from discue.store.sqlite.engine import SqliteTransaction
from tests.support.dashboard_paths import paths_of
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import DashboardService

MOST = 6
"""Including one for the session."""

MOST_BYTES = 60_000
"""The size of a page before it is compressed."""

LIMITS = {
    # Two for each listener with missed messages find it, and three read these.
    "missed": 7,
}


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements that transactions make while the block runs."""
    made: list[str] = []
    with monkeypatch.context() as patch:
        for name in ("row", "rows", "execute"):
            original = getattr(SqliteTransaction, name)

            async def count(self: Any, sql: str, *values: Any, _original: Any = original) -> Any:
                made.append(sql)
                return await _original(self, sql, *values)

            patch.setattr(SqliteTransaction, name, count)
        yield made


_MANY = 21_000
_ATTEMPTS_OF_OTHERS = f"""
    WITH RECURSIVE added (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM added WHERE n < {_MANY})
    INSERT INTO attempt (organization, id, listener, queue, seq, number, status, error, took_ms, detail)
    SELECT a.organization, a.id + n, a.listener, a.queue, a.seq, 1, 200, '', 40, '' FROM added
    JOIN (SELECT * FROM attempt ORDER BY organization DESC, id DESC LIMIT 1) AS a"""
_WITHOUT_THEM = f"""
    DELETE FROM attempt WHERE (organization, id) IN (
        SELECT organization, id FROM attempt ORDER BY organization DESC, id DESC LIMIT {_MANY})"""


@pytest.fixture
def attempts_of_others(service: DashboardService, shop: Shop) -> Iterator[None]:
    """Many attempts of one listener, newer than those of all others."""

    def run(sql: str) -> None:
        async def work(tx: Transaction) -> None:
            await tx.execute(sql)

        service.run(service.control.store.write(work))

    run(_ATTEMPTS_OF_OTHERS)
    yield
    run(_WITHOUT_THEM)


@pytest.mark.usefixtures("attempts_of_others")
def test_pages_are_cheap_and_small(service: DashboardService, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    browser, made, bytes_of = service.browser(), {}, {}
    for name, path in paths_of(shop).items():
        numbers = []
        # Lanes and jobs read, too, and a worker reads what it caches once: the least of several counts is the page's.
        for _ in range(4):
            with counted(monkeypatch) as statements:
                response = browser.get(path)
            assert response.status_code == 200
            bytes_of[name] = len(response.content)
            numbers.append(len(statements))
        made[name] = min(numbers)

    assert {name: count for name, count in made.items() if count > LIMITS.get(name, MOST)} == {}
    assert {name: count for name, count in bytes_of.items() if count > MOST_BYTES} == {}
