"""A service for all tests of commands that use one, and the environment that names it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Running, request, serving
from tests.cli.user.service import Service


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    with serving(folder, "--allow-private-targets") as server:
        yield server


@pytest.fixture
def service(server: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Service:
    """The service, named by the environment. Nothing else of this machine is: no profile, no keyring."""
    monkeypatch.setenv("DISCUE_URL", server.url)
    monkeypatch.setenv("DISCUE_API_KEY", server.key)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.delenv("DISCUE_WEBHOOK_SECRET", raising=False)
    return Service(server.url, server.key, tmp_path, request)
