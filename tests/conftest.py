"""Configuration of every test: no DISCUE_ environment variables, bounded property tests, folders in memory."""

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.everywhere import EVERYWHERE
from tests.support.memory import folder_in_memory
from tests.support.postgres.fixtures import postgres_cluster

__all__ = ["postgres_cluster"]

# A machine that runs tests in parallel is slow at times: deadlines would make them fail at random.
settings.register_profile(
    "project",
    deadline=None,
    max_examples=200 if EVERYWHERE else 50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")

if (_memory := folder_in_memory()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_memory))

for _name in [name for name in os.environ if name.startswith("DISCUE_")]:
    del os.environ[_name]


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DISCUE_")]:
        monkeypatch.delenv(name)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start groups first: each runs in one process, and the other processes need work meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tests of a group run in one process. Where nobody puts them there, each process starts what the group shares."""
    if session.config.getoption("loadgroup", default=False):
        grouped = [item for item in session.items if item.get_closest_marker("xdist_group")]
        assert all("@" in item.nodeid for item in grouped), "this pytest-xdist does not know this pytest's groups"


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Run one more process than there are processors: one of the running tests usually waits."""
    return (yield) + 1
