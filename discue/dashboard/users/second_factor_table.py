"""Second factors of users: the secret of an authenticator app, and recovery codes."""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from discue.domain.representation import shows
from discue.store.engine import Transaction
from discue.store.tables import read_one, row_reader, rows_among

_COLUMNS: Final = "organization, id, secrets, confirmed_at, last_step, recovery_codes, failed_codes, refused_until"
_GET: Final = f"SELECT {_COLUMNS} FROM second_factor WHERE organization = $1 AND id = $2"
_PUT: Final = f"""
    INSERT INTO second_factor ({_COLUMNS})
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (organization, id) DO UPDATE SET secrets = excluded.secrets, confirmed_at = excluded.confirmed_at,
    last_step = excluded.last_step, recovery_codes = excluded.recovery_codes, failed_codes = excluded.failed_codes,
    refused_until = excluded.refused_until"""
_USE_STEP: Final = """
    UPDATE second_factor SET last_step = $1, failed_codes = 0, refused_until = 0
    WHERE organization = $2 AND id = $3 AND last_step < $1"""
_USE_RECOVERY: Final = """
    UPDATE second_factor SET recovery_codes = $1, failed_codes = 0, refused_until = 0
    WHERE organization = $2 AND id = $3 AND recovery_codes = $4"""
_COUNT_FAILURE: Final = """
    UPDATE second_factor SET failed_codes = failed_codes + 1, refused_until = $1 WHERE organization = $2 AND id = $3"""
_RESET_FAILURES: Final = """
    UPDATE second_factor SET failed_codes = 0, refused_until = 0 WHERE organization = $1 AND id = $2"""
_REFUSED: Final = f"""
    SELECT {_COLUMNS} FROM second_factor WHERE (organization, id) > ($1, $2) AND refused_until > $3
    ORDER BY organization, id LIMIT $4"""
_CONFIRMED: Final = """
    SELECT id FROM second_factor WHERE organization = $1 AND confirmed_at > 0 AND id IN ({})"""
_DELETE: Final = "DELETE FROM second_factor WHERE organization = $1 AND id = $2"


@shows("organization", "id")
class SecondFactor(msgspec.Struct, frozen=True):
    organization: int
    id: int
    """Row id of the user."""
    secrets: bytes
    """The secret that the app shares, encrypted."""
    confirmed_at: int = 0
    """When the user entered a first code, in milliseconds since the epoch. 0: not yet, so it is not asked for."""
    last_step: int = -1
    """Time step of the last code that was accepted."""
    recovery_codes: tuple[str, ...] = ()
    """Hashes of the recovery codes that are left."""
    failed_codes: int = 0
    """Wrong codes since the last one that was accepted."""
    refused_until: int = 0
    """No code is accepted until then, in milliseconds since the epoch. 0: none was ever refused unread."""


_read: Final = row_reader(SecondFactor, _COLUMNS, recovery_codes=msgspec.json.Decoder(tuple[str, ...]).decode)


async def get(tx: Transaction, organization: int, user: int) -> SecondFactor | None:
    return await read_one(tx, _read, _GET, organization, user)


async def put(tx: Transaction, factor: SecondFactor) -> None:
    codes = _encoded(factor.recovery_codes)
    values = (factor.secrets, factor.confirmed_at, factor.last_step, codes, factor.failed_codes, factor.refused_until)
    await tx.execute(_PUT, factor.organization, factor.id, *values)


async def use_step(tx: Transaction, factor: SecondFactor, step: int) -> bool:
    """Record that the code of a time step was accepted, and forget the wrong codes.

    Returns False if it, or a later one, was accepted before.
    """
    return await tx.execute(_USE_STEP, step, factor.organization, factor.id) == 1


async def use_recovery_code(tx: Transaction, factor: SecondFactor, left: Sequence[str]) -> bool:
    """Record the recovery codes that are left, and forget the wrong codes.

    Returns False if another one was used meanwhile.
    """
    values = (factor.organization, factor.id, _encoded(factor.recovery_codes))
    return await tx.execute(_USE_RECOVERY, _encoded(left), *values) == 1


async def count_failure(tx: Transaction, factor: SecondFactor, refused_until: int) -> None:
    """Record a wrong code, and until when no other one is accepted."""
    await tx.execute(_COUNT_FAILURE, refused_until, factor.organization, factor.id)


async def reset_failures(tx: Transaction, organization: int, user: int) -> None:
    await tx.execute(_RESET_FAILURES, organization, user)


async def refused(tx: Transaction, now: int, after: tuple[int, int], limit: int) -> list[SecondFactor]:
    """Read the next second factors whose codes are refused now, after an organization and a user of it."""
    return [_read(row) for row in await tx.rows(_REFUSED, *after, now, limit)]


async def users_with(tx: Transaction, organization: int, users: Collection[int]) -> set[int]:
    """Return those of some users, by row ids, who are asked for a second factor."""
    return {int(row[0]) for row in await rows_among(tx, _CONFIRMED, (organization,), list(users))}


async def delete(tx: Transaction, organization: int, user: int) -> bool:
    return await tx.execute(_DELETE, organization, user) == 1


def _encoded(codes: Sequence[str]) -> str:
    return msgspec.json.encode(codes).decode()
