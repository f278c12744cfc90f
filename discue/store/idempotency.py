"""Idempotency keys that were used, each kept in the very commit of what it was used for."""

from typing import Final

import msgspec

from discue.store.engine import Once, Transaction

FORGOTTEN_A_STEP: Final = 500

_KEPT: Final = """
    SELECT fingerprint, content, stored_at FROM idempotency
    WHERE organization = $1 AND key_high = $2 AND key_low = $3"""
_KEEP: Final = """
    INSERT INTO idempotency (organization, key_high, key_low, fingerprint, content, stored_at)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (organization, key_high, key_low) DO NOTHING"""
_FORGET: Final = """
    DELETE FROM idempotency WHERE (organization, key_high, key_low) IN (
        SELECT organization, key_high, key_low FROM idempotency WHERE stored_at < $1 ORDER BY stored_at LIMIT $2
    )"""


class Kept(msgspec.Struct, frozen=True):
    """What is known of a key's first request: its fingerprint, and what its response can be given again from."""

    fingerprint: bytes
    content: bytes
    stored_at: int


async def kept(tx: Transaction, organization: int, key: tuple[int, int]) -> Kept | None:
    row = await tx.row(_KEPT, organization, *key)
    return Kept(bytes(row[0]), bytes(row[1]), row[2]) if row is not None else None


async def keep(tx: Transaction, organization: int, once: Once, now: int) -> bool:
    """False when the key was used before: then nothing that the transaction did may stand."""
    return await tx.execute(_KEEP, organization, *once.key, once.fingerprint, once.content, now) == 1


async def forget(tx: Transaction, stored_before: int) -> int:
    """One step over keys that were kept long enough; how many it deleted."""
    return await tx.execute(_FORGET, stored_before, FORGOTTEN_A_STEP)
