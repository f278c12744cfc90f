"""A service per process for all tests on an engine; each test has its own organizations."""

from collections.abc import Iterator

import pytest

from tests.support.coroutines import pytest_pyfunc_call, runner
from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.everywhere import EVERYWHERE
from tests.support.served_api import Cast, Service, cast_of, served

__all__ = ["cast", "pytest_pyfunc_call", "runner", "service"]


ABOUT_STORAGE = frozenset(
    {"attempts", "events", "idempotency", "limits", "names_in_paths", "pagination", "pulls", "schedules", "topics"}
)
"""The modules that run on every engine. The others are about requests and responses, whatever stores them."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "service" in metafunc.fixturenames:
        is_about_storage = metafunc.module.__name__.rpartition("test_")[2] in ABOUT_STORAGE
        names = ENGINE_NAMES if EVERYWHERE or is_about_storage else ["sqlite"]
        metafunc.parametrize("service", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("api")
    with new_database(request, request.param, folder) as database, served(folder, database=database) as running:
        yield running


@pytest.fixture
def cast(service: Service) -> Cast:
    return cast_of(service)
