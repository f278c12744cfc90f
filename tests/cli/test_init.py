import json
import re
from pathlib import Path

import pytest

from tests.cli.commands import request, run, serving

pytestmark = pytest.mark.usefixtures("every_engine")


def test_init_creates_the_organization_and_prints_a_key_with_every_scope(tmp_path: Path) -> None:
    result = run(tmp_path, "init", "--organization", "com.example.dev", "--json")
    made = json.loads(result.stdout)

    assert result.returncode == 0
    assert re.search(r"encryption_key_created file=discue.db.key|warning secrets_not_encrypted", result.stderr)
    assert len(result.stderr.splitlines()) == 1
    assert made["organization"]["alias"] == "com.example.dev"
    with serving(tmp_path) as server:
        clients = request("GET", f"{server.url}/api_clients", made["api_key"]).json()["api_clients"]
        assert [client["id"] for client in clients] == [made["organization"]["id"]]


def test_second_init_changes_nothing_and_prints_no_key(tmp_path: Path) -> None:
    first = run(tmp_path, "init", "--organization", "com.example.dev")
    again = run(tmp_path, "init", "--organization", "com.example.other")
    as_json = json.loads(run(tmp_path, "init", "--json").stdout)

    assert first.stdout.splitlines()[-1].startswith("dsk_")
    assert again.returncode == 0
    assert again.stdout == "The operator's organization is com.example.dev.\n"
    assert as_json == {
        "organization": {"id": as_json["organization"]["id"], "alias": "com.example.dev"},
        "api_key": None,
    }


def test_init_works_while_a_server_runs(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.url
        assert run(tmp_path, "init").returncode == 0
