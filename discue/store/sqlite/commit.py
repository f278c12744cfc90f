"""Commits on SQLite: what appends and settles write, in a few statements for all queues and cursors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, cast

import apsw

from discue.store import tallies
from discue.store.batch_rows import (
    CHANGES,
    CURSOR_CHANGES,
    CURSOR_COLUMNS,
    ENTRY_COLUMNS,
    ExpectedCursor,
    RowChange,
    Values,
    cursor_values,
    entry_values,
    expected_cursor,
)
from discue.store.engine import (
    AlreadyDone,
    Append,
    Appended,
    IdempotencyRecord,
    NewEntry,
    QueueClosed,
    Settle,
    StaleConfiguration,
    TopicAppend,
)
from discue.store.idempotency import encode_responses, grouped, repeated
from discue.store.message_log import entry_of_new
from discue.store.sqlite.connection import INLINE_BYTES
from discue.store.tables import chunks, statement_of_rows
from discue.store.tallies import TallyEntry

_RAISE_HEADS: Final = statement_of_rows(
    lambda values: (
        "UPDATE queue_head SET head = head + new.column4, last_stored_at = max(last_stored_at, new.column5) "
        f"FROM (VALUES {values}) AS new WHERE queue_head.organization = new.column1 AND queue_head.queue = new.column2 "
        "AND queue_head.config_version = new.column3 AND queue_head.closed_at IS NULL "
        "RETURNING queue_head.organization, queue_head.queue, queue_head.config_version, head, last_stored_at"
    ),
    columns=5,
)


def _insert(table: str, *columns: str) -> Callable[[int], str]:
    # A failure rolls the whole transaction back. Without OR FAIL, SQLite would prepare to undo the statement alone, and
    # copy each page before changing it: that is a page per message, since ids are spread over their index.
    start = f"INSERT OR FAIL INTO {table} ({', '.join(columns)}) VALUES "
    return statement_of_rows(lambda values: start + values, columns=len(columns))


def _find(table: str, *columns: str, condition: str = "") -> Callable[[int], str]:
    names = ", ".join(columns)
    return statement_of_rows(
        lambda values: f"SELECT {names} FROM {table} WHERE ({names}) IN (VALUES {values}){condition}",
        columns=len(columns),
    )


_INSERT: Final = _insert("log", "organization", "queue", "seq", "stored_at", *ENTRY_COLUMNS)
_SCHEDULE: Final = _insert("scheduled", "organization", "queue", "origin_seq", "due_at", "size", "key_hash")
_INSERT_KEYS: Final = _insert("idempotency_key", "key", "response")
_INSERT_RESPONSES: Final = _insert("idempotency_response", "organization", "id", "stored_at", "size", "content")
_INSERT_BODIES: Final = _insert("body", "id", "organization", "size", "uses", "bytes")
_ADD_COUNTS: Final = statement_of_rows(
    lambda values: (
        f"INSERT INTO tally (organization, period, kind, slot, n) VALUES {values} "
        "ON CONFLICT (organization, period, kind, slot) DO UPDATE SET n = n + excluded.n"
    ),
    columns=5,
)
_FIND_KEYS: Final = _find("idempotency_key", "key")
_FIND_TOPICS: Final = _find("topic", "organization", "id", "routes_version")
_FIND_QUEUES: Final = _find("queue_head", "organization", "queue", "config_version", condition=" AND closed_at IS NULL")
_LAST_BODY: Final = "SELECT coalesce(max(id), 0) FROM body"

_Version = tuple[int, int, int]
"""Organization, queue or topic, and the version of its configuration or routes that was read."""


class _Bodies:
    """The bodies that an append stores in the table `body`, with ascending ids."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._last: int | None = None
        self.rows: list[Values] = []
        self.shared: dict[int, int] = {}
        """The row ids of shared bodies, by their ids in the append."""

    def add(self, organization: int, content: bytes, uses: int = 1) -> int:
        if self._last is None:
            self._last = self._connection.execute(_LAST_BODY).get
        self._last += 1
        self.rows.append((self._last, organization, len(content), uses, content))
        return self._last

    def id_for(self, organization: int, entry: NewEntry) -> int | None:
        """Return the id of an entry's body; None if the body stays in the entry's row."""
        if entry.body_id is not None:
            return self.shared[entry.body_id]
        return self.add(organization, entry.body) if len(entry.body) > INLINE_BYTES else None


