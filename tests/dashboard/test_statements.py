"""Each page makes few statements, and is small."""

import html
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlencode

import pytest

from discue.dashboard import listing
from discue.dashboard.visit import PER_PAGE
from discue.store.engine import Transaction
from discue.store.pagination import Selection
from tests.support.dashboard_paths import paths_of
from tests.support.dashboard_shop import BEHAVIOURS, Shop, ShopSender, open_shop
from tests.support.dashboards import Browser, DashboardService, dashboard_service
from tests.support.page_statements import counted
from tests.support.postgres.fixtures import new_database, shared_cluster

MOST = 6
"""Including one for the session."""

MOST_WITH_MESSAGES = 7
"""For lists of messages: one statement reads what all of their rows show of data and of failed attempts."""
_LONG = "range=30d"
"""The query of a chart that needs one statement more than the chart of a day."""
_OF_MESSAGES = ("missed", "listener-missed", "queue", "search-messages")

MOST_BYTES = 60_000
"""The size of a page before it is compressed."""

_LISTS = (
    *(
        "attempts",
        "missed",
        "listeners",
        "queues",
        "queue",
        "queue-listeners",
        "listener",
        "listener-missed",
        "users",
        "jobs",
    ),
    *("replays", "events", "schedules", "topics", "keys", "domains", "search-messages", "message"),
)
"""The pages with a list."""
_QUERIES = {
    "attempts": ["outcome=failed", "status=4xx", "outcome=acknowledged"],
    "listener": ["outcome=failed", "status=4xx", "outcome=acknowledged", "status=200", _LONG],
    "listener-missed": ["reason=too_old", "reason=final_status"],
    "missed": [
        *("listener=tax-report", "listener=tax-report&reason=too_old", "reason=too_old", "reason=final_status"),
        *("queue=orders", "queue=orders&reason=too_old", "queue=orders&listener=tax-report"),
    ],
    "queue": [
        *("key=customer-1", "since=2020-01-01T00:00", "since={since}", "state=missed"),
        *("state=acknowledged&key=customer-1", "state=acknowledged&key=customer-1&since={since}"),
    ],
    "listeners": ["alias=billing"],
    "search-messages": [
        *("q=state:missed", "q=state:acknowledged", "q=state:missed+queue:orders", "q=since:1d"),
        *("q=key:customer-1", "q=state:acknowledged+key:customer-1"),
        *("q=state:acknowledged+key:customer-1+queue:orders+since:4h", "q=listener:billing+since:4h"),
        *("q=listener:billing+key:customer-1+queue:orders+since:4h", "q=state:retrying+listener:crm-sync"),
        *("q=state:missed+listener:tax-report+since:4h", "q=state:pending+listener:old-shop+queue:orders"),
        *("q=state:acknowledged+listener:tax-report", "q=state:acknowledged+listener:tax-report+since:4h"),
        *("q=state:acknowledged+listener:tax-report+key:customer-1+queue:orders+since:4h",),
        *("q=nothing+state:missed+listener:tax-report+since:4h",),
    ],
}
"""Filters of lists."""


_MANY = 21_000
_MISSED_AT = 777
_IS_STORED = """EXISTS (
        SELECT 1 FROM log
        WHERE log.organization = listener.organization AND log.queue = listener.queue AND seq = column1)"""
_QUEUES = 40
"""More than those of whose messages one statement reads the states."""
_CROWD = (
    # Newer attempts of one listener than all that others have.
    f"""
    WITH RECURSIVE added (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM added WHERE n < {_MANY})
    INSERT INTO attempt (organization, id, listener, queue, seq, number, status, error, took_ms, detail)
    SELECT a.organization, a.id + n, a.listener, a.queue, a.seq, 1, 200, '', 40, '' FROM added
    CROSS JOIN (SELECT * FROM attempt ORDER BY organization DESC, id DESC LIMIT 1) AS a""",
    # Messages that every listener has missed: singly, and in ranges.
    f"""
    INSERT INTO delivery (organization, listener, stream, seq, queue, state, attempts, due_at, reason)
    SELECT organization, id, 0, column1, queue, 'missed', 3, {_MISSED_AT}, 'attempts_used_up' FROM listener
    CROSS JOIN (VALUES (9), (11)) AS given WHERE {_IS_STORED} ON CONFLICT DO NOTHING""",
    f"""
    INSERT INTO missed_range (organization, listener, seq_from, queue, seq_to, reason, missed_at)
    SELECT organization, id, column1, queue, column1, 'too_old', {_MISSED_AT} FROM listener
    CROSS JOIN (VALUES (3), (5), (7)) AS given WHERE {_IS_STORED} ON CONFLICT DO NOTHING""",
)


