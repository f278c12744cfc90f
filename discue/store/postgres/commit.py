"""Commits on PostgreSQL: one statement per batch of appends or settles, which commits by itself.

An append raises the heads in the order of their keys, waiting for each that another worker is raising (the newest
version of the row then counts), and stores the messages below them. Either all messages of a topic are stored, or the
statement fails. A settle moves the cursors in the order of their keys, guarded by token and version, and writes the
other rows only for cursors that moved. Parts that a batch does not need are left out of its statement.
"""

from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import Any, Final

import asyncpg

from discue.domain.errors import StoreUnavailable
from discue.store import tallies
from discue.store.batch_rows import (
    CHANGES,
    CURSOR_CHANGES,
    CURSOR_COLUMNS,
    ENTRY_COLUMNS,
    RowChange,
    Values,
    cursor_values,
    entry_values,
    expected_cursor,
    sql_type,
)
from discue.store.engine import (
    AlreadyDone,
    Append,
    Appended,
    QueueClosed,
    Settle,
    StaleConfiguration,
    TopicAppend,
)
from discue.store.idempotency import encode_responses, grouped, repeated
from discue.store.message_log import entry_of_new
from discue.store.postgres.connection import OUTAGES

_HEAD_COLUMNS: Final = (
    "organization",
    "queue",
    "config_version",
    "now",
    "first",
    "last",
    "bytes",
    "first_key",
    "last_key",
    "first_response",
    "last_response",
)
"""A head, and which of the messages, keys and responses of the batch are its own: their places, counted from 1."""

_KIND: Final = ENTRY_COLUMNS.index("kind")

# A subquery that yields a value does not become a join: it goes by the key, however few rows the table has.
KNOWN_KEYS: Final = """
SELECT k.key FROM unnest($1::bigint[]) AS k (key)
CROSS JOIN LATERAL (SELECT FROM idempotency_key i WHERE i.key = ANY (ARRAY[k.key]) LIMIT 1) AS known
"""
CLOSED_AT: Final = "SELECT closed_at FROM queue_head WHERE organization = $1 AND queue = $2"


