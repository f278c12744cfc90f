"""Under which keys the installation's secrets are, and the rows that hold them."""

from typing import Final

import msgspec

from discue.domain.errors import StoreUnusable
from discue.store.engine import Row, Transaction

CLEAR: Final = ""
"""Stands for no key: what is not encrypted."""

_READ: Final = "SELECT value FROM meta WHERE key = 'encryption'"
_WRITE: Final = "UPDATE meta SET value = $1 WHERE key = 'encryption'"
_FIRST: Final = "SELECT organization, id, secrets FROM listener ORDER BY organization, id LIMIT $1"
_AFTER: Final = """
    SELECT organization, id, secrets FROM listener WHERE (organization, id) > ($1, $2)
    ORDER BY organization, id LIMIT $3"""
_REPLACE: Final = "UPDATE listener SET secrets = $1 WHERE organization = $2 AND id = $3 AND secrets = $4"
_COUNT: Final = "SELECT count(*) FROM listener"

RowKey = tuple[int, int]
"""Organization and listener."""


class Encryption(msgspec.Struct, frozen=True):
    """Keys by their ids. What is written is encrypted under `current`, what was written may be under `leaving`, too."""

    current: str = CLEAR
    leaving: tuple[str, ...] = ()

    @property
    def needed(self) -> tuple[str, ...]:
        """The keys without which something cannot be read."""
        return tuple(key for key in (self.current, *self.leaving) if key != CLEAR)

    def under(self, key: str) -> "Encryption":
        """The same, when `key` is to be the current one from now on."""
        if key == self.current:
            return self
        return Encryption(key, tuple(dict.fromkeys(each for each in (self.current, *self.leaving) if each != key)))


class SecretsRow(msgspec.Struct, frozen=True):
    """The signing secrets of one listener, as they are stored."""

    key: RowKey
    stored: bytes

    def __repr__(self) -> str:
        return f"SecretsRow(key={self.key})"


def decode(text: str) -> Encryption:
    """What `meta` has. Raises StoreUnusable."""
    try:
        return msgspec.json.decode(text, type=Encryption) if text else Encryption()
    except ValueError:
        raise StoreUnusable("What the database says of its encryption cannot be read. Restore a backup.") from None


async def read(tx: Transaction) -> Encryption:
    row = await tx.row(_READ)
    return decode(row[0] if row else "")


async def write(tx: Transaction, encryption: Encryption) -> None:
    await tx.execute(_WRITE, msgspec.json.encode(encryption).decode())


async def rows_after(tx: Transaction, after: RowKey | None, limit: int) -> list[SecretsRow]:
    """The next rows in the order of their keys, deleted listeners' too."""
    rows = await (tx.rows(_FIRST, limit) if after is None else tx.rows(_AFTER, *after, limit))
    return [_row(row) for row in rows]


async def replace(tx: Transaction, row: SecretsRow, fresh: bytes) -> bool:
    """False when somebody else has changed it meanwhile."""
    return await tx.execute(_REPLACE, fresh, *row.key, row.stored) == 1


async def count(tx: Transaction) -> int:
    """How many rows there are."""
    row = await tx.row(_COUNT)
    return row[0] if row else 0


def _row(row: Row) -> SecretsRow:
    organization, listener, stored = row
    return SecretsRow((organization, listener), bytes(stored))
