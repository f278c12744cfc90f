"""The format of backups: every change to a file is noticed before anything is restored from it."""

import gzip
import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from discue.backup.archive import HEADER_BYTES, BackupUnusable, Header, read_header, unpack, verify, write
from discue.crypto.keyring import key_id_of

_CONTENT = os.urandom(3_000) + b"compressible " * 300_000
_HEADER = Header(
    installation="0123456789abcdef",
    discue="1.2.3",
    schema_version=23,
    compatible_from=20,
    created_at=1_750_000_000_000,
    database_bytes=len(_CONTENT),
)
_KEY = bytes(range(32))
_OTHER_KEY = bytes(32)


@pytest.fixture(params=[None, _KEY], ids=["clear", "encrypted"])
def backup(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return written(tmp_path, request.param)


def written(folder: Path, key: bytes | None) -> Path:
    database, backup = folder / "database", folder / "backup"
    database.write_bytes(_CONTENT)
    with backup.open("wb") as file:
        write(database, file, _HEADER, key, random_bytes=os.urandom)
    return backup


def unpacked(backup: Path, *keys: bytes) -> bytes:
    target = backup.with_name("restored")
    with target.open("wb") as file:
        unpack(backup, file, keys)
    return target.read_bytes()


def test_backup_contains_the_database(backup: Path) -> None:
    assert backup.stat().st_size < len(_CONTENT) // 10
    assert verify(backup).created_at == _HEADER.created_at
    assert unpacked(backup, _OTHER_KEY, _KEY) == _CONTENT


def test_clear_backup_is_a_gzip_file_after_its_first_line(tmp_path: Path) -> None:
    content = written(tmp_path, None).read_bytes()

    assert content[:HEADER_BYTES].count(b"\n") == 1
    assert content[HEADER_BYTES - 1 : HEADER_BYTES] == b"\n"
    assert gzip.decompress(content[HEADER_BYTES:]) == _CONTENT


def test_encrypted_backup_is_aes_gcm_of_the_gzip_file(tmp_path: Path) -> None:
    """The documented steps suffice, with the one-shot function of a library and nothing of discue."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - another way than the product's

    content = written(tmp_path, _KEY).read_bytes()
    fields = msgspec.json.decode(content[:HEADER_BYTES].split(b" ", 3)[3])
    nonce = bytes.fromhex(fields["nonce"])
    bound = msgspec.json.encode({**fields, "content_bytes": 0, "content_sha256": ""})

    assert gzip.decompress(AESGCM(_KEY).decrypt(nonce, content[HEADER_BYTES:], bound)) == _CONTENT


def test_two_encrypted_backups_of_the_same_database_differ(tmp_path: Path) -> None:
    first, second = (written(tmp_path, _KEY).read_bytes() for _ in range(2))

    assert first[HEADER_BYTES:] != second[HEADER_BYTES:]


def test_every_flipped_bit_is_noticed(backup: Path) -> None:
    content = backup.read_bytes()
    for place in (*range(0, HEADER_BYTES, 5), *range(HEADER_BYTES, HEADER_BYTES + 20), *range(1_100, len(content), 97)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        backup.write_bytes(flipped)
        with pytest.raises(BackupUnusable):
            unpacked(backup, _KEY)


@pytest.mark.parametrize("length", [0, 1, 500, HEADER_BYTES, HEADER_BYTES + 1, -1, -16, -1_000])
def test_truncated_backup_is_refused(backup: Path, length: int) -> None:
    backup.write_bytes(backup.read_bytes()[:length])

    with pytest.raises(BackupUnusable):
        unpacked(backup, _KEY)


def test_error_of_a_truncated_backup_says_so(backup: Path) -> None:
    backup.write_bytes(backup.read_bytes()[:-1])

    with pytest.raises(BackupUnusable, match=r"backup is damaged: it is truncated: .* bytes instead of .* Use another"):
        read_header(backup)


def test_content_after_the_end_is_refused(backup: Path) -> None:
    backup.write_bytes(backup.read_bytes() + b"\0")

    with pytest.raises(BackupUnusable, match="longer than it was"):
        read_header(backup)


@pytest.mark.parametrize(
    "content",
    [b"", b"SQLite format 3\0" + bytes(2_000), gzip.compress(_CONTENT)],
    ids=["empty", "database", "compressed database"],
)
def test_other_file_is_not_a_backup(tmp_path: Path, content: bytes) -> None:
    other = tmp_path / "other"
    other.write_bytes(content)

    with pytest.raises(BackupUnusable, match=r"other is not a backup of discue\."):
        unpacked(other)


def test_later_format_asks_for_a_newer_program(backup: Path) -> None:
    backup.write_bytes(backup.read_bytes().replace(b"discue-backup 1 ", b"discue-backup 2 ", 1))

    with pytest.raises(BackupUnusable, match="Install a newer discue"):
        read_header(backup)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ((), "name the file that contains it with --decrypt"),
        ((_OTHER_KEY,), f"the given file has {key_id_of(_OTHER_KEY)}"),
    ],
)
def test_encrypted_backup_names_the_key_that_is_missing(tmp_path: Path, keys: tuple[bytes, ...], reason: str) -> None:
    backup = written(tmp_path, _KEY)

    with pytest.raises(BackupUnusable, match=f"is encrypted with the key {key_id_of(_KEY)}: {reason}"):
        unpacked(backup, *keys)


@pytest.mark.parametrize("change", [{"created_at": 1}, {"nonce": "00" * 12}, {"nonce": "no digits"}, {"nonce": "00"}])
def test_encrypted_backup_with_a_forged_first_line_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """Only the key tells: the checksums are right."""
    backup = written(tmp_path, _KEY)
    content = backup.read_bytes()
    forged = msgspec.structs.replace(read_header(backup), **change)
    assert forged.content_sha256 == hashlib.sha256(content[HEADER_BYTES:]).hexdigest()
    backup.write_bytes(forged.line() + content[HEADER_BYTES:])

    with pytest.raises(BackupUnusable, match="it was changed after it was made"):
        unpacked(backup, _KEY)


def test_backup_that_unpacks_to_another_size_is_refused(tmp_path: Path) -> None:
    backup = written(tmp_path, None)
    forged = msgspec.structs.replace(read_header(backup), database_bytes=len(_CONTENT) - 1)
    backup.write_bytes(forged.line() + backup.read_bytes()[HEADER_BYTES:])

    with pytest.raises(BackupUnusable, match="of a database that has"):
        unpacked(backup)
