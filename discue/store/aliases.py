"""Resources by alias. An alias is unique in its organization, or in the queue or topic that the resource is in."""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Final, Literal, NamedTuple, get_args

from discue.store import users
from discue.store.engine import Transaction, Value
from discue.store.tables import rows_among

NamedKind = Literal[
    "organization", "api_key", "queue", "listener", "domain", "topic", "channel", "schedule", "event_type", "source"
]
"""Resources with a unique alias, by the name of their table."""

NAMED_KINDS: Final[tuple[NamedKind, ...]] = get_args(NamedKind)

ListedKind = Literal["queue", "listener", "topic"]
"""Resources whose aliases can be read in order."""

OfferedKind = Literal["queue", "listener", "topic", "schedule", "user"]
"""Resources that are found by the beginning of their name: of a user, the email."""

OFFERED_KINDS: Final[tuple[OfferedKind, ...]] = get_args(OfferedKind)

ANY_ORGANIZATION: Final = 0
"""Instead of the row id of an organization: organizations are looked up among all of them."""

_PARENTS: Final[Mapping[str, str]] = {"listener": "queue", "schedule": "queue", "channel": "topic"}
_MARKED_WHEN_DELETED: Final = frozenset({"organization", "queue", "listener"})


class Named(NamedTuple):
    """A resource that an alias or an id names."""

    id: int
    public_id: str


class NamedMatch(NamedTuple):
    """A resource with its name."""

    kind: OfferedKind
    alias: str
    public_id: str
    queue: str
    """The public id of the queue that a listener or a schedule is in; empty for other resources."""


async def find(tx: Transaction, kind: NamedKind, organization: int, alias: str, *, parent: str = "") -> Named | None:
    """Find a resource by its alias. `parent` is the public id of the queue or topic that it is in."""
    place = (organization, parent) if kind in _PARENTS else (organization,)
    return await _read(tx, _BY_ALIAS[kind], kind, *place, alias)


async def has_id(tx: Transaction, kind: NamedKind, organization: int, public_id: str) -> bool:
    """Return whether a resource of the organization has this public id."""
    return await _read(tx, _BY_ID[kind], kind, organization, public_id) is not None


async def of_ids(
    tx: Transaction, kind: Literal["api_key", "queue", "listener"], organization: int, public_ids: Collection[str]
) -> dict[str, str]:
    """Read the aliases of resources by their public ids, also of deleted ones."""
    sql = f"SELECT public_id, alias FROM {kind} WHERE organization = $1 AND public_id IN ({{}})"
    return dict(await rows_among(tx, sql, (organization,), list(public_ids)))


async def neighbours(
    tx: Transaction, kind: ListedKind, organization: int, alias: str, *, parent: str = "", most: int
) -> list[str]:
    """Return the aliases before and after an alias in their order: at most `most` of each, and never one of another
    organization. `parent` is as in `find`.
    """
    place = [organization]
    if kind in _PARENTS:
        found = await _read(tx, _BY_ID["queue"], "queue", organization, parent)
        if found is None:
            return []
        place.append(found.id)
    before, after = _neighbours(kind)
    rows = [*await tx.rows(before, *place, alias, most), *await tx.rows(after, *place, alias, most)]
    return [row[0] for row in rows]


async def beginning_with(
    tx: Transaction, kinds: Sequence[OfferedKind], organization: int, beginning: str, *, most: int
) -> list[NamedMatch]:
    """Return resources whose names begin with a text: of each kind at most `most`, the first in order."""
    values: list[Value] = [organization]
    parts: list[str] = []
    for text, some in groupby(kinds, lambda kind: users.key_of(beginning) if kind == "user" else beginning):
        # SQLite numbers parameters as they appear.
        low, high, limit = (f"${len(values) + place}" for place in (1, 2, 3))
        parts += [_beginning_with(kind, low, high, limit) for kind in some]
        values += [text, text + _ABOVE_EVERY_CHARACTER, most]
    return [NamedMatch(*row) for row in await tx.rows(" UNION ALL ".join(parts), *values)]


