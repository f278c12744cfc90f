"""What is about the database is said of every engine: where there is no `--database`, commands work on this one."""

import pytest

from tests.support.databases import database
from tests.support.databases import name_of_enough as engine_name

__all__ = ["database", "engine_name", "every_engine"]


@pytest.fixture
def every_engine(engine_name: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's commands work on a new database of an engine: without a word about it, as an operator's do."""
    if engine_name != "sqlite":
        monkeypatch.setenv("DISCUE_DATABASE", database)
