"""Pages count against the rate limits of the API."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from discue.dashboard.cookies import LOOPBACK_NAME
from discue.dashboard.portal import tables
from discue.dashboard.users import session_table
from discue.domain.model import Role
from discue.domain.rate import MINUTE_MS
from discue.store.engine import Transaction
from tests.support.dashboards import SAME_ORIGIN, Browser, DashboardService, dashboard_service
from tests.support.portals import PORTAL_COOKIE, Customer, opened_at


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


def within_a_minute(service: DashboardService) -> None:
    """Move the clock so that a test does not see two minutes, each with its limits."""
    late_ms = service.control.clock.now() % MINUTE_MS
    if late_ms > MINUTE_MS // 2:
        service.advance(1 + (MINUTE_MS - late_ms) // 1_000)


@pytest.fixture
def company(service: DashboardService) -> Iterator[Company]:
    within_a_minute(service)
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


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The hashes of tokens that are looked up."""
    made: list[bytes] = []

    def noting(original: Callable[..., Any]) -> Callable[..., Any]:
        async def find(tx: Transaction, token_hash: bytes) -> Any:
            made.append(token_hash)
            return await original(tx, token_hash)

        return find

    for store in (session_table, tables):
        monkeypatch.setattr(store, "find", noting(store.find))
    return made


@pytest.mark.parametrize("length", [1, 42, 44, 128, 4_000])
def test_token_of_a_wrong_length_is_not_looked_up(service: DashboardService, lookups: list[bytes], length: int) -> None:
    for make, cookie, status in ((Browser, LOOPBACK_NAME, 303), (Customer, PORTAL_COOKIE, 401)):
        client = make(service.url, transport=service.transport, cookies={cookie: "x" * length})
        assert client.get("").status_code == status
        assert client.post("/sign-out", headers=SAME_ORIGIN).status_code == status
    assert lookups == []


def test_address_without_a_limit_is_never_refused(service: DashboardService, company: Company) -> None:
    assert service.control.settings.address_rate_limit == 0
    queue = company.api.post("/queues", json={"alias": "orders"}).json()["queue"]["id"]
    signed_in = [company.browser(), company.customer("acme", queue)]
    unknown = [
        make(service.url, transport=service.transport, cookies={cookie: "x" * 43})
        for make, cookie in ((Browser, LOOPBACK_NAME), (Customer, PORTAL_COOKIE))
    ]
    assert statuses([*signed_in, *unknown], 3) == [200] * 6 + [303] * 3 + [401] * 3


def test_token_from_an_address_that_has_used_up_its_limit_is_not_looked_up(
    tmp_path: Path, lookups: list[bytes]
) -> None:
    with dashboard_service(tmp_path, address_rate_limit=6) as service:
        within_a_minute(service)
        for make, cookie, status in ((Browser, LOOPBACK_NAME, 303), (Customer, PORTAL_COOKIE, 401)):
            client = make(service.url, transport=service.transport, cookies={cookie: "x" * 43})
            assert [client.get("").status_code for _ in range(3)] == [status] * 3
            assert len(lookups) == 3
            lookups.clear()
        user = Browser(service.url, transport=service.transport, cookies={LOOPBACK_NAME: "x" * 43})
        customer = Customer(service.url, transport=service.transport, cookies={PORTAL_COOKIE: "x" * 43})
        assert [user.get("").status_code, customer.get("").status_code] == [429, 429]
        assert lookups == []
        service.advance(60)
        assert [user.get("").status_code, customer.get("").status_code] == [303, 401]
