"""All commands on a PostgreSQL database, which never show its password."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from discue.crypto import keyring
from discue.crypto.keyring import key_id_of
from discue.store.encryption import Encryption
from tests.cli.commands import request, run, run_forked, running, serving
from tests.cli.test_rotate_key import state
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database

PASSWORD = "hunter2"


@pytest.fixture
def database(postgres_cluster: Cluster) -> Iterator[str]:
    """The servers of tests let everybody in, whatever the password."""
    with new_database(postgres_cluster) as address:
        yield address.replace("@", f":{PASSWORD}@")


def shown(database: str) -> str:
    return database.replace(f":{PASSWORD}", "")


def test_log_shows_the_database_without_its_password(tmp_path: Path, database: str) -> None:
    (tmp_path / "discue.toml").write_text(f'database = "{database}"\nlog_level = "debug"\n')
    with serving(tmp_path, DISCUE_CONFIG="discue.toml", DISCUE_ENCRYPTION="none") as server:
        assert f"database={shown(database)} " in server.log.wait_for(r".* server_started .*")[0]
        assert request("GET", f"{server.url}/health/ready").status_code == 200
        assert server.stop() == 0

    assert PASSWORD not in server.log.text + server.out.text


def test_dev_stores_only_its_keys_and_url_with_postgresql(tmp_path: Path, database: str) -> None:
    said = ""
    for _ in range(2):
        with running(tmp_path, "dev", "--port", "0", DISCUE_DATABASE=database) as server:
            server.out.wait_for('"orders"')
            assert f"Data is stored in {shown(database)}." in server.out.text
            api_key = server.key
            url = server.out.wait_for(r"(http://\S+)/queues/demo/messages")[1]
            assert request("POST", f"{url}/queues/demo/messages", api_key, {"data": "x"}).status_code == 200
            server.out.wait_for("signature verified ✓")
            assert server.stop() == 0
            assert server.log.text == ""
            said += server.out.text

    names = {path.name for path in (tmp_path / ".discue").iterdir()}
    assert names == {".gitignore", "encryption_key", "key", "url"}
    path = tmp_path / ".discue/encryption_key"
    assert path.stat().st_mode & 0o777 == 0o600
    (key,) = keyring.read_keys(path)
    assert state(database)[0] == Encryption(key_id_of(key))
    assert PASSWORD not in said


COMMANDS = (
    ("serve", "--port=0"),
    ("dev", "--port=0"),
    ("init",),
    ("keys", "list"),
    ("organizations", "list"),
    ("migrate",),
    ("check",),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_unreachable_server_is_named_without_the_password(tmp_path: Path, command: tuple[str, ...]) -> None:
    result = run(tmp_path, *command, DISCUE_DATABASE=f"postgresql://u:{PASSWORD}@127.0.0.1:1/discue")

    assert result.returncode == 1
    assert "postgresql://u@127.0.0.1:1/discue cannot be used: the server cannot be reached" in (
        result.stdout + result.stderr
    )
    assert PASSWORD not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_misplaced_url_is_not_printed(tmp_path: Path) -> None:
    result = run(tmp_path, "init", f"postgresql://u:{PASSWORD}@h/discue")

    assert result.returncode == 2
    assert "unrecognized arguments: postgresql://u:…@h/discue" in result.stderr


@pytest.fixture
def guarded(postgres_cluster: Cluster) -> Iterator[str]:
    """The address, without its password, of a database that lets a user in by password only."""
    postgres_cluster.run_sql(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'")
    rules = postgres_cluster.data / "pg_hba.conf"
    kept = rules.read_text()
    rules.write_text("host all guarded all scram-sha-256\n" + kept)
    postgres_cluster.run_sql("SELECT pg_reload_conf()")
    try:
        with new_database(postgres_cluster) as address:
            name = address.rpartition("/")[2]
            postgres_cluster.run_sql(f"ALTER DATABASE {name} OWNER TO guarded")
            yield address.replace("discue@", "guarded@")
    finally:
        rules.write_text(kept)
        postgres_cluster.run_sql("SELECT pg_reload_conf()")
        postgres_cluster.run_sql("DROP ROLE guarded")


@pytest.mark.parametrize("place", ["address", "PGPASSWORD", "PGPASSFILE"])
def test_password_can_come_from_the_sources_of_libpq(tmp_path: Path, guarded: str, place: str) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(f"*:*:*:guarded:{PASSWORD}\n")
    passwords.chmod(0o600)
    address = guarded.replace("@", f":{PASSWORD}@") if place == "address" else guarded
    given = {"address": {}, "PGPASSWORD": {place: PASSWORD}, "PGPASSFILE": {place: str(passwords)}}[place]
    result = run(tmp_path, "init", DISCUE_DATABASE=address, **given)

    assert result.returncode == 0, result.stderr


def test_sqlite_server_does_not_import_the_postgresql_driver(tmp_path: Path) -> None:
    """Imports take a large part of the time of a command."""
    script = (
        "import sys; from discue.cli.main import command_parser; command_parser(); sys.exit('asyncpg' in sys.modules)"
    )

    assert run_forked(tmp_path, "-c", script).returncode == 0
