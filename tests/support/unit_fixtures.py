"""Fixtures of tests that need an event loop, a database, or a control plane with organizations and keys."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cast import Cast, assembled
from tests.support.coroutines import pytest_pyfunc_call, runner
from tests.support.databases import database
from tests.support.databases import name_of_enough as engine_name

__all__ = ["cast", "database", "engine_name", "pytest_pyfunc_call", "runner"]


@pytest.fixture
def cast(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Cast]:
    """A control plane with organizations and keys."""
    with assembled(runner, tmp_path) as everybody:
        yield everybody
