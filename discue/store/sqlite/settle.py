"""Settle on SQLite: the cursors first, guarded; then, only for those that moved, what came beside them."""

from collections.abc import Sequence
from itertools import chain

import apsw

from discue.store import attempts, tallies
from discue.store.engine import Settle, Value
from discue.store.sqlite.append import count
from discue.store.tables import chunks, statement_of_rows

_Place = tuple[int, int, int, int, int]
"""Organization, listener, stream; and the token and version at which the cursor is expected."""

_MOVE = (
    "UPDATE cursor SET version = version + 1, position = new.column6, ahead = new.column7, "
    "acknowledged = new.column8, missed = new.column9, retrying = new.column10, "
    "last_success_at = new.column11, last_failure_at = new.column12, last_new_at = new.column13"
)
_WHERE = (
    "AS new WHERE cursor.organization = new.column1 AND cursor.listener = new.column2 "
    "AND cursor.stream = new.column3 AND cursor.token = new.column4 AND cursor.version = new.column5 "
    "RETURNING cursor.organization, cursor.listener, cursor.stream"
)
_MOVE_CURSORS = statement_of_rows(
    lambda values: f"{_MOVE} FROM (VALUES {values}) {_WHERE}, cursor.token, cursor.version - 1",
    columns=13,
)
_RELEASE_CURSORS = statement_of_rows(
    lambda values: (
        f"{_MOVE}, owner = CASE WHEN stream > 0 THEN owner END, token = token + 1 FROM (VALUES {values}) {_WHERE}, "
        "cursor.token - 1, cursor.version - 1"
    ),
    columns=13,
)
_INSERT_ATTEMPTS = statement_of_rows(
    lambda values: f"INSERT INTO attempt ({attempts.COLUMNS}) VALUES {values} ON CONFLICT DO NOTHING",
    columns=11,
)
_INSERT_DETAILS = statement_of_rows(
    lambda values: f"INSERT INTO attempt_detail ({attempts.DETAIL_COLUMNS}) VALUES {values} ON CONFLICT DO NOTHING",
    columns=5,
)
_PUT_EXCEPTIONS = statement_of_rows(
    lambda values: (
        "INSERT INTO exception (organization, listener, stream, seq, queue, state, attempts, due_at, reason, sender, "
        f"key_hash, blocked, redelivered_at, token) VALUES {values} "
        "ON CONFLICT (organization, listener, stream, seq) DO UPDATE SET "
        "state = excluded.state, attempts = excluded.attempts, due_at = excluded.due_at, reason = excluded.reason, "
        "sender = excluded.sender, key_hash = excluded.key_hash, blocked = excluded.blocked, token = excluded.token, "
        "redelivered_at = coalesce(excluded.redelivered_at, redelivered_at)"
    ),
    columns=14,
)
_REMOVE_EXCEPTIONS = statement_of_rows(
    lambda values: f"DELETE FROM exception WHERE (organization, listener, stream, seq) IN (VALUES {values})",
    columns=4,
)
_INSERT_MISSED_RANGES = statement_of_rows(
    lambda values: (
        "INSERT INTO missed_range (organization, listener, seq_from, queue, seq_to, reason, missed_at) "
        f"VALUES {values} ON CONFLICT (organization, listener, seq_from) DO UPDATE SET "
        "seq_to = excluded.seq_to, reason = excluded.reason, missed_at = excluded.missed_at"
    ),
    columns=7,
)
_REMOVE_MISSED_RANGES = statement_of_rows(
    lambda values: f"DELETE FROM missed_range WHERE (organization, listener, seq_from) IN (VALUES {values})",
    columns=3,
)
_MOVE_REDELIVERIES = statement_of_rows(
    lambda values: (
        "UPDATE redelivery SET position = new.column3, redelivered = redelivered + new.column4, "
        "gone = gone + new.column5, updated_at = new.column6, "
        "state = CASE WHEN new.column7 IS NULL THEN 'running' ELSE 'done' END, "
        f"ended_at = new.column7 FROM (VALUES {values}) AS new "
        "WHERE redelivery.organization = new.column1 AND redelivery.id = new.column2"
    ),
    columns=7,
)

_MOVE_REPLAYS = statement_of_rows(
    lambda values: (
        "UPDATE replay SET position = new.column3, delivered = new.column4, failed = new.column5, "
        "retrying = new.column6, expired = expired + new.column7, updated_at = new.column8, state = 'running' "
        f"FROM (VALUES {values}) AS new WHERE replay.organization = new.column1 AND replay.id = new.column2"
    ),
    columns=8,
)


