import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from discue.control.context import ControlContext
from tests.support.cast import Cast, assembled
from tests.support.coroutines import pytest_pyfunc_call, runner
from tests.support.databases import name_of_enough as engine_name

__all__ = ["cast", "control", "engine_name", "pytest_pyfunc_call", "runner"]


@pytest.fixture
def cast(runner: asyncio.Runner, tmp_path: Path, engine_name: str) -> Iterator[Cast]:
    with assembled(runner, tmp_path, engine_name) as everybody:
        yield everybody


@pytest.fixture
def control(cast: Cast) -> ControlContext:
    return cast.control
