"""Failed attempts to authenticate: a row for each subject that they count against."""

from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from discue.domain.ids import millisecond_of
from discue.domain.lockout import (
    FAILURES,
    FAILURES_OF,
    NO_HISTORY,
    FailureHistory,
    Lockout,
    LockoutSubject,
    after_failure,
)
from discue.domain.system_events import KeyLockedOut, ResourceName
from discue.store import api_keys, events, feed, organizations, system_events, users
from discue.store.engine import Row, Transaction
from discue.store.events import Occurrence
from discue.store.tables import read_one, rows_among

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
_ANNOUNCED_USERS: Final = 10
"""Organizations that hear of the lock of an email, if several have a user with it."""


class FailureOutcome(NamedTuple):
    """The result of counting a failed attempt."""

    failures: FailureHistory
    begins: bool
    """Whether it starts a lock."""
    too_late: bool
    """Whether the subject was locked already."""


async def count_failure(tx: Transaction, subject: LockoutSubject, now: int, occurrence: Occurrence) -> FailureOutcome:
    """Count a failed attempt against a subject, in an exclusive transaction. The feed has the lock that it starts."""
    before = await read_one(tx, _failures, _FAILURES, subject.number) or NO_HISTORY
    after = after_failure(before, now, FAILURES_OF.get(subject.kind, FAILURES))
    # Attempts during a lock do not count: otherwise anyone could prolong the lock of a key without end.
    if after is before:
        return FailureOutcome(before, begins=False, too_late=True)
    written = msgspec.json.encode(after.failed_at).decode()
    values = (subject.kind, subject.name, written, after.locks, after.locked_until, now)
    await tx.execute(_PUT, subject.number, *values)
    begins = not after.failed_at
    if begins:
        await _announce(tx, Lockout(subject, after.locked_until), occurrence)
    return FailureOutcome(after, begins, too_late=False)


async def locks_of(tx: Transaction, numbers: Collection[int]) -> list[Lockout]:
    """Read the locks of subjects. A released lock ends at 0."""
    return [_lock(row) for row in await rows_among(tx, f"{_LOCKS} WHERE subject IN ({{}})", (), list(numbers))]


async def active(tx: Transaction, now: int, limit: int) -> list[Lockout]:
    """Read active locks, the longest first."""
    return [_lock(row) for row in await tx.rows(_ACTIVE, now, limit)]


async def release(tx: Transaction, subject: LockoutSubject) -> bool:
    """Delete what counts against a subject, and record it in the feed. Returns whether there was anything."""
    if await tx.row(_RELEASE, subject.number) is None:
        return False
    await feed.record(tx, "lockout", 0, subject.number)
    return True


async def delete_old(tx: Transaction, failed_before: int) -> int:
    """Delete some subjects whose last failure is older than that, and return how many."""
    return await tx.execute(_DELETE_OLD, failed_before, _ROWS_A_STEP)


async def _announce(tx: Transaction, lockout: Lockout, occurrence: Occurrence) -> None:
    """Announce a lock: in the feed, and by events of the organization that has the key or user, or of the operator."""
    subject = lockout.subject
    key = await api_keys.by_public_id(tx, subject.name) if subject.kind == "api_key" else None
    if key is not None:
        at, name = millisecond_of(occurrence.id), ResourceName(key.public_id, key.alias)
        event = KeyLockedOut(at=at, key=name, locked_until=lockout.until)
        await system_events.record(tx, key.organization, occurrence.id, event)
    await feed.record(tx, "lockout", 0, subject.number)
    locked = await users.with_email(tx, subject.name, limit=_ANNOUNCED_USERS) if subject.kind == "user" else []
    # One user per organization: emails are unique in it.
    for user in locked:
        await events.record(tx, occurrence, "lockout", user.organization, ref=user.public_id, name=user.email)
    if locked:
        return
    if key is not None:
        await events.record(tx, occurrence, "lockout", key.organization, ref=key.public_id, name=key.alias)
    elif (operator := await organizations.operator(tx)) is not None:
        await events.record(tx, occurrence, "lockout", operator.id, ref="", name=subject.name)


def _failures(row: Row) -> FailureHistory:
    failed_at, locks, locked_until = row
    return FailureHistory(msgspec.json.decode(failed_at, type=tuple[int, ...]), locks, locked_until)


def _lock(row: Row) -> Lockout:
    kind, name, locked_until = row
    return Lockout(LockoutSubject(kind, name), locked_until)
