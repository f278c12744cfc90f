"""Second factors of users: the secret of an authenticator app, and recovery codes."""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from discue.store.engine import Row, Transaction
from discue.store.tables import read_one, rows_among

_GET: Final = """
    SELECT organization, id, secrets, confirmed_at, last_step, recovery_codes FROM second_factor
    WHERE organization = $1 AND id = $2"""
_PUT: Final = """
    INSERT INTO second_factor (organization, id, secrets, confirmed_at, last_step, recovery_codes)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (organization, id) DO UPDATE SET secrets = excluded.secrets, confirmed_at = excluded.confirmed_at,
    last_step = excluded.last_step, recovery_codes = excluded.recovery_codes"""
_USE_STEP: Final = """
    UPDATE second_factor SET last_step = $1 WHERE organization = $2 AND id = $3 AND last_step < $1"""
_USE_RECOVERY: Final = """
    UPDATE second_factor SET recovery_codes = $1 WHERE organization = $2 AND id = $3 AND recovery_codes = $4"""
_CONFIRMED: Final = """
    SELECT id FROM second_factor WHERE organization = $1 AND confirmed_at > 0 AND id IN ({})"""
_DELETE: Final = "DELETE FROM second_factor WHERE organization = $1 AND id = $2"


class SecondFactor(msgspec.Struct, frozen=True):
    """The second factor of a user."""

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

    def __repr__(self) -> str:
        return f"SecondFactor(organization={self.organization}, id={self.id})"


async def get(tx: Transaction, organization: int, user: int) -> SecondFactor | None:
    return await read_one(tx, _read, _GET, organization, user)


async def put(tx: Transaction, factor: SecondFactor) -> None:
    """Insert or replace the second factor of a user."""
    codes = _encoded(factor.recovery_codes)
    values = (factor.secrets, factor.confirmed_at, factor.last_step, codes)
    await tx.execute(_PUT, factor.organization, factor.id, *values)


async def use_step(tx: Transaction, factor: SecondFactor, step: int) -> bool:
    """Record that the code of a time step was accepted. Returns False if it, or a later one, was accepted before."""
    return await tx.execute(_USE_STEP, step, factor.organization, factor.id) == 1


async def use_recovery_code(tx: Transaction, factor: SecondFactor, left: Sequence[str]) -> bool:
    """Record the recovery codes that are left. Returns False if another one was used meanwhile."""
    values = (factor.organization, factor.id, _encoded(factor.recovery_codes))
    return await tx.execute(_USE_RECOVERY, _encoded(left), *values) == 1


async def users_with(tx: Transaction, organization: int, users: Collection[int]) -> set[int]:
    """Return those of some users, by row ids, who are asked for a second factor."""
    return {int(row[0]) for row in await rows_among(tx, _CONFIRMED, (organization,), list(users))}


async def delete(tx: Transaction, organization: int, user: int) -> bool:
    return await tx.execute(_DELETE, organization, user) == 1


def _encoded(codes: Sequence[str]) -> str:
    return msgspec.json.encode(codes).decode()


def _read(row: Row) -> SecondFactor:
    organization, user, secrets, confirmed_at, last_step, codes = row
    left = msgspec.json.decode(codes, type=tuple[str, ...])
    return SecondFactor(organization, user, secrets, confirmed_at, last_step, left)
