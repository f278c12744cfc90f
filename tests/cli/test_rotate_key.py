"""Encryption at rest as an operator meets it: keys that are made, given, rotated under load, and lost."""

import json
import re
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from discue.crypto import keyring, signing
from discue.crypto.keyring import key_id_in, key_id_of
from discue.domain.clock import SystemClock
from discue.store import encryption as encryption_rows
from discue.store.encryption import Encryption, SecretsRow
from tests.cli.commands import Receipts, Running, receiving, request, run, serving
from tests.cli.test_copy import on_store
from tests.support.databases import ENGINE_NAMES, new_database

OLD, NEW = b"o" * 32, b"n" * 32


def text(*keys: bytes) -> str:
    return ",".join(b64encode(key).decode() for key in keys)


@pytest.fixture
def receipts() -> Iterator[Receipts]:
    with receiving() as received:
        yield received


class Client:
    """A client of one server that creates listeners and publishes to all of them."""

    def __init__(self, server: Running, key: str = "") -> None:
        self.url = server.url
        self.key = key or server.key
        self.queue = request("POST", f"{self.url}/queues", self.key, {}).json()["queue"]["id"]

    def listen(self, url: str) -> str:
        """The secret of a new listener."""
        body = {"notify_url": url, "liveness_url": url}
        made = request("POST", f"{self.url}/queues/{self.queue}/listeners", self.key, body)
        assert made.status_code == 200, made.text
        return str(made.json()["listener"]["secret"])

    def publish(self) -> None:
        published = request("POST", f"{self.url}/queues/{self.queue}/messages", self.key, {"data": "x"})
        assert published.status_code == 200


def with_listener(folder: Path, receipts: Receipts, **variables: str) -> tuple[Client, str]:
    """Create a listener with a server that ends. Returns the client, and the secret of the listener."""
    with serving(folder, "--allow-private-targets", **variables) as server:
        client = Client(server)
        secret = client.listen(receipts.url)
        assert server.stop() == 0
    return client, secret


def deliver(client: Client, folder: Path, receipts: Receipts, *arguments: str, **variables: str) -> None:
    """Deliver a message with another server."""
    with serving(folder, "--allow-private-targets", *arguments, **variables) as server:
        client.url = server.url
        client.publish()
        receipts.wait_for(1)
        assert server.stop() == 0


def verify(receipts: Receipts, secret: str, which: int = -1) -> None:
    headers, body = receipts.requests[which]
    signing.verify(signing.decode_secret(secret), headers, body, SystemClock().now())


def state(database: str) -> tuple[Encryption, list[SecretsRow]]:
    stands = on_store(database, lambda store: store.read(encryption_rows.read))
    return stands, on_store(database, lambda store: store.read(lambda tx: encryption_rows.rows_after(tx, None, 1_000)))


def findings(result: subprocess.CompletedProcess[str]) -> str:
    found = re.search(r"^(\w+ +)encryption: (.*)$", result.stdout, re.MULTILINE)
    assert found is not None, result.stdout
    return f"{found[1].strip()}: {found[2]}"


def test_first_start_creates_a_key_file_next_to_the_database(tmp_path: Path, receipts: Receipts) -> None:
    before = run(tmp_path, "check")
    with serving(tmp_path, "--allow-private-targets") as server:
        client = Client(server)
        secret = client.listen(receipts.url)
        client.publish()
        receipts.wait_for(1)
        assert server.stop() == 0

    assert findings(before) == "ok: the next start creates a key for signing secrets in discue.db.key"
    path = tmp_path / "discue.db.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "encryption_key_created file=discue.db.key" in server.log.text
    verify(receipts, secret)
    stored = (tmp_path / "discue.db").read_bytes()
    assert (secret.encode() in stored, bytes(signing.decode_secret(secret)) in stored) == (False, False)
    (key,) = keyring.read_keys(path)
    assert state(f"sqlite:///{tmp_path}/discue.db")[0] == Encryption(key_id_of(key))
    assert findings(run(tmp_path, "check")) == f"ok: signing secrets are encrypted with the key {key_id_of(key)}"
    for line in (text(key), key.hex()):
        assert line not in server.log.text + server.out.text


