import asyncio
import json
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import httpx
import pytest

from discue.auth.authenticator import sign_in_subject
from discue.config.settings import Settings
from discue.domain.clock import SystemClock
from discue.domain.lockout import FAILURES, FAILURES_OF
from discue.observability.logs import Log
from discue.server.installation import open_installation
from discue.store import lockouts
from tests.cli.commands import Running, request, run, serving
from tests.cli.test_keys import SOON_SECONDS, created, until_status
from tests.support.databases import on_sqlite_only

pytestmark = pytest.mark.usefixtures("every_engine")

UNKNOWN_KEY = "dsk_" + "0" * 53


def fail(server: Running, key: str) -> None:
    for _ in range(FAILURES):
        assert request("GET", f"{server.url}/queues", key).status_code == 401
    assert request("GET", f"{server.url}/queues", key).status_code == 403


def locked(folder: Path) -> list[dict[str, object]]:
    result = run(folder, "unlock", "--list", "--json")
    assert result.returncode == 0, result.stderr
    found: list[dict[str, object]] = json.loads(result.stdout)["locked"]
    return found


def wrong(key: str) -> str:
    return key[:-1] + ("0" if key[-1] != "0" else "1")


def test_address_is_unlocked_on_a_running_server_within_a_second(tmp_path: Path) -> None:
    first = run(tmp_path, "init").stdout.split()[-1]
    with serving(tmp_path) as server:
        fail(server, UNKNOWN_KEY)
        (lock,) = locked(tmp_path)
        assert (lock["kind"], lock["name"], lock["address"]) == ("unknown_key", "", "127.0.0.1")
        assert 0 < int(str(lock["locked_until"])) - time.time() * 1_000 <= 60_000
        assert "Unknown keys from 127.0.0.1: locked out until " in run(tmp_path, "unlock", "--list").stdout
        fail(server, wrong(first))
        assert request("GET", f"{server.url}/queues", first).status_code == 403

        result = run(tmp_path, "unlock", "--address", "127.0.0.1")
        assert result.returncode == 0
        assert set(result.stdout.splitlines()) == {
            "Unknown keys from 127.0.0.1: unlocked.",
            f"Key {first[4:25]} from 127.0.0.1: unlocked.",
        }
        assert until_status(server, first, 200) < SOON_SECONDS
        assert locked(tmp_path) == []
        # Earlier failures are deleted: the next lock takes as many as the first.
        fail(server, UNKNOWN_KEY)
        fail(server, wrong(first))
        unlocked = json.loads(run(tmp_path, "unlock", "--all", "--json").stdout)["unlocked"]
        assert {(each["kind"], each["name"], each["address"]) for each in unlocked} == {
            ("unknown_key", "", "127.0.0.1"),
            ("api_key", first[4:25], "127.0.0.1"),
        }
        assert until_status(server, first, 200) < SOON_SECONDS


def test_key_is_unlocked_by_its_id(tmp_path: Path) -> None:
    first = run(tmp_path, "init").stdout.split()[-1]
    key = str(created(tmp_path)["key"])
    with serving(tmp_path) as server:
        fail(server, wrong(key))
        assert request("GET", f"{server.url}/queues", key).status_code == 403
        assert request("GET", f"{server.url}/queues", first).status_code == 200
        assert run(tmp_path, "unlock", "--key", first[4:25]).stdout.startswith("No lockout was in effect")
        assert run(tmp_path, "unlock", "--key", key[4:25]).stdout == f"Key {key[4:25]} from 127.0.0.1: unlocked.\n"
        assert until_status(server, key, 200) < SOON_SECONDS


def _sign_in(server: Running, email: str, address: str = "") -> httpx.Response:
    form = {"email": email, "password": "a wrong password"}
    url, headers = (
        f"{server.url.removesuffix('/v1')}/dashboard/sign-in",
        {"sec-fetch-site": "same-origin", "x-forwarded-for": address},
    )
    return httpx.post(url, data=form, headers=headers, trust_env=False, verify=False)  # noqa: S501 - nothing is TLS


@on_sqlite_only
def test_sign_in_of_a_user_is_unlocked_by_the_email(tmp_path: Path) -> None:
    run(tmp_path, "init")
    with serving(tmp_path) as server:
        for _ in range(FAILURES):
            assert _sign_in(server, "Ada@example.com").status_code == 401
        assert _sign_in(server, "ada@example.com").status_code == 403
        assert [(each["kind"], each["name"]) for each in locked(tmp_path)] == [("user", "ada@example.com")]
        result = run(tmp_path, "unlock", "--user", "ADA@example.com")
        assert (result.returncode, result.stdout) == (0, "User ada@example.com: unlocked.\n")
        assert locked(tmp_path) == []


async def _fail_sign_ins(folder: Path, addresses: Iterable[str]) -> None:
    """Count failures as a server does, which also hashes a password each time: on a busy machine, for over a minute."""
    async with open_installation(Settings(database=f"sqlite:///{folder}/discue.db"), SystemClock(), Log()) as control:
        for address in addresses:
            count = partial(
                lockouts.count_failure,
                subject=sign_in_subject(address),
                now=control.clock.now(),
                occurrence=control.occurrence(None),
            )
            await control.store.write_exclusively(count)


@on_sqlite_only
@pytest.mark.parametrize("target", ["2001:db8:0:ffff::1", "2001:db8::/48"])
def test_sign_ins_of_an_ipv6_network_are_unlocked_by_any_of_its_addresses(tmp_path: Path, target: str) -> None:
    run(tmp_path, "init")
    addresses = [f"2001:db8:0:{number:x}::1" for number in range(FAILURES_OF["sign_in"])]
    asyncio.run(_fail_sign_ins(tmp_path, addresses))
    with serving(tmp_path, "--trusted-proxies", "127.0.0.1/32") as server:
        assert _sign_in(server, "ada@example.com", "2001:db8:0:ffff::1").status_code == 403
        assert _sign_in(server, "ada@example.com", "2001:db8:1::1").status_code == 401
        unlocked = run(tmp_path, "unlock", "--address", target)
        assert (unlocked.returncode, unlocked.stdout) == (0, "Sign-in from 2001:db8::/48: unlocked.\n")


@on_sqlite_only
def test_unlock_without_lockouts_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path, "init")
    assert run(tmp_path, "unlock", "--list").stdout == "No lockouts.\n"
    for wish in (["--all"], ["--address", "2001:db8::1"], ["--address", "2001:db8::/48"], ["--key", "0" * 21]):
        result = run(tmp_path, "unlock", *wish)
        assert result.returncode == 0
        assert result.stdout.startswith("No lockout was in effect")


@on_sqlite_only
@pytest.mark.parametrize(
    "wish", [[], ["--key", "dsk_" + "0" * 53], ["--address", "example.com"], ["--all", "--list"], ["--key", "x"]]
)
def test_invalid_subject_is_wrong_usage(tmp_path: Path, wish: list[str]) -> None:
    result = run(tmp_path, "unlock", *wish)
    assert result.returncode == 2
    assert "0" * 53 not in result.stderr
