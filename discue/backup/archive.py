"""The file format of backups: a line of 1,024 bytes that describes the backup, then the database as a gzip file.

`tail -c +1025 BACKUP | gunzip` prints the database. If the backup is encrypted, AES-256-GCM is applied to the gzip
file: the tag of 16 bytes comes last.
"""

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM

from discue.crypto.keyring import NONCE_BYTES, key_id_of
from discue.domain.errors import DiscueError
from discue.domain.ids import RandomBytes

HEADER_BYTES: Final = 1_024
MAX_ENCRYPTED_BYTES: Final = (1 << 36) - 32
"""The limit of AES-GCM for one nonce."""

_MAGIC: Final = b"discue-backup "
_FORMAT: Final = b"1"
_DIGEST_BYTES: Final = 32
_TAG_BYTES: Final = 16
_CHUNK_BYTES: Final = 1 << 20
# Commits of a server wait while the disk writes a backup. Synced often, it never has much to write at once.
_SYNC_BYTES: Final = 1 << 20
_GZIP: Final = zlib.MAX_WBITS + 16
# The next levels take twice the time for a tenth less.
_LEVEL: Final = 1


class BackupUnusable(DiscueError):
    """A file is not a backup, or not a whole one, or cannot be read by this program or with these keys."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a backup."""

    installation: str
    """A random text that the database got when it was created."""
    discue: str
    """Version of the program that made the backup."""
    schema_version: int
    compatible_from: int
    """The oldest program that can use the database, by the number of its newest migration."""
    created_at: int
    """The moment that the backup contains, in milliseconds since the epoch."""
    database_bytes: int
    content_bytes: int = 0
    """Size of what follows the line."""
    content_sha256: str = ""
    key: str = ""
    """Id of the key that encrypts the backup; "" if it is not encrypted."""
    nonce: str = ""
    """Nonce of AES-GCM, in hexadecimal digits."""

    def line(self) -> bytes:
        """Return the first line, with a checksum of its own."""
        json = msgspec.json.encode(self).ljust(HEADER_BYTES - len(_MAGIC) - 2 * _DIGEST_BYTES - 4)
        checksum = hashlib.sha256(json).hexdigest().encode()
        return b"%b%b %b %b\n" % (_MAGIC, _FORMAT, checksum, json)

    def associated_data(self) -> bytes:
        """Return what the tag of an encrypted backup covers in addition: all that is known before the content."""
        return msgspec.json.encode(msgspec.structs.replace(self, content_bytes=0, content_sha256=""))


def read_header(path: Path) -> Header:
    """Read what a file says about itself. Raises BackupUnusable if it is no backup, or not as long as it should be."""
    with path.open("rb") as file:
        line = file.read(HEADER_BYTES)
        return parse_header(line, os.fstat(file.fileno()).st_size, str(path))


def parse_header(line: bytes, size: int, path: str) -> Header:
    """Parse the first line of a file of some size. `path` is for errors. Raises BackupUnusable like `read_header`."""
    if not line.startswith(_MAGIC):
        raise BackupUnusable(f"{path} is not a backup of discue.")
    number, _, rest = line.removeprefix(_MAGIC).partition(b" ")
    if number != _FORMAT and number.isdigit():
        raise BackupUnusable(f"{path} has a format that this program does not know. Install a newer discue.")
    try:
        header = msgspec.json.decode(rest.partition(b" ")[2], type=Header)
    except ValueError:
        header = None
    if header is None or header.line() != line:
        raise _damaged(path, "its first line does not match its checksum")
    if size - HEADER_BYTES != header.content_bytes:
        kind = "truncated" if size - HEADER_BYTES < header.content_bytes else "longer than it was"
        raise _damaged(path, f"it is {kind}: {size:,} bytes instead of {HEADER_BYTES + header.content_bytes:,}")
    return header