def test_unencrypted_secrets_are_encrypted_at_the_next_start(tmp_path: Path, receipts: Receipts) -> None:
    database = f"sqlite:///{tmp_path}/discue.db"
    client, secret = with_listener(tmp_path, receipts)
    file = apsw.Connection(str(tmp_path / "discue.db"))
    file.execute("UPDATE listener SET secrets = ?", (json.dumps([{"text": secret, "id": "s" * 21}]).encode(),))
    file.execute("UPDATE meta SET value = '' WHERE key = 'encryption'")
    file.close()
    (tmp_path / "discue.db.key").unlink()

    deliver(client, tmp_path, receipts)
    verify(receipts, secret)
    stands, (row,) = state(database)
    assert (stands.leaving, secret.encode() in row.stored) == ((), False)


@pytest.mark.parametrize("command", ["serve", "init", "dev"])
def test_missing_key_prevents_the_start_and_prints_the_remedy(tmp_path: Path, command: str) -> None:
    assert run(tmp_path, "init").returncode == 0
    (key,) = keyring.read_keys(tmp_path / "discue.db.key")
    (tmp_path / "discue.db.key").unlink()
    database = f"sqlite:///{tmp_path}/discue.db"
    for given in ({}, {"DISCUE_ENCRYPTION_KEY": text(NEW)}):
        refused = run(tmp_path, command, "--database", database, **given)
        assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
        assert key_id_of(key) in refused.stderr
        assert "encryption_key or encryption_key_file" in refused.stderr
        assert "--replace-lost" in refused.stderr
        assert not (tmp_path / "discue.db.key").exists()
        checked = run(tmp_path, "check", "--database", database, **given)
        assert (checked.returncode, findings(checked).split(":")[0]) == (1, "PROBLEM")


def test_commands_without_secrets_need_no_key(tmp_path: Path) -> None:
    assert run(tmp_path, "init").returncode == 0
    (tmp_path / "discue.db.key").unlink()
    for command in (("migrate",), ("organizations", "list"), ("keys", "list")):
        result = run(tmp_path, *command)
        assert result.returncode == 0, (command, result.stderr)


def test_key_file_readable_by_others_is_a_problem(tmp_path: Path) -> None:
    assert run(tmp_path, "init").returncode == 0
    (tmp_path / "discue.db.key").chmod(0o644)
    checked = run(tmp_path, "check")
    assert checked.returncode == 1
    assert "other users can read discue.db.key; run chmod 600 discue.db.key" in checked.stdout


def test_invalid_key_file_is_reported_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("hunter2\n")
    for command in ("init", "check"):
        result = run(tmp_path, command, "--encryption-key-file", "keys")
        assert result.returncode == 1
        assert "keys, line 1: expected 32 bytes in base64" in result.stdout + result.stderr
        assert "hunter2" not in result.stdout + result.stderr


def test_one_command_rotates_the_key_while_a_server_runs(tmp_path: Path, receipts: Receipts) -> None:
    database = f"sqlite:///{tmp_path}/discue.db"
    with serving(tmp_path, "--allow-private-targets") as server:
        client = Client(server)
        before = client.listen(receipts.url)
        rotated = run(tmp_path, "rotate-key", "--new-key")
        assert rotated.returncode == 0, rotated.stderr
        new, old = keyring.read_keys(tmp_path / "discue.db.key")
        assert f"All secrets are encrypted with the key {key_id_of(new)}" in rotated.stdout
        after = client.listen(receipts.url)
        client.publish()
        receipts.wait_for(2)
        assert server.stop() == 0

    assert len({before, after}) == 2
    for secret in (before, after):
        assert any(_fits(receipts, secret, which) for which in range(2))
    stands, rows = state(database)
    assert stands == Encryption(key_id_of(new))
    assert {key_id_in(row.stored) for row in rows} == {key_id_of(new)}
    assert key_id_of(old) != key_id_of(new)


def _fits(receipts: Receipts, secret: str, which: int) -> bool:
    try:
        verify(receipts, secret, which)
    except signing.SignatureInvalid:
        return False
    return True


def test_lost_key_loses_only_the_secrets(tmp_path: Path, receipts: Receipts) -> None:
    client, secret = with_listener(tmp_path, receipts)
    (tmp_path / "discue.db.key").unlink()
    refused = run(tmp_path, "rotate-key", "--new-key")
    replaced = run(tmp_path, "rotate-key", "--replace-lost")

    assert (refused.returncode, replaced.returncode) == (1, 0)
    assert "--replace-lost" in refused.stderr
    assert "1 listeners or sources have lost their secrets" in replaced.stdout
    deliver(client, tmp_path, receipts)
    assert not _fits(receipts, secret, 0)


