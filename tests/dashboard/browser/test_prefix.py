"""The pages below a path of another host, behind the proxies of the documentation."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect

from tests.support.dashboards import DashboardService, dashboard_service
from tests.support.portals import new_session
from tests.support.ports import free_port
from tests.support.proxies import CADDY, NGINX, caddy, nginx

_PAGE: Final = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text()
_SECTION: Final = _PAGE.partition("### Below a path of another host")[2].partition("\n### ")[0]
_BLOCKS: Final = dict(re.findall(r"^```(\w*)\n(.*?)^```$", _SECTION, re.MULTILINE | re.DOTALL))
"""By language; that of Caddy has none."""
_PREFIX: Final = "/events"


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardService]:
    """A service whose `url` is below the path."""
    kind, folder, port = request.param, tmp_path_factory.mktemp("proxied"), free_port()
    if not {"nginx": NGINX, "caddy": CADDY}[kind] and "CI" not in os.environ:
        pytest.skip(f"{kind} is not installed")
    url = f"http://localhost:{port}{_PREFIX}"
    with dashboard_service(folder, public_url=url) as service:
        own = service.url.removeprefix("http://")
        if kind == "nginx":
            config = _BLOCKS["nginx"].replace("127.0.0.1:3000", own)
            running = nginx(folder, f"server {{ listen 127.0.0.1:{port}; {config} }}", port)
        else:
            config = _BLOCKS[""].replace("127.0.0.1:3000", own)
            running = caddy(folder, f"http://localhost:{port} {{\n\tbind 127.0.0.1\n{config}}}\n", port)
        assert own in config
        with running:
            service.url = url
            yield service


@pytest.fixture
def page(chromium: Any, proxied: DashboardService) -> Iterator[Page]:
    """A page of a browser, which must load nothing from outside the path, and complain about nothing."""
    context = chromium.new_context()
    page: Page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(f"{proxied.url}/")] == []


def test_dashboard_works_below_the_path(page: Page, proxied: DashboardService) -> None:
    page.goto(f"{proxied.url}/")
    expect(page).to_have_url(f"{proxied.url}/dashboard/sign-in")
    page.goto(f"{proxied.url}/dashboard/open?code={proxied.code()}")
    expect(page).to_have_url(f"{proxied.url}/dashboard")

    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Queues").click()
    page.get_by_role("link", name="New queue").first.click()
    page.get_by_label("Name").fill("prefixed")
    with page.expect_response(f"{proxied.url}/dashboard/live"):
        page.get_by_role("button", name="Create the queue").click()
    expect(page).to_have_url(re.compile(rf"^{proxied.url}/dashboard/queues/[0-9A-Za-z]+\?done="))

    with proxied.api() as api:
        api.post("/queues/prefixed/messages", json={"data": {"order": 17}}).raise_for_status()
        proxied.settle()
    # The stream of events tells the page of it.
    expect(page.locator("tbody tr")).to_have_count(1, timeout=15_000)

    page.get_by_role("link", name="Documentation").click()
    page.get_by_role("searchbox", name="Search the documentation").fill("retries")
    page.get_by_role("link", name="Retries Receiving messages").click()
    expect(page).to_have_url(f"{proxied.url}/docs/delivery#retries")
    page.get_by_role("link", name="Open the dashboard").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{proxied.url}/dashboard/sign-in")


def test_portal_works_below_the_path(page: Page, proxied: DashboardService) -> None:
    with proxied.api() as api:
        queue = api.post("/queues", json={}).json()["queue"]["id"]
    page.goto(new_session(proxied, "acme", queue, may=[])["url"])
    expect(page).to_have_url(f"{proxied.url}/portal")
    page.get_by_role("link", name="Event types").click()
    expect(page).to_have_url(f"{proxied.url}/portal/event-types")
