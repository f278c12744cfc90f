"""Lets a test be a coroutine: it runs on the loop of its `runner` fixture, where its store lives."""

import asyncio
import inspect
from collections.abc import Iterator

import pytest

TEST_SECONDS = 30


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test, in bounded time."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    running: asyncio.Runner = pyfuncitem._request.getfixturevalue("runner")
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    running.run(asyncio.wait_for(pyfuncitem.obj(**arguments), TEST_SECONDS))
    return True