def append(
    connection: apsw.Connection, appends: Sequence[Append], tally_slot: int, bodies: _Bodies | None = None
) -> list[Appended | Exception]:
    """Store the messages; must run inside a write transaction. A queue's appends get their seqs in the given order."""
    if not appends:
        return []
    bodies = bodies or _Bodies(connection)
    # A repeated request must not raise a head, which would leave a hole in the seqs.
    done = _repeated_in(connection, appends)
    heads = _raise_heads(connection, [item for number, item in enumerate(appends) if number not in done])
    results: list[Appended | Exception] = []
    rows: list[Values] = []
    scheduled: list[Values] = []
    counts: dict[tuple[int, int, int], int] = {}
    records: dict[tuple[_Version, int], list[IdempotencyRecord]] = {}
    for number, item in enumerate(appends):
        if number in done:
            results.append(AlreadyDone())
            continue
        version = (item.organization, item.queue, item.config_version)
        head = heads.get(version)
        if head is None:
            results.append(_refusal(connection, item))
            continue
        first, stored_at = head
        heads[version] = (first + len(item.entries), stored_at)
        entries = []
        for seq, entry in enumerate(item.entries, first):
            body_id = bodies.id_for(item.organization, entry)
            rows.append((item.organization, item.queue, seq, stored_at, *entry_values(entry, body_id)))
            if entry.due_at is not None:
                scheduled.append((item.organization, item.queue, seq, entry.due_at, entry.size, entry.key_hash))
            entries.append(entry_of_new(entry, seq, stored_at))
        results.append(Appended(item.organization, item.queue, tuple(entries)))
        if item.idempotency_record is not None:
            records.setdefault((version, stored_at), []).append(item.idempotency_record)
        added = (item.organization, item.now // tallies.PERIOD_MS, tallies.MESSAGE_ADDED)
        stored = (item.organization, tallies.CURRENT, tallies.BYTES_STORED)
        counts[added] = counts.get(added, 0) + len(entries)
        counts[stored] = counts.get(stored, 0) + item.bytes
    _write(connection, _INSERT_BODIES, bodies.rows)
    _write(connection, _INSERT, rows)
    _write(connection, _SCHEDULE, scheduled)
    for organization, size in _store_responses(connection, records):
        kept = (organization, tallies.CURRENT, tallies.RESPONSE_BYTES)
        counts[kept] = counts.get(kept, 0) + size
    _write(connection, _ADD_COUNTS, [(*key, tally_slot, n) for key, n in counts.items()])
    return results


def append_to_topics(
    connection: apsw.Connection, topic_appends: Sequence[TopicAppend], tally_slot: int
) -> list[tuple[Appended, ...] | Exception]:
    """Store the messages of topics; must run inside a write transaction.

    The only writer can check first that no topic and no queue changed, and then append what passes.
    """
    if not topic_appends:
        return []
    refusals = _refusals(connection, topic_appends)
    accepted = [item for number, item in enumerate(topic_appends) if number not in refusals]
    bodies = _Bodies(connection)
    for item in accepted:
        for body in item.bodies:
            bodies.shared[body.id] = bodies.add(item.organization, body.content, body.uses)
    # None is refused any more: nothing else writes meanwhile.
    stored = iter(append(connection, [each for item in accepted for each in item.appends], tally_slot, bodies))
    return [
        refusals[number] if number in refusals else tuple(cast("Appended", next(stored)) for _ in item.appends)
        for number, item in enumerate(topic_appends)
    ]


def count(connection: apsw.Connection, entries: Sequence[TallyEntry], slot: int) -> None:
    """Add to the tallies; must run inside a write transaction."""
    _write(connection, _ADD_COUNTS, [(each.organization, each.period, each.kind, slot, each.n) for each in entries])


def _write(connection: apsw.Connection, statement: Callable[[int], str], rows: Sequence[Values]) -> None:
    for chunk in chunks(rows):
        connection.execute(statement(len(chunk)), tuple(chain.from_iterable(chunk)))


def _raise_heads(connection: apsw.Connection, appends: Sequence[Append]) -> dict[_Version, tuple[int, int]]:
    """Return the first free seq and the storing time of each queue that accepts its messages."""
    counts: dict[_Version, int] = {}
    latest = 0
    for item in appends:
        version = (item.organization, item.queue, item.config_version)
        counts[version] = counts.get(version, 0) + len(item.entries)
        latest = max(latest, item.now)
    raised: dict[_Version, tuple[int, int]] = {}
    for chunk in chunks(sorted(counts)):
        values = [value for version in chunk for value in (*version, counts[version], latest)]
        for *key, last, stored_at in connection.execute(_RAISE_HEADS(len(chunk)), values):
            version = (key[0], key[1], key[2])
            raised[version] = (last - counts[version] + 1, stored_at)
    return raised


def _store_responses(
    connection: apsw.Connection, records: Mapping[tuple[_Version, int], Sequence[IdempotencyRecord]]
) -> list[tuple[int, int]]:
    """Store keys with their responses, given by the version of their queue and the time.

    Returns the organization and the size of each row of responses.
    """
    keys: list[tuple[int, int]] = []
    responses: list[Values] = []
    sizes: list[tuple[int, int]] = []
    for ((organization, _, _), stored_at), of_queue in records.items():
        for row_id, together in grouped(of_queue).items():
            content = encode_responses(together)
            keys += [(record.key[0], row_id) for record in together]
            responses.append((organization, row_id, stored_at, len(content), content))
            sizes.append((organization, len(content)))
    # Keys are spread over their table: in its order, those on one page come together.
    _write(connection, _INSERT_KEYS, sorted(keys))
    _write(connection, _INSERT_RESPONSES, responses)
    return sizes


def _refusal(connection: apsw.Connection, item: Append) -> Exception:
    found = connection.execute(
        "SELECT closed_at FROM queue_head WHERE organization = $1 AND queue = $2",
        (item.organization, item.queue),
    ).fetchall()
    return StaleConfiguration() if found and found[0][0] is None else QueueClosed()


def _refusals(connection: apsw.Connection, topic_appends: Sequence[TopicAppend]) -> dict[int, Exception]:
    """Return why each topic append that cannot be stored is refused, by its place in the batch."""
    refusals: dict[int, Exception] = {number: AlreadyDone() for number in _repeated_in(connection, topic_appends)}
    topics = _existing(connection, _FIND_TOPICS, (_topic_of(item) for item in topic_appends))
    queues = _existing(connection, _FIND_QUEUES, (queue for item in topic_appends for queue in _queues_of(item)))
    for number, item in enumerate(topic_appends):
        if _topic_of(item) not in topics or not queues.issuperset(_queues_of(item)):
            refusals.setdefault(number, StaleConfiguration())
    return refusals


def _repeated_in(connection: apsw.Connection, appends: Sequence[Append | TopicAppend]) -> set[int]:
    """Return the places of those whose idempotency key is stored, or is that of an earlier one in the batch."""
    halves = [(item.idempotency_record.key[0],) for item in appends if item.idempotency_record is not None]
    return repeated(appends, {half for (half,) in _existing(connection, _FIND_KEYS, halves)}) if halves else set()


def _existing(
    connection: apsw.Connection, find: Callable[[int], str], wanted: Iterable[tuple[int, ...]]
) -> set[tuple[Any, ...]]:
    found: set[tuple[Any, ...]] = set()
    for chunk in chunks(sorted(set(wanted))):
        found.update(connection.execute(find(len(chunk)), tuple(chain.from_iterable(chunk))))
    return found


def _topic_of(item: TopicAppend) -> _Version:
    return item.organization, item.topic, item.routes_version


def _queues_of(item: TopicAppend) -> list[_Version]:
    return [(each.organization, each.queue, each.config_version) for each in item.appends]


# SQLite rewrites the index of owners whenever a statement assigns `owner`: cursors that only move have their own.
_RELEASE: Final = ", owner = CASE WHEN cursor.stream > 0 THEN cursor.owner END, token = cursor.token + 1"


def _cursor_statement(assignments: str, token: str, values: str) -> str:
    return f"""
        WITH new ({", ".join(CURSOR_COLUMNS)}) AS (VALUES {values})
        UPDATE cursor SET {assignments} FROM new
        WHERE cursor.organization = new.organization AND cursor.listener = new.listener AND cursor.stream = new.stream
            AND cursor.token = new.token AND cursor.version = new.version
        RETURNING cursor.organization, cursor.listener, cursor.stream, {token}, cursor.version - 1"""


def _statement(change: RowChange, values: str) -> str:
    table, columns, key = change.table, ", ".join(change.columns), ", ".join(change.key)
    if change.action == "delete":
        return f"DELETE FROM {table} WHERE ({key}) IN (VALUES {values})"
    if change.action == "update":
        matches = " AND ".join(f"{table}.{column} = new.{column}" for column in change.key)
        new = f"WITH new ({columns}) AS (VALUES {values})"
        return f"{new} UPDATE {table} SET {change.assignments} FROM new WHERE {matches}"
    conflict = "DO NOTHING" if change.action == "insert" else f"({key}) DO UPDATE SET {change.assignments}"
    return f"INSERT INTO {table} ({columns}) VALUES {values} ON CONFLICT {conflict}"


_MOVE_CURSORS: Final = statement_of_rows(
    partial(_cursor_statement, CURSOR_CHANGES, "cursor.token"), columns=len(CURSOR_COLUMNS)
)
_RELEASE_CURSORS: Final = statement_of_rows(
    partial(_cursor_statement, CURSOR_CHANGES + _RELEASE, "cursor.token - 1"),
    columns=len(CURSOR_COLUMNS),
)
_CHANGES: Final = tuple(
    (change.rows, statement_of_rows(partial(_statement, change), columns=len(change.columns))) for change in CHANGES
)


def settle(connection: apsw.Connection, settles: Sequence[Settle], tally_slot: int) -> list[bool | Exception]:
    """Apply the settles; must run inside a write transaction.

    Returns for each whether its cursor had the expected token and version.
    """
    if not settles:
        return []
    # Only the first of several settles that expect the same cursor can find it.
    first = {expected_cursor(item): item for item in reversed(settles)}
    moved = _move_cursors(connection, tuple(first.values()))
    results: list[bool | Exception] = [
        first[expected] is item and expected in moved for item in settles for expected in (expected_cursor(item),)
    ]
    applied = [item for item, result in zip(settles, results, strict=True) if result]
    for rows_of, statement in _CHANGES:
        for chunk in chunks(list(chain.from_iterable(map(rows_of, applied)))):
            connection.execute(statement(len(chunk)), tuple(chain.from_iterable(chunk)))
    count(connection, tallies.attempt_entries([each for item in applied for each in item.attempts]), tally_slot)
    return results


def _move_cursors(connection: apsw.Connection, settles: Sequence[Settle]) -> set[ExpectedCursor]:
    moved: set[ExpectedCursor] = set()
    for statement, releases in ((_MOVE_CURSORS, False), (_RELEASE_CURSORS, True)):
        for chunk in chunks([item for item in settles if item.releases is releases]):
            moved.update(
                connection.execute(statement(len(chunk)), tuple(chain.from_iterable(map(cursor_values, chunk))))
            )
    return moved
