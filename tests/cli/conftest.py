"""Tests about the database run on every engine: without `--database`, commands work on the test's own."""

import pytest

from tests.support.databases import database
from tests.support.databases import name_of_enough as engine_name

__all__ = ["database", "engine_name", "every_engine"]


@pytest.fixture(autouse=True)
def _any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """`discue check` tries the port: it must not depend on what else the machine runs."""
    monkeypatch.setenv("DISCUE_PORT", "0")


@pytest.fixture
def every_engine(engine_name: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of a test work on a new database of an engine, set in the environment."""
    if engine_name != "sqlite":
        monkeypatch.setenv("DISCUE_DATABASE", database)