@pytest.mark.parametrize("engine_name", ENGINE_NAMES)
def test_configured_keys_are_rotated_while_a_server_has_both(
    tmp_path: Path, receipts: Receipts, request: pytest.FixtureRequest, engine_name: str
) -> None:
    with new_database(request, engine_name, tmp_path) as database:
        old = {"DISCUE_DATABASE": database, "DISCUE_ENCRYPTION_KEY": text(OLD)}
        both = {**old, "DISCUE_ENCRYPTION_KEY": text(NEW, OLD)}
        client, first = with_listener(tmp_path, receipts, **old)
        assert state(database)[0] == Encryption(key_id_of(OLD))
        with serving(tmp_path, "--allow-private-targets", **both) as server:
            client.url = server.url
            second = client.listen(receipts.url)
            assert findings(run(tmp_path, "check", **both)).startswith(
                "PROBLEM: some secrets are not encrypted with the first key"
            )
            rotated = run(tmp_path, "rotate-key", **both)
            assert rotated.returncode == 0, rotated.stderr
            third = client.listen(receipts.url)
            client.publish()
            receipts.wait_for(3)
            assert server.stop() == 0
        for secret in (first, second, third):
            assert any(_fits(receipts, secret, which) for which in range(3))
        stands, rows = state(database)
        assert stands == Encryption(key_id_of(NEW))
        assert {key_id_in(row.stored) for row in rows} == {key_id_of(NEW)}
        again = run(tmp_path, "rotate-key", **{**both, "DISCUE_ENCRYPTION_KEY": text(NEW)})
        assert "Listeners, sources and users moved: 0" in again.stdout
        assert text(NEW) not in rotated.stdout + rotated.stderr + server.log.text


def test_server_without_a_key_logs_that_secrets_are_unencrypted(
    tmp_path: Path, request: pytest.FixtureRequest, receipts: Receipts
) -> None:
    with new_database(request, "postgres", tmp_path) as database:
        plain = {"DISCUE_DATABASE": database}
        with serving(tmp_path, "--allow-private-targets", **plain) as server:
            client = Client(server)
            secret = client.listen(receipts.url)
            assert server.stop() == 0
        assert "warning secrets_not_encrypted" in server.log.text
        assert "openssl rand -base64 32" in findings(run(tmp_path, "check", **plain))
        keyed = {**plain, "DISCUE_ENCRYPTION_KEY": text(NEW)}
        with serving(tmp_path, "--allow-private-targets", **keyed) as server:
            assert server.url
            server.log.wait_for("key_rotation_incomplete")
            assert run(tmp_path, "rotate-key", **keyed).returncode == 0
            client.url = server.url
            client.publish()
            receipts.wait_for(1)
            assert server.stop() == 0
        verify(receipts, secret)
        assert secret.encode() not in b"".join(row.stored for row in state(database)[1])
        assert findings(run(tmp_path, "check", **keyed)).startswith("ok: ")


def test_rotation_requires_a_key(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with new_database(request, "postgres", tmp_path) as database:
        assert run(tmp_path, "init", "--database", database).returncode == 0
        for arguments, way_out in (((), "No encryption key is configured"), (("--new-key",), "There is no key file")):
            result = run(tmp_path, "rotate-key", "--database", database, *arguments)
            assert result.returncode == 1
            assert way_out in result.stderr
            assert "openssl rand -base64 32" in result.stderr


@pytest.mark.parametrize("target_name", ENGINE_NAMES)
def test_copy_includes_encrypted_secrets_and_keys(
    tmp_path: Path, receipts: Receipts, request: pytest.FixtureRequest, target_name: str
) -> None:
    client, secret = with_listener(tmp_path, receipts)
    (tmp_path / "new").mkdir()
    with new_database(request, target_name, tmp_path / "new") as database:
        copied = run(tmp_path, "copy", "--from", f"sqlite:///{tmp_path}/discue.db", "--to", database)
        assert copied.returncode == 0, copied.stderr
        keys = {} if target_name == "sqlite" else {"DISCUE_ENCRYPTION_KEY_FILE": str(tmp_path / "discue.db.key")}
        assert ("were copied to" in copied.stdout) == (target_name == "sqlite")
        assert ("set encryption_key_file to that file" in copied.stdout) == bool(keys)
        deliver(client, tmp_path, receipts, "--database", database, **keys)
    verify(receipts, secret)
