"""Requests are generated for a service on every engine, without limits."""

from collections.abc import Iterator

import pytest

from tests.support.databases import ENGINE_NAMES, new_database
from tests.support.served_api import Service, served


@pytest.fixture(params=ENGINE_NAMES)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("fuzz")
    with (
        new_database(request, request.param, folder) as database,
        served(folder, database=database, rate_limit=0, address_rate_limit=0) as running,
    ):
        yield running
