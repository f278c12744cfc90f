"""The storage suite runs against every engine: what it says is what an engine has to do."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from discue.store.store import Store
from tests.support.coroutines import pytest_pyfunc_call, runner
from tests.support.stores import ENGINES, opened_store

__all__ = ["pytest_pyfunc_call", "runner", "store"]


@pytest.fixture(params=sorted(ENGINES))
def store(request: pytest.FixtureRequest, runner: asyncio.Runner, tmp_path: Path) -> Iterator[Store]:
    with opened_store(runner, request.param, tmp_path) as opened:
        yield opened
