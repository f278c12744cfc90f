"""The catalogue of event types of an organization."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from discue.domain.model import EventType
from discue.store.engine import Transaction
from discue.store.resource_table import ResourceTable
from discue.store.tables import rows_among

_TABLE: Final = ResourceTable(
    "event_type",
    EventType,
    "id, organization, public_id, alias, status, created_at, updated_at, description, json_schema, example",
    changed="alias, status, updated_at, description, json_schema, example, size",
    written="size",
)
get, page, insert, update, delete = _TABLE.get, _TABLE.page, _TABLE.insert, _TABLE.update, _TABLE.delete

_ALL: Final = f"{_TABLE.select} AND alias IS NOT NULL ORDER BY alias LIMIT $2"
_NAMES: Final = """
    SELECT alias, description, status FROM event_type WHERE organization = $1 AND alias IS NOT NULL ORDER BY alias"""
_AMONG: Final = f"{_TABLE.select} AND alias IN ({{}})"
_USE: Final = """
    SELECT count(*), CAST(coalesce(sum(size), 0) AS BIGINT) FROM event_type WHERE organization = $1 AND id <> $2"""


class TypeName(NamedTuple):
    """An event type, as forms offer it."""

    type: str
    description: str
    status: str


async def of_type(tx: Transaction, organization: int, alias: str) -> EventType | None:
    return await _TABLE.find(tx, "alias = $2", organization, alias)


async def catalogue(tx: Transaction, organization: int, most: int) -> list[EventType]:
    """Read the first event types of an organization, in the order of their types."""
    return [_TABLE.read(row) for row in await tx.rows(_ALL, organization, most)]


async def names(tx: Transaction, organization: int) -> list[TypeName]:
    """Read the names of all event types of an organization, in their order."""
    return [TypeName(*row) for row in await tx.rows(_NAMES, organization)]


async def of_types(tx: Transaction, organization: int, types: Sequence[str]) -> list[EventType]:
    """Read some event types, in the order of their names."""
    found = [_TABLE.read(row) for row in await rows_among(tx, _AMONG, (organization,), types)] if types else []
    return sorted(found, key=lambda each: each.alias)


async def use_without(tx: Transaction, event_type: EventType) -> tuple[int, int]:
    """Return the number of the other event types of the organization, and the bytes of their schemas and examples."""
    row = await tx.row(_USE, event_type.organization, event_type.id)
    return (0, 0) if row is None else (row[0], row[1])
