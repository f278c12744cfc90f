"""Sessions of customers in the portal, and the origins that may embed it."""

from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from discue.dashboard.portal.rules import (
    MOST_QUEUES,
    MOST_THEMES,
    SESSIONS_OF_A_CUSTOMER,
    PortalGrant,
    PortalSession,
    PortalTheme,
)
from discue.domain.model import Organization, Queue
from discue.store import organizations, queues
from discue.store.engine import Row, Transaction
from discue.store.pagination import Selection
from discue.store.resource_table import ResourceTable
from discue.store.tables import prefixed, read_number, read_one, row_reader, rows_among

_COLUMNS: Final = (
    "id, organization, public_id, customer, code_hash, token_hash, spec, created_at, opened_at, expires_at, theme"
)
_FIELDS: Final = _COLUMNS.replace("spec", "grant")
_COUNT: Final = len(_COLUMNS.split(", "))

# One statement: every page of the portal begins with it.
_FIND: Final = f"""
    SELECT {prefixed("s", _COLUMNS)},
        (SELECT p.frame_ancestors FROM portal p WHERE p.organization = s.organization),
        (SELECT t.content FROM portal_theme t WHERE t.organization = s.organization AND t.id = s.theme),
        {prefixed("o", organizations.COLUMNS)}
    FROM portal_session s JOIN organization o ON o.id = s.organization AND o.deleted_at IS NULL
    WHERE s.token_hash = $1"""
_BY_CODE: Final = f"SELECT {_COLUMNS} FROM portal_session WHERE code_hash = $1"
_OPEN: Final = """
    UPDATE portal_session SET code_hash = NULL, token_hash = $1, opened_at = $2, expires_at = $3
    WHERE organization = $4 AND id = $5 AND code_hash = $6"""
_DELETE_OLDEST: Final = f"""
    DELETE FROM portal_session WHERE organization = $1 AND customer = $2 AND id <= (
        SELECT id FROM portal_session WHERE organization = $1 AND customer = $2
        ORDER BY id DESC LIMIT 1 OFFSET {SESSIONS_OF_A_CUSTOMER}
    )"""
_HAS_THEME: Final = "SELECT 1 FROM portal_theme WHERE organization = $1 AND id = $2"
_COUNT_THEMES: Final = "SELECT count(*) FROM portal_theme WHERE organization = $1"
_INSERT_THEME: Final = "INSERT INTO portal_theme (organization, id, content) VALUES ($1, $2, $3)"
_DELETE_UNUSED_THEMES: Final = """
    DELETE FROM portal_theme WHERE organization = $1
    AND id NOT IN (SELECT theme FROM portal_session WHERE organization = $1)"""
_DELETE_ENDED: Final = """
    DELETE FROM portal_session WHERE (organization, id) IN (
        SELECT organization, id FROM portal_session WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
    )"""
_ROWS_A_STEP: Final = 500
_NAMED_AT_ONCE: Final = 2_000
"""More than a session can have: a page reads them with one statement."""
_QUEUES_OF_TOPICS: Final = """
    SELECT channel.topic, channel.id, queue.public_id, queue.alias, queue.customer FROM topic
    JOIN channel ON channel.organization = topic.organization AND channel.topic = topic.id
    JOIN queue ON queue.organization = channel.organization AND queue.id = channel.queue AND queue.deleted_at IS NULL
    WHERE topic.organization = $1 AND topic.public_id IN ({})"""
_TOPICS: Final = "SELECT public_id, alias FROM topic WHERE organization = $1 AND {} IN ({{}})"
_QUEUES: Final = """
    SELECT public_id, alias, customer, settings FROM queue
    WHERE organization = $1 AND deleted_at IS NULL AND is_system = 0 AND {} IN ({{}})"""
_OF_CUSTOMER: Final = """
    SELECT public_id, alias, customer FROM queue
    WHERE organization = $1 AND customer = $2 AND deleted_at IS NULL ORDER BY id LIMIT $3"""
_ANCESTORS: Final = "SELECT frame_ancestors FROM portal WHERE organization = $1"
_SET_ANCESTORS: Final = """
    INSERT INTO portal (organization, frame_ancestors, updated_at) VALUES ($1, $2, $3)
    ON CONFLICT (organization) DO UPDATE SET frame_ancestors = excluded.frame_ancestors,
        updated_at = excluded.updated_at"""

_decode_grant = msgspec.json.Decoder(PortalGrant).decode
_decode_theme = msgspec.json.Decoder(PortalTheme).decode
_decode_origins = msgspec.json.Decoder(tuple[str, ...]).decode
_read = row_reader(PortalSession, _FIELDS, grant=_decode_grant)


def _values(session: PortalSession) -> Row:
    values = msgspec.structs.asdict(session)
    values["grant"] = msgspec.json.encode(session.grant).decode()
    return tuple(values[name] for name in _FIELDS.split(", "))


_TABLE: Final = ResourceTable(
    "portal_session", PortalSession, _COLUMNS, alias_column="customer", read=_read, values=_values
)
get, page, insert, delete = _TABLE.get, _TABLE.page, _TABLE.insert, _TABLE.delete


class QueueOwner(msgspec.Struct, frozen=True):
    """A queue of a session, and the customer that it belongs to."""

    public_id: str
    alias: str
    customer: str
    """Empty for a queue without a customer."""


class FoundPortalSession(msgspec.Struct, frozen=True):
    """A session, its theme and organization, and the origins that may embed its pages."""

    session: PortalSession
    theme: PortalTheme
    organization: Organization
    frame_ancestors: tuple[str, ...]


async def find(tx: Transaction, token_hash: bytes) -> FoundPortalSession | None:
    """Find a session in any organization, ended or not. Only authentication may use this."""
    return await read_one(tx, _found, _FIND, token_hash)


