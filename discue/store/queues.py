"""Queues, the heads of their logs, and references to their listeners."""

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from discue.domain.model import OnMissed, Queue, SchemaLanguage
from discue.domain.retry import RetryOptions
from discue.domain.window import Window
from discue.store.engine import Row, Transaction
from discue.store.pagination import LARGEST, Listing, Selection, Table, listed, of_customer
from discue.store.tables import placeholders, prefixed, read_one, rows_among

_PLAIN: Final = (
    "id, organization, public_id, alias, customer, config_version, created_at, updated_at, schema, schema_id"
)
_COLUMNS: Final = f"{_PLAIN}, settings, ordered, is_system"
OF_QUEUE: Final = prefixed("queue", _COLUMNS)
"""The columns for `from_row`, to be read from a join."""
OF_QUEUE_WIDTH: Final = len(OF_QUEUE.split(", "))
_BY_ID: Final = f"SELECT {_COLUMNS} FROM queue WHERE organization = $1 AND id = $2 AND deleted_at IS NULL"
_BY_PUBLIC_ID: Final = f"""
    SELECT {_COLUMNS} FROM queue WHERE public_id = $1 AND organization = $2 AND deleted_at IS NULL"""
_HEAD_COLUMNS: Final = "head, tail, last_stored_at, moved"
_WITH_HEAD: Final = f"""
    SELECT {OF_QUEUE}, {prefixed("queue_head", _HEAD_COLUMNS)} FROM queue
    JOIN queue_head ON queue_head.organization = queue.organization AND queue_head.queue = queue.id
    WHERE queue.public_id = $1 AND queue.organization = $2 AND queue.deleted_at IS NULL"""
_WITH_COUNT: Final = f"""
    SELECT {OF_QUEUE}, {prefixed("queue_head", _HEAD_COLUMNS)}, (
        SELECT count(*) FROM (
            SELECT 1 FROM listener
            WHERE listener.organization = queue.organization AND listener.queue = queue.id
                AND listener.deleted_at IS NULL
            LIMIT $1) AS counted)
    FROM queue
    JOIN queue_head ON queue_head.organization = queue.organization AND queue_head.queue = queue.id
    WHERE queue.public_id = $2 AND queue.organization = $3 AND queue.deleted_at IS NULL"""
_LIST: Final = f"SELECT {_COLUMNS} FROM queue WHERE organization = $1 AND deleted_at IS NULL"
_BY_ALIAS: Final = f"{_LIST} AND alias = $2"
# The subquery finds the last listener to read of each queue, which may have any number.
_LISTENERS_OF: Final = f"""
    SELECT queue.id, listener.id, {{}} FROM queue
    JOIN listener ON listener.organization = queue.organization AND listener.queue = queue.id {{}}
    WHERE queue.organization = $1 AND queue.id IN ({{}}) AND listener.deleted_at IS NULL AND listener.id <= coalesce((
        SELECT x.id FROM listener x
        WHERE x.organization = queue.organization AND x.queue = queue.id AND x.deleted_at IS NULL
        ORDER BY x.id LIMIT 1 OFFSET ${{}}), {LARGEST})"""
_REFERENCE: Final = ("listener.public_id, listener.alias", "")
_COUNTS: Final = (
    "queue_head.head, cursor.position, cursor.ahead, cursor.retrying, cursor.missed",
    """
    JOIN queue_head ON queue_head.organization = queue.organization AND queue_head.queue = queue.id
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
        AND cursor.stream = 0""",
)
_INSERT: Final = f"INSERT INTO queue ({_COLUMNS}) VALUES ({placeholders(1, 13)})"
_UPDATE: Final = """
    UPDATE queue SET alias = $1, settings = $2, config_version = $3, updated_at = $4, schema = $5, schema_id = $6
    WHERE organization = $7 AND id = $8 AND deleted_at IS NULL"""
_MARK_DELETED: Final = """
    UPDATE queue SET deleted_at = $1 WHERE organization = $2 AND id = $3 AND deleted_at IS NULL"""
_HEAD: Final = f"SELECT {_HEAD_COLUMNS} FROM queue_head WHERE organization = $1 AND queue = $2"
_HEADS: Final = f"SELECT queue, {_HEAD_COLUMNS} FROM queue_head WHERE organization = $1 AND queue IN ({{}})"
_INSERT_HEAD: Final = """
    INSERT INTO queue_head (organization, queue, head, tail, last_stored_at, config_version)
    VALUES ($1, $2, 0, 0, 0, $3)"""
