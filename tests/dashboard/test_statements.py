"""Each page makes few statements, and is small."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from discue.store.sqlite.engine import SqliteTransaction
from tests.support.dashboard_paths import paths_of
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import DashboardService

MOST = 6
"""Including one for the session."""

MOST_BYTES = 60_000
"""The size of a page before it is compressed."""

LIMITS = {
    # Its few attempts are searched among those of the organization, in steps of two statements.
    "listener-disabled": 8,
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
