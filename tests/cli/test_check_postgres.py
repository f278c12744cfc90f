"""`discue check` on PostgreSQL servers: healthy ones, and problems with their solutions."""

import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from discue.cli.check import Finding, server_findings
from discue.cli.command import Invocation
from discue.cli.main import command_parser
from discue.config.settings import Settings
from discue.domain.clock import SystemClock
from discue.observability.logs import Log
from discue.store.migrations import DatabaseInspection, newest
from tests.cli.commands import run, serving
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database
from tests.support.postgres.standby import Standby
from tests.support.stores import migrated_template


@pytest.fixture(scope="module")
def durable_cluster() -> Iterator[Cluster]:
    with Cluster(durable=True) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _with_an_encryption_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCUE_ENCRYPTION_KEY", b64encode(b"k" * 32).decode())


@pytest.fixture
def address(postgres_cluster: Cluster) -> Iterator[str]:
    """A database with the whole schema, on a server that is not durable."""
    with new_database(postgres_cluster, migrated_template()) as address:
        yield address


def with_password(address: str) -> str:
    """The servers of tests let everybody in, whatever the password."""
    return address.replace("@", ":hunter2@")


def check(folder: Path, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    result = run(folder, "check", "--database", with_password(address), *arguments)
    assert "hunter2" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result


def problems(result: subprocess.CompletedProcess[str]) -> list[str]:
    found = [line.removeprefix("PROBLEM").strip() for line in result.stdout.splitlines() if line.startswith("PROBLEM")]
    assert result.returncode == bool(found)
    return found


def beside_durability(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The problems, without those that every server has which was made to be quick."""
    return [problem for problem in problems(result) if " is off: " not in problem]


def test_check_finds_no_problem_before_the_first_start_and_creates_nothing(
    tmp_path: Path, durable_cluster: Cluster
) -> None:
    with new_database(durable_cluster) as address:
        first, again = check(tmp_path, address), check(tmp_path, address)

    assert (first.returncode, first.stderr) == (0, "")
    assert f"database: {address} is served by PostgreSQL {durable_cluster.programs.major}." in first.stdout
    assert "it is empty; `discue serve` creates its tables, the organization local.discue.operator and" in first.stdout
    assert "ok      connections: " in first.stdout
    assert "clock: the clock of the database agrees with this machine" in first.stdout
    assert "disk" not in first.stdout
    assert first.stdout.endswith("No problems.\n")
    assert "it is empty" in again.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["serve", "init"])
def test_first_start_without_a_key_creates_nothing_and_is_found_by_check(
    tmp_path: Path, durable_cluster: Cluster, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("DISCUE_ENCRYPTION_KEY")
    with new_database(durable_cluster) as address:
        started = run(tmp_path, command, "--encryption=required", "--database", address)
        checked = check(tmp_path, address)

    assert started.returncode == 1
    assert started.stderr.startswith("discue: Signing secrets would be stored in clear text. Set encryption_key or")
    assert "it is empty" in checked.stdout
    [problem] = problems(checked)
    assert problem == f"encryption: `discue serve` does not start: {started.stderr.removeprefix('discue: ').strip()}"


def test_check_finds_no_problem_while_a_server_runs(tmp_path: Path, durable_cluster: Cluster) -> None:
    with new_database(durable_cluster) as address, serving(tmp_path, "--database", address) as server:
        assert server.url
        result = check(tmp_path, address)

    assert problems(result) == []
    assert f"schema version {newest()}\n" in result.stdout


def test_server_without_durable_commits_is_found(tmp_path: Path, address: str) -> None:
    fsync, full_page_writes = problems(check(tmp_path, address))

    assert fsync.startswith("database: fsync is off: ")
    assert full_page_writes.startswith("database: full_page_writes is off: ")
    assert fsync.endswith("; turn it on")


def test_missing_database_is_found(tmp_path: Path, postgres_cluster: Cluster) -> None:
    (problem,) = problems(check(tmp_path, postgres_cluster.dsn("nothing")))

    assert problem.endswith("the server has no such database: create it with CREATE DATABASE.")


def test_database_of_a_newer_version_is_found(tmp_path: Path, postgres_cluster: Cluster, address: str) -> None:
    name = address.rpartition("/")[2]
    postgres_cluster.run_sql("UPDATE meta SET value = '99' WHERE key IN ('schema_version', 'compatible_from')", name)
    (problem,) = problems(check(tmp_path, address))

    assert "Install a newer discue" in problem


NAME_ANOTHER = "name the primary, or all hosts and target_session_attrs=primary"


def test_standby_is_found(tmp_path: Path, postgres_cluster: Cluster, address: str) -> None:
    with Standby(postgres_cluster) as standby:
        standby.caught_up()
        found = beside_durability(check(tmp_path, standby.dsn(address.rpartition("/")[2])))

    assert found == [f"database: the server is a standby and rejects writes; {NAME_ANOTHER}"]


def test_read_only_user_is_found(tmp_path: Path, postgres_cluster: Cluster, address: str) -> None:
    name = address.rpartition("/")[2]
    postgres_cluster.run_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    (problem,) = beside_durability(check(tmp_path, address))

    assert problem.startswith(
        "database: transactions of discue are read-only; set default_transaction_read_only to off"
    )


@pytest.fixture
def narrow(postgres_cluster: Cluster) -> Iterator[str]:
    """A user who may do nothing."""
    postgres_cluster.run_sql("CREATE ROLE narrow LOGIN")
    yield "narrow"
    postgres_cluster.run_sql("DROP ROLE narrow")


def test_missing_create_privilege_is_found_if_migrations_are_pending(
    tmp_path: Path, postgres_cluster: Cluster, narrow: str
) -> None:
    with new_database(postgres_cluster) as address:
        postgres_cluster.run_sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC", address.rpartition("/")[2])
        (problem,) = beside_durability(check(tmp_path, address.replace("discue@", f"{narrow}@")))

    assert problem == (
        "database: narrow cannot create the tables that the next start needs: GRANT CREATE ON SCHEMA public TO "
        "narrow, or run discue migrate as a user who can"
    )


def test_missing_table_privileges_are_found(
    tmp_path: Path, postgres_cluster: Cluster, address: str, narrow: str
) -> None:
    name = address.rpartition("/")[2]
    as_narrow = address.replace("discue@", f"{narrow}@")
    postgres_cluster.run_sql(f"GRANT SELECT ON meta TO {narrow}", name)
    (problem,) = beside_durability(check(tmp_path, as_narrow))
    way_out = problem.partition(": GRANT ")[2]
    postgres_cluster.run_sql(f"GRANT {way_out}", name)
    found = beside_durability(check(tmp_path, as_narrow))
    postgres_cluster.run_sql(f"DROP OWNED BY {narrow}", name)

    assert "narrow lacks privileges on " in problem
    assert (
        ", such as allowance: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO narrow" in problem
    )
    assert found == []


def test_search_path_without_a_schema_is_found(tmp_path: Path, postgres_cluster: Cluster) -> None:
    with new_database(postgres_cluster) as address:
        (problem,) = beside_durability(check(tmp_path, f"{address}?search_path=nowhere"))

    assert "None of the schemas in the user's search_path exists" in problem


def test_server_with_too_few_connections_is_found(tmp_path: Path, address: str) -> None:
    (problem,) = beside_durability(check(tmp_path, address, "--workers=64"))

    assert problem.startswith("connections: ")
    assert problem.endswith("raise max_connections, or lower workers")


class _WrongClock(SystemClock):
    """The clock of a machine that is ahead of the time."""

    def __init__(self, ahead_ms: int) -> None:
        self._ahead_ms = ahead_ms

    def now(self) -> int:
        return super().now() + self._ahead_ms


def clock_findings(address: str, ahead_ms: int) -> Finding:
    clock = _WrongClock(ahead_ms)
    invocation = Invocation(command_parser().parse_args(["check"]), Settings(database=address), clock, Log())
    (found,) = [
        each for each in server_findings(invocation, DatabaseInspection(True, 2, ())) if each.subject == "clock"
    ]
    return found


@pytest.mark.parametrize(("ahead_ms", "words"), [(90_000, "90 s behind"), (-90_000, "90 s ahead of")])
def test_clock_difference_is_found(address: str, ahead_ms: int, words: str) -> None:
    found = clock_findings(address, ahead_ms)

    assert found.is_problem
    assert words in found.detail
    assert not clock_findings(address, ahead_ms // 3).is_problem
