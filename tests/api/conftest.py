"""One service a process for all tests on an engine; each test brings its own organizations."""

from collections.abc import Iterator

import pytest

from tests.api.serving import Cast, Service, cast_of, served
from tests.databases import ENOUGH, new_database

__all__ = ["cast", "service"]


@pytest.fixture(scope="session", params=ENOUGH)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("api")
    with new_database(request, request.param, folder) as database, served(folder, database=database) as running:
        yield running


@pytest.fixture
def cast(service: Service) -> Cast:
    return cast_of(service)
