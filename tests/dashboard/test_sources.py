"""The pages of sources and their refused requests."""

import httpx
import pytest

from discue.dispatch.jobs.system_events import RefusalReports
from discue.observability.logs import Log
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import DashboardService


@pytest.fixture
def refusing(service: DashboardService, shop: Shop) -> str:
    """The path of the page of a source that has refused a request."""
    headers = {"x-hub-signature-256": "sha256=<b>", "x-github-event": "push", "authorization": "Bearer token"}
    answer = httpx.post(f"{service.url}/in/{shop.source}", content=b"{}", headers=headers, trust_env=False)
    assert answer.status_code == 401, answer.text
    service.run(RefusalReports(service.control, Log("test")).report())
    return f"/sources/{shop.source}"


def test_page_shows_the_url_and_refused_requests_without_credentials(service: DashboardService, refusing: str) -> None:
    page = service.browser("viewer").get(refusing).text
    assert f"/in/{refusing.rpartition('/')[2]}" in page
    assert "signature_wrong" in page
    assert "sha256=&lt;b&gt;" in page
    assert "<dd>push</dd>" in page
    assert "Bearer token" not in page


def test_list_shows_providers_and_counts(service: DashboardService, refusing: str) -> None:
    browser = service.browser("viewer")
    page = browser.get("/sources").text
    assert f'{refusing}">github</a>' in page
    assert '<td data-name="provider">GitHub</td>' in page
    assert "never" not in page
    assert "github</a>" not in browser.get("/sources", params={"alias": "stripe"}).text


def test_page_of_an_unknown_source_is_not_found(service: DashboardService) -> None:
    assert service.browser("viewer").get(f"/sources/{'0' * 21}").status_code == 404


def test_empty_list_shows_how_to_create_a_source(service: DashboardService) -> None:
    assert "discue sources set github" in service.foreign_browser().get("/sources").text
