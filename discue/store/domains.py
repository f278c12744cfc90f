"""Domains, and which of them are verified."""

from collections.abc import Collection
from typing import Final

from discue.domain.domain_challenge import Challenge, Domain, Verification
from discue.domain.egress import parse_target
from discue.domain.errors import DiscueError
from discue.store.engine import Row, Transaction, Value
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.tables import placeholders

_COLUMNS: Final = (
    "id, organization, public_id, alias, hostname, host_key, port, context_path, file_name, file_content, "
    "challenge_created_at, challenge_expires_at, verified, verified_at, failures, failed_since, last_error, tried_at, "
    "checked_at, due_at, config_version, created_at, updated_at"
)
_BY_ID: Final = f"SELECT {_COLUMNS} FROM domain WHERE organization = $1 AND id = $2"
_BY_PUBLIC_ID: Final = f"SELECT {_COLUMNS} FROM domain WHERE public_id = $1 AND organization = $2"
_LIST: Final = f"SELECT {_COLUMNS} FROM domain WHERE organization = $1"
_ANCHOR: Final = "SELECT id FROM domain WHERE organization = $1 AND public_id = $2"
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


async def get(tx: Transaction, organization: int, public_id: str) -> Domain | None:
    return _read(await tx.row(_BY_PUBLIC_ID, public_id, organization))


async def by_id(tx: Transaction, organization: int, domain: int) -> Domain | None:
    return _read(await tx.row(_BY_ID, organization, domain))


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[Domain]:
    """Read a page of the organization's domains, or of those in `only` (public ids)."""
    table = Table(_LIST, (organization,), "id", _ANCHOR, (organization,))
    found = await listed(tx, table, selection, only)
    return found.listing(map(_from_row, found.rows))


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
    await tx.execute(
        _INSERT,
        domain.id,
        domain.organization,
        domain.public_id,
        domain.alias,
        domain.hostname,
        domain.host_key,
        domain.port,
        *_challenge(domain.challenge),
        *_verification(domain.verification),
        domain.config_version,
        domain.created_at,
        domain.updated_at,
    )


async def update(tx: Transaction, domain: Domain) -> bool:
    """Update a domain. Returns False if it was deleted; raises UniqueViolation if its alias is taken."""
    changed = await tx.execute(
        _UPDATE,
        domain.alias,
        *_challenge(domain.challenge),
        *_verification(domain.verification),
        domain.config_version,
        domain.updated_at,
        domain.organization,
        domain.id,
    )
    return changed == 1


async def delete(tx: Transaction, organization: int, domain: int) -> bool:
    return await tx.execute(_DELETE, organization, domain) == 1


def _challenge(challenge: Challenge) -> tuple[Value, ...]:
    return (
        challenge.context_path,
        challenge.file_name,
        challenge.file_content,
        challenge.created_at,
        challenge.expires_at,
    )


def _verification(verification: Verification) -> tuple[Value, ...]:
    return (
        int(verification.verified),
        verification.verified_at,
        verification.failures,
        verification.failed_since,
        verification.last_error,
        verification.tried_at,
        verification.checked_at,
        verification.due_at,
    )


def _read(row: Row | None) -> Domain | None:
    return _from_row(row) if row is not None else None


def _from_row(row: Row) -> Domain:
    domain, organization, public_id, alias, hostname, host_key, port = row[:7]
    verified, *known = row[12:20]
    config_version, created_at, updated_at = row[20:]
    return Domain(
        organization=organization,
        id=domain,
        public_id=public_id,
        alias=alias,
        hostname=hostname,
        host_key=host_key,
        port=port,
        challenge=Challenge(*row[7:12]),
        verification=Verification(bool(verified), *known),
        config_version=config_version,
        created_at=created_at,
        updated_at=updated_at,
    )


REQUIRE_VERIFIED_DOMAINS: Final = "require_verified_domains"
"""The setting of an organization."""

_REQUIRED: Final = f'"{REQUIRE_VERIFIED_DOMAINS}":true'


def requires_verified_domains(settings: str) -> bool:
    """Return whether the stored settings of an organization require verified domains.

    They are compact JSON without any text of clients.
    """
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
