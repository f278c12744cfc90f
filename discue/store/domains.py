"""Domains, and which of them are verified."""

from collections.abc import Callable
from operator import attrgetter
from typing import Final

import msgspec

from discue.domain.domain_challenge import Challenge, Domain, Verification
from discue.domain.egress import parse_target
from discue.domain.errors import DiscueError
from discue.store.engine import Row, Transaction
from discue.store.resource_table import ResourceTable

_PLAIN: Final = "id, organization, public_id, alias, hostname, host_key, port, config_version, created_at, updated_at"
_CHECKS: Final = (
    "context_path, file_name, file_content, challenge_created_at, challenge_expires_at, "
    "verified, verified_at, failures, failed_since, last_error, tried_at, checked_at, due_at"
)
"""Columns that are named like the fields of the challenge and the verification."""
_COLUMNS: Final = f"{_PLAIN}, {_CHECKS}"
_plain_values: Callable[[Domain], Row] = attrgetter(*_PLAIN.split(", "))


def _values(domain: Domain) -> Row:
    verified, *known = msgspec.structs.astuple(domain.verification)
    return *_plain_values(domain), *msgspec.structs.astuple(domain.challenge), int(verified), *known


def _from_row(row: Row) -> Domain:
    plain, challenge, (verified, *known) = row[:10], row[10:15], row[15:]
    return Domain(
        **dict(zip(_PLAIN.split(", "), plain, strict=True)),
        challenge=Challenge(*challenge),
        verification=Verification(bool(verified), *known),
    )


_TABLE: Final = ResourceTable(
    "domain",
    Domain,
    _COLUMNS,
    changed=f"alias, config_version, updated_at, {_CHECKS}",
    read=_from_row,
    values=_values,
)
get, page, insert, update, delete = _TABLE.get, _TABLE.page, _TABLE.insert, _TABLE.update, _TABLE.delete

_DUE: Final = f"SELECT {_COLUMNS} FROM domain WHERE due_at <= $1 ORDER BY due_at, organization, id LIMIT $2"
_VERIFIED: Final = """
    SELECT verified FROM domain WHERE organization = $1 AND host_key = $2 AND port = $3
    ORDER BY verified DESC LIMIT 1"""


async def by_id(tx: Transaction, organization: int, domain: int) -> Domain | None:
    return await _TABLE.find(tx, "id = $2", organization, domain)


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
