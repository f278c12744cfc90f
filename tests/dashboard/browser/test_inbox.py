"""The story of a developer who watches what a listener gets when it fails."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.dashboards import DashboardService

expect = pytest.importorskip("playwright.sync_api").expect


def test_retry_after_a_failure_is_watched_in_the_inbox(visiting: Callable[..., Any], service: DashboardService) -> None:
    with service.api() as api, visiting() as visitor:
        queue = api.post("/queues", json={"alias": "watched"}).json()["queue"]["id"]
        listener = {"alias": "my-machine", "notify_url": f"{service.url}/inbox", "retry": {"schedule": [60]}}
        api.post(f"/queues/{queue}/listeners", json=listener).raise_for_status()
        page = visitor.page
        visitor.open("")
        page.keyboard.press("g")
        page.keyboard.press("i")
        page.get_by_role("button", name="Answer 503").click()
        expect(page.get_by_text("The next request gets 503.")).to_be_visible()
        api.post(f"/queues/{queue}/messages", json={"data": {"order": 17}}).raise_for_status()
        service.settle()
        # Live: nobody loads the page again.
        newest = page.locator("details.attempt").first
        expect(newest).to_contain_text("watched → my-machine")
        expect(newest).to_contain_text("503")
        expect(page.get_by_text("Every request gets 200.")).to_be_visible()
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        expect(newest.get_by_text('"order": 17')).to_be_visible()
        newest.get_by_role("link", name="Open the message").click()
        expect(page.locator(".lane .why").get_by_text("Retry at")).to_be_visible()
        service.advance(61)
        service.settle()
        visitor.open("/inbox")
        expect(newest).to_contain_text("attempt 2")
        expect(newest).to_contain_text("200")
        api.delete(f"/queues/{queue}").raise_for_status()
