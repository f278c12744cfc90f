"""An application's database for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.python.outbox.databases import outbox_database
from tests.support.everywhere import EVERYWHERE

VARIANTS = ["sqlite", "postgres", "postgres+psycopg"]
ONE_VARIANT = VARIANTS if EVERYWHERE else ["postgres"]
"""For tests that take the same road on each."""


@pytest.fixture(params=["sqlite", "postgres"])
def engine_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def url(engine_name: str, tmp_path: Path) -> Iterator[str]:
    with outbox_database(engine_name, tmp_path) as address:
        yield address


@pytest.fixture(params=VARIANTS if EVERYWHERE else VARIANTS[:2])
def variant(request: pytest.FixtureRequest) -> str:
    """The database and the driver of a relay."""
    name: str = request.param
    return name


@pytest.fixture
def database(url: str, variant: str) -> str:
    """The URL that a relay is given."""
    return url.replace("postgresql:", "postgresql+psycopg:") if variant == "postgres+psycopg" else url
