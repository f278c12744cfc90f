"""Stories of people who edit resources, also two of them at once."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.dashboard_shop import Shop
from tests.support.dashboards import DashboardService

expect = pytest.importorskip("playwright.sync_api").expect


def _expect_refusals(visitor: Any, statuses: list[int]) -> None:
    """Chromium reports each form that is refused. It must report nothing else."""
    assert [int(each.partition("status of ")[2][:3]) for each in visitor.complaints] == statuses
    visitor.complaints.clear()


def test_schedule_is_edited_by_two_people_and_nothing_is_lost(
    visiting: Callable[..., Any], service: DashboardService, shop: Shop
) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open("/schedules")
        page.get_by_role("link", name="New schedule").click()
        page.get_by_label("Queue").fill("orders")
        page.get_by_label("Name", exact=True).fill("monthly-report")
        page.get_by_label("When").fill("every day")
        page.get_by_label("Data").fill('{"order": 1}')
        page.get_by_role("button", name="Create the schedule").click()
        expect(page.get_by_text("It must have five fields").first).to_be_visible()
        expect(page.get_by_label("When")).to_have_value("every day")
        page.get_by_label("When").fill("@monthly")
        page.get_by_role("button", name="Create the schedule").click()
        expect(page.get_by_text("Schedule created.")).to_be_visible()
        expect(page.get_by_role("region", name="List of next runs").get_by_role("row")).to_have_count(6)

        page.get_by_role("link", name="Edit").click()
        path = page.url.partition("/dashboard")[2].removesuffix("/edit")
        with service.api() as api:
            api.put(path, json={"time_zone": "Europe/Zurich"}).raise_for_status()
        page.get_by_label("When").fill("@yearly")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("This was changed after you opened the page.")).to_be_visible()
        expect(page.locator(".note dl")).to_have_text("When@monthlyTime zoneEurope/Zurich")
        page.get_by_label("Time zone").fill("Europe/Zurich")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("The change is in effect")).to_be_visible()
        expect(page.locator(".facts")).to_contain_text("@yearly")
        expect(page.locator(".facts")).to_contain_text("Europe/Zurich")

        page.get_by_role("button", name="Disable").click()
        expect(page.get_by_text("It publishes nothing until it is enabled.")).to_be_visible()
        page.get_by_role("link", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete the schedule").click()
        expect(page.get_by_text("Schedule deleted.")).to_be_visible()
        _expect_refusals(visitor, [422, 412])


def test_topic_gets_a_channel_that_takes_the_tried_message(visiting: Callable[..., Any], shop: Shop) -> None:
    with visiting() as visitor:
        page = visitor.page
        visitor.open("/topics/new")
        page.get_by_label("Name").fill("billing-events")
        page.get_by_role("button", name="Create the topic").click()
        page.get_by_role("link", name="Add channel").click()
        page.get_by_label("Queue").fill("returns")
        page.get_by_label("Pattern").fill("invoices..paid")
        page.get_by_role("button", name="Create the channel").click()
        expect(page.get_by_label("Pattern")).to_have_attribute("aria-invalid", "true")
        page.get_by_label("Pattern").fill("invoices.>")
        page.get_by_role("button", name="Create the channel").click()
        expect(page.get_by_text("Channel created. It takes messages from now on.")).to_be_visible()
        page.get_by_label("Type").fill("invoices.paid")
        page.get_by_role("button", name="Try").click()
        expect(page.get_by_text("1 queue would get the message")).to_be_visible()
        page.get_by_role("link", name="Delete").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("1 channel is deleted with it")).to_be_visible()
        dialog.get_by_role("button", name="Delete the topic").click()
        expect(page.get_by_text("Topic deleted, with its channels.")).to_be_visible()
        _expect_refusals(visitor, [422])


def test_listener_gets_credentials_and_the_form_shows_only_their_fields(
    visiting: Callable[..., Any], service: DashboardService, shop: Shop
) -> None:
    path = shop.listener("newsletter")
    with visiting() as visitor:
        page = visitor.page
        visitor.open(f"{path}/settings")
        page.get_by_role("link", name="Edit", exact=True).click()
        expect(page.get_by_label("User name")).to_be_hidden()
        page.get_by_label("Authentication").select_option("basic")
        expect(page.get_by_label("Client secret")).to_be_hidden()
        page.get_by_label("User name").fill("discue")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_label("Password")).to_have_attribute("aria-invalid", "true")
        page.get_by_label("Password").fill("correct horse battery")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("The change is in effect")).to_be_visible()
        expect(page.locator(".facts")).to_contain_text("basic")

        page.goto(f"{service.url}/dashboard/events")
        expect(page.get_by_role("row").nth(1)).to_contain_text("Listener updatedChanged: authentication")
        with service.api() as api:
            api.put(path, json={"authentication": None}).raise_for_status()
        _expect_refusals(visitor, [400])
