"""The health of listeners: liveness, failures in a row, and sweeps of their retries.

The owner of a cursor writes the health under the cursor's token, many rows in one statement. A row is valid for one
liveness URL and one configuration, so that changes of these need not write to it.
"""

from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from discue.domain.ids import millisecond_of
from discue.domain.listener_health import NO_FAILURES, FailureStreak, Liveness, with_new_url
from discue.domain.system_events import ListenerInactive, ListenerRecovered, SystemEvent
from discue.store import system_events
from discue.store.engine import Row, Transaction
from discue.store.tables import chunks, prefixed

_HEALTH_COLUMNS: Final = (
    "url_hash, config_version, state, success_count, failure_count, last_success_at, last_failure_at, "
    "last_failure_status, last_failure_msg, in_a_row, changed_at, failed_at, failing_since, swept_through, sweep_until"
)
READ_HEALTH: Final = prefixed("liveness", _HEALTH_COLUMNS)
"""The columns for `parse_health`, to be read from a join."""

_TEXTS: Final = frozenset({"state", "last_failure_msg"})
_TYPES: Final = tuple("TEXT" if column in _TEXTS else "BIGINT" for column in _HEALTH_COLUMNS.split(", "))


class Sweep(msgspec.Struct, frozen=True, gc=False):
    """A pass over the retries of a cursor, oldest message first, even if they are not due."""

    through: int = 0
    """The last seq that was passed."""
    until: int = 0
    """The last seq of the sweep; equal to `through` if there is no sweep."""

    @property
    def is_on(self) -> bool:
        """Whether anything is left to pass."""
        return self.through < self.until


class ListenerHealth(msgspec.Struct, frozen=True, gc=False):
    """The health of a listener. The default is that nothing is known."""

    liveness: Liveness = Liveness()
    failing: FailureStreak = NO_FAILURES
    sweep: Sweep = Sweep()


class HealthRecord(msgspec.Struct, frozen=True, gc=False):
    """The health of a listener, to be stored while its cursor has the token."""

    organization: int
    listener: int
    token: int
    liveness_url: str
    config_version: int
    known: ListenerHealth
    event_id: int = 0
    """A row id for a system event: the listener became inactive, or stopped to be; 0: it did not."""


async def write_health(tx: Transaction, records: Sequence[HealthRecord]) -> set[int]:
    """Store health records, and events of listeners that became inactive or recovered.

    Returns the row ids of listeners whose cursor still had the token.
    """
    written: set[int] = set()
    # Sorted, so that workers lock rows in one order, and cannot deadlock.
    for chunk in chunks(sorted(records, key=lambda each: (each.organization, each.listener))):
        rows = await tx.rows(_write_statement(len(chunk)), *[value for record in chunk for value in _values(record)])
        written.update(row[0] for row in rows)
        for each in chunk:
            if each.event_id and each.listener in written:
                await _report_state(tx, each)
    return written


async def _report_state(tx: Transaction, record: HealthRecord) -> None:
    names = await system_events.names_of(tx, record.organization, record.listener)
    if names is None:
        return
    at, liveness = millisecond_of(record.event_id), record.known.liveness
    event: SystemEvent = ListenerRecovered(at=at, listener=names[0], queue=names[1], was="inactive")
    if liveness.state == "inactive":
        event = ListenerInactive(
            at=at,
            listener=names[0],
            queue=names[1],
            last_failure_status=liveness.last_failure_status,
            last_failure_msg=liveness.last_failure_msg,
        )
    await system_events.record(tx, record.organization, record.event_id, event)


def parse_health(row: Sequence[Any], liveness_url: str, config_version: int) -> ListenerHealth:
    """Parse a row for a listener's current URL and configuration. All values are None if there is no row."""
    if row[0] is None:
        return ListenerHealth()
    url_hash, known_for, *counted, failed_at, failing_since, through, until = row
    liveness = Liveness(*counted)
    return ListenerHealth(
        liveness=liveness if url_hash == _hash(liveness_url) else with_new_url(liveness),
        failing=FailureStreak(failed_at, failing_since) if known_for == config_version else NO_FAILURES,
        sweep=Sweep(through, until),
    )


def _hash(url: str) -> int:
    return int.from_bytes(blake2b(url.encode(), digest_size=8).digest(), signed=True)


def _values(record: HealthRecord) -> Row:
    known = record.known
    return (
        record.organization,
        record.listener,
        record.token,
        _hash(record.liveness_url),
        record.config_version,
        *msgspec.structs.astuple(known.liveness),
        *msgspec.structs.astuple(known.failing),
        *msgspec.structs.astuple(known.sweep),
    )


@cache
def _write_statement(rows: int) -> str:
    types = ("BIGINT", "BIGINT", "BIGINT", *_TYPES)
    values = ", ".join(
        "(" + ", ".join(f"CAST(${row * len(types) + number} AS {name})" for number, name in enumerate(types, 1)) + ")"
        for row in range(rows)
    )
    # Neither engine lets us name the columns of VALUES here: `column3` is the token.
    new = ", ".join(f"new.column{number}" for number in (1, 2, *range(4, len(types) + 1)))
    changes = ", ".join(f"{column} = excluded.{column}" for column in _HEALTH_COLUMNS.split(", "))
    return f"""
    INSERT INTO liveness (organization, listener, {_HEALTH_COLUMNS})
    SELECT {new} FROM (VALUES {values}) AS new
    JOIN cursor ON cursor.organization = new.column1 AND cursor.listener = new.column2 AND cursor.stream = 0
        AND cursor.token = new.column3
    WHERE true
    ON CONFLICT (organization, listener) DO UPDATE SET {changes}
    RETURNING listener"""
