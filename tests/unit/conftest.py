import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cast import Cast, assembled
from tests.coroutines import pytest_pyfunc_call, runner
from tests.databases import database
from tests.databases import name_of_enough as engine_name

__all__ = ["cast", "database", "engine_name", "pytest_pyfunc_call", "runner"]


@pytest.fixture
def cast(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Cast]:
    with assembled(runner, tmp_path) as everybody:
        yield everybody
