"""Messages that listeners have missed, as lists show them, and their positions in the list of an organization.

That list goes from the newest listener to the oldest, and at each from the newest message to the oldest.
"""

from typing import Final

import msgspec

from discue.domain.attempts import StoredAttempt
from discue.domain.ids import decode, encode
from discue.store.attempts import DeliveryKey
from discue.store.pagination import LARGEST

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
    listener_alias: str = ""
    queue_public_id: str = ""
    queue_alias: str = ""


def position_of(key: Key) -> str:
    """Return the position of a message in the list, which clients give as `after` and `before`."""
    return encode(key[0], _CHARACTERS) + encode(key[1], _CHARACTERS)


def key_at(position: str) -> Key:
    """Return the key of a position."""
    return min(decode(position[:_CHARACTERS]), LARGEST), min(decode(position[_CHARACTERS:]), LARGEST)