@cache
def append_statement(*, has_keys: bool = False, has_delayed: bool = False, is_topic: bool = False) -> str:
    """Return the statement for a batch, with the parts that it needs for keys, delayed messages and topics."""
    numbers = count(1)

    def arrays(*kinds: str) -> list[str]:
        return [f"${next(numbers)}::{kind}[]" for kind in kinds]

    def slices(parameters: Sequence[str], first: str = "first", last: str = "last") -> str:
        return ", ".join(f"({each})[r.{first}:r.{last}]" for each in parameters)

    heads = arrays(*["bigint"] * len(_HEAD_COLUMNS))
    columns = _entry_columns(has_delayed=has_delayed, is_topic=is_topic)
    entries = arrays(*[sql_type("log", column) for column in columns])
    slot = f"${next(numbers)}::bigint"
    keys = responses = []
    counted_responses = ""
    if has_keys:
        keys, responses = arrays("bigint", "bigint"), arrays("bigint", "bytea")
        # One insert for all counts: a second statement would cost time in every publish to a topic.
        counted_responses = f"""
            UNION ALL
            SELECT r.organization, {tallies.CURRENT}, {tallies.RESPONSE_BYTES}, {slot},
                sum(octet_length(a.content))::bigint
            FROM raised r
            CROSS JOIN LATERAL unnest({slices(responses, "first_response", "last_response")}) AS a (id, content)
            GROUP BY r.organization"""
    # To an index, `= ANY (ARRAY[x])` is `= x`, and tables cannot be merged by it. So no plan walks all heads because
    # there were few when it was made, and the heads are locked in the order in which they are given.
    parts = [
        f"""raised AS (
            UPDATE queue_head h
            SET head = h.head + (w.last - w.first + 1), last_stored_at = greatest(h.last_stored_at, w.now)
            FROM unnest({", ".join(heads)}) AS w ({", ".join(_HEAD_COLUMNS)})
            WHERE h.organization = ANY (ARRAY[w.organization]) AND h.queue = w.queue
                AND h.config_version = w.config_version AND h.closed_at IS NULL
            RETURNING h.organization, h.queue, h.last_stored_at AS stored_at, w.now, w.first, w.last, w.bytes,
                w.first_key, w.last_key, w.first_response, w.last_response,
                h.head - (w.last - w.first + 1) AS base
        )""",
        f"""stored AS (
            INSERT INTO log (organization, queue, seq, stored_at, {", ".join(columns)})
            SELECT r.organization, r.queue, r.base + e.place, r.stored_at, {", ".join(f"e.{name}" for name in columns)}
            FROM raised r CROSS JOIN LATERAL unnest({slices(entries)})
                WITH ORDINALITY AS e ({", ".join(columns)}, place)
        )""",
        f"""counted AS (
            INSERT INTO tally (organization, period, kind, slot, n)
            SELECT organization, now / {tallies.PERIOD_MS}, {tallies.MESSAGE_ADDED}, {slot},
                sum(last - first + 1)::bigint
            FROM raised GROUP BY organization, now / {tallies.PERIOD_MS}
            UNION ALL
            SELECT organization, {tallies.CURRENT}, {tallies.BYTES_STORED}, {slot}, sum(bytes)::bigint
            FROM raised GROUP BY organization
            {counted_responses}
            ON CONFLICT (organization, period, kind, slot) DO UPDATE SET n = tally.n + excluded.n
        )""",
    ]
    if has_keys:
        parts += [
            f"""kept AS (
                INSERT INTO idempotency_key (key, response)
                SELECT k.key, k.response FROM raised r
                CROSS JOIN LATERAL unnest({slices(keys, "first_key", "last_key")}) AS k (key, response)
            )""",
            f"""answered AS (
                INSERT INTO idempotency_response (organization, id, stored_at, size, content)
                SELECT r.organization, a.id, r.stored_at, octet_length(a.content), a.content FROM raised r
                CROSS JOIN LATERAL unnest({slices(responses, "first_response", "last_response")}) AS a (id, content)
            )""",
        ]
    if has_delayed:
        delayed = [entries[columns.index("size")], *arrays("bigint", "bigint")]
        parts.append(
            f"""scheduled AS (
                INSERT INTO scheduled (organization, queue, origin_seq, due_at, size, key_hash)
                SELECT r.organization, r.queue, r.base + e.place, e.due_at, e.size, e.key_hash
                FROM raised r CROSS JOIN LATERAL unnest({slices(delayed)})
                    WITH ORDINALITY AS e (size, due_at, key_hash, place)
                WHERE e.due_at IS NOT NULL
            )"""
        )
    if not is_topic:
        return f"WITH {', '.join(parts)} SELECT first, base, stored_at FROM raised"
    bodies = arrays("bigint", "bigint", "bigint", "bytea")
    parts.append(
        f"""shared AS (
            INSERT INTO body (organization, id, size, uses, bytes)
            SELECT b.organization, b.id, octet_length(b.bytes), b.uses, b.bytes
            FROM unnest({", ".join(bodies)}) AS b (organization, id, uses, bytes)
            WHERE EXISTS (SELECT FROM raised)
        )"""
    )
    expected, topics = f"${next(numbers)}::bigint", arrays("bigint", "bigint", "bigint")
    # Dividing by zero fails the whole statement, so that nothing is stored, and leaves no transaction open.
    return f"""WITH {", ".join(parts)}
        SELECT first, base, stored_at, 1 / CASE WHEN count(*) OVER () = {expected} AND NOT EXISTS (
            SELECT FROM unnest({", ".join(topics)}) AS w (organization, topic, routes_version)
            WHERE NOT EXISTS (
                SELECT FROM topic t WHERE t.organization = ANY (ARRAY[w.organization]) AND t.id = w.topic
                    AND t.routes_version = w.routes_version)
        ) THEN 1 ELSE 0 END FROM raised"""


def _entry_columns(*, has_delayed: bool, is_topic: bool) -> tuple[str, ...]:
    """Return the columns of the log that the statement sets: `kind` for delayed messages, `body_id` for topics."""
    if is_topic:
        return ENTRY_COLUMNS
    return ENTRY_COLUMNS[: _KIND + 1] if has_delayed else ENTRY_COLUMNS[:_KIND]


