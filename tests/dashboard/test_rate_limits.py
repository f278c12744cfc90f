"""Pages count against the rate limits of the API."""

import os
from collections.abc import Iterator

import httpx
import pytest

from discue.domain.model import Role
from discue.domain.rate import MINUTE_MS
from tests.support.dashboards import Browser, DashboardService, dashboard_service
from tests.support.portals import Customer, opened_at


class Company:
    """An organization, and the clients of its users and customers."""

    def __init__(self, service: DashboardService, founder: httpx.Client, below: str = "com.example") -> None:
        self.alias = f"{below}.r{os.urandom(4).hex()}"
        made = founder.post("/organizations", json={"alias": self.alias}).json()
        self.service = service
        self.id = made["organization"]["id"]
        self.api = httpx.Client(
            base_url=service.url, headers={"x-api-key": made["api_key"]["key"]}, transport=service.transport
        )

    def limit(self, rate_limit: int | None) -> None:
        with self.service.api() as operator:
            answer = operator.put(f"/organizations/{self.id}", json={"rate_limit": rate_limit})
            assert answer.status_code == 200, answer.text

    def browser(self, role: Role = "owner") -> Browser:
        key = self.api.headers["x-api-key"]

        async def organization() -> int:
            return (await self.service.control.cache.authenticate(key)).principal.organization

        browser = self.service.browser(None)
        code = self.service.code(role, self.service.run(organization()))
        assert browser.get("/open", params={"code": code}).status_code == 303
        return browser

    def customer(self, name: str, queue: str) -> Customer:
        path = f"/organizations/{self.id}/portal_sessions"
        made = self.api.post(path, json={"customer": name, "queues": [queue]}).json()
        return opened_at(self.service, made["portal_session"]["url"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardService]:
    """A service of its own, whose clock these tests move."""
    with dashboard_service(tmp_path_factory.mktemp("limited"), tenant_organizations=2) as running:
        yield running
        assert running.log.errors == []


@pytest.fixture
def company(service: DashboardService) -> Iterator[Company]:
    # Limits are per minute: no test must see two.
    late_ms = service.control.clock.now() % MINUTE_MS
    if late_ms > MINUTE_MS // 2:
        service.advance(1 + (MINUTE_MS - late_ms) // 1_000)
    with service.api() as operator:
        yield Company(service, operator)


def statuses(browsers: list[Browser], each: int) -> list[int]:
    return [browser.get("").status_code for browser in browsers for _ in range(each)]


def test_users_have_the_limit_of_their_organization(company: Company) -> None:
    browser = company.browser()
    company.limit(2)
    assert statuses([browser], 3) == [200, 200, 429]
    assert "At most 2 requests a minute are allowed." in browser.get("").text
    company.limit(0)
    assert statuses([browser], 3) == [200, 200, 200]


def test_sessions_of_an_organization_together_have_four_times_its_limit(company: Company) -> None:
    browsers = [company.browser() for _ in range(5)]
    company.limit(2)
    assert statuses(browsers[:4], 2) == [200] * 8
    refused = browsers[4].get("")
    assert refused.status_code == 429
    assert "of the organization together may make at most 8 requests" in refused.text
    assert company.api.get("/queues").status_code == 429


def test_organizations_of_one_founder_have_its_limits_in_common(service: DashboardService, company: Company) -> None:
    others = [Company(service, company.api, company.alias) for _ in range(2)]
    browsers = [each.browser() for each in others for _ in range(3)]
    company.limit(2)
    assert statuses(browsers, 2) == [200] * 8 + [429] * 4


def test_sessions_of_a_customer_have_one_limit_together(company: Company) -> None:
    queue = company.api.post("/queues", json={"alias": "orders"}).json()["queue"]["id"]
    ours, others = [company.customer("acme", queue) for _ in range(2)], company.customer("globex", queue)
    company.limit(3)
    assert statuses([*ours], 2) == [200, 200, 200, 429]
    assert statuses([others], 3) == [200] * 3
