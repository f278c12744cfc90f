"""Each page makes few statements, and is small."""

import html
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from discue.dashboard import listing
from discue.dashboard.pages import search
from discue.store.engine import Transaction
from discue.store.pagination import Selection
from discue.store.sqlite.engine import SqliteTransaction
from tests.support.dashboard_paths import paths_of
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import Browser, DashboardService

MOST = 6
"""Including one for the session."""

MOST_BYTES = 60_000
"""The size of a page before it is compressed."""

_LISTS = (
    *("missed", "listeners", "queues", "queue", "queue-listeners", "listener", "listener-missed", "users", "jobs"),
    *("replays", "events", "schedules", "topics", "keys", "domains", "search-messages", "message"),
)
"""The pages with a list."""
_QUERIES = {
    "listener": ["outcome=failed", "status=4xx", "outcome=acknowledged", "status=200"],
    "listener-missed": ["reason=too_old", "reason=final_status"],
    "missed": [
        *("listener=tax-report", "listener=tax-report&reason=too_old", "reason=too_old", "reason=final_status"),
        *("queue=orders", "queue=orders&reason=too_old", "queue=orders&listener=tax-report"),
    ],
    "queue": ["key=customer-1", "since=2020-01-01T00:00", "state=missed", "state=acknowledged&key=customer-1"],
    "listeners": ["alias=billing"],
    "search-messages": [
        *("q=state:missed", "q=state:acknowledged", "q=state:missed+queue:orders", "q=since:1d"),
        *("q=key:customer-1", "q=state:acknowledged+key:customer-1"),
    ],
}
"""Filters of lists."""


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
_MISSED_AT = 777
_IS_STORED = """EXISTS (
        SELECT 1 FROM log
        WHERE log.organization = listener.organization AND log.queue = listener.queue AND seq = column1)"""
_CROWD = (
    # Newer attempts of one listener than all that others have.
    f"""
    WITH RECURSIVE added (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM added WHERE n < {_MANY})
    INSERT INTO attempt (organization, id, listener, queue, seq, number, status, error, took_ms, detail)
    SELECT a.organization, a.id + n, a.listener, a.queue, a.seq, 1, 200, '', 40, '' FROM added
    JOIN (SELECT * FROM attempt ORDER BY organization DESC, id DESC LIMIT 1) AS a""",
    # Messages that every listener has missed: singly, and in ranges.
    f"""
    INSERT OR IGNORE INTO exception (organization, listener, stream, seq, queue, state, attempts, due_at, reason)
    SELECT organization, id, 0, column1, queue, 'missed', 3, {_MISSED_AT}, 'attempts_used_up' FROM listener
    JOIN (VALUES (9), (11)) WHERE {_IS_STORED}""",
    f"""
    INSERT OR IGNORE INTO missed_range (organization, listener, seq_from, queue, seq_to, reason, missed_at)
    SELECT organization, id, column1, queue, column1, 'too_old', {_MISSED_AT} FROM listener
    JOIN (VALUES (3), (5), (7)) WHERE {_IS_STORED}""",
)
_WITHOUT_CROWD = (
    f"""
    DELETE FROM attempt WHERE (organization, id) IN (
        SELECT organization, id FROM attempt ORDER BY organization DESC, id DESC LIMIT {_MANY})""",
    f"DELETE FROM exception WHERE state = 'missed' AND due_at = {_MISSED_AT}",
    f"DELETE FROM missed_range WHERE missed_at = {_MISSED_AT}",
)


@pytest.fixture
def crowd(service: DashboardService, shop: Shop) -> Iterator[None]:
    """Attempts of others among which those of a listener are few, and missed messages of all listeners."""

    def run(statements: Sequence[str]) -> None:
        async def work(tx: Transaction) -> None:
            for sql in statements:
                await tx.execute(sql)

        service.run(service.control.store.write(work))

    run(_CROWD)
    yield
    run(_WITHOUT_CROWD)


@pytest.mark.usefixtures("crowd")
def test_pages_are_cheap_and_small(service: DashboardService, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    browser, made, bytes_of = service.browser(), {}, {}
    for name, path in paths_of(shop).items():
        made[name], page = _statements(browser, path, monkeypatch)
        bytes_of[name] = len(page.encode())

    # Other tests may have made newer listeners, which are first.
    listeners = re.findall(r"/queues/\w+/listeners/(\w+)", browser.get("/missed").text)
    assert len(set(listeners)) > 2
    assert {name: count for name, count in made.items() if count > MOST} == {}
    assert {name: count for name, count in bytes_of.items() if count > MOST_BYTES} == {}


@pytest.mark.usefixtures("crowd")
def test_later_and_filtered_pages_of_lists_are_as_cheap(
    service: DashboardService, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Short pages, so that lists of the shop have several.
    monkeypatch.setattr(listing, "Selection", lambda per_page: Selection(per_page=min(2, per_page)))
    monkeypatch.setattr(search, "PER_PAGE", 2)
    browser, made, later = service.browser(), {}, set()
    for name, path in ((name, paths_of(shop)[name]) for name in _LISTS):
        for query in ("", *_QUERIES.get(name, ())):
            made[name, query], page = _statements(
                browser, f"{path.partition('?')[0]}?{query}" if query else path, monkeypatch
            )
            for direction in ("next", "prev"):
                link = re.search(rf'rel="{direction}" href="([^"]+)"', page)
                if link is not None:
                    later.add(name)
                    shown = f"{path.partition('?')[0]}{html.unescape(link[1])}"
                    made[name, f"{query} {direction}"], page = _statements(browser, shown, monkeypatch)

    assert {each: count for each, count in made.items() if count > MOST} == {}
    # Attempts and events may be gone: tests before this one may have moved the clock by days.
    assert later >= {"missed", "listener-missed", "listeners", "queue", "queue-listeners", "message"}


def _statements(browser: Browser, path: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Return how many statements a page makes, and the page."""
    numbers, page = [], ""
    # Lanes and jobs read, too, and a worker reads what it caches once: the least of several counts is the page's.
    for _ in range(4):
        with counted(monkeypatch) as statements:
            response = browser.get(path)
        assert response.status_code == 200, path
        page = response.text
        numbers.append(len(statements))
    return min(numbers), page