class OneIsStale(Exception):
    """At least one of several topic appends refers to a topic or a queue that changed: nothing is stored."""


_Head = tuple[int, int, int]
"""Organization, queue and the configuration version that the messages were checked against."""

_Numbered = tuple[int, Append]
"""An append with its place in the batch."""


class _Rows:
    """The parameters of the statement. The messages of one head are next to each other, and so are its keys."""

    def __init__(self, appends: Sequence[_Numbered], tally_slot: int) -> None:
        by_head: dict[_Head, list[_Numbered]] = {}
        for number, item in appends:
            by_head.setdefault((item.organization, item.queue, item.config_version), []).append((number, item))
        self._heads: list[tuple[int, ...]] = []
        self._entries: list[Values] = []
        self._keys: list[tuple[int, int]] = []
        self._responses: list[tuple[int, bytes]] = []
        self._delayed: list[tuple[int | None, int | None]] = []
        self._has_delayed = False
        self._tally_slot = tally_slot
        self.positions: dict[int, tuple[int, int]] = {}
        """For each append, the place of the first message of its head, and how many of the head come before its own."""
        # All workers lock heads in the order of their keys: otherwise two batches could deadlock.
        for head in sorted(by_head):
            self._add(head, by_head[head])

    def _add(self, head: _Head, appends: list[_Numbered]) -> None:
        first = len(self._entries) + 1
        for number, item in appends:
            self.positions[number] = (first, len(self._entries) + 1 - first)
            for entry in item.entries:
                self._entries.append(entry_values(entry, entry.body_id))
                self._delayed.append((entry.due_at, entry.key_hash))
                self._has_delayed |= entry.due_at is not None
        now, size = max(item.now for _, item in appends), sum(item.bytes for _, item in appends)
        first_key, first_response = len(self._keys) + 1, len(self._responses) + 1
        rows = grouped([item.idempotency_record for _, item in appends if item.idempotency_record is not None])
        # All workers insert the keys of a head in the same order.
        self._keys += sorted((record.key[0], row) for row, kept in rows.items() for record in kept)
        self._responses += [(row, encode_responses(kept)) for row, kept in rows.items()]
        owned = (first_key, len(self._keys), first_response, len(self._responses))
        self._heads.append((*head, now, first, len(self._entries), size, *owned))

    def fetch_arguments(self, topic_appends: Sequence[TopicAppend] = ()) -> tuple[Any, ...]:
        """Return the statement for queues, or for topics, and its parameters."""
        is_topic = bool(topic_appends)
        has_keys, has_delayed = is_topic or bool(self._keys), is_topic or self._has_delayed
        width = len(_entry_columns(has_delayed=has_delayed, is_topic=is_topic))
        parameters = [*_columns(self._heads, len(_HEAD_COLUMNS)), *_columns(self._entries, len(ENTRY_COLUMNS))[:width]]
        parameters.append(self._tally_slot)
        if has_keys:
            parameters += [*_columns(self._keys, 2), *_columns(self._responses, 2)]
        if has_delayed:
            parameters += _columns(self._delayed, 2)
        if is_topic:
            bodies = [
                (item.organization, body.id, body.uses, body.content) for item in topic_appends for body in item.bodies
            ]
            topics = sorted({(item.organization, item.topic, item.routes_version) for item in topic_appends})
            parameters += [*_columns(bodies, 4), len(self._heads), *_columns(topics, 3)]
        return (append_statement(has_keys=has_keys, has_delayed=has_delayed, is_topic=is_topic), *parameters)


def empty_append() -> tuple[Any, ...]:
    """Return the statement for a batch without keys and delayed messages, and parameters for no append at all."""
    return _Rows((), 0).fetch_arguments()


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[Any]:
    """Return the `width` columns of rows, empty if there are no rows."""
    return list(zip(*rows, strict=True)) or [()] * width


