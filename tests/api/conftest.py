"""A service per process for all tests on an engine; each test has its own organizations."""

from collections.abc import Iterator

import pytest

from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.everywhere import EVERYWHERE
from tests.support.served_api import Cast, Service, cast_of, served

__all__ = ["cast", "service"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every engine has to serve the API; a module that is about HTTP says `ENGINES_MEANT`."""
    if "service" in metafunc.fixturenames:
        names = ENGINE_NAMES if EVERYWHERE else getattr(metafunc.module, "ENGINES_MEANT", ENGINE_NAMES)
        metafunc.parametrize("service", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("api")
    with new_database(request, request.param, folder) as database, served(folder, database=database) as running:
        yield running


@pytest.fixture
def cast(service: Service) -> Cast:
    return cast_of(service)
