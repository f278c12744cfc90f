import os
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

import pytest

from discue.config.settings import Settings
from discue.crypto import keyring
from discue.domain.errors import SettingsInvalid

KEY, OTHER = b"\xfb" * 32, b"\xff" * 32


def test_key_file_is_created_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "discue.db.key"
    made = keyring.create_key_file(path, os.urandom)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keyring.is_private(path)
    assert keyring.create_key_file(path, os.urandom) == made == keyring.read_keys(path)
    assert [len(key) for key in made] == [32]
    assert list(tmp_path.iterdir()) == [path]


def test_new_key_is_inserted_first(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    (old,) = keyring.create_key_file(path, os.urandom)
    new = keyring.add_new_key(path, os.urandom)
    assert keyring.read_keys(path) == (new, old)
    keyring.insert_keys(path, (old, KEY))
    assert keyring.read_keys(path) == (old, KEY, new)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_file_keeps_its_owner_when_root_inserts_a_key(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keyring.create_key_file(path, os.urandom)
    os.chown(path, 10_001, 10_002)
    keyring.insert_keys(path, (KEY,))
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (10_001, 10_002, 0o600)


def test_both_base64_alphabets_comments_and_empty_lines_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\n{b64encode(KEY).decode()}\n\n  {urlsafe_b64encode(OTHER).decode()}  \n")
    assert keyring.read_keys(path) == (KEY, OTHER)


def test_missing_file_has_no_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    assert keyring.read_keys(path) == ()
    keyring.create_key_file(path, os.urandom)
    path.chmod(0o640)
    assert not keyring.is_private(path)


@pytest.mark.parametrize("line", ["c2VjcmV0", b64encode(b"x" * 33).decode(), "not base64, and secret"])
def test_invalid_line_is_reported_without_its_content(tmp_path: Path, line: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\n{line}\n")
    with pytest.raises(SettingsInvalid, match=r"keys, line 2: expected 32 bytes in base64") as raised:
        keyring.read_keys(path)
    assert line not in str(raised.value)


def test_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="Is a directory"):
        keyring.read_keys(tmp_path)
    (tmp_path / "keys").write_bytes(b"\xff")
    with pytest.raises(SettingsInvalid, match="not a text file"):
        keyring.read_keys(tmp_path / "keys")


def test_key_file_path_follows_from_the_settings(tmp_path: Path) -> None:
    named = tmp_path / "named"
    beside = Settings(database="sqlite:////var/lib/discue.db")
    server = Settings(database="postgresql://discue@db/discue")
    assert keyring.key_file_path(beside) == Path("/var/lib/discue.db.key")
    assert keyring.key_file_path(Settings(encryption_key_file=named)) == named
    assert keyring.key_file_path(server) is None
    assert keyring.key_file_path(Settings(encryption_key=(KEY,))) is None
    keyring.insert_keys(named, (KEY,))
    assert keyring.current_keys(Settings(encryption_key_file=named)) == (KEY,)
    assert keyring.current_keys(Settings(encryption_key=(KEY, OTHER))) == (KEY, OTHER)
    assert keyring.current_keys(server) == ()