class Counting(NamedTuple):
    """A shop of these tests alone.

    It has attempts of others among which those of a listener are few, missed messages of all, and many queues.
    """

    service: DashboardService
    shop: Shop


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def counting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counting]:
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(ShopSender, "behaviours", BEHAVIOURS)
        is_file = request.param == "sqlite"
        settings = {} if is_file else {"database": stack.enter_context(new_database(shared_cluster()))}
        folder = tmp_path_factory.mktemp("counting")
        service = stack.enter_context(dashboard_service(folder, ShopSender, **settings))
        with service.api() as api:
            for number in range(_QUEUES):
                queue = api.post("/queues", json={"alias": f"of-many-{number}"}).json()["queue"]["id"]
                message = {"data": number, "key": "of-many-queues"}
                api.post(f"/queues/{queue}/messages", json=message).raise_for_status()
        shop = open_shop(service)

        async def work(tx: Transaction) -> None:
            for sql in _CROWD:
                await tx.execute(sql)

        service.run(service.control.store.write(work))
        yield Counting(service, shop)
        assert service.log.errors == []


def test_pages_are_cheap_and_small(counting: Counting) -> None:
    browser, made, bytes_of = counting.service.browser(), {}, {}
    for name, path in paths_of(counting.shop).items():
        made[name], page = _statements(counting.service, browser, path, _most(name))
        bytes_of[name] = len(page.encode())

    listeners = re.findall(r"/queues/\w+/listeners/(\w+)", browser.get("/missed").text)
    assert len(set(listeners)) > 2
    assert {name: count for name, count in made.items() if count > _most(name)} == {}
    assert {name: count for name, count in bytes_of.items() if count > MOST_BYTES} == {}


def test_later_and_filtered_pages_of_lists_are_as_cheap(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    # Short pages, so that lists of the shop have several.
    monkeypatch.setattr(listing, "Selection", lambda per_page: Selection(per_page=min(2, per_page)))
    service, shop = counting
    browser, made, later = service.browser(), {}, set()
    since = datetime.fromtimestamp(service.control.clock.now() // 1_000 - 4 * 3_600, UTC).strftime("%Y-%m-%dT%H:%M")
    for name, path in ((name, paths_of(shop)[name]) for name in _LISTS):
        for query in ("", *(each.format(since=since) for each in _QUERIES.get(name, ()))):
            shown = f"{path.partition('?')[0]}?{query}" if query else path
            made[name, query], page = _statements(service, browser, shown, _most(name, query))
            for direction in ("next", "prev"):
                link = re.search(rf'rel="{direction}" href="([^"]+)"', page)
                if link is not None:
                    later.add(name)
                    shown = f"{path.partition('?')[0]}{html.unescape(link[1])}"
                    made[name, f"{query} {direction}"], page = _statements(service, browser, shown, _most(name, query))

    assert {(name, query): count for (name, query), count in made.items() if count > _most(name, query)} == {}
    assert later >= {"missed", "listener-missed", "listeners", "queue", "queue-listeners", "message", "search-messages"}


def test_messages_of_many_queues_on_one_page_are_as_cheap(counting: Counting) -> None:
    browser = counting.service.browser()
    for query in ("key:of-many-queues", "state:no_listeners key:of-many-queues"):
        path = f"/search?{urlencode({'q': query})}"
        count, page = _statements(counting.service, browser, path, MOST_WITH_MESSAGES)
        assert len(set(re.findall(r"/queues/(\w+)/messages/", page))) > PER_PAGE - 5, query
        assert count <= MOST_WITH_MESSAGES, query


def _most(name: str, query: str = "") -> int:
    return MOST_WITH_MESSAGES if name in (*_OF_MESSAGES, "overview-long") or _LONG in query else MOST


def _statements(service: DashboardService, browser: Browser, path: str, most: int) -> tuple[int, str]:
    """Return how many statements a page makes, and the page."""
    numbers, page = list[int](), ""
    # A worker reads what it caches once, and a transaction may run again: the least count decides.
    while len(numbers) < 3 and min(numbers, default=most + 1) > most:
        with counted(service.control.store) as statements:
            response = browser.get(path)
        assert response.status_code == 200, path
        page = response.text
        assert statements, path
        numbers.append(len(statements))
    return min(numbers), page
