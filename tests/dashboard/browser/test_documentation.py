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
    "docs/api",
    "docs/settings",
    "docs/search?q=retry+schedule",
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


def test_results_below_the_search_box_are_those_of_the_search_page(visiting: Callable[..., Any]) -> None:
    links = "links => links.map(link => [link.href, link.innerText])"
    with visiting() as visitor:
        page = visitor.page
        page.goto(f"{visitor.url}/docs/reference/queues")
        page.get_by_role("searchbox").fill("verify signature")
        expect(page.locator(".found li").first).to_be_visible()
        shown = page.eval_on_selector_all(".found a", links)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Search", exact=True)).to_be_visible()
        assert len(shown) > 3
        assert page.eval_on_selector_all("#results a", links) == shown
        page.get_by_role("searchbox").fill("xyzzy")
        expect(page.get_by_role("status").filter(has_text="Nothing found for “xyzzy”.")).to_be_visible()


def test_search_works_without_a_script(chromium: Any, service: Any) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{service.url}/docs/reference/queues")
    page.get_by_role("searchbox", name="Search the documentation").fill("retries")
    page.keyboard.press("Enter")
    expect(page.get_by_role("searchbox", name="Search the documentation")).to_have_value("retries")
    page.get_by_role("link", name="Retries Receiving messages").click()
    expect(page.get_by_role("heading", name="Retries")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    context.close()


def test_code_is_copied_with_the_keyboard(visiting: Callable[..., Any]) -> None:
    with visiting() as visitor:
        page = visitor.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"{visitor.url}/docs/quickstart")
        code = page.locator("main pre", has_text="KEY=$(cat .discue/key)").first
        code.focus()
        page.keyboard.press("Tab")
        button = page.get_by_role("button", name="Copy", exact=True)
        expect(page.locator(".copy:focus")).to_be_visible()
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").filter(has_text="Copied")).to_have_count(1)
        assert page.evaluate("navigator.clipboard.readText()") == code.inner_text().rstrip()
        expect(page.get_by_role("button", name="Copied")).to_have_count(0)
        expect(button).to_have_count(page.locator("main pre").count())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_unknown_page_is_accessible_and_leads_home(visiting: Callable[..., Any], theme: str) -> None:
    with visiting(theme=theme) as visitor:
        page = visitor.page
        for path, home in (
            ("docs/reference/nothing", "All pages of the documentation"),
            ("dashboard/x", "Open the overview"),
        ):
            assert page.goto(f"{visitor.url}/{path}").status == 404
            assert [each["id"] for each in Axe().run(page).response["violations"]] == []
            page.get_by_role("link", name=home).click()
            expect(page.get_by_role("heading", level=1)).not_to_have_text("Not Found")
        # The browser notes the status.
        assert all("404" in each for each in visitor.complaints)
        visitor.complaints.clear()


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
