"""Charts, the number of missed messages in the navigation, and the audit log, in Chromium."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.dashboard_shop import Shop
from tests.support.dashboards import DashboardService

expect = pytest.importorskip("playwright.sync_api").expect


def test_bar_of_a_chart_opens_its_attempts(visiting: Callable[..., Any], shop: Shop) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open(shop.listener("tax-report"))
        page.locator(".chart svg a").last.click()
        expect(page.get_by_text(re.compile(r"Only attempts after .* before .* UTC"))).to_be_visible()
        page.get_by_label("Outcome").select_option("failed")
        page.get_by_role("button", name="Filter").click()
        expect(page.get_by_text(re.compile(r"(Only|No) failed attempts after .* before .* UTC"))).to_be_visible()
        visitor.open("")
        page.locator(".chart svg a").last.click()
        expect(page.get_by_role("heading", name="Attempts")).to_be_visible()
        expect(page.get_by_role("region", name="List of attempts")).to_be_visible()
        assert visitor.complaints == []


def test_chosen_range_of_a_chart_is_kept_with_its_attempts(visiting: Callable[..., Any], shop: Shop) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open(shop.listener("tax-report"))
        ranges = page.get_by_role("navigation", name="Range of the chart")
        expect(ranges.get_by_text("24 hours")).to_have_attribute("aria-current", "true")
        for title in ("1 hour", "7 days", "30 days"):
            ranges.get_by_role("link", name=title).click()
            expect(ranges.get_by_text(title)).to_have_attribute("aria-current", "true")
            expect(page.locator(".chart svg a").last).to_be_attached()
        page.get_by_text("Table").click()
        page.get_by_role("region", name="Attempts in numbers").get_by_role("link").first.click()
        expect(ranges.get_by_text("30 days")).to_have_attribute("aria-current", "true")
        expect(page.get_by_text("Only attempts after")).to_be_visible()


def test_missed_count_in_the_navigation_follows_live_updates(
    visiting: Callable[..., Any], service: DashboardService, shop: Shop
) -> None:
    with visiting() as visitor:
        mark = visitor.page.get_by_role("navigation", name="Pages").get_by_role("link", name="Missed")
        service.advance(6)
        visitor.open(f"/queues/{shop.queue}")
        expect(mark).to_have_text(re.compile(r"Missed\s*\d+ missed messages"))
        before = mark.inner_text()
        service.advance(6)
        # tax-report refuses a small order at once.
        message = {"data": {"order": 9_700, "total": 5_000}}
        service.api().post(f"/queues/{shop.queue}/messages", json=message).raise_for_status()
        service.settle()
        expect(mark).not_to_have_text(before, timeout=15_000)
        mark.click()
        expect(visitor.page.get_by_role("heading", name="Missed")).to_be_visible()


def test_events_are_filtered_and_exported(visiting: Callable[..., Any], shop: Shop) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open("/events")
        page.get_by_label("Kind").select_option("domains")
        page.get_by_role("button", name="Filter").click()
        expect(page.get_by_role("cell", name="Domain added").first).to_be_visible()
        expect(page.get_by_role("cell", name="Queue added")).to_have_count(0)
        with page.expect_download() as download:
            page.get_by_role("link", name="Export as CSV").click()
        assert download.value.suggested_filename == "events.csv"
        lines = Path(download.value.path()).read_text("utf-8").splitlines()
        assert lines[0] == "time,event,changed,resource,id,name,by,by_id"
        assert all(",domain_" in line for line in lines[1:])
        assert len(lines) > 1
