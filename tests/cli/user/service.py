"""A service, as the tests of commands use it."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.cli.commands import run


@dataclass(frozen=True)
class Service:
    """A running service, its operator's key, and a folder to run commands in."""

    url: str
    key: str
    folder: Path
    request: Callable[..., httpx.Response]

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send a request and return its response, which must be a success."""
        response = self.request(method, f"{self.url}{path}", self.key, body)
        assert response.status_code == 200, response.text
        return response.json()

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return run(self.folder, *arguments, **variables)

    def succeed(self, *arguments: str, **variables: str) -> str:
        """Run a command that must succeed, and return what it prints."""
        result = self.run(*arguments, **variables)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command with `--json` and return what it prints."""
        return json.loads(self.succeed(*arguments, "--json"))
