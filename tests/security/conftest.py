"""The hostile database."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.security.hostile import HostileStore, hostile_copy, shared_folder
from tests.support.coroutines import pytest_pyfunc_call, runner

__all__ = ["pytest_pyfunc_call", "runner"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileStore]:
    """A copy of the hostile database, which the tests of a module share."""
    with hostile_copy(shared_folder(tmp_path_factory), tmp_path_factory.mktemp("hostile")) as copy:
        yield copy


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Delete the database when all processes have ended, because pytest keeps the folders of three runs."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folders: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        shutil.rmtree(shared_folder(folders), ignore_errors=True)
