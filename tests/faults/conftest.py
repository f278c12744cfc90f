"""Tests of faults are coroutines, each on a loop of its own and in bounded time, and some have something to tell."""

import asyncio
import inspect
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.databases import database

__all__ = ["database", "engine_name"]

LONGEST_SECONDS = 180
_TOLD = "told"

Tell = Callable[[str], None]
"""Say something at the end of the run, whatever becomes of the test."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), LONGEST_SECONDS))
    return True


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.torture)])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Servers on PostgreSQL die in `test_cluster.py`, too."""
    name: str = request.param
    return name


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder on a real disk: commits take long enough for faults to hit one."""
    with tempfile.TemporaryDirectory(prefix="discue-faults-") as folder:
        yield Path(folder)


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    return lambda text: record_property(_TOLD, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]:
        told = [str(text) for name, text in report.user_properties if name == _TOLD]
        if told and report.when == "call":
            terminalreporter.section(report.nodeid)
            terminalreporter.write_line("\n".join(told))
