"""A customer cannot use up the organization's quota of creations, on either engine."""

from pathlib import Path

import httpx
import pytest

from discue.control import organizations
from tests.dashboard.portal.conftest import HOSTS, settle_in
from tests.support.dashboard_shop import BEHAVIOURS, ShopSender
from tests.support.dashboards import DashboardService, dashboard_service
from tests.support.portals import Customer, chosen, opened

QUOTA = 30
OF_A_CUSTOMER = QUOTA // 10


def test_customer_leaves_creations_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShopSender, "behaviours", BEHAVIOURS)
    with dashboard_service(tmp_path, ShopSender) as service:
        _use_up(service)


def test_customer_leaves_creations_to_others_on_postgresql(
    service_on_postgresql: DashboardService,
) -> None:
    _use_up(service_on_postgresql)


def _use_up(service: DashboardService) -> None:
    """Create and delete endpoints as one customer until the portal refuses more."""
    tenants = settle_in(service)
    quota = {"quota_creations_a_day": QUOTA}
    service.run(organizations.set_limits(service.control, "com.example.shop", quota))
    acme, globex = (opened(service, name) for name in ("acme", "globex"))
    form = {"notify_url": f"{HOSTS}/more", **chosen(tenants.own.queue)}
    before = _used(service)
    with service.api() as api:
        mine = f"/queues/{tenants.own.queue}/listeners"
        for _ in range(OF_A_CUSTOMER):
            made = acme.act("/endpoints/new", **form)
            assert made.status_code == 200, made.text
            [endpoint] = [
                each["id"] for each in api.get(mine).json()["listeners"] if each["notify_url"] == form["notify_url"]
            ]
            assert acme.act(f"{mine}/{endpoint}/delete").status_code == 303

        refused = "A customer can create at most 3 endpoints, redeliveries and replays a day. "
        for browser in (acme, opened(service, "acme")):
            page = browser.act("/endpoints/new", **form)
            assert (page.status_code, page.text.count(refused)) == (429, 1)
            assert f'value="{form["notify_url"]}"' in page.text, "the form keeps its input"
            assert 0 < int(page.headers["retry-after"]) <= 86_400
        for page in _jobs(acme, tenants.own.path, tenants.own.message):
            assert (page.status_code, page.text.count(refused)) == (429, 1)
        assert _used(service) == before + OF_A_CUSTOMER + 1  # The session

        assert globex.act("/endpoints/new", **{**form, **chosen(tenants.foreign.queue)}).status_code == 200
        assert api.post("/queues", json={}).status_code == 200
        assert acme.act(f"{tenants.own.path}/disable").status_code == 303
    assert service.log.errors == []


def _jobs(browser: Customer, endpoint: str, message: str) -> list[httpx.Response]:
    start = "2020-01-01T00:00"
    return [
        browser.act(f"{endpoint}/replay?from={start}", f"{endpoint}/replay", **{"from": start, "pace": "1"}),
        browser.act(f"{endpoint}/redeliver?message={message}", f"{endpoint}/redeliver", message=message),
    ]


def _used(service: DashboardService) -> int:
    with service.api() as api:
        used: int = api.get("/limits").json()["limits"]["quotas"]["creations_a_day"]["used"]
        return used