async def append(
    connection: asyncpg.Connection, appends: Sequence[Append], tally_slot: int
) -> list[Appended | Exception]:
    """Store the messages; they are durable when this returns. A queue's appends get their seqs in the given order."""
    # Used keys are found before: in the statement, one of them would fail the appends of all callers.
    done = await _repeated_in(connection, appends)
    rows = _Rows([(number, item) for number, item in enumerate(appends) if number not in done], tally_slot)
    raised: dict[int, tuple[int, int]] = {}
    if rows.positions:
        found = await connection.fetch(*rows.fetch_arguments())
        raised = {first: (base, stored_at) for first, base, stored_at in found}
    results: list[Appended | Exception] = []
    for number, item in enumerate(appends):
        if number in done:
            results.append(AlreadyDone())
            continue
        first, before = rows.positions[number]
        head = raised.get(first)
        results.append(await _refusal(connection, item) if head is None else _stored(item, head[0] + before, head[1]))
    return results


async def append_to_topics(
    connection: asyncpg.Connection, topic_appends: Sequence[TopicAppend], tally_slot: int
) -> list[tuple[Appended, ...] | Exception]:
    """Store the messages of topics; they are durable when this returns.

    Raises OneIsStale for several: the caller must then try each of them alone.
    """
    done = await _repeated_in(connection, topic_appends)
    fresh = [item for number, item in enumerate(topic_appends) if number not in done]
    stored = iter(await _append_to_topics(connection, fresh, tally_slot) if fresh else ())
    return [AlreadyDone() if number in done else next(stored) for number in range(len(topic_appends))]


async def _append_to_topics(
    connection: asyncpg.Connection, topic_appends: Sequence[TopicAppend], tally_slot: int
) -> list[tuple[Appended, ...] | Exception]:
    appends = list(enumerate([each for item in topic_appends for each in item.appends]))
    rows = _Rows(appends, tally_slot)
    try:
        found = await connection.fetch(*rows.fetch_arguments(topic_appends))
    except asyncpg.DivisionByZeroError:
        found = []
    if not found:
        if len(topic_appends) > 1:
            raise OneIsStale
        return [StaleConfiguration()]
    raised = {first: (base, stored_at) for first, base, stored_at, _ in found}
    results = []
    for number, item in appends:
        first, before = rows.positions[number]
        base, stored_at = raised[first]
        results.append(_stored(item, base + before, stored_at))
    each = iter(results)
    return [tuple(next(each) for _ in item.appends) for item in topic_appends]


async def _repeated_in(connection: asyncpg.Connection, appends: Sequence[Append | TopicAppend]) -> set[int]:
    """Return the places of those whose idempotency key is stored, or is that of an earlier one in the batch.

    A key that another worker is storing at this moment is not among them: then the statement fails, and is tried again.
    """
    keys = {item.idempotency_record.key[0] for item in appends if item.idempotency_record is not None}
    if not keys:
        return set()
    return repeated(appends, {key for (key,) in await connection.fetch(KNOWN_KEYS, list(keys))})


def _stored(item: Append, before: int, stored_at: int) -> Appended:
    entries = [entry_of_new(entry, seq, stored_at) for seq, entry in enumerate(item.entries, before + 1)]
    return Appended(item.organization, item.queue, tuple(entries))


async def _refusal(connection: asyncpg.Connection, item: Append) -> Exception:
    try:
        found = await connection.fetchrow(CLOSED_AT, item.organization, item.queue)
    except OUTAGES:
        # The other appends of the batch are stored: raising here would make their callers store them again.
        return StoreUnavailable(code="not_stored")
    return StaleConfiguration() if found is not None and found[0] is None else QueueClosed()


# A plain `IN` would become a join, row by row; this looks up a hash. (The session has no hash joins.)
_IF_MOVED: Final = "(new.settle IN (SELECT number FROM moved)) IS TRUE"
_TALLY_COLUMNS: Final = ("organization", "period", "kind", "n")


