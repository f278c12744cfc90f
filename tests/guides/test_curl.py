"""The command for curl that the documentation shows for every operation."""

import html
import os
import re
import secrets
import subprocess
from pathlib import Path

import pytest

from discue.api.openapi.document import document_of
from discue.product import ROUTES
from tests.support.api_world import PULLED, World
from tests.support.served_api import Cast, cast_of

_COMMAND = re.compile(r'<details id="(\w+)">.*?<code>(curl .*?)</code></pre>', re.DOTALL)
NEEDS_A_SECRET = frozenset({"create_invitation"})
"""Operations whose example has a secret that nobody has."""


@pytest.mark.torture
def test_command_of_every_operation_works_as_pasted(cast: Cast, tmp_path: Path) -> None:
    commands = {name: html.unescape(command) for name, command in _COMMAND.findall(cast.nobody.get("/docs/api").text)}
    paths = document_of(ROUTES, "/v1", aliases=False)["paths"]
    operations = {operation["operationId"]: path for path, item in paths.items() for operation in item.values()}
    assert commands.keys() == operations.keys()
    (tmp_path / ".curlrc").write_text('silent\nnoproxy = *\nwrite-out = "\\n%{http_code}\\n"\n')
    outcomes = {name: _run(cast, commands[name], path, tmp_path) for name, path in operations.items()}
    assert {name: shown for name, shown in outcomes.items() if shown[1] != "200" and name not in NEEDS_A_SECRET} == {}


def _run(cast: Cast, command: str, path: str, home: Path) -> tuple[str, str]:
    """Run a command with the ids of new resources. Returns the response's body and status."""
    if path.startswith("/organizations/"):
        # One of these commands deletes the organization.
        cast = cast_of(cast.service)
    world = World(cast)
    names = re.findall(r"\{(\w+_id)\}", path)
    ids = {name: world["puller_id" if name == "listener_id" and path.endswith(PULLED) else name] for name in names}
    for example in re.findall(r'"queue_id": "(\w+)"', command):
        command = command.replace(example, world["queue_id"])
    command = command.replace('"queues": ["orders"]', f'"queues": ["{world["queue_id"]}"]')
    # Aliases of organizations are unique in the whole installation.
    command = command.replace("com.example.", f"com.example.curl{secrets.token_hex(6)}.")
    operators = '"rate_limit"' in command or path.startswith("/organizations")
    key = cast.service.operator if operators else cast.alice.headers["x-api-key"]
    variables = {name.upper(): value for name, value in ids.items()}
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "URL": cast.service.url, "KEY": key}
    ended = subprocess.run(
        ["bash", "-c", command],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    body, _, status = ended.stdout.strip().rpartition("\n")
    return body, status