def settle(connection: apsw.Connection, settles: Sequence[Settle], tally_slot: int) -> list[bool | Exception]:
    """Must run inside a write transaction. True for each whose cursor was still at the token and version given."""
    if not settles:
        return []
    places = [_place_of(item) for item in settles]
    first: dict[_Place, Settle] = {}
    for place, item in zip(places, settles, strict=True):
        first.setdefault(place, item)
    moved = _move_cursors(connection, tuple(first.values()))
    # Of two that expect a cursor at one place only the first can find it there.
    answers = [place in moved and first[place] is item for place, item in zip(places, settles, strict=True)]
    taken = [item for item, answer in zip(settles, answers, strict=True) if answer]
    made = [attempt for item in taken for attempt in item.attempts]
    for text, rows in (
        (_INSERT_ATTEMPTS, [attempts.row_of(attempt) for attempt in made]),
        (_INSERT_DETAILS, _detail_rows(taken)),
        (_REMOVE_EXCEPTIONS, _resolved_rows(taken)),
        (_PUT_EXCEPTIONS, _exception_rows(taken)),
        (_REMOVE_MISSED_RANGES, _unmissed_rows(taken)),
        (_INSERT_MISSED_RANGES, _missed_rows(taken)),
        (_MOVE_REDELIVERIES, _redelivery_rows(taken)),
        (_MOVE_REPLAYS, _replay_rows(taken)),
    ):
        for chunk in chunks(rows):
            connection.execute(text(len(chunk)), tuple(chain.from_iterable(chunk)))
    count(connection, tallies.attempt_entries(made), tally_slot)
    return list(answers)


def _place_of(item: Settle) -> _Place:
    return item.organization, item.listener, item.stream, item.token, item.version


def _move_cursors(connection: apsw.Connection, settles: Sequence[Settle]) -> set[_Place]:
    moved: set[_Place] = set()
    for text, releases in ((_MOVE_CURSORS, False), (_RELEASE_CURSORS, True)):
        for chunk in chunks([item for item in settles if item.releases is releases]):
            values = tuple(chain.from_iterable(map(_cursor_row, chunk)))
            moved.update(connection.execute(text(len(chunk)), values))
    return moved


def _cursor_row(item: Settle) -> tuple[Value, ...]:
    return (
        item.organization,
        item.listener,
        item.stream,
        item.token,
        item.version,
        item.position,
        item.ahead,
        item.acknowledged,
        item.missed,
        item.retrying,
        item.last_success_at,
        item.last_failure_at,
        item.last_new_at,
    )


def _detail_rows(settles: Sequence[Settle]) -> list[tuple[Value, ...]]:
    return [
        attempts.detail_row(item.organization, item.listener, detail) for item in settles for detail in item.details
    ]


def _resolved_rows(settles: Sequence[Settle]) -> list[tuple[Value, ...]]:
    return [(item.organization, item.listener, item.stream, seq) for item in settles for seq in item.resolved]


def _exception_rows(settles: Sequence[Settle]) -> list[tuple[Value, ...]]:
    return [
        (
            item.organization,
            item.listener,
            item.stream,
            row.seq,
            item.queue,
            row.state,
            row.attempts,
            row.due_at,
            row.reason,
            row.sender,
            row.key_hash,
            row.blocked,
            row.redelivered_at,
            row.token,
        )
        for item in settles
        for row in item.delivery_rows
    ]


def _missed_rows(settles: Sequence[Settle]) -> list[tuple[Value, ...]]:
    return [
        (item.organization, item.listener, row.seq_from, item.queue, row.seq_to, row.reason, row.missed_at)
        for item in settles
        for row in item.missed_ranges
    ]


def _unmissed_rows(settles: Sequence[Settle]) -> list[tuple[Value, ...]]:
    return [(item.organization, item.listener, seq_from) for item in settles for seq_from in item.unmissed]


def _redelivery_rows(settles: Sequence[Settle]) -> list[tuple[Value, ...]]:
    return [
        (item.organization, step.redelivery, step.position, step.redelivered, step.gone, step.now, step.ended_at)
        for item in settles
        for step in (item.redelivery,)
        if step is not None
    ]


def _replay_rows(settles: Sequence[Settle]) -> list[tuple[Value, ...]]:
    return [
        (
            item.organization,
            item.stream,
            item.position,
            item.acknowledged,
            item.missed,
            item.retrying,
            item.replay.expired,
            item.replay.now,
        )
        for item in settles
        if item.replay is not None
    ]