def write(database: Path, target: IO[bytes], header: Header, key: bytes | None, *, random_bytes: RandomBytes) -> Header:
    """Write a backup of a database file that no process changes, encrypted if there is a key. Returns its header.

    `target` must be at its beginning, and is not closed. It is synced while it is written, but not at the end.
    """
    if key is not None:
        header = msgspec.structs.replace(header, key=key_id_of(key), nonce=random_bytes(NONCE_BYTES).hex())
    digest, written, synced = hashlib.sha256(), 0, 0
    target.write(bytes(HEADER_BYTES))
    content = _compressed(database)
    if key is not None:
        content = _encrypted(content, header, key)
    for chunk in content:
        digest.update(chunk)
        target.write(chunk)
        written += len(chunk)
        if written - synced >= _SYNC_BYTES:
            target.flush()
            os.fsync(target.fileno())
            synced = written
        if key is not None and written > MAX_ENCRYPTED_BYTES:
            raise DiscueError("The database is too large for an encrypted backup, which can have 64 GiB.")
    header = msgspec.structs.replace(header, content_bytes=written, content_sha256=digest.hexdigest())
    # A backup that is not finished does not begin like one.
    target.seek(0)
    target.write(header.line())
    target.flush()
    return header


def _compressed(database: Path) -> Iterator[bytes]:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    yield from map(compressor.compress, _chunks(database))
    yield compressor.flush()


def _chunks(path: Path, start: int = 0) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _encrypted(chunks: Iterable[bytes], header: Header, key: bytes) -> Iterator[bytes]:
    encryptor = Cipher(AES256(key), GCM(bytes.fromhex(header.nonce))).encryptor()
    encryptor.authenticate_additional_data(header.associated_data())
    yield from map(encryptor.update, chunks)
    yield encryptor.finalize() + encryptor.tag


def verify(path: Path) -> Header:
    """Compare a backup with its checksums. Raises BackupUnusable."""
    header = read_header(path)
    digest = hashlib.sha256()
    for chunk in _chunks(path, HEADER_BYTES):
        digest.update(chunk)
    if digest.hexdigest() != header.content_sha256:
        raise _damaged(path, "its content does not match its checksum")
    return header


def unpack(path: Path, target: IO[bytes], keys: Sequence[bytes]) -> Header:
    """Verify a backup and write its database. Only if this returns, the content of `target` is that of the backup.

    Raises BackupUnusable.
    """
    header = verify(path)
    key = _key_of(path, header, keys)
    decompressor = zlib.decompressobj(_GZIP)
    written = 0
    try:
        for chunk in _chunks(path, HEADER_BYTES) if key is None else _decrypted(path, header, key):
            rest = chunk
            while rest:
                piece = decompressor.decompress(rest, _CHUNK_BYTES)
                rest = decompressor.unconsumed_tail
                written += target.write(piece)
        written += target.write(decompressor.flush())
    except (InvalidTag, ValueError, zlib.error) as error:
        raise _damaged(path, "it was changed after it was made") from error
    if not decompressor.eof or written != header.database_bytes:
        raise _damaged(path, f"it contains {written:,} bytes of a database that has {header.database_bytes:,}")
    target.flush()
    return header


def _key_of(path: Path, header: Header, keys: Sequence[bytes]) -> bytes | None:
    """Return the key of an encrypted backup; None if it is not encrypted. Raises BackupUnusable without the key."""
    if not header.key:
        return None
    for key in keys:
        if key_id_of(key) == header.key:
            return key
    named = ", ".join(map(key_id_of, keys))
    found = f"the given file has {named}" if named else "name the file that contains it with --decrypt"
    raise BackupUnusable(f"{path} is encrypted with the key {header.key}: {found}.")


def _decrypted(path: Path, header: Header, key: bytes) -> Iterator[bytes]:
    decryptor = Cipher(AES256(key), GCM(bytes.fromhex(header.nonce))).decryptor()
    decryptor.authenticate_additional_data(header.associated_data())
    end = b""
    for chunk in _chunks(path, HEADER_BYTES):
        content = end + chunk
        end = content[-_TAG_BYTES:]
        yield decryptor.update(content[:-_TAG_BYTES])
    yield decryptor.finalize_with_tag(end)


def _damaged(path: Path | str, reason: str) -> BackupUnusable:
    return BackupUnusable(f"The backup {path} is damaged: {reason}. Use another one.")