async def by_code(tx: Transaction, code_hash: bytes) -> PortalSession | None:
    """Find the session that a code opens, in any organization, expired or not. Only authentication may use this."""
    return await read_one(tx, _read, _BY_CODE, code_hash)


async def delete_oldest(tx: Transaction, organization: int, customer: str) -> None:
    await tx.execute(_DELETE_OLDEST, organization, customer)


async def keep_theme(tx: Transaction, organization: int, theme: PortalTheme) -> int | None:
    """Store a theme unless it is stored, and return its id. Returns None if sessions use `MOST_THEMES` others.

    Deletes unused themes when there is no room.
    """
    if theme == PortalTheme():
        return 0
    content = msgspec.json.encode(theme)
    theme_id = 1 + (int.from_bytes(blake2b(content, digest_size=8).digest()) >> 2)
    if await tx.row(_HAS_THEME, organization, theme_id) is not None:
        return theme_id
    if await read_number(tx, _COUNT_THEMES, organization) >= MOST_THEMES and not await tx.execute(
        _DELETE_UNUSED_THEMES, organization
    ):
        return None
    await tx.execute(_INSERT_THEME, organization, theme_id, content.decode())
    return theme_id


async def open_session(tx: Transaction, session: PortalSession, token_hash: bytes, at: int) -> bool:
    """Exchange the code of a session for a token. Returns False if another request was faster."""
    expires_at = at + session.grant.lifetime_ms
    values = (token_hash, at, expires_at, session.organization, session.id, session.code_hash)
    return await tx.execute(_OPEN, *values) == 1


async def delete_ended(tx: Transaction, before: int) -> int:
    """Delete some sessions that ended by then, and return how many."""
    return await tx.execute(_DELETE_ENDED, before, _ROWS_A_STEP)


async def queues_of_topics(tx: Transaction, organization: int, topics: Sequence[str]) -> list[QueueOwner]:
    """Read the first queues, at most `MOST_QUEUES`, that the channels of topics lead into."""
    found = await rows_among(tx, _QUEUES_OF_TOPICS, (organization,), topics) if topics else []
    # Not by the statement: a server might read the channels of the whole organization in their order.
    return [QueueOwner(*row[2:]) for row in sorted(map(tuple, found))[:MOST_QUEUES]]


async def queues_of_customer(
    tx: Transaction, organization: int, customer: str, limit: int | None = None
) -> list[QueueOwner]:
    """Read the first queues of a customer, at most `limit`, by default `MOST_QUEUES`."""
    return [QueueOwner(*row) for row in await tx.rows(_OF_CUSTOMER, organization, customer, limit or MOST_QUEUES)]


async def queues_of_ids(tx: Transaction, organization: int, public_ids: Sequence[str]) -> list[QueueOwner]:
    """Read the queues with these public ids that exist, in the order of the ids."""
    found = await rows_among(tx, _QUEUES.format("public_id"), (organization,), public_ids) if public_ids else []
    by_id = {row[0]: QueueOwner(*row[:3]) for row in found}
    return [by_id[each] for each in public_ids if each in by_id]


async def resolve_queues(tx: Transaction, organization: int, names: Sequence[str]) -> dict[str, QueueOwner]:
    """Read queues by the ids or aliases that name them."""
    rows = await _resolved(tx, _QUEUES, organization, names)
    return {name: QueueOwner(*row[:3]) for name, row in rows.items()}


async def resolve_topics(tx: Transaction, organization: int, names: Sequence[str]) -> dict[str, str]:
    """Read the public ids of topics, by the ids or aliases that name them."""
    return {name: row[0] for name, row in (await _resolved(tx, _TOPICS, organization, names)).items()}


async def names_among(tx: Transaction, organization: int, public_ids: Sequence[str]) -> dict[str, str]:
    """Read the names of the event types of existing queues by their public ids, sorted by name."""
    found = await rows_among(tx, _QUEUES.format("public_id"), (organization,), public_ids, at_once=_NAMED_AT_ONCE)
    names = {public_id: queues.read_settings(settings).title or public_id for public_id, *_, settings in found}
    return dict(sorted(names.items(), key=lambda each: (each[1], each[0])))


async def queues_among(tx: Transaction, organization: int, public_ids: Collection[str]) -> list[Queue]:
    """Read queues by their public ids, sorted by the names of their event types."""
    found = await queues.page(tx, organization, Selection(per_page=len(public_ids)), public_ids)
    return sorted(found.items, key=lambda queue: (queue.event_type, queue.public_id))


async def frame_ancestors(tx: Transaction, organization: int) -> tuple[str, ...]:
    return await read_one(tx, lambda row: _decode_origins(row[0]), _ANCESTORS, organization) or ()


async def set_frame_ancestors(tx: Transaction, organization: int, origins: Sequence[str], now: int) -> None:
    await tx.execute(_SET_ANCESTORS, organization, msgspec.json.encode(origins).decode(), now)


async def _resolved(tx: Transaction, sql: str, organization: int, names: Sequence[str]) -> dict[str, Row]:
    if not names:
        return {}
    by_alias = await rows_among(tx, sql.format("alias"), (organization,), names)
    by_id = await rows_among(tx, sql.format("public_id"), (organization,), names)
    # An id wins over an alias with the form of one, as in paths.
    return {**{row[1]: row for row in by_alias}, **{row[0]: row for row in by_id}}


def _found(row: Row) -> FoundPortalSession:
    session, (origins, theme), organization = row[:_COUNT], row[_COUNT : _COUNT + 2], row[_COUNT + 2 :]
    return FoundPortalSession(
        _read(session),
        PortalTheme() if theme is None else _decode_theme(theme),
        organizations.read_row(organization),
        () if origins is None else _decode_origins(origins),
    )