async def with_id(tx: Transaction, kinds: Sequence[OfferedKind], organization: int, public_id: str) -> list[NamedMatch]:
    """Return the resources of some kinds with a public id."""
    sql = " UNION ALL ".join(_offered(kind) + " AND x.public_id = $2" for kind in kinds)
    return [NamedMatch(*row) for row in await tx.rows(sql, organization, public_id)]


async def _read(tx: Transaction, sql: str, kind: NamedKind, organization: int, *values: str) -> Named | None:
    if kind != "organization":
        row = await tx.row(sql, organization, *values)
        return None if row is None else Named(*row)
    row = await tx.row(sql, *values)
    return None if row is None or organization not in {ANY_ORGANIZATION, row[0]} else Named(*row)


def _live(table: str) -> str:
    return f" AND {table}.deleted_at IS NULL" if table in _MARKED_WHEN_DELETED else ""


def _by(kind: NamedKind, column: str) -> str:
    if kind == "organization":
        return f"SELECT id, public_id FROM organization WHERE {column} = $1{_live(kind)}"
    return f"""
        SELECT {kind}.id, {kind}.public_id FROM {kind}
        WHERE {kind}.organization = $1 AND {kind}.{column} = $2{_live(kind)}"""


def _by_alias(kind: NamedKind) -> str:
    parent = _PARENTS.get(kind)
    if parent is None:
        return _by(kind, "alias")
    return f"""
        SELECT {kind}.id, {kind}.public_id FROM {parent}
        JOIN {kind} ON {kind}.organization = {parent}.organization AND {kind}.{parent} = {parent}.id
        WHERE {parent}.organization = $1 AND {parent}.public_id = $2{_live(parent)}
            AND {kind}.alias = $3{_live(kind)}"""


_BY_ALIAS: Final = {kind: _by_alias(kind) for kind in NAMED_KINDS}
_BY_ID: Final = {kind: _by(kind, "public_id") for kind in NAMED_KINDS}


def _neighbours(kind: ListedKind) -> tuple[str, str]:
    place = "organization = $1 AND queue = $2" if kind in _PARENTS else "organization = $1"
    alias, most = ("$3", "$4") if kind in _PARENTS else ("$2", "$3")
    start = f"SELECT alias FROM {kind} WHERE {place}{_live(kind)} AND alias"
    return f"{start} < {alias} ORDER BY alias DESC LIMIT {most}", f"{start} > {alias} ORDER BY alias LIMIT {most}"


_ABOVE_EVERY_CHARACTER: Final = "\U0010ffff"

_OF_QUEUE: Final = "FROM queue q WHERE q.organization = $1 AND q.id = x.queue AND q.deleted_at IS NULL"


def _offered(kind: OfferedKind) -> str:
    """Return the query for the resources of a kind: kind, name, public id and queue."""
    if kind == "user":
        return "SELECT 'user', x.email, x.public_id, '' FROM organization_user x WHERE x.organization = $1"
    queue, exists = ("''", "") if kind not in _PARENTS else (f"(SELECT q.public_id {_OF_QUEUE})", _OF_QUEUE)
    exists = f" AND EXISTS (SELECT 1 {exists})" if exists else ""
    live = _live(kind).replace(kind, "x")
    return f"SELECT '{kind}', x.alias, x.public_id, {queue} FROM {kind} x WHERE x.organization = $1{live}{exists}"


def _beginning_with(kind: OfferedKind, low: str, high: str, limit: str) -> str:
    column = "x.email_key" if kind == "user" else "x.alias"
    order = f"{column}, x.id" if kind in _PARENTS else column
    found = f"{_offered(kind)} AND {column} >= {low} AND {column} < {high} ORDER BY {order} LIMIT {limit}"
    return f"SELECT * FROM ({found}) AS looked_at"
