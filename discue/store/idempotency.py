"""Idempotency keys, each stored in the commit of the request that used it.

The row of a key is narrow, since keys are spread over the table. Responses of several keys share a row, to which the
keys refer.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from discue.domain.ids import row_id_at
from discue.domain.window import Interval
from discue.store import tallies
from discue.store.engine import Append, IdempotencyRecord, TopicAppend, Transaction
from discue.store.tallies import TallyEntry

SCANNED_KEYS: Final = 1_000
"""The number of keys that one step of a deletion scans."""
RESPONSE_ROWS_PER_STEP: Final = 100
"""A row of responses has up to 64 KiB, or one larger response."""

_RESPONSES_PER_ROW: Final = 64
_BYTES_PER_ROW: Final = 65_536
_IDS_OF_A_ROW: Final = row_id_at(3_600_000)

_INSERT_KEY: Final = "INSERT INTO idempotency_key (key, response) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING"
_INSERT_RESPONSES: Final = """
    INSERT INTO idempotency_response (organization, id, stored_at, size, content) VALUES ($1, $2, $3, $4, $5)"""
_RESPONSE: Final = """
    SELECT a.stored_at, a.content FROM idempotency_key k
    JOIN idempotency_response a ON a.organization = $1 AND a.id = k.response WHERE k.key = $2"""
_SCAN: Final = """
    SELECT count(*), max(key), min(response) FROM (
        SELECT key, response FROM idempotency_key WHERE key >= $1 AND key <= $2 ORDER BY key LIMIT $3
    ) AS looked_at"""
_DELETE_KEYS: Final = "DELETE FROM idempotency_key WHERE key >= $1 AND key <= $2 AND response < $3"
_DELETE_RESPONSES: Final = """
    DELETE FROM idempotency_response WHERE (organization, id) IN (
        SELECT organization, id FROM idempotency_response WHERE organization = $1 AND id < $2 ORDER BY id LIMIT $3
    ) RETURNING size"""

_PackedResponse = tuple[int, int, bytes, bytes]
"""The two halves of a key's hash, its fingerprint, and its response."""

_pack: Callable[[list[_PackedResponse]], bytes] = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[_PackedResponse]).decode


class StoredResponse(msgspec.Struct, frozen=True):
    """The first request of a key, and its response."""

    fingerprint: bytes
    content: bytes
    """The encoded response."""
    stored_at: int


def grouped(records: Iterable[IdempotencyRecord]) -> dict[int, list[IdempotencyRecord]]:
    """Assign keys of one queue to rows of responses, by the id of the row, which is that of its first key."""
    rows: dict[int, list[IdempotencyRecord]] = {}
    row: list[IdempotencyRecord] = []
    size = 0
    for record in records:
        size += len(record.content)
        # Keys that are kept for different times are in different rows.
        is_apart = bool(row) and abs(record.id - row[0].id) > _IDS_OF_A_ROW
        if not row or len(row) == _RESPONSES_PER_ROW or size > _BYTES_PER_ROW or is_apart:
            row = rows[record.id] = []
            size = len(record.content)
        row.append(record)
    return rows


def repeated(appends: Sequence[Append | TopicAppend], stored: set[int]) -> set[int]:
    """Return the places of appends whose key is stored, or is that of an earlier one in the batch.

    `stored` are the first halves of the keys that are stored; those of the batch are added to it.
    """
    found = set()
    for number, item in enumerate(appends):
        if item.idempotency_record is not None:
            half = item.idempotency_record.key[0]
            if half in stored:
                found.add(number)
            stored.add(half)
    return found


def encode_responses(records: Iterable[IdempotencyRecord]) -> bytes:
    """Encode the content of a row of responses."""
    return _pack([(*record.key, record.fingerprint, record.content) for record in records])


async def read_response(tx: Transaction, organization: int, key: tuple[int, int]) -> StoredResponse | None:
    # The table has the first half of the hash only. The second half is compared here.
    row = await tx.row(_RESPONSE, organization, key[0])
    for high, low, fingerprint, content in _unpack(row[1]) if row is not None else ():
        if row is not None and (high, low) == key:
            return StoredResponse(fingerprint, content, row[0])
    return None


async def store_key(tx: Transaction, organization: int, idempotency_record: IdempotencyRecord, now: int) -> bool:
    """Store a key and its response. Returns False if the key was used before: then the transaction must not commit."""
    if await tx.execute(_INSERT_KEY, idempotency_record.key[0], idempotency_record.id) != 1:
        return False
    content = encode_responses([idempotency_record])
    await tx.execute(_INSERT_RESPONSES, organization, idempotency_record.id, now, len(content), content)
    await tallies.add(tx, [TallyEntry(organization, tallies.CURRENT, tallies.RESPONSE_BYTES, len(content))])
    return True


async def delete_old_keys(tx: Transaction, interval: Interval, kept_before: int) -> Interval | None:
    """Delete keys that have expired, in one step over an interval. Returns the rest of the interval; None at its end.

    There is no index by age: every key would have to write to it. In key order, expired keys are many to a page.
    """
    low, high = interval
    oldest_id = row_id_at(kept_before)
    # A scan that finds nothing old writes nothing, so that most steps are reads.
    count, last, oldest = await tx.row(_SCAN, low, high, SCANNED_KEYS) or (0, None, None)
    if oldest is not None and oldest < oldest_id:
        await tx.execute(_DELETE_KEYS, low, last, oldest_id)
    return (last + 1, high) if count == SCANNED_KEYS and last < high else None


async def delete_old_responses(tx: Transaction, organization: int, kept_before: int) -> int:
    """Delete some of an organization's oldest responses, and return how many rows.

    Delete expired keys first: those that remain need their responses.
    """
    sizes = await tx.rows(_DELETE_RESPONSES, organization, row_id_at(kept_before), RESPONSE_ROWS_PER_STEP)
    return await tallies.subtract_bytes(tx, organization, sizes, tallies.RESPONSE_BYTES)
