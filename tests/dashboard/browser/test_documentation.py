"""The documentation in Chromium: in the theme of the dashboard, on a wide screen and on a phone."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe

_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_PAGES = (
    "docs",
    "docs/delivery",
    "docs/reference/queues",
    "docs/errors/not_found",
)


@pytest.mark.parametrize("width", [1_280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_are_accessible_and_fit(visiting: Callable[..., Any], theme: str, width: int) -> None:
    axe, faults = Axe(), []
    with visiting(theme=theme, width=width) as visitor:
        for path in _PAGES:
            visitor.page.goto(f"{visitor.url}/{path}")
            found = axe.run(visitor.page).response["violations"]
            faults += [(path, each["id"], node["html"]) for each in found for node in each["nodes"]]
            if visitor.page.evaluate(_OVERFLOW) > 0:
                faults.append((path, "wider than the screen", ""))
    assert faults == []


def test_search_leads_to_a_section(visiting: Callable[..., Any]) -> None:
    with visiting() as visitor:
        page = visitor.page
        page.get_by_role("link", name="Documentation").click()
        search = page.get_by_role("searchbox", name="Search the documentation")
        expect(search).to_be_visible()
        page.keyboard.press("/")
        expect(search).to_be_focused()
        page.keyboard.type("retries")
        page.get_by_role("link", name="Retries Receiving messages").click()
        expect(page.get_by_role("heading", name="Retries")).to_be_in_viewport()


def test_theme_is_chosen_for_the_dashboard_and_the_documentation(visiting: Callable[..., Any]) -> None:
    with visiting(theme="light") as visitor:
        page = visitor.page
        page.get_by_role("button", name="Theme: auto").click()
        page.get_by_role("link", name="Documentation").click()
        page.get_by_role("button", name="Theme: dark").click()
        page.get_by_role("link", name="Open the dashboard").click()
        expect(page.get_by_role("button", name="Theme: light")).to_be_visible()


def test_phone_without_scripts_has_the_contents(chromium: Any, service: Any) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 900}, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{service.url}/docs/delivery")
    expect(page.get_by_role("link", name="Pulling", exact=True)).to_be_hidden()
    page.get_by_text("Menu").click()
    page.get_by_role("link", name="Pulling", exact=True).click()
    expect(page.get_by_role("heading", name="Pulling", level=1)).to_be_visible()
    context.close()
