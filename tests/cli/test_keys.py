import json
import time
from pathlib import Path

import pytest

from discue.domain.scopes import PROTECTED, RESOURCES
from tests.cli.commands import PATIENCE_SECONDS, Running, request, run, serving
from tests.support.databases import on_sqlite_only

pytestmark = pytest.mark.usefixtures("every_engine")

UNPROTECTED = [name for name in RESOURCES if name not in PROTECTED]
SOON_SECONDS = 10.0
"""A change is promised to be known within a second; a machine that is busy with other tests gets more."""


def created(folder: Path, *arguments: str) -> dict[str, object]:
    result = run(folder, "keys", "create", "--json", *arguments)
    assert result.returncode == 0, result.stderr
    key: dict[str, object] = json.loads(result.stdout)["api_key"]
    return key


def listed(folder: Path) -> list[dict[str, object]]:
    keys: list[dict[str, object]] = json.loads(run(folder, "keys", "list", "--json").stdout)["api_keys"]
    return keys


def until_status(server: Running, key: str, status: int) -> float:
    """How long it takes until a key is answered so."""
    began = time.monotonic()
    while request("GET", f"{server.url}/queues", key).status_code != status:
        assert time.monotonic() - began < PATIENCE_SECONDS
    return time.monotonic() - began


def test_keys_create_grants_protected_scopes(tmp_path: Path) -> None:
    run(tmp_path, "init")
    everything, plain = created(tmp_path, "--all"), created(tmp_path, "--alias", "plain")

    assert everything["scopes"]["api_clients"] == {"access": "write", "targets": ["*"]}  # type: ignore[index]
    assert set(everything["scopes"]) - set(plain["scopes"]) == {  # type: ignore[call-overload]
        "api_clients",
        "api_keys",
        "portal",
        "subscriptions",
        "users",
    }
    assert plain["alias"] == "plain"


def test_scopes_are_parsed_as_written(tmp_path: Path) -> None:
    run(tmp_path, "init")
    first, second = "0" * 21, "1" * 21
    key = created(
        tmp_path,
        "--scope=queues:write",
        "--scope=stats",
        "--scope=api_keys:read",
        f"--scope=messages:write:{first}",
        f"--scope=messages:write:{second}",
    )

    assert key["scopes"] == {
        "queues": {"access": "write", "targets": []},
        "stats": {"access": "write", "targets": []},
        "api_keys": {"access": "read", "targets": []},
        "messages": {"access": "write", "targets": [first, second]},
    }


