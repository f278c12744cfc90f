"""A service for all tests of a process, and clients of an organization of their own."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from discue_client import AsyncDiscue, Discue
from tests.support.coroutines import pytest_pyfunc_call, runner
from tests.support.served_api import Cast, Service, cast_of, served

__all__ = ["async_client", "cast", "client", "pytest_pyfunc_call", "runner", "service"]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with served(tmp_path_factory.mktemp("client")) as running:
        yield running


@pytest.fixture(autouse=True)
def configuration_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the profiles of the person who runs the tests out of them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "discue"


@pytest.fixture
def cast(service: Service) -> Cast:
    return cast_of(service)


@pytest.fixture
def client(cast: Cast) -> Iterator[Discue]:
    with Discue(cast.service.url, cast.alice.headers["x-api-key"]) as made:
        yield made


@pytest.fixture
def async_client(cast: Cast, runner: asyncio.Runner) -> Iterator[AsyncDiscue]:
    made = AsyncDiscue(cast.service.url, cast.alice.headers["x-api-key"])
    yield made
    runner.run(made.aclose())
