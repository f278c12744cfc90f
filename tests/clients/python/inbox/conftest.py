"""An application's database with an inbox and a table of effects, for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from discue_client.inbox.table import create_statements
from tests.clients.python.outbox.databases import empty_database, run

CREATE_EFFECTS = "CREATE TABLE effects (message text)"


@pytest.fixture(params=["sqlite", "postgres"])
def engine_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def url(engine_name: str, tmp_path: Path) -> Iterator[str]:
    with empty_database(engine_name, tmp_path) as address:
        run(address, *create_statements("sqlite" if engine_name == "sqlite" else "postgresql"), CREATE_EFFECTS)
        yield address
