"""Idempotency keys that were used, each kept in the very commit of what it was used for.

A key is a row as narrow as can be, for it stands at a random place. What its first request was, and was answered, is
stored with that of other keys in one row of answers, which the key names.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from discue.domain.ids import row_id_at
from discue.domain.intervals import Interval
from discue.store.engine import IdempotencyRecord, Transaction

SCANNED_KEYS: Final = 1_000
RESPONSE_ROWS_PER_STEP: Final = 100
"""Rows of answers: one may have 64 KiB, or an answer that is larger."""

_RESPONSES_PER_ROW: Final = 64
_BYTES_PER_ROW: Final = 65_536

_INSERT_KEY: Final = "INSERT INTO idempotency_key (key, answers) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING"
_INSERT_RESPONSES: Final = """
    INSERT INTO idempotency_answers (organization, id, stored_at, size, content) VALUES ($1, $2, $3, $4, $5)"""
_RESPONSE: Final = """
    SELECT a.stored_at, a.content FROM idempotency_key k
    JOIN idempotency_answers a ON a.organization = $1 AND a.id = k.answers WHERE k.key = $2"""
_SCAN: Final = """
    SELECT count(*), max(key), min(answers) FROM (
        SELECT key, answers FROM idempotency_key WHERE key >= $1 AND key <= $2 ORDER BY key LIMIT $3
    ) AS looked_at"""
_DELETE_KEYS: Final = "DELETE FROM idempotency_key WHERE key >= $1 AND key <= $2 AND answers < $3"
_DELETE_RESPONSES: Final = """
    DELETE FROM idempotency_answers WHERE (organization, id) IN (
        SELECT organization, id FROM idempotency_answers WHERE organization = $1 AND id < $2 ORDER BY id LIMIT $3
    )"""

_PackedResponse = tuple[int, int, bytes, bytes]
"""The two halves of a key's hash, its fingerprint, and its content."""

_pack: Callable[[list[_PackedResponse]], bytes] = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[_PackedResponse]).decode


class StoredResponse(msgspec.Struct, frozen=True):
    """What is known of a key's first request: its fingerprint, and what its response can be given again from."""

    fingerprint: bytes
    content: bytes
    stored_at: int


class ResponseGroup:
    """Gathers the keys of one queue's appends whose answers are to be one row: it has the id of the first of them."""

    __slots__ = ("_count", "_size", "id")

    def __init__(self) -> None:
        self.id = self._count = self._size = 0

    def add(self, idempotency_record: IdempotencyRecord) -> int:
        """The id of the row that has its answer."""
        size = len(idempotency_record.content)
        if self._count in (0, _RESPONSES_PER_ROW) or self._size + size > _BYTES_PER_ROW:
            self.id, self._count, self._size = idempotency_record.id, 0, 0
        self._count += 1
        self._size += size
        return self.id


def encode_responses(onces: Iterable[IdempotencyRecord]) -> bytes:
    """The content of a row of answers."""
    return _pack(
        [
            (*idempotency_record.key, idempotency_record.fingerprint, idempotency_record.content)
            for idempotency_record in onces
        ]
    )


async def read_response(tx: Transaction, organization: int, key: tuple[int, int]) -> StoredResponse | None:
    row = await tx.row(_RESPONSE, organization, key[0])
    for high, low, fingerprint, content in _unpack(row[1]) if row is not None else ():
        if row is not None and (high, low) == key:
            return StoredResponse(fingerprint, content, row[0])
    return None


async def store_key(tx: Transaction, organization: int, idempotency_record: IdempotencyRecord, now: int) -> bool:
    """False when the key was used before: then nothing that the transaction did may stand."""
    if await tx.execute(_INSERT_KEY, idempotency_record.key[0], idempotency_record.id) != 1:
        return False
    content = encode_responses([idempotency_record])
    await tx.execute(_INSERT_RESPONSES, organization, idempotency_record.id, now, len(content), content)
    return True


async def delete_old_keys(tx: Transaction, stretch: Interval, kept_before: int) -> Interval | None:
    """One step over a stretch of keys: forget those that were kept long enough. What is left of it; None at its end.

    No index leads to the old ones: each key would have to be written there, too. In the order in which keys stand,
    those that go are many to a page.
    """
    low, high = stretch
    oldest_id = row_id_at(kept_before)
    count, last, oldest = await tx.row(_SCAN, low, high, SCANNED_KEYS) or (0, None, None)
    if oldest is not None and oldest < oldest_id:
        await tx.execute(_DELETE_KEYS, low, last, oldest_id)
    return (last + 1, high) if count == SCANNED_KEYS and last < high else None


async def delete_old_responses(tx: Transaction, organization: int, kept_before: int) -> int:
    """One step over an organization's answers, the oldest first; how many rows of them it deleted.

    Those of keys that are not forgotten yet must stay.
    """
    return await tx.execute(_DELETE_RESPONSES, organization, row_id_at(kept_before), RESPONSE_ROWS_PER_STEP)
