"""The catalogue of event types of an organization."""

from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from discue.domain.model import EventType
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed
from discue.store.tables import placeholders, read_one, row_reader, rows_among

_COLUMNS: Final = (
    "organization, id, public_id, alias, status, created_at, updated_at, description, json_schema, example"
)
_LIST: Final = f"SELECT {_COLUMNS} FROM event_type WHERE organization = $1"
_BY_PUBLIC_ID: Final = f"SELECT {_COLUMNS} FROM event_type WHERE public_id = $1 AND organization = $2"
_BY_ALIAS: Final = f"{_LIST} AND alias = $2"
_ALL: Final = f"{_LIST} AND alias IS NOT NULL ORDER BY alias LIMIT $2"
_NAMES: Final = """
    SELECT alias, description, status FROM event_type WHERE organization = $1 AND alias IS NOT NULL ORDER BY alias"""
_AMONG: Final = f"{_LIST} AND alias IN ({{}})"
_USE: Final = """
    SELECT count(*), CAST(coalesce(sum(size), 0) AS BIGINT) FROM event_type WHERE organization = $1 AND id <> $2"""
_INSERT: Final = f"INSERT INTO event_type ({_COLUMNS}, size) VALUES ({placeholders(1, 11)})"
_UPDATE: Final = """
    UPDATE event_type
    SET alias = $1, status = $2, updated_at = $3, description = $4, json_schema = $5, example = $6, size = $7
    WHERE organization = $8 AND id = $9"""
_DELETE: Final = "DELETE FROM event_type WHERE organization = $1 AND id = $2"

_from_row = row_reader(EventType, _COLUMNS)
_values: Callable[[EventType], Row] = attrgetter(*_COLUMNS.split(", "), "size")
_changes: Callable[[EventType], Row] = attrgetter(
    *("alias", "status", "updated_at", "description", "json_schema", "example", "size", "organization", "id")
)


class TypeName(NamedTuple):
    """An event type, as forms offer it."""

    type: str
    description: str
    status: str


async def get(tx: Transaction, organization: int, public_id: str) -> EventType | None:
    return await read_one(tx, _from_row, _BY_PUBLIC_ID, public_id, organization)


async def of_type(tx: Transaction, organization: int, alias: str) -> EventType | None:
    return await read_one(tx, _from_row, _BY_ALIAS, organization, alias)


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[EventType]:
    """Read a page of the catalogue, or of the event types in `only` (public ids)."""
    return await listed(tx, Table("event_type", _LIST, (organization,)), selection, _from_row, only=only)


async def catalogue(tx: Transaction, organization: int, most: int) -> list[EventType]:
    """Read the first event types of an organization, in the order of their types."""
    return [_from_row(row) for row in await tx.rows(_ALL, organization, most)]


async def names(tx: Transaction, organization: int) -> list[TypeName]:
    """Read the names of all event types of an organization, in their order."""
    return [TypeName(*row) for row in await tx.rows(_NAMES, organization)]


async def of_types(tx: Transaction, organization: int, types: Sequence[str]) -> list[EventType]:
    """Read some event types, in the order of their names."""
    found = [_from_row(row) for row in await rows_among(tx, _AMONG, (organization,), types)] if types else []
    return sorted(found, key=lambda each: each.alias)


async def use_without(tx: Transaction, event_type: EventType) -> tuple[int, int]:
    """Return the number of the other event types of the organization, and the bytes of their schemas and examples."""
    row = await tx.row(_USE, event_type.organization, event_type.id)
    return (0, 0) if row is None else (row[0], row[1])


async def insert(tx: Transaction, event_type: EventType) -> None:
    """Insert an event type. Raises UniqueViolation if its type is taken."""
    await tx.execute(_INSERT, *_values(event_type))


async def update(tx: Transaction, event_type: EventType) -> None:
    """Update an event type. Raises UniqueViolation if its type is taken."""
    await tx.execute(_UPDATE, *_changes(event_type))


async def delete(tx: Transaction, event_type: EventType) -> None:
    await tx.execute(_DELETE, event_type.organization, event_type.id)