@on_sqlite_only
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scope=evnts"], "is not a resource; did you mean events?"),
        (["--scope=foo"], "is not a resource; known names: api_clients, api_keys, "),
        (["--scope=queues:own"], "must be read or write"),
        (["--scope=messages:write:no.thing"], "is not an id"),
        (["--scope=queues", "--all"], "not allowed with"),
        (["--expires-in=0"], "is not a whole number of days"),
    ],
)
def test_invalid_scopes_and_times_are_wrong_usage(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run(tmp_path, "keys", "create", *arguments)

    assert result.returncode == 2
    assert message in result.stderr


def test_conflicting_scopes_are_rejected(tmp_path: Path) -> None:
    run(tmp_path, "init")
    result = run(tmp_path, "keys", "create", "--scope=queues:read", "--scope=queues:write")

    assert result.returncode == 1
    assert "conflict" in result.stderr


def test_list_shows_state_and_scopes_but_no_secret(tmp_path: Path) -> None:
    first = run(tmp_path, "init").stdout.split()[-1]
    made = created(tmp_path, "--alias=billing", "--scope=queues:read", "--expires-in=1")
    text = run(tmp_path, "keys", "list").stdout

    assert [key["id"] for key in listed(tmp_path)] == [made["id"], first[4:25]]
    assert [key["key"] for key in listed(tmp_path)] == [str(made["key"])[:12], first[:12]]
    assert first not in text
    assert str(made["key"]) not in text
    assert f"{made['id']}  billing" in text
    assert "queues:read" in text
    assert "every scope, including protected ones" in text
    lifetime = int(str(made["expires_at"])) - int(str(made["created_at"]))
    assert 86_400_000 - 1_000 * PATIENCE_SECONDS < lifetime <= 86_400_000


@on_sqlite_only
def test_list_shows_more_keys_than_a_page(tmp_path: Path) -> None:
    first = run(tmp_path, "init").stdout.split()[-1]
    with serving(tmp_path) as server:
        made = [request("POST", f"{server.url}/api_keys", first, {}).json()["api_key"]["id"] for _ in range(101)]

    assert [key["id"] for key in listed(tmp_path)] == [*reversed(made), first[4:25]]


def test_running_server_applies_key_changes(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.url
        key = created(tmp_path)
        text, public_id = str(key["key"]), str(key["id"])
        assert request("GET", f"{server.url}/queues", text).status_code == 200
        assert run(tmp_path, "keys", "disable", public_id).stdout.endswith("is disabled.\n")
        assert until_status(server, text, 401) < SOON_SECONDS
        run(tmp_path, "keys", "enable", public_id)
        assert until_status(server, text, 200) < SOON_SECONDS
        run(tmp_path, "keys", "delete", public_id)
        assert until_status(server, text, 401) < SOON_SECONDS

    assert public_id not in [key["id"] for key in listed(tmp_path)]


def test_recovery_works_without_a_key_that_manages_keys(tmp_path: Path) -> None:
    first = run(tmp_path, "init").stdout.split()[-1]
    assert run(tmp_path, "keys", "delete", first[4:25]).returncode == 0
    assert listed(tmp_path) == []
    rescue = str(created(tmp_path, "--all")["key"])

    with serving(tmp_path) as server:
        assert request("GET", f"{server.url}/api_keys", rescue).status_code == 200


def test_organization_flag_selects_its_keys(tmp_path: Path) -> None:
    first = run(tmp_path, "init").stdout.split()[-1]
    with serving(tmp_path) as server:
        assert request("POST", f"{server.url}/api_clients", first, {"alias": "com.example.dev"}).status_code == 200
        key = str(created(tmp_path, "--organization=com.example.dev")["key"])
        queue = request("POST", f"{server.url}/queues", key, {}).json()["queue"]["id"]
        assert request("GET", f"{server.url}/queues/{queue}", first).status_code == 404


@pytest.mark.parametrize("verb", ["disable", "enable", "delete"])
def test_missing_key_or_organization_is_named(tmp_path: Path, verb: str) -> None:
    (tmp_path / "discue.db").touch()
    run(tmp_path, "migrate")
    before = run(tmp_path, "keys", verb, "0" * 21)
    run(tmp_path, "init")
    unknown = run(tmp_path, "keys", verb, "0" * 21)
    elsewhere = run(tmp_path, "keys", verb, "0" * 21, "--organization", "com.example.none")

    assert [result.returncode for result in (before, unknown, elsewhere)] == [1, 1, 1]
    assert "The database has no organization" in before.stderr
    assert "has no key with the id 000000000000000000000" in unknown.stderr
    assert "Organization com.example.none not found." in elsewhere.stderr


@pytest.mark.parametrize(
    ("preset", "scopes"),
    [
        ("publish", {"messages": "write"}),
        ("consume", {"listeners": "write", "messages": "read"}),
        ("read-only", dict.fromkeys(UNPROTECTED, "read")),
        ("everything", dict.fromkeys(UNPROTECTED, "write")),
    ],
)
def test_preset_grants_its_scopes(tmp_path: Path, preset: str, scopes: dict[str, str]) -> None:
    run(tmp_path, "init")
    key = created(tmp_path, "--preset", preset, "--expires-in", "30")
    granted: dict[str, dict[str, str]] = key["scopes"]  # type: ignore[assignment]

    assert {name: scope["access"] for name, scope in granted.items()} == scopes
    assert key["expires_at"] > time.time() * 1_000  # type: ignore[operator]


def test_preset_excludes_other_scopes(tmp_path: Path) -> None:
    run(tmp_path, "init")
    result = run(tmp_path, "keys", "create", "--preset", "publish", "--scope", "queues")

    assert result.returncode == 2
    assert "not allowed with argument --preset" in result.stderr
