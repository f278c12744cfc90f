"""Rows that appends and settles write, declared once: each engine renders its own statements from them."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final, Literal, NamedTuple

from discue.domain.model import MISSED_REASONS
from discue.store import attempts
from discue.store.engine import DeliveryRow, NewEntry, Settle, Value
from discue.store.message_log import WAITING

Values = tuple[Value, ...]

_TEXTS: Final = frozenset({"alias", "detail", "error", "id", "reason", "state", "stopped_by", "text"})
_BYTES: Final = frozenset({"ahead", "body", "content", "extra"})


def sql_type(table: str, column: str) -> Literal["bigint", "text", "bytea"]:
    """Return the type of a column. Ids are texts in the log, and numbers in all other tables."""
    if column in _BYTES:
        return "bytea"
    return "text" if column in _TEXTS and (column != "id" or table == "log") else "bigint"


def _columns(names: str) -> tuple[str, ...]:
    return tuple(names.split(", "))


ENTRY_COLUMNS: Final = _columns("id, alias, expires_at, key_hash, extra, size, codec, body, kind, body_id")
"""The columns of `log` that come from a new message. The engine adds its queue, its seq and when it was stored."""


def entry_values(entry: NewEntry, body_id: int | None) -> Values:
    """Return the values of `ENTRY_COLUMNS`. `body_id` is the row of `body` with the entry's body, if there is one."""
    is_due = entry.due_at is None
    return (
        entry.id,
        entry.alias,
        entry.expires_at,
        # A delayed message has no place among those of its key until it is due.
        entry.key_hash if is_due else None,
        entry.extra,
        entry.size,
        entry.codec,
        entry.body if body_id is None else None,
        0 if is_due else WAITING,
        body_id,
    )


CURSOR_COLUMNS: Final = _columns(
    "organization, listener, stream, token, version, position, ahead, acknowledged, missed, retrying, last_success_at, "
    "last_failure_at, last_new_at"
)

# Absolute values: a settle whose outcome is unknown can be repeated, and the version in the condition lets it take
# effect only once.
CURSOR_CHANGES: Final = ", ".join(
    ["version = cursor.version + 1", *[f"{column} = new.{column}" for column in CURSOR_COLUMNS[5:]]]
)
"""The assignments that move a cursor; the values of the settle are `new`."""

ExpectedCursor = tuple[int, int, int, int, int]
"""Organization, listener, stream; and the token and version that the cursor must have."""


expected_cursor: Callable[[Settle], ExpectedCursor] = attrgetter(*CURSOR_COLUMNS[:5])

cursor_values: Callable[[Settle], Values] = attrgetter(*CURSOR_COLUMNS)
"""Returns the values of `CURSOR_COLUMNS`."""


