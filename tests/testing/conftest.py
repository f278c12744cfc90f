"""The kit on a server in this process, and on one in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from discue.testing import Kit, ServerPool, connect
from tests.support.coroutines import pytest_pyfunc_call, runner

__all__ = ["pytest_pyfunc_call", "runner"]

END_SECONDS = 20

ON_ONE_PROCESS = pytest.mark.xdist_group("process of the test kit")
"""Marks what uses the fixture `process`, so that only one of the parallel processes starts it."""


@contextmanager
def ephemeral_process(folder: Path, port: int = 0) -> Iterator[tuple[str, str]]:
    """Run `discue dev --ephemeral`, and yield the URL and the key that it prints."""
    command = (sys.executable, "-m", "discue", "dev", "--ephemeral", "--port", str(port), "--json")
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate(timeout=END_SECONDS)
            ready = json.loads(line)
            yield ready["url"], ready["api_key"]
        finally:
            process.terminate()
            process.communicate(timeout=END_SECONDS)
    assert process.returncode == 0


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with ephemeral_process(tmp_path_factory.mktemp("ephemeral")) as running:
        yield running


@pytest.fixture(params=["in process", pytest.param("process", marks=ON_ONE_PROCESS)])
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """A kit on each kind of server: the tests that use it see the same."""
    if request.param == "in process":
        pool: ServerPool = request.getfixturevalue("discue_servers")
        with pool.kit() as made:
            yield made
    else:
        with connect(*request.getfixturevalue("process")) as made:
            yield made