_UPDATE_HEAD: Final = "UPDATE queue_head SET config_version = $1 WHERE organization = $2 AND queue = $3"
_CLOSE_HEAD: Final = """
    UPDATE queue_head SET closed_at = $1 WHERE organization = $2 AND queue = $3 AND closed_at IS NULL"""
_CLOSE_HEADS: Final = """
    UPDATE queue_head SET closed_at = $1
    WHERE organization = $2 AND queue > $3 AND queue <= $4 AND closed_at IS NULL"""
_IDS: Final = "SELECT id FROM queue WHERE organization = $1 AND public_id IN ({}) AND deleted_at IS NULL"
_IDS_AFTER: Final = "SELECT id FROM queue WHERE organization = $1 AND id > $2 ORDER BY id LIMIT $3"


class ResourceRef(msgspec.Struct, frozen=True):
    """A reference to a listener or a channel, as lists show it."""

    public_id: str
    alias: str


class Head(msgspec.Struct, frozen=True):
    """The ends of a log."""

    head: int
    """The last seq that was given; 0: none."""
    tail: int
    """The last seq that retention removed."""
    last_stored_at: int
    """When the newest message was stored, in milliseconds since the epoch; 0: there never was one."""
    moved: int = 0
    """The number of delayed messages that got a second seq when they were due."""

    @property
    def published_count(self) -> int:
        return self.head - self.moved


class QueueSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """The settings of a queue that are stored as JSON; see `domain.model.Queue`."""

    retention_seconds: int | None = None
    max_message_bytes: int | None = None
    schema_language: SchemaLanguage = "rules"
    schema_set_at: int = 0
    retry: RetryOptions | None = None
    on_missed: OnMissed = "pass"
    title: str = ""


read_settings = lru_cache(256)(msgspec.json.Decoder(QueueSettings).decode)
"""Decodes stored settings. Most queues have none, or the same as many others."""

_plain_values: Callable[[Queue], Row] = attrgetter(*_PLAIN.split(", "))


async def get(tx: Transaction, organization: int, public_id: str) -> Queue | None:
    return await read_one(tx, from_row, _BY_PUBLIC_ID, public_id, organization)


async def get_named(tx: Transaction, organization: int, name: str) -> Queue | None:
    """Find a queue by its id or its alias. An id wins over an equal alias, as in paths."""
    return await get(tx, organization, name) or await read_one(tx, from_row, _BY_ALIAS, organization, name)


async def get_with_head(tx: Transaction, organization: int, public_id: str) -> tuple[Queue, Head] | None:
    """Find a queue, and the head of its log."""
    row = await tx.row(_WITH_HEAD, public_id, organization)
    return (from_row(row[:OF_QUEUE_WIDTH]), Head(*row[OF_QUEUE_WIDTH:])) if row is not None else None


async def get_with_count(
    tx: Transaction, organization: int, public_id: str, *, counted: int
) -> tuple[Queue, Head, int] | None:
    """Find a queue, the head of its log, and the number of its listeners, of which at most `counted` are counted."""
    row = await tx.row(_WITH_COUNT, counted, public_id, organization)
    if row is None:
        return None
    return from_row(row[:OF_QUEUE_WIDTH]), Head(*row[OF_QUEUE_WIDTH:-1]), row[-1]


async def by_id(tx: Transaction, organization: int, queue: int) -> Queue | None:
    return await read_one(tx, from_row, _BY_ID, organization, queue)


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[Queue]:
    """Read a page of the organization's queues, or of those in `only` (public ids)."""
    table = of_customer(Table("queue", _LIST, (organization,)), selection)
    return await listed(tx, table, selection, from_row, only=only)


async def ids_of(tx: Transaction, organization: int, public_ids: Collection[str]) -> list[int]:
    """Return the row ids of existing queues of the organization."""
    return [row[0] for row in await rows_among(tx, _IDS, (organization,), list(public_ids))]


async def head(tx: Transaction, organization: int, queue: int) -> Head | None:
    return await read_one(tx, lambda row: Head(*row), _HEAD, organization, queue)


async def heads(tx: Transaction, organization: int, queues: Sequence[int]) -> dict[int, Head]:
    """Read the heads of several queues, by row id."""
    return {queue: Head(*ends) for queue, *ends in await rows_among(tx, _HEADS, (organization,), queues)}


