"""Users in Chromium: invited, signed in with a second factor, and disabled."""

import re
from base64 import b32decode
from collections.abc import Callable
from typing import Any

import pytest

from discue.dashboard.users import second_factor, users
from discue.dashboard.users.second_factor import STEP_MS
from discue.dashboard.users.users import UserFields
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import DashboardService
from tests.support.passwords import CHEAP

expect = pytest.importorskip("playwright.sync_api").expect
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe

PASSWORD = "correct horse battery"


def _faults(page: Any) -> list[str]:
    return [each["id"] for each in Axe().run(page).response["violations"]]


@pytest.mark.parametrize(("theme", "width"), [("light", 1_280), ("dark", 390)])
def test_invited_user_signs_in_with_a_second_factor_and_loses_access_when_disabled(
    visiting: Callable[..., Any], chromium: Any, service: DashboardService, shop: Shop, theme: str, width: int
) -> None:
    service.control.passwords._cost = CHEAP
    email = f"lin-{theme}@example.com"
    with visiting(theme=theme, width=width) as visitor:
        owner = visitor.page
        visitor.open("/users/new")
        owner.get_by_label("Email").fill(email)
        owner.get_by_label("Role").select_option("developer")
        owner.get_by_role("button", name="Make the link").click()
        link = owner.get_by_text(re.compile("/dashboard/invitation#")).inner_text()
        context = chromium.new_context(color_scheme=theme, viewport={"width": width, "height": 900})
        page = context.new_page()
        page.goto(link)
        expect(page.get_by_text(f"You sign in as {email}.")).to_be_visible()
        expect(page.get_by_label("Token")).to_be_hidden()
        assert "#" not in page.url
        assert _faults(page) == []
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Set the password").click()
        expect(page.get_by_text("New password set.")).to_be_visible()
        assert _faults(page) == []
        _sign_in(page, email)

        _use_a_second_factor(page, service, email)

        visitor.open("/users")
        owner.get_by_role("link", name=email).click()
        owner.get_by_label("Sign-in").select_option("disabled")
        owner.get_by_role("button", name="Save").click()
        expect(owner.get_by_text("This user cannot sign in")).to_be_visible()
        # The next change is not shown any more, and the page says why.
        service.api().post(f"/queues/{shop.queue}/messages", json={"data": {"order": 1, "total": 1}}).raise_for_status()
        expect(page.locator("[data-action=pause]")).to_have_text("Signed out", timeout=20_000)
        page.reload()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        context.close()


def _sign_in(page: Any, email: str) -> None:
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def _use_a_second_factor(page: Any, service: DashboardService, email: str) -> None:
    """Set it up, and sign in again with a recovery code."""
    page.goto(f"{service.url}/dashboard/account/second-factor")
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    secret = page.get_by_text(re.compile("^[A-Z2-7]{32}$")).inner_text()
    assert _faults(page) == []
    now = service.control.clock.now()
    page.get_by_label("Code from the app").fill(second_factor.code_at(b32decode(secret), now // STEP_MS))
    page.get_by_role("button", name="Turn it on").click()
    recovery = page.locator("pre").inner_text().split()
    page.get_by_role("link", name="I have kept them").click()
    page.context.clear_cookies()
    page.goto(f"{service.url}/dashboard/sign-in")
    _sign_in(page, email)
    expect(page.get_by_role("heading", name="Enter the code")).to_be_visible()
    assert _faults(page) == []
    page.get_by_label("Code").fill(recovery[0])
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


@pytest.mark.parametrize(("theme", "width"), [("light", 1_280), ("dark", 390)])
def test_form_that_was_open_for_long_goes_on_after_the_password(
    chromium: Any, service: DashboardService, theme: str, width: int
) -> None:
    service.control.passwords._cost = CHEAP
    email = f"kim-{theme}@example.com"
    service.run(users.create(service.control, service.principal, UserFields(email, role="owner", password=PASSWORD)))
    context = chromium.new_context(color_scheme=theme, viewport={"width": width, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"{service.url}/dashboard/sign-in")
    _sign_in(page, email)
    page.goto(f"{service.url}/dashboard/keys/new")
    page.get_by_label("Name").fill(f"of-kim-{theme}")
    page.get_by_label("Access", exact=True).select_option("custom")
    page.get_by_label("Queues").select_option("read")
    service.advance(15 * 60)
    page.get_by_role("button", name="Create the key").click()
    expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    assert _faults(page) == []
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("heading", name=f"of-kim-{theme} is ready")).to_be_visible()
    assert page.url.endswith("/dashboard/keys/new")
    assert complaints == []
    context.close()
