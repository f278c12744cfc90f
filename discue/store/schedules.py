"""Rows of schedules: messages that a queue gets again and again."""

from collections.abc import Iterable
from typing import Final

import msgspec

from discue.domain.model import MessageOptions
from discue.domain.schedule import MissedRunPolicy, Schedule, ScheduleRun, Timing
from discue.store.engine import Row, Transaction
from discue.store.pagination import Listing, Selection, Table, listed

SCHEDULES_A_STEP: Final = 100
BYTES_A_STEP: Final = 1 << 20

_COLUMNS: Final = (
    "id, organization, public_id, queue, alias, status, settings, codec, size, body, config_version, next_run_at, "
    "last_run, created_at, updated_at"
)
_SELECTED: Final = f"s.{_COLUMNS.replace(', ', ', s.')}"
_GET: Final = f"""
    SELECT {_SELECTED}, q.public_id FROM schedule s JOIN queue q ON q.organization = s.organization AND q.id = s.queue
    WHERE s.organization = $1 AND s.public_id = $2 AND q.deleted_at IS NULL"""
_BY_ID: Final = f"""
    SELECT {_SELECTED}, q.public_id FROM schedule s JOIN queue q ON q.organization = s.organization AND q.id = s.queue
    WHERE s.organization = $1 AND s.id = $2"""
_OF_QUEUE: Final = f"""
    SELECT {_SELECTED}, q.public_id FROM schedule s JOIN queue q ON q.organization = s.organization AND q.id = s.queue
    WHERE s.organization = $1 AND s.queue = $2 AND q.deleted_at IS NULL"""
_ANCHOR: Final = "SELECT id FROM schedule WHERE organization = $1 AND public_id = $2"
_INSERT: Final = f"""
    INSERT INTO schedule ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"""
_UPDATE: Final = """
    UPDATE schedule SET alias = $1, status = $2, settings = $3, codec = $4, size = $5, body = $6, config_version = $7,
        next_run_at = $8, updated_at = $9
    WHERE organization = $10 AND id = $11"""
_DELETE: Final = "DELETE FROM schedule WHERE organization = $1 AND id = $2"
_COUNT: Final = """
    SELECT count(*) FROM (SELECT 1 FROM schedule WHERE organization = $1 AND queue = $2 LIMIT $3) AS counted"""
_NEXT: Final = "SELECT next_run_at FROM schedule WHERE next_run_at IS NOT NULL ORDER BY next_run_at LIMIT 1"
_DUE: Final = """
    SELECT organization, id, size FROM schedule WHERE next_run_at <= $1
    ORDER BY next_run_at, organization, id LIMIT $2"""
_ADVANCE: Final = """
    UPDATE schedule SET next_run_at = $1, last_run = $2
    WHERE organization = $3 AND id = $4 AND config_version = $5 AND next_run_at = $6"""


class _Settings(msgspec.Struct, omit_defaults=True):
    timing: Timing
    missed: MissedRunPolicy = MissedRunPolicy()
    options: MessageOptions = MessageOptions()
    expires_in: int | None = None


_read_settings = msgspec.json.Decoder(_Settings).decode
_read_run = msgspec.json.Decoder(ScheduleRun).decode


async def get(tx: Transaction, organization: int, public_id: str) -> Schedule | None:
    """One of a queue that is not deleted."""
    row = await tx.row(_GET, organization, public_id)
    return None if row is None else _from_row(row)


async def page(tx: Transaction, organization: int, queue: int, selection: Selection) -> Listing[Schedule]:
    values, anchor = (organization, queue), (organization,)
    found = await listed(tx, Table(_OF_QUEUE, values, "s.id", _ANCHOR, anchor, prefix="s."), selection)
    return Listing(tuple(_from_row(row) for row in found.rows), found.has_next, found.has_previous)


async def count(tx: Transaction, organization: int, queue: int, at_most: int) -> int:
    row = await tx.row(_COUNT, organization, queue, at_most)
    return int(row[0]) if row else 0


async def insert(tx: Transaction, schedule: Schedule) -> None:
    """Raises UniqueViolation when the alias is taken."""
    await tx.execute(
        _INSERT,
        schedule.id,
        schedule.organization,
        schedule.public_id,
        schedule.queue,
        schedule.alias,
        schedule.status,
        _settings(schedule),
        int(schedule.is_json),
        len(schedule.data),
        schedule.data,
        schedule.config_version,
        schedule.next_run_at,
        _run(schedule.last_run),
        schedule.created_at,
        schedule.updated_at,
    )


async def update(tx: Transaction, schedule: Schedule) -> None:
    """All but its last run. Raises UniqueViolation when the alias is taken."""
    await tx.execute(
        _UPDATE,
        schedule.alias,
        schedule.status,
        _settings(schedule),
        int(schedule.is_json),
        len(schedule.data),
        schedule.data,
        schedule.config_version,
        schedule.next_run_at,
        schedule.updated_at,
        schedule.organization,
        schedule.id,
    )


async def delete(tx: Transaction, schedule: Schedule) -> None:
    await tx.execute(_DELETE, schedule.organization, schedule.id)


async def next_at(tx: Transaction) -> int | None:
    """When the next run of all is due."""
    row = await tx.row(_NEXT)
    return None if row is None else int(row[0])


async def due(tx: Transaction, now: int) -> list[Schedule]:
    """Those whose next run has come, the oldest run first: as many as one step takes."""
    keys = _within_bytes(await tx.rows(_DUE, now, SCHEDULES_A_STEP))
    rows = [await tx.row(_BY_ID, *key) for key in keys]
    return [_from_row(row) for row in rows if row is not None]


async def advance(tx: Transaction, seen: Schedule, next_run_at: int | None, last_run: ScheduleRun | None) -> bool:
    """Let it wait for its next run. Of several that try, each of which has `seen` it before, one does."""
    last = _run(last_run or seen.last_run)
    return await tx.execute(_ADVANCE, next_run_at, last, *_key(seen), seen.config_version, seen.next_run_at) == 1


def _key(schedule: Schedule) -> tuple[int, int]:
    return schedule.organization, schedule.id


def _within_bytes(rows: Iterable[Row]) -> list[tuple[int, int]]:
    """The keys of the first of them, one at least, as far as their bodies are not too much for one transaction."""
    keys: list[tuple[int, int]] = []
    total = 0
    for organization, row_id, size in rows:
        total += size
        if keys and total > BYTES_A_STEP:
            break
        keys.append((organization, row_id))
    return keys


def _settings(schedule: Schedule) -> str:
    settings = _Settings(schedule.timing, schedule.missed, schedule.options, schedule.expires_in)
    return msgspec.json.encode(settings).decode()


def _run(run: ScheduleRun | None) -> str | None:
    return None if run is None else msgspec.json.encode(run).decode()


def _from_row(row: Row) -> Schedule:
    row_id, organization, public_id, queue, alias, status, settings, codec, _, body, *rest = row
    config_version, next_run_at, last_run, created_at, updated_at, queue_public_id = rest
    chosen = _read_settings(settings)
    return Schedule(
        organization=organization,
        id=row_id,
        public_id=public_id,
        queue=queue,
        queue_public_id=queue_public_id,
        alias=alias,
        status=status,
        timing=chosen.timing,
        config_version=config_version,
        created_at=created_at,
        updated_at=updated_at,
        data=bytes(body),
        is_json=codec == 1,
        missed=chosen.missed,
        options=chosen.options,
        expires_in=chosen.expires_in,
        next_run_at=next_run_at,
        last_run=None if last_run is None else _read_run(last_run),
    )
