"""An application's database for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.python.outbox.databases import outbox_database


@pytest.fixture(params=["sqlite", "postgres"])
def engine_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def url(engine_name: str, tmp_path: Path) -> Iterator[str]:
    with outbox_database(engine_name, tmp_path) as address:
        yield address
