"""The keys that encrypt the installation's secrets, and the rows that contain them."""

from typing import Final, Literal, get_args

import msgspec

from discue.domain.errors import StoreUnusable
from discue.domain.representation import shows
from discue.store.engine import Transaction
from discue.store.tables import read_number

CLEAR: Final = ""
"""The key id of what is not encrypted."""

_READ: Final = "SELECT value FROM meta WHERE key = 'encryption'"
_WRITE: Final = "UPDATE meta SET value = $1 WHERE key = 'encryption'"
_AFTER: Final = """
    SELECT organization, id, secrets FROM {} WHERE (organization, id) > ($1, $2)
    ORDER BY organization, id LIMIT $3"""
_REPLACE: Final = "UPDATE {} SET secrets = $1 WHERE organization = $2 AND id = $3 AND secrets = $4"
_DELETE: Final = "DELETE FROM {} WHERE organization = $1 AND id = $2"
_COUNT: Final = "SELECT count(*) FROM {}"

RowKey = tuple[int, int]
"""Organization and listener, source or user, by row ids. These are unique across tables."""

SecretsTable = Literal["listener", "second_factor", "source"]
_TABLES: Final[tuple[SecretsTable, ...]] = get_args(SecretsTable)


class Encryption(msgspec.Struct, frozen=True):
    """The ids of the keys in use."""

    current: str = CLEAR
    """Encrypts what is written."""
    leaving: tuple[str, ...] = ()
    """May still encrypt what was written earlier."""

    @property
    def needed(self) -> tuple[str, ...]:
        """The keys that are needed to read everything."""
        return tuple(key for key in (self.current, *self.leaving) if key != CLEAR)

    def under(self, key: str) -> "Encryption":
        """Return the state with `key` as the current key."""
        if key == self.current:
            return self
        return Encryption(key, tuple(dict.fromkeys(each for each in (self.current, *self.leaving) if each != key)))


@shows("key")
class SecretsRow(msgspec.Struct, frozen=True):
    """The signing secrets of one listener or source, or the second factor of one user."""

    key: RowKey
    stored: bytes
    """Encrypted, or not."""
    table: SecretsTable = "listener"


def decode(text: str) -> Encryption:
    """Decode the value in `meta`. Raises StoreUnusable."""
    try:
        return msgspec.json.decode(text, type=Encryption) if text else Encryption()
    except ValueError:
        raise StoreUnusable("The database's encryption state cannot be read. Restore a backup.") from None


async def read(tx: Transaction) -> Encryption:
    row = await tx.row(_READ)
    return decode(row[0] if row else "")


async def write(tx: Transaction, encryption: Encryption) -> None:
    await tx.execute(_WRITE, msgspec.json.encode(encryption).decode())


async def rows_after(tx: Transaction, after: RowKey | None, limit: int) -> list[SecretsRow]:
    """Read the next rows of all tables in the order of their keys, including those of deleted listeners."""
    rows = [
        SecretsRow((organization, owner), stored, table)
        for table in _TABLES
        for organization, owner, stored in await tx.rows(_AFTER.format(table), *(after or (0, 0)), limit)
    ]
    return sorted(rows, key=lambda row: row.key)[:limit]


async def replace(tx: Transaction, row: SecretsRow, fresh: bytes) -> bool:
    """Replace the secrets. Returns False if another transaction has changed them."""
    # The old value is the condition: a secret that is changed meanwhile is not overwritten with an old one.
    return await tx.execute(_REPLACE.format(row.table), fresh, *row.key, row.stored) == 1


async def delete(tx: Transaction, row: SecretsRow) -> None:
    await tx.execute(_DELETE.format(row.table), *row.key)


async def count(tx: Transaction) -> int:
    """Count the rows."""
    return sum([await read_number(tx, _COUNT.format(table)) for table in _TABLES])
