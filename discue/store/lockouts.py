"""Rows of failed attempts to authenticate: one for each subject that they are held against."""

from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from discue.domain.lockout import NO_HISTORY, FailureHistory, Lockout, LockoutSubject, after_failure
from discue.store import api_keys, events, feed, organizations
from discue.store.engine import Row, Transaction
from discue.store.events import Occurrence
from discue.store.tables import placeholders

_FAILURES: Final = "SELECT failed_at, locks, locked_until FROM lockout WHERE subject = $1"
_LOCKS: Final = "SELECT kind, name, locked_until FROM lockout"
_ACTIVE: Final = f"{_LOCKS} WHERE locked_until > $1 ORDER BY locked_until DESC LIMIT $2"
_PUT: Final = """
    INSERT INTO lockout (subject, kind, name, failed_at, locks, locked_until, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (subject) DO UPDATE SET failed_at = excluded.failed_at, locks = excluded.locks,
    locked_until = excluded.locked_until, updated_at = excluded.updated_at"""
_RELEASE: Final = """
    UPDATE lockout SET failed_at = '[]', locks = 0, locked_until = 0 WHERE subject = $1 RETURNING subject"""
_DELETE_OLD: Final = """
    DELETE FROM lockout
    WHERE subject IN (SELECT subject FROM lockout WHERE updated_at < $1 ORDER BY updated_at LIMIT $2)"""
_ROWS_A_STEP: Final = 500


class FailureOutcome(NamedTuple):
    """What became of a failed attempt: it `begins` a lock, or it came `too_late`, while one held."""

    failures: FailureHistory
    begins: bool
    too_late: bool


async def count_failure(tx: Transaction, subject: LockoutSubject, now: int, occurrence: Occurrence) -> FailureOutcome:
    """Hold one more failure against a subject, in an exclusive transaction. A lock that it begins is in the feed."""
    before = _failures(await tx.row(_FAILURES, subject.number))
    after = after_failure(before, now)
    if after is before:
        return FailureOutcome(before, begins=False, too_late=True)
    written = msgspec.json.encode(after.failed_at).decode()
    values = (subject.kind, subject.name, written, after.locks, after.locked_until, now)
    await tx.execute(_PUT, subject.number, *values)
    begins = not after.failed_at
    if begins:
        await _announce(tx, subject, occurrence)
    return FailureOutcome(after, begins, too_late=False)


async def locks_of(tx: Transaction, numbers: Collection[int]) -> list[Lockout]:
    """What stands of these subjects; the lock of one that was released ends at 0."""
    if not numbers:
        return []
    sql = f"{_LOCKS} WHERE subject IN ({placeholders(1, len(numbers))})"
    return [_lock(row) for row in await tx.rows(sql, *numbers)]


async def active(tx: Transaction, now: int, limit: int) -> list[Lockout]:
    """Locks that hold, those that hold longest first."""
    return [_lock(row) for row in await tx.rows(_ACTIVE, now, limit)]


async def release(tx: Transaction, subject: LockoutSubject) -> bool:
    """Forget what is held against a subject; whether there was anything. The feed says so."""
    if await tx.row(_RELEASE, subject.number) is None:
        return False
    await feed.record(tx, "lockout", 0, subject.number)
    return True


async def delete_old(tx: Transaction, failed_before: int) -> int:
    """One step over subjects whose last failure is that long ago; how many it deleted."""
    return await tx.execute(_DELETE_OLD, failed_before, _ROWS_A_STEP)


async def _announce(tx: Transaction, subject: LockoutSubject, occurrence: Occurrence) -> None:
    """To all workers by the feed, and by an event to the organization of the key, or to the operator's."""
    await feed.record(tx, "lockout", 0, subject.number)
    key = await api_keys.by_public_id(tx, subject.name) if subject.kind == "api_key" else None
    if key is not None:
        await events.record(tx, occurrence, "lockout", key.organization, key.public_id, key.alias)
    elif (operator := await organizations.operator(tx)) is not None:
        await events.record(tx, occurrence, "lockout", operator.id, "", subject.name)


def _failures(row: Row | None) -> FailureHistory:
    if row is None:
        return NO_HISTORY
    failed_at, locks, locked_until = row
    return FailureHistory(msgspec.json.decode(failed_at, type=tuple[int, ...]), locks, locked_until)


def _lock(row: Row) -> Lockout:
    kind, name, locked_until = row
    return Lockout(LockoutSubject(kind, name), locked_until)
