"""Rows of topics."""

from collections.abc import Collection
from typing import Final

from discue.domain.model import Topic
from discue.store import idempotency
from discue.store.engine import AlreadyDone, IdempotencyRecord, Row, StaleConfiguration, Transaction
from discue.store.pagination import Listing, RowPage, Selection, Table, listed

_COLUMNS: Final = "id, organization, public_id, alias, routes_version, created_at, updated_at"
_BY_PUBLIC_ID: Final = f"SELECT {_COLUMNS} FROM topic WHERE public_id = $1 AND organization = $2"
_LIST: Final = f"SELECT {_COLUMNS} FROM topic WHERE organization = $1"
_ANCHOR: Final = "SELECT id FROM topic WHERE organization = $1 AND public_id = $2"
_INSERT: Final = f"INSERT INTO topic ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)"
_UPDATE: Final = "UPDATE topic SET alias = $1, updated_at = $2 WHERE organization = $3 AND id = $4"
_REROUTE: Final = "UPDATE topic SET routes_version = routes_version + 1 WHERE organization = $1 AND id = $2"
_DELETE: Final = "DELETE FROM topic WHERE organization = $1 AND id = $2"
_ROUTES_VERSION: Final = "SELECT routes_version FROM topic WHERE organization = $1 AND id = $2"


async def get(tx: Transaction, organization: int, public_id: str) -> Topic | None:
    row = await tx.row(_BY_PUBLIC_ID, public_id, organization)
    return _from_row(row) if row is not None else None


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[Topic]:
    """The organization's topics, or those of `only` (public ids)."""
    table = Table(_LIST, (organization,), "id", _ANCHOR, (organization,))
    return _listing(await listed(tx, table, selection, only))


async def insert(tx: Transaction, topic: Topic) -> None:
    """Raises UniqueViolation when the alias is taken."""
    await tx.execute(
        _INSERT,
        topic.id,
        topic.organization,
        topic.public_id,
        topic.alias,
        topic.routes_version,
        topic.created_at,
        topic.updated_at,
    )


async def update(tx: Transaction, topic: Topic) -> None:
    """Its alias. Raises UniqueViolation when that is taken."""
    await tx.execute(_UPDATE, topic.alias, topic.updated_at, topic.organization, topic.id)


async def reroute(tx: Transaction, organization: int, topic: int) -> None:
    """Its channels changed: what is routed as they were before is not stored any more."""
    await tx.execute(_REROUTE, organization, topic)


async def delete(tx: Transaction, organization: int, topic: int) -> None:
    await tx.execute(_DELETE, organization, topic)


async def keep_unrouted(tx: Transaction, key: tuple[int, int, int], once: IdempotencyRecord | None, now: int) -> None:
    """Messages of a topic, given by organization, row id and `routes_version`, go into no queue.

    Raises StaleConfiguration when the topic is not as it was, and AlreadyDone when the idempotency key was used before.
    """
    organization, topic, routes_version = key
    row = await tx.row(_ROUTES_VERSION, organization, topic)
    if row is None or row[0] != routes_version:
        raise StaleConfiguration
    if once is not None and not await idempotency.keep(tx, organization, once, now):
        raise AlreadyDone


def _listing(found: RowPage) -> Listing[Topic]:
    return Listing(tuple(_from_row(row) for row in found.rows), found.has_next, found.has_previous)


def _from_row(row: Row) -> Topic:
    topic, organization, public_id, alias, routes_version, created_at, updated_at = row
    return Topic(organization, topic, public_id, alias, routes_version, created_at, updated_at)
