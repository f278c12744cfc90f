"""Domains, and which of them are verified."""

from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Final

import msgspec

from discue.domain.domain_challenge import Challenge, Domain, Verification
from discue.domain.egress import parse_target
from discue.domain.errors import DiscueError
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.tables import placeholders, read_one

_PLAIN: Final = "id, organization, public_id, alias, hostname, host_key, port, config_version, created_at, updated_at"
_COLUMNS: Final = (
    f"{_PLAIN}, context_path, file_name, file_content, challenge_created_at, challenge_expires_at, "
    "verified, verified_at, failures, failed_since, last_error, tried_at, checked_at, due_at"
)
_BY_ID: Final = f"SELECT {_COLUMNS} FROM domain WHERE organization = $1 AND id = $2"
_BY_PUBLIC_ID: Final = f"SELECT {_COLUMNS} FROM domain WHERE public_id = $1 AND organization = $2"
_LIST: Final = f"SELECT {_COLUMNS} FROM domain WHERE organization = $1"
_INSERT: Final = f"INSERT INTO domain ({_COLUMNS}) VALUES ({placeholders(1, 23)})"
_UPDATE: Final = """
    UPDATE domain SET alias = $1, context_path = $2, file_name = $3, file_content = $4, challenge_created_at = $5,
        challenge_expires_at = $6, verified = $7, verified_at = $8, failures = $9, failed_since = $10,
        last_error = $11, tried_at = $12, checked_at = $13, due_at = $14, config_version = $15, updated_at = $16
    WHERE organization = $17 AND id = $18"""
_DELETE: Final = "DELETE FROM domain WHERE organization = $1 AND id = $2"
_DUE: Final = f"SELECT {_COLUMNS} FROM domain WHERE due_at <= $1 ORDER BY due_at, organization, id LIMIT $2"
_VERIFIED: Final = """
    SELECT verified FROM domain WHERE organization = $1 AND host_key = $2 AND port = $3
    ORDER BY verified DESC LIMIT 1"""

_plain_values: Callable[[Domain], Row] = attrgetter(*_PLAIN.split(", "))


async def get(tx: Transaction, organization: int, public_id: str) -> Domain | None:
    return await read_one(tx, _from_row, _BY_PUBLIC_ID, public_id, organization)


async def by_id(tx: Transaction, organization: int, domain: int) -> Domain | None:
    return await read_one(tx, _from_row, _BY_ID, organization, domain)


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[Domain]:
    """Read a page of the organization's domains, or of those in `only` (public ids)."""
    return await listed(tx, Table("domain", _LIST, (organization,)), selection, _from_row, only=only)


async def due(tx: Transaction, now: int, limit: int) -> list[Domain]:
    """Read domains of all organizations that must be checked now, the most overdue first."""
    return [_from_row(row) for row in await tx.rows(_DUE, now, limit)]


async def is_registered(tx: Transaction, organization: int, host_key: str, port: int) -> bool:
    """Return whether a host and port is a domain of the organization."""
    return await tx.row(_VERIFIED, organization, host_key, port) is not None


async def is_verified(tx: Transaction, organization: int, host_key: str, port: int) -> bool:
    """Return whether a host and port is a verified domain of the organization."""
    row = await tx.row(_VERIFIED, organization, host_key, port)
    return row is not None and bool(row[0])


async def insert(tx: Transaction, domain: Domain) -> None:
    """Insert a domain. Raises UniqueViolation if its alias is taken."""
    await tx.execute(_INSERT, *_plain_values(domain), *_checks(domain))


async def update(tx: Transaction, domain: Domain) -> bool:
    """Update a domain. Returns False if it was deleted; raises UniqueViolation if its alias is taken."""
    values = (domain.alias, *_checks(domain), domain.config_version, domain.updated_at)
    return await tx.execute(_UPDATE, *values, domain.organization, domain.id) == 1


async def delete(tx: Transaction, organization: int, domain: int) -> bool:
    return await tx.execute(_DELETE, organization, domain) == 1


def _checks(domain: Domain) -> Row:
    """Return the values of the columns from `context_path` to `due_at`, which are named like the fields."""
    verified, *known = msgspec.structs.astuple(domain.verification)
    return *msgspec.structs.astuple(domain.challenge), int(verified), *known


def _from_row(row: Row) -> Domain:
    plain, challenge, (verified, *known) = row[:10], row[10:15], row[15:]
    return Domain(
        **dict(zip(_PLAIN.split(", "), plain, strict=True)),
        challenge=Challenge(*challenge),
        verification=Verification(bool(verified), *known),
    )


REQUIRE_VERIFIED_DOMAINS: Final = "require_verified_domains"
"""The setting of an organization."""

_REQUIRED: Final = f'"{REQUIRE_VERIFIED_DOMAINS}":true'


def requires_verified_domains(settings: str) -> bool:
    """Return whether the stored settings of an organization require verified domains.

    They are compact JSON without any text of clients.
    """
    # Each cursor that is read asks: decoding the JSON would cost more than reading the row.
    return _REQUIRED in settings


class VerifiedDomains:
    """Looks up each domain once within a transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._known: dict[tuple[int, str, int], bool] = {}

    async def has(self, organization: int, url: str) -> bool:
        """Return whether the URL belongs to a verified domain of the organization."""
        try:
            target = parse_target(url, "/url")
        except DiscueError:
            return False
        place = (organization, target.host, target.port)
        known = self._known.get(place)
        if known is None:
            known = self._known[place] = await is_verified(self._tx, *place)
        return known
