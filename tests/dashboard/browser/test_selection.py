"""Rows of lists are selected and acted on with keys, and with a pointer."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.dashboard_shop import Shop

expect = pytest.importorskip("playwright.sync_api").expect


def test_missed_messages_are_selected_and_redelivered_with_keys(visiting: Callable[..., Any], shop: Shop) -> None:
    with visiting() as visitor:
        page, press = visitor.page, visitor.page.keyboard.press
        visitor.open(f"{shop.listener('tax-report')}/missed")
        expect(page.get_by_role("button", name="Redeliver selected")).to_be_disabled()
        for key in ("j", "x", "j", "x", "j", "x", "x"):
            press(key)
        expect(page.locator("[data-count]").get_by_text("2 selected")).to_be_visible()
        expect(page.get_by_role("button", name="Redeliver selected")).to_be_enabled()
        press("?")
        expect(page.get_by_role("dialog").get_by_text("Select the row")).to_be_visible()
        press("Escape")
        press("r")
        expect(page.get_by_role("heading", name="Redeliver the selection")).to_be_visible()
        page.get_by_role("button", name="Redeliver 2 messages").click()
        expect(page.get_by_text("A redelivery has started for each listener of the selection.")).to_be_visible()


def test_menu_acts_on_the_row_that_the_keyboard_is_at(visiting: Callable[..., Any], shop: Shop) -> None:
    with visiting() as visitor:
        page, press = visitor.page, visitor.page.keyboard.press
        visitor.open("/missed")
        press("j")
        press(".")
        menu = page.get_by_role("dialog", name="Actions")
        expect(menu.get_by_role("button", name="Redeliver selected")).to_be_focused()
        press("ArrowDown")
        press("ArrowUp")
        press("Enter")
        expect(page.get_by_role("button", name="Redeliver 1 message")).to_be_visible()
        visitor.open(shop.listener("search-index"))
        press(".")
        menu.get_by_role("button", name="Disable").click()
        expect(page.get_by_role("dialog").get_by_text("Disable search-index?")).to_be_visible()


def test_all_listeners_are_selected_with_a_pointer(visiting: Callable[..., Any], shop: Shop) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open(f"/queues/{shop.queue}/listeners")
        # Other stories may have added some.
        count = page.locator("[data-pick]").count()
        page.get_by_label("Select all").check()
        expect(page.locator("[data-count]").get_by_text(f"{count} selected")).to_be_visible()
        page.get_by_label("Select newsletter").uncheck()
        expect(page.locator("[data-count]").get_by_text(f"{count - 1} selected")).to_be_visible()
        # Keys go on where the pointer left off.
        page.keyboard.press("x")
        expect(page.locator("[data-count]").get_by_text(f"{count} selected")).to_be_visible()
        page.keyboard.press("x")
        page.keyboard.press(".")
        page.get_by_role("dialog", name="Actions").get_by_role("button", name="Disable selected").click()
        expect(page.get_by_role("button", name=f"Disable {count - 1} listeners")).to_be_visible()
        expect(page.get_by_role("region", name="Selection")).not_to_contain_text("newsletter")