class RowChange(NamedTuple):
    """A kind of row that a settle writes in addition to its cursor."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    action: Literal["insert", "upsert", "delete", "update"]
    """An insert ignores rows that exist."""
    rows: Callable[[Settle], Sequence[Values]]
    assignments: str = ""
    """The assignments of an upsert or an update. The new values are `excluded` in an upsert, and `new` in an update."""


def _attempts(settle: Settle) -> Sequence[Values]:
    return [attempts.row_of(attempt) for attempt in settle.attempts]


def _details(settle: Settle) -> Sequence[Values]:
    # Most settles have none: this returns before it builds anything, and so do the functions below.
    if not settle.details:
        return ()
    return [attempts.detail_row(settle.organization, settle.listener, detail) for detail in settle.details]


def _resolved(settle: Settle) -> Sequence[Values]:
    if not settle.resolved:
        return ()
    # PostgreSQL runs the parts of a statement in any order: a row that is stored again must not be deleted.
    stored = {row.seq for row in settle.delivery_rows}
    cursor = (settle.organization, settle.listener, settle.stream)
    return [(*cursor, seq) for seq in settle.resolved if seq not in stored]


_DELIVERY_COLUMNS: Final = _columns(
    "seq, state, attempts, due_at, reason, sender, key_hash, blocked, token, redelivered_at, cause"
)
_delivery_values: Callable[[DeliveryRow], Values] = attrgetter(*_DELIVERY_COLUMNS)


def _delivery_rows(settle: Settle) -> Sequence[Values]:
    if not settle.delivery_rows:
        return ()
    owner = (settle.organization, settle.listener, settle.stream, settle.queue)
    # The last one wins: a statement may not store a row twice.
    rows = {each.seq: each for each in settle.delivery_rows}.values()
    return [(*owner, *_delivery_values(row), settle.version if row.state == "missed" else None) for row in rows]


def _unmissed(settle: Settle) -> Sequence[Values]:
    if not settle.unmissed:
        return ()
    stored = {row.seq_from for row in settle.missed_ranges}
    return [(settle.organization, settle.listener, seq_from) for seq_from in settle.unmissed if seq_from not in stored]


def _missed_ranges(settle: Settle) -> Sequence[Values]:
    if not settle.missed_ranges:
        return ()
    return [
        (
            *(settle.organization, settle.listener, row.seq_from, settle.queue, row.seq_to, row.reason, row.missed_at),
            settle.version if row.missed_version is None else row.missed_version,
        )
        for row in {each.seq_from: each for each in settle.missed_ranges}.values()
    ]


def _causes(settle: Settle) -> Sequence[Values]:
    if not settle.causes:
        return ()
    return [
        (settle.organization, settle.listener, each.id, each.reason, each.status, each.text) for each in settle.causes
    ]


def _redelivery(settle: Settle) -> Sequence[Values]:
    step = settle.redelivery
    if step is None:
        return ()
    counted = (step.position, step.redelivered, step.gone, step.trying_seq, step.tried, step.stopped_by)
    return [(settle.organization, step.redelivery, *counted, step.now, step.ended_at)]


def _replay(settle: Settle) -> Sequence[Values]:
    step = settle.replay
    if step is None:
        return ()
    counted = (settle.position, settle.acknowledged, settle.missed, settle.retrying)
    return [(settle.organization, settle.stream, *counted, step.expired, step.filtered, step.now)]


def _missed_reports(settle: Settle) -> Sequence[Values]:
    new = settle.new_misses
    if new is None:
        return ()
    counts = [new.by_reason.get(reason, 0) for reason in MISSED_REASONS]
    return [(settle.organization, settle.listener, new.count, *counts, new.since, new.since)]


CAUSE_COLUMNS: Final = _columns("organization, listener, cause, reason, status, text")
_DELIVERY_KEY: Final = ("organization", "listener", "stream", "seq")
_RANGE_KEY: Final = ("organization", "listener", "seq_from")
_ID: Final = ("organization", "id")
_LISTENER_KEY: Final = ("organization", "listener")
_ADDED_COUNTS: Final = ", ".join(f"{name} = missed_report.{name} + excluded.{name}" for name in ("n", *MISSED_REASONS))


def _replaced(*columns: str) -> str:
    return ", ".join(f"{column} = excluded.{column}" for column in columns)


CHANGES: Final = (
    RowChange("attempt", _columns(attempts.COLUMNS), _ID, "insert", _attempts),
    RowChange("attempt_detail", _columns(attempts.DETAIL_COLUMNS), _ID, "insert", _details),
    RowChange("delivery", _DELIVERY_KEY, _DELIVERY_KEY, "delete", _resolved),
    RowChange(
        "delivery",
        ("organization", "listener", "stream", "queue", *_DELIVERY_COLUMNS, "missed_version"),
        _DELIVERY_KEY,
        "upsert",
        _delivery_rows,
        _replaced(*_DELIVERY_COLUMNS[1:-2])
        + ", redelivered_at = coalesce(excluded.redelivered_at, delivery.redelivered_at), "
        "cause = coalesce(excluded.cause, delivery.cause), missed_version = "
        "CASE WHEN delivery.state = 'missed' THEN delivery.missed_version ELSE excluded.missed_version END",
    ),
    RowChange("missed_range", _RANGE_KEY, _RANGE_KEY, "delete", _unmissed),
    RowChange(
        "missed_range",
        (*_RANGE_KEY, "queue", "seq_to", "reason", "missed_at", "missed_version"),
        _RANGE_KEY,
        "upsert",
        _missed_ranges,
        _replaced("seq_to", "reason", "missed_at", "missed_version"),
    ),
    # An erasure has removed the text if it is empty: the next response is shown.
    RowChange(
        "missed_cause",
        CAUSE_COLUMNS,
        CAUSE_COLUMNS[:3],
        "upsert",
        _causes,
        "text = excluded.text WHERE missed_cause.text = ''",
    ),
    RowChange(
        "missed_report",
        (*_LISTENER_KEY, "n", *MISSED_REASONS, "since", "due_at"),
        _LISTENER_KEY,
        "upsert",
        _missed_reports,
        f"{_ADDED_COUNTS}, since = CASE WHEN missed_report.n > 0 THEN missed_report.since ELSE excluded.since END",
    ),
    RowChange(
        "redelivery",
        (*_ID, *_columns("position, redelivered, gone, trying_seq, tried, stopped_by, updated_at, ended_at")),
        _ID,
        "update",
        _redelivery,
        # A step with position 0 stores only the outcome of a trial's message.
        "position = CASE WHEN new.position > 0 THEN new.position ELSE redelivery.position END, "
        "redelivered = redelivery.redelivered + new.redelivered, gone = redelivery.gone + new.gone, "
        "trying_seq = new.trying_seq, tried = redelivery.tried + new.tried, stopped_by = new.stopped_by, "
        "updated_at = new.updated_at, ended_at = new.ended_at, state = CASE "
        "WHEN new.ended_at IS NULL THEN 'running' WHEN new.stopped_by = '' THEN 'done' ELSE 'stopped' END",
    ),
    RowChange(
        "replay",
        (*_ID, "position", "delivered", "failed", "retrying", "expired", "filtered", "updated_at"),
        _ID,
        "update",
        _replay,
        "position = new.position, delivered = new.delivered, failed = new.failed, retrying = new.retrying, "
        "expired = replay.expired + new.expired, filtered = replay.filtered + new.filtered, "
        "updated_at = new.updated_at, state = 'running'",
    ),
)
"""The rows that a settle writes, in the order in which SQLite writes them."""