@cache
def settle_statement(wanted: tuple[bool, ...]) -> str:
    """Return the statement for a batch. `wanted` says which of `CHANGES` it has rows for, and last whether it has
    counts.
    """
    numbers = count(2)

    def arrays(table: str, columns: Sequence[str]) -> str:
        kinds = ["bigint", *[sql_type(table, column) for column in columns]]
        return ", ".join(f"${next(numbers)}::{kind}[]" for kind in kinds)

    # On `= ANY (ARRAY[x])` see `append_statement`.
    parts = [
        "slot AS (SELECT $1::bigint AS number)",
        f"""moved AS (
            UPDATE cursor SET {CURSOR_CHANGES}, token = cursor.token + new.releases,
                owner = CASE WHEN new.releases = 0 OR cursor.stream > 0 THEN cursor.owner END
            FROM unnest({arrays("cursor", CURSOR_COLUMNS)})
                WITH ORDINALITY AS new (releases, {", ".join(CURSOR_COLUMNS)}, number)
            WHERE cursor.organization = ANY (ARRAY[new.organization]) AND cursor.listener = new.listener
                AND cursor.stream = new.stream AND cursor.token = new.token AND cursor.version = new.version
            RETURNING new.number
        )""",
    ]
    for number, change in enumerate(CHANGES):
        if wanted[number]:
            parts.append(f"change_{number} AS ({_change(change, arrays(change.table, change.columns))})")
    if wanted[-1]:
        parts.append(f"counted AS ({_count(arrays('tally', _TALLY_COLUMNS))})")
    return f"WITH {', '.join(parts)} SELECT number FROM moved"


def _change(change: RowChange, arrays: str) -> str:
    table, columns = change.table, ", ".join(change.columns)
    new = f"unnest({arrays}) AS new (settle, {columns})"
    if change.action in ("delete", "update"):
        keys = [f"{table}.organization = ANY (ARRAY[new.organization])"]
        keys += [f"{table}.{column} = new.{column}" for column in change.key[1:]]
        matches = " AND ".join([*keys, _IF_MOVED])
        if change.action == "delete":
            return f"DELETE FROM {table} USING {new} WHERE {matches}"
        return f"UPDATE {table} SET {change.assignments} FROM {new} WHERE {matches}"
    values = ", ".join(f"new.{column}" for column in change.columns)
    key = ", ".join(change.key)
    conflict = "DO NOTHING" if change.action == "insert" else f"({key}) DO UPDATE SET {change.assignments}"
    return f"INSERT INTO {table} ({columns}) SELECT {values} FROM {new} WHERE {_IF_MOVED} ON CONFLICT {conflict}"


def _count(arrays: str) -> str:
    return f"""
        INSERT INTO tally (organization, period, kind, slot, n)
        SELECT new.organization, new.period, new.kind, (SELECT number FROM slot), sum(new.n)::bigint
        FROM unnest({arrays}) AS new (settle, {", ".join(_TALLY_COLUMNS)})
        WHERE {_IF_MOVED} GROUP BY new.organization, new.period, new.kind
        ON CONFLICT (organization, period, kind, slot) DO UPDATE SET n = tally.n + excluded.n"""


async def settle(connection: asyncpg.Connection, settles: Sequence[Settle], tally_slot: int) -> list[bool | Exception]:
    """Apply the settles; they are durable when this returns.

    Returns for each whether its cursor had the expected token and version.
    """
    # Only the first of several settles that expect the same cursor can find it.
    first = {expected_cursor(item): item for item in reversed(settles)}
    # Like heads, cursors are locked in the order of their keys.
    ordered = [first[expected] for expected in sorted(first)]
    moves = [(1 if item.releases else 0, *cursor_values(item)) for item in ordered]
    values = [tally_slot, *zip(*moves, strict=True)]
    numbered = list(enumerate(ordered, 1))
    rows = [[(number, *row) for number, item in numbered for row in change.rows(item)] for change in CHANGES]
    rows.append([(number, *each) for number, item in numbered for each in tallies.attempt_entries(item.attempts)])
    for part in rows:
        values += zip(*part, strict=True)
    found = await connection.fetch(settle_statement(tuple(map(bool, rows))), *values)
    moved = {expected_cursor(ordered[number - 1]) for (number,) in found}
    return [first[expected] is item and expected in moved for item in settles for expected in (expected_cursor(item),)]


def empty_settle() -> tuple[Any, ...]:
    """Return the statement for a batch that only moves cursors, and parameters for no cursor at all."""
    return (settle_statement((False,) * (len(CHANGES) + 1)), 0, *[()] * (len(CURSOR_COLUMNS) + 1))
