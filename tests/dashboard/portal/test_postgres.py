"""The portal on PostgreSQL: what the statements of a customer find there."""

from tests.dashboard.portal.conftest import settle_in
from tests.dashboard.portal.test_customers import check_nothing_of_others_is_reached
from tests.dashboard.portal.test_portal import pages_of
from tests.support.dashboards import DashboardService
from tests.support.portals import new_session, opened, opened_at


def test_customer_sees_only_their_own_on_postgresql(service_on_postgresql: DashboardService) -> None:
    service = service_on_postgresql
    tenants = settle_in(service)
    url = new_session(service, "acme")["url"]
    acme, initech = opened_at(service, url), opened(service, "initech", tenants.queue)
    for name, path in pages_of(tenants.own).items():
        assert acme.get(path).status_code == 200, name
    assert initech.get(tenants.narrow.message_path).status_code == 200
    assert initech.get(tenants.acme.message_path).status_code == 404
    assert acme.get(url.removeprefix(f"{service.url}/portal")).status_code == 403
    # Only statements differ from SQLite: each of these kinds of sessions finds its queues by another one.
    kinds = ("its own queues", "every queue", "topic into every queue")
    check_nothing_of_others_is_reached(service, tenants, kinds)
    assert service.log.errors == []
