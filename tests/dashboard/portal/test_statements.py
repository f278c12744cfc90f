"""The statements of each page of the portal are counted."""

from tests.dashboard.portal.conftest import Tenants
from tests.dashboard.portal.test_portal import pages_of
from tests.support.dashboards import DashboardService
from tests.support.page_statements import counted
from tests.support.portals import Customer

MOST = 7
"""Including one for the session, and one for its queues."""


def test_pages_of_the_portal_make_few_statements(service: DashboardService, acme: Customer, tenants: Tenants) -> None:
    made = {}
    for name, path in pages_of(tenants.own).items():
        numbers = []
        # A worker reads what it caches once, and a transaction may run again: the least count decides.
        for _ in range(3):
            with counted(service.control.store) as statements:
                assert acme.get(path).status_code == 200
            assert statements, path
            numbers.append(len(statements))
        made[name] = min(numbers)

    assert {name: count for name, count in made.items() if count > MOST} == {}
