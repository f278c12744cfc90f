"""A shop that all tests of pages share: most only look at it."""

from collections.abc import Iterator

import pytest

from tests.support.dashboard_editor import Editor
from tests.support.dashboard_shop import BEHAVIOURS, Shop, ShopSender, open_shop
from tests.support.dashboards import DashboardService, dashboard_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardService]:
    ShopSender.behaviours = BEHAVIOURS
    with dashboard_service(tmp_path_factory.mktemp("dashboard"), ShopSender) as running:
        yield running
        assert running.log.errors == []


@pytest.fixture(scope="session")
def shop(service: DashboardService) -> Shop:
    return open_shop(service)


@pytest.fixture
def editor(service: DashboardService, shop: Shop) -> Iterator[Editor]:
    with service.api() as api:
        yield Editor(service.browser(), api, shop)
