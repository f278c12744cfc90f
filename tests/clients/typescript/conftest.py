"""The TypeScript client, built, and the service that its tests use."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.python.signed import SECRET
from tests.support.coroutines import pytest_pyfunc_call, runner
from tests.support.served_api import Cast, Service, cast_of, served
from tools.typescript_client import PACKAGE

__all__ = ["built", "cast", "node", "pytest_pyfunc_call", "runner", "service", "with_service"]

_SECONDS = 60
_OLDEST_NODE = 20
"""Distributions have older versions, which the client does not support."""


@dataclass(frozen=True)
class Node:
    """Runs programs with node."""

    environment: Mapping[str, str]

    def run(self, *arguments: str, **variables: str) -> str:
        """Return the output. Fails with it if the program does."""
        ended = subprocess.run(
            ["node", *arguments],
            cwd=PACKAGE,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout


def _node_version() -> int:
    """Return the major version of node."""
    shown = subprocess.run(["node", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return int(shown.removeprefix("v").partition(".")[0])


@pytest.fixture(scope="session")
def built() -> Path:
    """The package with its compiled modules. `make clients` checks the types, which takes longer."""
    compiler = PACKAGE / "node_modules" / "typescript" / "bin" / "tsc"
    if not os.environ.get("CI") and (shutil.which("node") is None or not compiler.exists()):
        pytest.skip("needs node and the compiler that `make clients` installs")
    if (version := _node_version()) < _OLDEST_NODE:
        pytest.skip(f"needs Node.js {_OLDEST_NODE} or newer, and this is {version}")
    Node(os.environ).run(str(compiler), "--noCheck", "--declaration", "false")
    return PACKAGE


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with served(tmp_path_factory.mktemp("client")) as running:
        yield running


@pytest.fixture
def cast(service: Service) -> Cast:
    return cast_of(service)


@pytest.fixture
def node(built: Path) -> Node:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DISCUE_", "NODE_"))}
    return Node({**ours, "NO_PROXY": "*"})


@pytest.fixture
def with_service(node: Node, cast: Cast) -> Node:
    """Node with the variables that a user of the service sets."""
    ours = {
        "DISCUE_URL": cast.service.url,
        "DISCUE_API_KEY": cast.alice.headers["x-api-key"],
        "DISCUE_WEBHOOK_SECRET": SECRET,
    }
    return Node({**node.environment, **ours})
