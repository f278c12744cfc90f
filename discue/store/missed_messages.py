"""Messages that listeners have missed, as lists show them, and their positions in the list of an organization.

That list goes from the newest listener to the oldest, and at each from the newest message to the oldest.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from discue.domain.attempts import StoredAttempt
from discue.domain.ids import decode, encode
from discue.domain.window import Window
from discue.store.attempts import DeliveryKey
from discue.store.engine import Row, Transaction
from discue.store.pagination import LARGEST
from discue.store.recipients import FROM_RECIPIENTS, Recipient
from discue.store.tables import rows_among

POSITION_PATTERN: Final = "^[0-9A-Za-z]{22}$"
"""The form of positions in the list."""
_CHARACTERS: Final = 11
POSITION_CHARACTERS: Final = 2 * _CHARACTERS

Key = tuple[int, int]
"""The row id of a listener, and a seq."""


class MissedMessage(msgspec.Struct, frozen=True):
    """A message that a listener has missed."""

    id: str
    alias: str
    seq: int
    stored_at: int
    reason: str
    missed_at: int
    attempts: int
    """The number of attempts that were made."""
    delivery: DeliveryKey
    last_failure: StoredAttempt | None = None
    """None if nothing was sent, if it is no longer kept, or if it was not asked for."""
    listener_public_id: str = ""
    """Empty in the list of one listener, like the next three fields."""
    listener_alias: str = ""
    queue_public_id: str = ""
    queue_alias: str = ""


def position_of(key: Key) -> str:
    """Return the position of a message in the list, which clients give as `after` and `before`."""
    return encode(key[0], _CHARACTERS) + encode(key[1], _CHARACTERS)


def key_at(position: str) -> Key:
    """Return the key of a position."""
    return min(decode(position[:_CHARACTERS]), LARGEST), min(decode(position[_CHARACTERS:]), LARGEST)


_RECIPIENTS: Final = f"""
    SELECT listener.id, listener.public_id, listener.alias, queue.alias, listener.queue, queue.public_id,
        cursor.start_seq, cursor.position, cursor.ahead {FROM_RECIPIENTS}"""
_BY_IDS: Final = f"{_RECIPIENTS} AND listener.id IN ({{}})"
_BY_PUBLIC_ID: Final = f"{_RECIPIENTS} AND listener.public_id = $2"


class Missing(NamedTuple):
    """A listener that has missed messages, and the names that the list shows."""

    of: Recipient
    alias: str
    queue_alias: str
    public_id: str


async def read_missing(tx: Transaction, organization: int, listeners: Sequence[int]) -> dict[int, Missing]:
    """Read listeners that exist by their row ids."""
    return {row[0]: _missing(organization, row) for row in await rows_among(tx, _BY_IDS, (organization,), listeners)}


async def find_missing(tx: Transaction, organization: int, public_id: str) -> Missing | None:
    """Find a listener by its public id."""
    row = await tx.row(_BY_PUBLIC_ID, organization, public_id)
    return None if row is None else _missing(organization, row)


def _missing(organization: int, row: Row) -> Missing:
    listener, public_id, alias, queue_alias, queue, queue_public_id, start_seq, *window = row
    of = Recipient(organization, listener, queue, queue_public_id, start_seq, Window.decode(*window))
    return Missing(of, alias, queue_alias, public_id)
