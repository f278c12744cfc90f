"""Charts of 1 hour to 30 days: their sums, their columns, and the links of their bars."""

import html
import re
from datetime import datetime
from urllib.parse import parse_qsl

import pytest

from discue.control.activity import Activity
from discue.dashboard import history
from discue.dashboard.charts import columns, percentiles
from discue.dashboard.history import TOGETHER
from discue.domain.attempts import WITHHELD, StoredAttempt
from discue.store.tallies import PERIOD_MS, PERIODS_A_DAY
from tests.support.clocks import NOON
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import DashboardService

_BAR = re.compile(r'<a href="([^"]+)" tabindex="-1"><title>[^<]+: (\d+) acknowledged, (\d+) failed')
_TIME = re.compile(r'<time datetime="([^"]+)"')
_ROW = re.compile(r'<tr data-key="[0-9A-Za-z]{21}">')


@pytest.mark.parametrize(("name", "count"), [("1h", 12), ("24h", 48), ("7d", 56), ("30d", 60)])
def test_columns_of_a_range_cover_it_once(name: str, count: int) -> None:
    chosen = history.RANGES[name]
    step = PERIOD_MS if chosen.periods <= PERIODS_A_DAY else TOGETHER * PERIOD_MS
    start = chosen.column * PERIOD_MS * 12_345
    periods = [Activity(start + index * step, 0, 1, 0) for index in range(chosen.periods * PERIOD_MS // step)]
    chart = columns(periods, chosen.column * PERIOD_MS, chosen.labelled * PERIOD_MS)
    assert len(chart.columns) == count
    assert sum(each.acknowledged for each in chart.columns) == len(periods)
    assert all(one.ended_at == other.started_at for one, other in zip(chart.columns, chart.columns[1:], strict=False))
    assert 2 <= len(chart.labels) <= 7


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    def made(*durations: int) -> list[StoredAttempt]:
        return [StoredAttempt("a", NOON, "l", "m", 1, 200, "", "", each) for each in durations]

    assert percentiles(made(*range(1, 101))) == (50, 95)
    assert percentiles(made(7)) == (7, 7)
    assert percentiles(made(30, WITHHELD, 10)) == (10, 30)
    assert percentiles(made(WITHHELD)) is None
    assert percentiles([]) is None


@pytest.mark.parametrize("name", ["1h", "24h"])
def test_bar_links_to_its_attempts(service: DashboardService, shop: Shop, name: str) -> None:
    browser, own = service.browser(), shop.listener("tax-report")
    for path in ("", own):
        bars = _BAR.findall(browser.get(path, params={"range": name}).text)
        shown = 0
        assert bars
        for link, acknowledged, failed in bars:
            target = html.unescape(link).partition("#")[0]
            page = browser.get(f"{path}{target}" if path else target.removeprefix("dashboard")).text
            # Other tests delete queues with their attempts, which stay in the counts.
            assert 0 <= len(_ROW.findall(page)) <= int(acknowledged) + int(failed), target
            query = dict(parse_qsl(target.partition("?")[2]))
            since, until = (datetime.fromisoformat(f"{query[each]}Z") for each in ("since", "until"))
            times = [datetime.fromisoformat(each) for each in _TIME.findall(page.partition('id="attempts"')[2])]
            assert all(since <= each < until for each in times), target
            shown += len(times)
        assert shown


def test_ranges_beyond_a_day_include_the_counts_of_the_past_day(service: DashboardService, shop: Shop) -> None:
    browser = service.browser()
    for path in ("", shop.listener("tax-report")):
        sums = []
        for name in history.RANGES:
            page = browser.get(path, params={"range": name}).text
            assert f'<a href="?range={name}#chart" aria-current="true">' in page
            made = re.findall(r": (\d+) acknowledged, (\d+) failed</title>", page)
            sums.append(tuple(sum(map(int, each)) for each in zip(*made, strict=True)))
        assert sums[1] == sums[2] == sums[3] > (0, 0)


def test_attempts_to_all_listeners_are_filtered_by_outcome_and_hidden_from_others(
    service: DashboardService, shop: Shop
) -> None:
    page = service.browser().get("/attempts", params={"outcome": "failed"}).text
    assert 'class="badge failed"' in page
    assert 'class="badge acknowledged"' not in page
    assert shop.listeners["tax-report"] in page
    assert "No attempts" in service.foreign_browser().get("/attempts").text


def test_listener_has_p50_and_p95_of_its_last_attempts(service: DashboardService, shop: Shop) -> None:
    browser, path = service.browser(), shop.listener("tax-report")
    assert re.search(r"Duration, p50 and p95</dt><dd>[\d.]+\u202fm?s, [\d.]+\u202fm?s ", browser.get(path).text)
    assert "Duration, p50 and p95" not in browser.get(path, params={"outcome": "failed"}).text