async def listeners_of(
    tx: Transaction, organization: int, queues: Sequence[int], limit: int
) -> dict[int, list[ResourceRef]]:
    """Read references to the first listeners of several queues, at most `limit` of each, oldest first."""
    found: dict[int, list[ResourceRef]] = {}
    for queue, _, *row in sorted(await _first_listeners(tx, organization, queues, limit, read=_REFERENCE)):
        found.setdefault(queue, []).append(ResourceRef(*row))
    return found


class QueueBacklog(NamedTuple):
    """The deliveries of a queue that wait or were missed, added up over its listeners."""

    waiting: int = 0
    missed: int = 0


async def backlogs(tx: Transaction, organization: int, queues: Sequence[int], limit: int) -> dict[int, QueueBacklog]:
    """Add up the counters of the first listeners of several queues, at most `limit` of each."""
    found: dict[int, QueueBacklog] = {}
    rows = await _first_listeners(tx, organization, queues, limit, read=_COUNTS)
    for queue, _, head, position, ahead, retrying, missed in rows:
        settled = Window.decode(position, ahead).settled_count_beyond if ahead else 0
        before = found.get(queue, QueueBacklog())
        found[queue] = QueueBacklog(before.waiting + head - position - settled + retrying, before.missed + missed)
    return found


async def _first_listeners(
    tx: Transaction, organization: int, queues: Sequence[int], limit: int, *, read: tuple[str, str]
) -> list[Row]:
    """Read columns, from some joins, of the first listeners of queues."""
    if not queues:
        return []
    sql = _LISTENERS_OF.format(*read, placeholders(2, len(queues)), len(queues) + 2)
    return await tx.rows(sql, organization, *queues, limit - 1)


async def insert(tx: Transaction, queue: Queue) -> None:
    """Insert a queue and its head. Raises UniqueViolation if its alias is taken."""
    await tx.execute(_INSERT, *_plain_values(queue), _settings(queue), int(queue.ordered), int(queue.is_system))
    await tx.execute(_INSERT_HEAD, queue.organization, queue.id, queue.config_version)


async def update(tx: Transaction, queue: Queue) -> bool:
    """Update a queue. Returns False if it was deleted; raises UniqueViolation if its alias is taken."""
    values = (queue.alias, _settings(queue), queue.config_version, queue.updated_at, queue.schema, queue.schema_id)
    if await tx.execute(_UPDATE, *values, queue.organization, queue.id) == 0:
        return False
    await tx.execute(_UPDATE_HEAD, queue.config_version, queue.organization, queue.id)
    return True


async def mark_deleted(tx: Transaction, organization: int, queue: int, now: int) -> bool:
    """Mark a queue as deleted: nothing finds it any more, and nothing is appended to its log."""
    if await tx.execute(_MARK_DELETED, now, organization, queue) == 0:
        return False
    await tx.execute(_CLOSE_HEAD, now, organization, queue)
    return True


async def close_some(tx: Transaction, organization: int, after: int, limit: int, *, now: int) -> int | None:
    """Close the heads of the next `limit` queues above row id `after`. Returns the last one's id; None if there is
    none.
    """
    found = await ids_after(tx, organization, after, limit)
    if not found:
        return None
    await tx.execute(_CLOSE_HEADS, now, organization, after, found[-1])
    return found[-1]


async def ids_after(tx: Transaction, organization: int, after: int, limit: int) -> list[int]:
    """Read row ids of queues, including deleted ones."""
    return [row[0] for row in await tx.rows(_IDS_AFTER, organization, after, limit)]


async def delete(tx: Transaction, organization: int, queue: int) -> None:
    """Delete the rows of a queue and its head."""
    await tx.execute("DELETE FROM queue_head WHERE organization = $1 AND queue = $2", organization, queue)
    await tx.execute("DELETE FROM queue WHERE organization = $1 AND id = $2", organization, queue)


def _settings(queue: Queue) -> str:
    return msgspec.json.encode(msgspec.convert(queue, QueueSettings, from_attributes=True)).decode()


def from_row(row: Row) -> Queue:
    *plain, settings, ordered, is_system = row
    return Queue(
        **dict(zip(_PLAIN.split(", "), plain, strict=True)),
        **msgspec.structs.asdict(read_settings(settings)),
        ordered=bool(ordered),
        is_system=bool(is_system),
    )
