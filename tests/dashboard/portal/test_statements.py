"""The statements of each page of the portal are counted."""

import pytest

from tests.dashboard.portal.conftest import Tenants
from tests.dashboard.portal.test_portal import pages_of
from tests.dashboard.test_statements import counted
from tests.support.dashboards import DashboardService
from tests.support.portals import Customer

MOST = 6
"""Including one for the session."""


def test_pages_of_the_portal_make_few_statements(
    service: DashboardService, acme: Customer, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    for name, path in pages_of(tenants, "acme").items():
        numbers = []
        # Lanes read, too, and a worker reads what it caches once: the least of several counts is the page's.
        for _ in range(4):
            with counted(monkeypatch) as statements:
                assert acme.get(path).status_code == 200
            numbers.append(len(statements))
        made[name] = min(numbers)

    assert {name: count for name, count in made.items() if count > MOST} == {}
