"""Organizations, and the usage of accounts. An account is a tenant with the organizations that it created.

They share the tenant's quotas. The row id of the tenant identifies the account.
"""

from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Final

import msgspec

from discue.domain.model import Organization
from discue.domain.quotas import ResourceQuotaName
from discue.domain.retry import RetryOptions
from discue.store import tallies
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.tables import placeholders, read_one, row_reader
from discue.store.tallies import TallyEntry

_PLAIN: Final = "id, public_id, alias, state, created_at, updated_at, founder"
COLUMNS: Final = f"{_PLAIN}, is_operator, settings, retry"
_BY_ID: Final = f"SELECT {COLUMNS} FROM organization WHERE id = $1 AND deleted_at IS NULL"
_BY_PUBLIC_ID: Final = f"SELECT {COLUMNS} FROM organization WHERE public_id = $1 AND deleted_at IS NULL"
_BY_ALIAS: Final = f"SELECT {COLUMNS} FROM organization WHERE alias = $1 AND deleted_at IS NULL"
_OPERATOR: Final = f"""
    SELECT {COLUMNS} FROM organization WHERE is_operator = 1 AND deleted_at IS NULL ORDER BY id LIMIT 1"""
_LIST: Final = f"SELECT {COLUMNS} FROM organization WHERE deleted_at IS NULL"
_INSERT: Final = f"INSERT INTO organization ({COLUMNS}) VALUES ({placeholders(1, 10)})"
_UPDATE: Final = """
    UPDATE organization SET alias = $1, state = $2, settings = $3, retry = $4, updated_at = $5
    WHERE id = $6 AND deleted_at IS NULL"""
_OF_FOUNDER: Final = "SELECT id FROM organization WHERE founder = $1 AND founder > 0"
_MARK_DELETED: Final = "UPDATE organization SET deleted_at = $1 WHERE id = $2 AND deleted_at IS NULL"

REQUIRE_KNOWN_TYPES: Final = "require_known_types"
"""The setting that requires messages of an organization to have types from its catalogue."""

read_settings = msgspec.json.Decoder(dict[str, int | bool]).decode
"""Decodes stored settings."""

_decode_retry: Final = msgspec.json.Decoder(RetryOptions).decode


def read_retry(stored: str | None) -> RetryOptions | None:
    """Decode the stored retry options of an organization."""
    return None if stored is None else _decode_retry(stored)


read_row = row_reader(Organization, COLUMNS, is_operator=bool, settings=read_settings, retry=read_retry)
"""Makes an organization of a row of `COLUMNS`."""
_plain_values: Callable[[Organization], Row] = attrgetter(*_PLAIN.split(", "))


async def get(tx: Transaction, organization: int) -> Organization | None:
    return await read_one(tx, read_row, _BY_ID, organization)


async def by_public_id(tx: Transaction, public_id: str) -> Organization | None:
    return await read_one(tx, read_row, _BY_PUBLIC_ID, public_id)


async def by_alias(tx: Transaction, alias: str) -> Organization | None:
    return await read_one(tx, read_row, _BY_ALIAS, alias)


async def operator(tx: Transaction) -> Organization | None:
    """Find the operator's own organization; None in an empty database."""
    return await read_one(tx, read_row, _OPERATOR)


async def page(tx: Transaction, selection: Selection, only: Collection[str] | None = None) -> Listing[Organization]:
    """Read a page of all organizations, or of those in `only` (public ids)."""
    return await listed(tx, Table("organization", _LIST, ()), selection, read_row, only=only)


async def insert(tx: Transaction, organization: Organization) -> None:
    """Insert an organization. Raises UniqueViolation if its alias is taken."""
    await tx.execute(_INSERT, *_plain_values(organization), int(organization.is_operator), *_json_values(organization))


async def update(tx: Transaction, organization: Organization) -> bool:
    """Update an organization. Returns False if it was deleted; raises UniqueViolation if its alias is taken."""
    values = (*_json_values(organization), organization.updated_at, organization.id)
    return await tx.execute(_UPDATE, organization.alias, organization.state, *values) == 1


def _json_values(organization: Organization) -> tuple[str, str | None]:
    retry = organization.retry
    settings = msgspec.json.encode(organization.settings).decode()
    return settings, None if retry is None else msgspec.json.encode(retry).decode()


async def created_by_tenant(tx: Transaction, founder: int, *, deleted: bool = False) -> list[int]:
    """Return the ids of the organizations that a tenant created; with `deleted`, those that are not purged yet too."""
    rows = await tx.rows(_OF_FOUNDER if deleted else f"{_OF_FOUNDER} AND deleted_at IS NULL", founder)
    return [int(row[0]) for row in rows]


async def mark_deleted(tx: Transaction, organization: int, now: int) -> bool:
    return await tx.execute(_MARK_DELETED, now, organization) == 1


async def delete(tx: Transaction, organization: int) -> None:
    await tx.execute("DELETE FROM organization WHERE id = $1", organization)


_MESSAGES_OF_DELETED: Final = 1_000
"""A kind of tally: messages of the day of deleted organizations, counted under their founder."""

CREATIONS: Final = 1_003
"""A kind of tally: resources that all organizations of an account create on the day that begins with the period."""

_CARRY: Final = f"""
    INSERT INTO tally (organization, period, kind, slot, n)
    SELECT CAST($1 AS BIGINT), period, {_MESSAGES_OF_DELETED}, {tallies.WORK_SLOT}, CAST(sum(n) AS BIGINT) FROM tally
    WHERE organization = $2 AND period >= $3 AND kind = {tallies.MESSAGE_ADDED} GROUP BY period
    ON CONFLICT (organization, period, kind, slot) DO UPDATE SET n = tally.n + excluded.n"""


async def count_resources(tx: Transaction, account: int, name: ResourceQuotaName, at_most: int) -> int:
    """Count resources of an account, up to a limit."""
    count = 0
    for member in await _members(tx, account):
        count += await tallies.count_resources(tx, member, name, at_most - count)
        if count >= at_most:
            break
    return count


async def count_creation(tx: Transaction, account: int, today: int) -> int:
    """Count a resource that an account creates on the day that begins with a period. Returns the number of that day."""
    return await tallies.add_one(tx, TallyEntry(account, today, CREATIONS, 1))


async def count_creations(tx: Transaction, account: int, today: int) -> int:
    """Return the number of resources that an account created on the day that begins with a period."""
    return await tallies.count_messages(tx, account, range(today, today + 1), kind=CREATIONS)


async def count_messages(tx: Transaction, account: int, periods: range) -> int:
    """Count messages that an account published in a range of periods, in deleted organizations too."""
    count = await tallies.count_messages(tx, account, periods, kind=_MESSAGES_OF_DELETED)
    for member in await _members(tx, account):
        count += await tallies.count_messages(tx, member, periods)
    return count


async def bytes_stored(tx: Transaction, account: int) -> int:
    """Return the bytes that an account stores, including those of deleted organizations until they are purged."""
    return sum([await tallies.bytes_stored(tx, member) for member in await _members(tx, account, deleted=True)])


async def carry_messages(tx: Transaction, deleted: int, founder: int, first_period: int) -> None:
    """Count what an organization published from a period on under its founder, before it is deleted.

    Otherwise, deleting and creating organizations would renew a quota.
    """
    await tx.execute(_CARRY, founder, deleted, first_period)


async def _members(tx: Transaction, account: int, *, deleted: bool = False) -> list[int]:
    return [account, *await created_by_tenant(tx, account, deleted=deleted)]
