"""Configuration of every test: no DISCUE_ environment variables, bounded property tests, folders in memory."""

import gc
import importlib
import os
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import httpx
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
    max_examples=200 if EVERYWHERE else 25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")

# For requests that name no timeout: on such a machine, 5 seconds pass between two steps of a service.
for _wait in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _wait, 30.0)

if (_memory := folder_in_memory()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_memory))

# Each server, and each HTTP client, loads the roots that it trusts: those of a system take 24 ms, this one takes 1.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "support" / "root.pem")

for _name in [name for name in os.environ if name.startswith("DISCUE_")]:
    del os.environ[_name]


def pytest_configure(config: pytest.Config) -> None:
    """Ignore a warning of Hypothesis. pyproject.toml cannot name it: pytest would import Hypothesis in every run."""
    # On Python 3.14, Hypothesis does not find who refers to its generator: what was collected is frozen below.
    unknown = "It looks like `register_random` was passed"
    config.addinivalue_line("filterwarnings", f"ignore:{unknown}:hypothesis.errors.HypothesisWarning")


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DISCUE_")]:
        monkeypatch.delenv(name)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Import the tests in another order than the parallel processes: each compiles a part of them for all.

    Otherwise each process of a first run would compile every test, as all import them in one order.
    """
    # Everything that is collected stays until the end: the garbage collector need not traverse it again and again.
    gc.disable()
    try:
        for module in _turned(_modules(session.config)):
            # Collection reports why a test cannot be imported. Some need the conftest of their folder.
            with suppress(Exception, pytest.fail.Exception, pytest.skip.Exception):
                importlib.import_module(module)
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _modules(config: pytest.Config) -> list[str]:
    """Return the names of the modules that will be collected."""
    # A single test imports one module, and its name may be too long for a path.
    folders = [config.invocation_params.dir / argument for argument in config.args if "::" not in argument]
    ignored = [config.invocation_params.dir / path for path in config.getoption("ignore") or ()]
    files = [path for folder in folders for path in sorted(folder.rglob("test_*.py"))]
    kept = [path for path in files if not any(path.is_relative_to(folder) for folder in ignored)]
    return [".".join(path.relative_to(config.rootpath).with_suffix("").parts) for path in kept]


def _turned(modules: list[str]) -> list[str]:
    """Return the modules in the order of this process; none where it is the only one."""
    worker, count = os.environ.get("PYTEST_XDIST_WORKER"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if worker is None or count == 1:
        return []
    first = len(modules) * int(worker.removeprefix("gw")) // count
    return modules[first:] + modules[:first]


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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Run the tests of a file in one process, and those of a group in one.

    Test by test, each process would set up what the tests of a file share, and xdist would look at all tests that have
    ended whenever one ends.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    # Keep the order of collection: xdist would begin with the files that have most tests, and end with slow ones.
    config.option.loadscopereorder = False
    scheduler = importlib.import_module("xdist.scheduler").LoadGroupScheduling(config, log)
    scope_of = scheduler._split_scope
    scheduler._split_scope = lambda test: test.partition("::")[0] if scope_of(test) == test else scope_of(test)
    return scheduler
