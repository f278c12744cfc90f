"""Append on SQLite: raise heads, store messages and idempotency keys, in a few statements for all queues."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final, cast

import apsw

from discue.store import tallies
from discue.store.batch_rows import ENTRY_COLUMNS, Values, entry_values
from discue.store.engine import (
    AlreadyDone,
    Append,
    Appended,
    IdempotencyRecord,
    QueueClosed,
    StaleConfiguration,
    TopicAppend,
)
from discue.store.idempotency import ResponseGroup, encode_responses, repeated
from discue.store.message_log import entry_of_new
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
# A failure rolls the whole transaction back. Without OR FAIL, SQLite would prepare to undo the statement alone, and
# copy each page before changing it: that is a page per message, since ids are spread over their index.
_INSERT: Final = statement_of_rows(
    lambda values: (
        f"INSERT OR FAIL INTO log (organization, queue, seq, stored_at, {', '.join(ENTRY_COLUMNS)}) VALUES {values}"
    ),
    columns=4 + len(ENTRY_COLUMNS),
)
_SCHEDULE: Final = statement_of_rows(
    lambda values: (
        f"INSERT OR FAIL INTO scheduled (organization, queue, origin_seq, due_at, size, key_hash) VALUES {values}"
    ),
    columns=6,
)
_ADD_COUNTS: Final = statement_of_rows(
    lambda values: (
        f"INSERT INTO tally (organization, period, kind, slot, n) VALUES {values} "
        "ON CONFLICT (organization, period, kind, slot) DO UPDATE SET n = n + excluded.n"
    ),
    columns=5,
)
_INSERT_KEYS: Final = statement_of_rows(
    lambda values: f"INSERT OR IGNORE INTO idempotency_key (key, answers) VALUES {values}", columns=2
)
_FIND_KEYS: Final = statement_of_rows(
    lambda values: f"SELECT key, answers FROM idempotency_key WHERE key IN (VALUES {values})", columns=1
)
_DELETE_KEYS: Final = statement_of_rows(
    lambda values: f"DELETE FROM idempotency_key WHERE key IN (VALUES {values})", columns=1
)
_INSERT_RESPONSES: Final = statement_of_rows(
    lambda values: (
        f"INSERT OR FAIL INTO idempotency_answers (organization, id, stored_at, size, content) VALUES {values}"
    ),
    columns=5,
)
_FIND_TOPICS: Final = statement_of_rows(
    lambda values: (
        "SELECT organization, id, routes_version FROM topic "
        f"WHERE (organization, id, routes_version) IN (VALUES {values})"
    ),
    columns=3,
)
_FIND_QUEUES: Final = statement_of_rows(
    lambda values: (
        "SELECT organization, queue, config_version FROM queue_head "
        f"WHERE (organization, queue, config_version) IN (VALUES {values}) AND closed_at IS NULL"
    ),
    columns=3,
)
_INSERT_BODIES: Final = statement_of_rows(
    lambda values: f"INSERT OR FAIL INTO body (organization, id, size, uses, bytes) VALUES {values}", columns=5
)

_Version = tuple[int, int, int]
"""Organization, queue or topic, and the version of its configuration or routes that was read."""


def append(connection: apsw.Connection, appends: Sequence[Append], tally_slot: int) -> list[Appended | Exception]:
    """Store the messages; must run inside a write transaction. A queue's appends get their seqs in the given order."""
    if not appends:
        return []
    # Keys come first: a repeated request must not raise a head, which would leave a hole in the seqs.
    keys = _IdempotencyKeys(connection, appends)
    heads = _raise_heads(connection, [item for number, item in enumerate(appends) if number not in keys.repeated])
    results: list[Appended | Exception] = []
    rows: list[Values] = []
    scheduled: list[Values] = []
    counts: dict[tuple[int, int, int], int] = {}
    for number, item in enumerate(appends):
        if number in keys.repeated:
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
            rows.append((item.organization, item.queue, seq, stored_at, *entry_values(entry)))
            if entry.due_at is not None:
                scheduled.append((item.organization, item.queue, seq, entry.due_at, len(entry.body), entry.key_hash))
            entries.append(entry_of_new(entry, seq, stored_at))
        results.append(Appended(item.organization, item.queue, tuple(entries)))
        added = (item.organization, item.now // tallies.PERIOD_MS, tallies.MESSAGE_ADDED)
        stored = (item.organization, tallies.CURRENT, tallies.BYTES_STORED)
        counts[added] = counts.get(added, 0) + len(entries)
        counts[stored] = counts.get(stored, 0) + item.bytes
    _write(connection, _INSERT, rows)
    _write(connection, _SCHEDULE, scheduled)
    keys.store_responses(appends, results)
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
    bodies = [
        (item.organization, body.id, len(body.content), body.uses, body.content)
        for item in accepted
        for body in item.bodies
    ]
    _write(connection, _INSERT_BODIES, bodies)
    # None is refused any more: nothing else writes meanwhile.
    stored = iter(append(connection, [each for item in accepted for each in item.appends], tally_slot))
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


def _refusal(connection: apsw.Connection, item: Append) -> Exception:
    found = connection.execute(
        "SELECT closed_at FROM queue_head WHERE organization = $1 AND queue = $2",
        (item.organization, item.queue),
    ).fetchall()
    return StaleConfiguration() if found and found[0][0] is None else QueueClosed()


def _refusals(connection: apsw.Connection, topic_appends: Sequence[TopicAppend]) -> dict[int, Exception]:
    """Return why each topic append that cannot be stored is refused, by its place in the batch."""
    halves = [(item.idempotency_record.key[0],) for item in topic_appends if item.idempotency_record is not None]
    stored = {row[0] for row in _existing(connection, _FIND_KEYS, halves)}
    refusals: dict[int, Exception] = {number: AlreadyDone() for number in repeated(topic_appends, stored)}
    topics = _existing(connection, _FIND_TOPICS, (_topic_of(item) for item in topic_appends))
    queues = _existing(connection, _FIND_QUEUES, (queue for item in topic_appends for queue in _queues_of(item)))
    for number, item in enumerate(topic_appends):
        if _topic_of(item) not in topics or not queues.issuperset(_queues_of(item)):
            refusals.setdefault(number, StaleConfiguration())
    return refusals


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


class _IdempotencyKeys:
    """The idempotency keys of the appends of one transaction.

    They are inserted first, which tells those that are stored already. Each key costs the page of the index that it is
    on, and little more: responses of several keys share a row.
    """

    def __init__(self, connection: apsw.Connection, appends: Sequence[Append]) -> None:
        self._connection = connection
        self._groups: dict[int, list[tuple[int, IdempotencyRecord]]] = {}
        """By the id of the row that has their responses: the keys of one queue, each with its place in the batch."""
        self.repeated: set[int] = set()
        """The places of appends whose key was used before, in the batch or earlier."""
        rows: dict[int, int] = {}
        groups: dict[_Version, ResponseGroup] = {}
        for number, item in enumerate(appends):
            record = item.idempotency_record
            if record is None:
                continue
            half = record.key[0]
            if half in rows:
                self.repeated.add(number)
                continue
            version = (item.organization, item.queue, item.config_version)
            group = groups.get(version)
            if group is None:
                group = groups[version] = ResponseGroup()
            rows[half] = row_id = group.add(record)
            self._groups.setdefault(row_id, []).append((number, record))
        if rows and (used := self._insert(rows)):
            for group_keys in self._groups.values():
                self.repeated.update(number for number, record in group_keys if record.key[0] in used)

    def _insert(self, rows: dict[int, int]) -> set[int]:
        """Insert the keys, and return those that were stored before."""
        used: set[int] = set()
        for chunk in chunks(sorted(rows.items())):
            self._connection.execute(_INSERT_KEYS(len(chunk)), tuple(chain.from_iterable(chunk)))
            if self._connection.changes() < len(chunk):
                known = self._connection.execute(_FIND_KEYS(len(chunk)), [key for key, _ in chunk])
                used.update(key for key, row_id in known if row_id != rows[key])
        return used

    def store_responses(self, appends: Sequence[Append], results: Sequence[Appended | Exception]) -> None:
        """Store the responses of what was appended, and delete the keys of what was refused."""
        rows: list[Values] = []
        refused: list[int] = []
        for row_id, group_keys in self._groups.items():
            new = [each for each in group_keys if each[0] not in self.repeated] if self.repeated else group_keys
            if not new:
                continue
            # All of a group are of one queue and one version of its configuration: all are appended, or all refused.
            number, records = new[0][0], [record for _, record in new]
            result = results[number]
            if isinstance(result, Appended):
                content = encode_responses(records)
                rows.append((appends[number].organization, row_id, result.entries[0].stored_at, len(content), content))
            else:
                refused += [record.key[0] for record in records]
        _write(self._connection, _INSERT_RESPONSES, rows)
        for halves in chunks(refused):
            self._connection.execute(_DELETE_KEYS(len(halves)), list(halves))
