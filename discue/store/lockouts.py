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
    LockoutKind,
    LockoutSubject,
    after_failure,
)
from discue.domain.model import ApiKey
from discue.domain.system_events import KeyLockedOut, ResourceName
from discue.store import api_keys, events, feed, organizations, system_events, users
from discue.store.engine import Row, Transaction
from discue.store.events import Occurrence
from discue.store.tables import delete_older, delete_oldest, read_one, rows_among

_FAILURES: Final = "SELECT failed_at, locks, locked_until FROM lockout WHERE subject = $1"
_LOCKS: Final = "SELECT kind, name, address, locked_until FROM lockout"
_ACTIVE: Final = f"{_LOCKS} WHERE locked_until > $1 ORDER BY locked_until DESC LIMIT $2"
_IS_COUNTED: Final = "(locks > 0 OR failed_at <> '[]')"
_OF_NAME: Final = f"{_LOCKS} WHERE kind = $1 AND name = $2 AND {_IS_COUNTED} LIMIT $3"
_OF_ADDRESS: Final = f"{_LOCKS} WHERE address = $1 AND {_IS_COUNTED} LIMIT $2"
_ACTIVE_OF_NAME: Final = "SELECT 1 FROM lockout WHERE kind = $1 AND name = $2 AND locked_until > $3 LIMIT $4"
_PUT: Final = """
    INSERT INTO lockout (subject, kind, name, address, failed_at, locks, locked_until, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (subject) DO UPDATE SET failed_at = excluded.failed_at, locks = excluded.locks,
    locked_until = excluded.locked_until, updated_at = excluded.updated_at"""
_RELEASE: Final = """
    UPDATE lockout SET failed_at = '[]', locks = 0, locked_until = 0 WHERE subject = $1 RETURNING subject"""
MOST_SUBJECTS: Final = 100_000
"""How many subjects are kept: a stranger may have any number of addresses."""
_ROWS_A_STEP: Final = 500
_ANNOUNCED_USERS: Final = 10
"""Organizations that hear of the lock of an email, if several have a user with it."""
_REPORTED_ADDRESSES: Final = 10
"""How many active locks of the same key are reported.

Without a limit, a stranger with many addresses could flood the events of any organization with a key whose id they
know.
"""


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
    values = (*subject, written, after.locks, after.locked_until, now)
    await tx.execute(_PUT, subject.number, *values)
    begins = not after.failed_at
    if begins:
        active = await tx.rows(_ACTIVE_OF_NAME, subject.kind, subject.name, now, _REPORTED_ADDRESSES + 1)
        if len(active) <= _REPORTED_ADDRESSES:
            await _report(tx, Lockout(subject, after.locked_until), occurrence)
        await feed.record(tx, "lockout", 0, subject.number)
    return FailureOutcome(after, begins, too_late=False)


async def locks_of(tx: Transaction, numbers: Collection[int]) -> list[Lockout]:
    """Read the locks of subjects. A released lock ends at 0."""
    return [_lock(row) for row in await rows_among(tx, f"{_LOCKS} WHERE subject IN ({{}})", (), list(numbers))]


async def active(tx: Transaction, now: int, limit: int) -> list[Lockout]:
    """Read active locks, the longest first."""
    return [_lock(row) for row in await tx.rows(_ACTIVE, now, limit)]


async def of_name(tx: Transaction, kind: LockoutKind, name: str, limit: int) -> list[Lockout]:
    """Read the subjects of a key or an email that have failures or locks, whether or not a lock is active."""
    return [_lock(row) for row in await tx.rows(_OF_NAME, kind, name, limit)]


async def of_address(tx: Transaction, address: str, limit: int) -> list[Lockout]:
    """Read the subjects at an address that have failures or locks, whether or not a lock is active."""
    return [_lock(row) for row in await tx.rows(_OF_ADDRESS, address, limit)]


async def release(tx: Transaction, subject: LockoutSubject) -> bool:
    """Delete what counts against a subject, and record it in the feed. Returns whether there was anything."""
    if await tx.row(_RELEASE, subject.number) is None:
        return False
    await feed.record(tx, "lockout", 0, subject.number)
    return True


async def delete_beyond(tx: Transaction) -> int:
    """Delete some subjects beyond `MOST_SUBJECTS`, least recent failure first, and return how many."""
    return await delete_oldest(tx, "lockout", "subject", "updated_at", kept=MOST_SUBJECTS)


async def delete_old(tx: Transaction, failed_before: int) -> int:
    """Delete some subjects whose last failure is older than that, and return how many."""
    return await delete_older(tx, "lockout", "subject", "updated_at", before=failed_before, most=_ROWS_A_STEP)


async def _report(tx: Transaction, lockout: Lockout, occurrence: Occurrence) -> None:
    """Record events of a lock: for the organization of the key or the user, or else for the operator."""
    subject = lockout.subject
    if subject.kind == "api_key":
        # A key that was deleted after the attempt has no organization to report to.
        if (key := await api_keys.by_public_id(tx, subject.name)) is not None:
            await _report_key(tx, key, lockout, occurrence)
        return
    is_of_user = subject.kind in ("user", "device")
    locked = await users.with_email(tx, subject.name, limit=_ANNOUNCED_USERS) if is_of_user else []
    # One user per organization: emails are unique in it.
    for user in locked:
        await events.record(tx, occurrence, "lockout", user.organization, ref=user.public_id, name=user.email)
    if not locked and (operator := await organizations.operator(tx)) is not None:
        name = subject.label if subject.kind == "sign_in" else subject.name or subject.address
        await events.record(tx, occurrence, "lockout", operator.id, ref="", name=name)


async def _report_key(tx: Transaction, key: ApiKey, lockout: Lockout, occurrence: Occurrence) -> None:
    event = KeyLockedOut(
        at=millisecond_of(occurrence.id),
        key=ResourceName(key.public_id, key.alias),
        address=lockout.subject.address,
        locked_until=lockout.until,
    )
    await system_events.record(tx, key.organization, occurrence.id, event)
    await events.record(tx, occurrence, "lockout", key.organization, ref=key.public_id, name=key.alias)


def _failures(row: Row) -> FailureHistory:
    failed_at, locks, locked_until = row
    return FailureHistory(msgspec.json.decode(failed_at, type=tuple[int, ...]), locks, locked_until)


def _lock(row: Row) -> Lockout:
    kind, name, address, locked_until = row
    return Lockout(LockoutSubject(kind, name, address), locked_until)
