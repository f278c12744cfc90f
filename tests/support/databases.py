"""A database of its own for a test, on whatever engine: what the setting `database` says of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.everywhere import EVERYWHERE
from tests.support.postgres import fixtures as postgres
from tests.support.stores import ENGINES

ENGINE_NAMES = sorted(ENGINES, reverse=True)

ENOUGH = ENGINE_NAMES if EVERYWHERE else ["sqlite"]
"""For what takes one road on all engines, above a store that is tested on each of them."""

on_sqlite_only = pytest.mark.parametrize("engine_name", ["sqlite"])
"""For a test whose engine makes no difference, among others whose engine does."""


@contextmanager
def new_database(request: pytest.FixtureRequest, engine_name: str, folder: Path) -> Iterator[str]:
    """The address of an empty database."""
    if engine_name == "sqlite":
        yield f"sqlite:///{folder}/discue.db"
    else:
        with postgres.new_database(postgres.shared_cluster()) as address:
            yield address


@pytest.fixture(params=ENGINE_NAMES)
def engine_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=ENOUGH)
def name_of_enough(request: pytest.FixtureRequest) -> str:
    """The name of an engine: SQLite only, unless EVERYWHERE is set. Replaces the fixture `engine_name`."""
    name: str = request.param
    return name


@pytest.fixture
def database(request: pytest.FixtureRequest, engine_name: str, tmp_path: Path) -> Iterator[str]:
    with new_database(request, engine_name, tmp_path) as address:
        yield address
