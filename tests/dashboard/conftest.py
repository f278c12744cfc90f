"""A shop that all tests of pages share: most only look at it."""

from collections.abc import Iterator

import pytest

from tests.support.dashboard_editor import Editor
from tests.support.dashboard_front import Front
from tests.support.dashboard_shop import BEHAVIOURS, Shop, ShopSender, open_shop
from tests.support.dashboards import DashboardService, dashboard_service
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from tests.support.passwords import CHEAP
from tests.support.ports import free_port


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


@pytest.fixture(scope="session")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A service of its own, and an identity provider whose users may sign in."""
    folder, port = tmp_path_factory.mktemp("access"), free_port()
    providers = folder / "providers.toml"
    providers.write_text(
        f'[[provider]]\nname = "company"\nissuer = "http://127.0.0.1:{port}"\nclient_id = "{CLIENT_ID}"\n'
        f'client_secret = "{CLIENT_SECRET}"\nlabel = "Example Ltd"\nallow_private = true\n'
        '[provider.roles]\nstaff = "developer"\n'
    )
    with dashboard_service(folder, identity_providers=providers) as service:
        provider = IdentityProvider(service.control.clock, port)
        service.run(provider.__aenter__())
        # A hash that is not what these tests are about costs a tenth of a second.
        service.control.passwords._cost = CHEAP
        yield Front(service, provider)
        service.run(provider.__aexit__(None, None, None))
        assert service.log.errors == []
