"""Stories of people at the dashboard, played in Chromium."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.dashboard_shop import Shop
from tests.support.dashboards import DashboardService

expect = pytest.importorskip("playwright.sync_api").expect


def test_failed_message_is_found_understood_and_redelivered(
    visiting: Callable[..., Any], service: DashboardService, shop: Shop
) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open(f"/queues/{shop.queue}/publish")
        page.get_by_label("Data").fill('{"order": 9100, "total": 5000}')
        page.get_by_role("button", name="Publish").click()
        expect(page.get_by_text("The message is stored")).to_be_visible()
        service.settle()
        page.reload()
        lane = page.locator(".lane", has_text="tax-report")
        expect(lane.get_by_text("Missed: final status.")).to_be_visible()
        expect(lane.get_by_text("currency must be EUR")).to_be_visible()
        expect(page.locator(".lane", has_text="crm-sync").locator(".why").get_by_text("Retry at")).to_be_visible()
        lane.get_by_role("link", name="Redeliver to tax-report").click()
        page.get_by_role("button", name="Redeliver 1 message").click()
        expect(page.get_by_text("The redelivery has started.")).to_be_visible()


def test_listener_is_paused_in_a_dialog_and_resumed(visiting: Callable[..., Any], shop: Shop) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open(shop.listener("search-index"))
        page.get_by_role("link", name="Pause").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("Pause search-index?")).to_be_visible()
        dialog.get_by_role("link", name="Cancel").click()
        expect(dialog).to_be_hidden()
        page.get_by_role("link", name="Pause").click()
        page.get_by_role("dialog").get_by_role("button", name="Pause the listener").click()
        expect(page.get_by_text("It is disabled by a request.")).to_be_visible()
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("link", name="Pause")).to_be_visible()


def test_secret_is_rotated_and_shown_once(visiting: Callable[..., Any], shop: Shop) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open(shop.listener("warehouse"))
        page.get_by_role("link", name="Rotate secret").click()
        page.get_by_role("button", name="Create the new secret").click()
        expect(page.get_by_text(re.compile("^whsec_"))).to_be_visible()
        page.get_by_role("link", name="Continue to the listener").click()
        expect(page.get_by_role("heading", name="warehouse")).to_be_visible()


def test_keys_move_between_pages_and_rows(visiting: Callable[..., Any], shop: Shop) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open("")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog").get_by_text("Open Queues")).to_be_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("g")
        page.keyboard.press("q")
        expect(page.get_by_role("heading", name="Queues")).to_be_visible()
        page.keyboard.press("j")
        page.keyboard.press("j")
        first = page.locator("tr.at a").first.inner_text()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=first)).to_be_visible()
        page.keyboard.press("t")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_pages_work_without_scripts(chromium: Any, service: DashboardService, shop: Shop) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{service.url}/dashboard/open?code={service.code()}")
    page.goto(f"{service.url}/dashboard{shop.listener('billing')}")
    page.get_by_role("link", name="Pause").click()
    expect(page.get_by_role("heading", name="Pause")).to_be_visible()
    page.get_by_role("button", name="Pause the listener").click()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("receives messages again")).to_be_visible()
    context.close()
