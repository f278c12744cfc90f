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
        expect(page.get_by_text("Message published.")).to_be_visible()
        service.settle()
        page.reload()
        lane = page.locator(".lane", has_text="tax-report")
        expect(lane.get_by_text("Missed: final status.")).to_be_visible()
        expect(lane.get_by_text("currency must be EUR")).to_be_visible()
        expect(page.locator(".lane", has_text="crm-sync").locator(".why").get_by_text("Retry at")).to_be_visible()
        lane.get_by_role("link", name="Redeliver to tax-report").click()
        page.get_by_role("button", name="Redeliver 1 message").click()
        expect(page.get_by_text("The redelivery has started.")).to_be_visible()


def test_listener_is_disabled_in_a_dialog_and_enabled(visiting: Callable[..., Any], shop: Shop) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open(shop.listener("search-index"))
        page.get_by_role("link", name="Disable").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("Disable search-index?")).to_be_visible()
        dialog.get_by_role("link", name="Cancel").click()
        expect(dialog).to_be_hidden()
        page.get_by_role("link", name="Disable").click()
        page.get_by_role("dialog").get_by_role("button", name="Disable the listener").click()
        expect(page.get_by_text("It is disabled by a request.")).to_be_visible()
        page.get_by_role("button", name="Enable").click()
        expect(page.get_by_role("link", name="Disable")).to_be_visible()


def test_secret_is_rotated_and_shown_once(visiting: Callable[..., Any], shop: Shop) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open(shop.listener("warehouse"))
        page.get_by_role("link", name="Rotate secret").click()
        page.get_by_role("button", name="Create the new secret").click()
        secret = page.get_by_text(re.compile("^whsec_"))
        expect(secret).to_be_visible()
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == secret.inner_text()
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
    page.get_by_role("link", name="Disable").click()
    expect(page.get_by_role("heading", name="Disable")).to_be_visible()
    page.get_by_role("button", name="Disable the listener").click()
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_text("Listener enabled")).to_be_visible()
    context.close()


def test_page_changes_by_itself_in_all_tabs_with_one_stream(
    visiting: Callable[..., Any], service: DashboardService, shop: Shop
) -> None:
    with visiting() as visitor:
        first, second = visitor.page, visitor.page.context.new_page()
        for page in (first, second):
            page.goto(f"{service.url}/dashboard/queues/{shop.queue}")
        expect(first.get_by_role("button", name="Live")).to_be_visible()
        answer = service.api().post(
            f"/queues/{shop.queue}/messages", json={"alias": "live-one", "data": {"order": 9_300, "total": 1}}
        )
        assert answer.status_code == 200
        for page in (first, second):
            expect(page.get_by_role("link", name="live-one")).to_be_visible(timeout=15_000)
        assert service.streams == 1

        first.get_by_role("button", name="Live").click()
        expect(second.get_by_role("button", name="Paused")).to_be_visible()


def test_live_update_keeps_open_details_and_the_focus(
    visiting: Callable[..., Any], service: DashboardService, shop: Shop
) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open(shop.message())
        lane = page.locator(".lane", has_text="billing")
        link = lane.get_by_role("link", name="Request and response of attempt 1")
        lane.locator("summary").first.click()
        expect(link).to_be_visible()
        lane.locator("summary").first.focus()
        with page.expect_response(
            lambda response: "x-discue-live" in response.request.headers, timeout=15_000
        ) as refreshed:
            service.api().post(f"/queues/{shop.queue}/messages", json={"data": {"order": 9_301, "total": 1}})
        refreshed.value.finished()
        # The script changes the page in the turn after the last byte, before the next frame.
        page.evaluate("() => new Promise(requestAnimationFrame)")
        expect(link).to_be_visible()
        expect(lane.locator("summary").first).to_be_focused()


def test_key_has_the_scopes_of_a_preset_unless_they_are_chosen_one_by_one(
    visiting: Callable[..., Any], service: DashboardService
) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open("/keys/new")
        expect(page.get_by_label("Access", exact=True)).to_have_value("publish")
        expect(page.get_by_label("Topics")).to_be_hidden()
        page.get_by_label("Access", exact=True).select_option("custom")
        page.get_by_label("Topics").select_option("read")
        page.get_by_label("Days until it expires").fill("7")
        page.get_by_role("button", name="Create the key").click()
        expect(page.get_by_text("It expires")).to_be_visible()
        expect(page.get_by_text(f"curl {service.url}/topics")).to_be_visible()
