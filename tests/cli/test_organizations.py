import json
from pathlib import Path

import pytest

from discue.domain.quotas import NAMES
from tests.cli.commands import queue_with, receiving, request, run, serving
from tests.cli.test_keys import SOON_SECONDS, created, until_status

pytestmark = pytest.mark.usefixtures("every_engine")

TENANT = "com.example.tenant"


def listed(folder: Path) -> list[dict[str, object]]:
    result = run(folder, "organizations", "list", "--json")
    assert result.returncode == 0, result.stderr
    found: list[dict[str, object]] = json.loads(result.stdout)["organizations"]
    return found


def states(folder: Path) -> dict[object, object]:
    return {each["alias"]: each["state"] for each in listed(folder)}


def tenant(url: str, operator_key: str, alias: str = TENANT) -> None:
    assert request("POST", f"{url}/api_clients", operator_key, {"alias": alias}).status_code == 200


def test_list_shows_all_organizations_and_marks_the_operator(tmp_path: Path) -> None:
    first = run(tmp_path, "init").stdout.split()[-1]
    [operator] = listed(tmp_path)
    with serving(tmp_path) as server:
        tenant(server.url, first)
    run(tmp_path, "organizations", "suspend", TENANT)
    text = run(tmp_path, "organizations", "list").stdout

    assert [(each["alias"], each["is_operator"]) for each in listed(tmp_path)] == [
        (TENANT, False),
        (operator["alias"], True),
    ]
    assert set(operator) == {"id", "alias", "state", "is_operator", "limits", "created_at", "updated_at"}
    assert f"{operator['id']}  {operator['alias']}\n  active, the operator's; created " in text
    assert f"  {TENANT}\n  suspended; created " in text


def test_running_server_applies_suspend_and_resume(tmp_path: Path) -> None:
    first = run(tmp_path, "init").stdout.split()[-1]
    with receiving() as receipts, serving(tmp_path, "--allow-private-targets") as server:
        tenant(server.url, first)
        key = str(created(tmp_path, f"--organization={TENANT}")["key"])
        messages = f"{queue_with(server.url, key, receipts.url)}/messages"

        assert run(tmp_path, "organizations", "suspend", TENANT).stdout == f"Organization {TENANT} is suspended.\n"
        assert until_status(server, key, 423) < SOON_SECONDS
        assert request("POST", messages, key, {"data": "refused"}).status_code == 423
        assert request("GET", f"{server.url}/queues", first).status_code == 200
        assert run(tmp_path, "organizations", "resume", TENANT).stdout == f"Organization {TENANT} is active.\n"
        assert until_status(server, key, 200) < SOON_SECONDS
        assert request("POST", messages, key, {"data": "accepted"}).status_code == 200
        receipts.wait_for(1)
        assert [body for _, body in receipts.requests] == [b"accepted"]


def test_operators_organization_cannot_be_suspended(tmp_path: Path) -> None:
    run(tmp_path, "init")
    [operator] = listed(tmp_path)
    result = run(tmp_path, "organizations", "suspend", str(operator["alias"]))

    assert result.returncode == 1
    assert "The operator's organization cannot be suspended." in result.stderr
    assert states(tmp_path) == {operator["alias"]: "active"}


@pytest.mark.parametrize("verb", ["suspend", "resume"])
def test_unknown_organization_is_named(tmp_path: Path, verb: str) -> None:
    run(tmp_path, "init")
    result = run(tmp_path, "organizations", verb, TENANT)

    assert result.returncode == 1
    assert f"Organization {TENANT} not found. Run `discue organizations list` to see all." in result.stderr


def limits(folder: Path, alias: str) -> dict[str, object]:
    """Return the limits that the organization itself has."""
    [shown] = [each["limits"] for each in listed(folder) if each["alias"] == alias]
    assert isinstance(shown, dict)
    return {name: value for name, value in shown.items() if value is not None}


def test_limits_are_set_shown_and_cleared_one_by_one(tmp_path: Path) -> None:
    run(tmp_path, "init")
    [operator] = listed(tmp_path)
    alias = str(operator["alias"])
    result = run(tmp_path, "organizations", "set", alias, "--rate-limit", "500", "--quota-queues", "7")
    assert result.returncode == 0, result.stderr
    assert "rate-limit 500, quota-queues 7" in result.stdout
    assert limits(tmp_path, alias) == {"rate_limit": 500, "quota_queues": 7}
    assert "rate-limit 500, quota-queues 7" in run(tmp_path, "organizations", "list").stdout

    others = {name: number for number, name in enumerate(NAMES) if name != "queues"}
    everything = [text for name, n in others.items() for text in (f"--quota-{name.replace('_', '-')}", str(n))]
    run(tmp_path, "organizations", "set", alias, "--rate-limit", "none", *everything, "--retention", "4")
    assert limits(tmp_path, alias) == {
        "quota_queues": 7,
        **{f"quota_{name}": n for name, n in others.items()},
        "retention_seconds": 4,
    }


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 1, "No limit is given"),
        (("--quota-queues", "many"), 2, "must be a whole number or none"),
        (("--quota-queues", "999999999"), 1, "must be from 0 to 100000"),
    ],
)
def test_invalid_or_missing_limits_change_nothing(
    tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    run(tmp_path, "init")
    [operator] = listed(tmp_path)
    result = run(tmp_path, "organizations", "set", str(operator["alias"]), *arguments)
    assert (result.returncode, told in result.stderr) == (code, True), result.stderr
    assert limits(tmp_path, str(operator["alias"])) == {}
