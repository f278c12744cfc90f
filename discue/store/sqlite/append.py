"""Append on SQLite: numbers under the heads' rows, then the entries, in a statement or two for all queues."""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import apsw

from discue.store import tallies
from discue.store.engine import (
    AlreadyDone,
    Append,
    Appended,
    IdempotencyRecord,
    QueueClosed,
    StaleConfiguration,
    TopicAppend,
    Value,
)
from discue.store.idempotency import ResponseGroup, encode_responses
from discue.store.message_log import WAITING, entry_of_new
from discue.store.tables import chunks, statement_of_rows
from discue.store.tallies import TallyEntry

_RAISE_HEADS = statement_of_rows(
    lambda values: (
        "UPDATE queue_head SET head = head + new.column4, last_stored_at = max(last_stored_at, new.column5) "
        f"FROM (VALUES {values}) AS new WHERE queue_head.organization = new.column1 AND queue_head.queue = new.column2 "
        "AND queue_head.config_version = new.column3 AND queue_head.closed_at IS NULL "
        "RETURNING queue_head.organization, queue_head.queue, queue_head.config_version, head, last_stored_at"
    ),
    columns=5,
)
# What fails takes the whole transaction back. Without OR FAIL, SQLite would prepare to take back the statement alone,
# and copy every page beforehand that it changes: of keys, which stand anywhere, that is a page for each.
_INSERT = statement_of_rows(
    lambda values: (
        "INSERT OR FAIL INTO log (organization, queue, seq, id, stored_at, kind, alias, expires_at, key_hash, extra, "
        f"size, codec, body) VALUES {values}"
    ),
    columns=13,
)
# Of a body that several rows share, each has its id.
_INSERT_SHARING = statement_of_rows(
    lambda values: (
        "INSERT OR FAIL INTO log (organization, queue, seq, id, stored_at, kind, alias, expires_at, key_hash, extra, "
        f"size, codec, body_id) VALUES {values}"
    ),
    columns=13,
)
_SCHEDULE = statement_of_rows(
    lambda values: (
        f"INSERT OR FAIL INTO scheduled (organization, queue, origin_seq, due_at, size, key_hash) VALUES {values}"
    ),
    columns=6,
)

_Head = tuple[int, int, int]
"""Organization, queue and the configuration version that the messages were checked against."""


def append(connection: apsw.Connection, appends: Sequence[Append], tally_slot: int) -> list[Appended | Exception]:
    """Must run inside a write transaction. Appends to one queue get their numbers in the order given."""
    if not appends:
        return []
    keys = _IdempotencyKeys(connection, appends)
    heads = _raise_heads(connection, [item for number, item in enumerate(appends) if number not in keys.repeated])
    answers: list[Appended | Exception] = []
    rows: list[tuple[Value, ...]] = []
    sharing: list[tuple[Value, ...]] = []
    scheduled: list[tuple[Value, ...]] = []
    for number, item in enumerate(appends):
        if number in keys.repeated:
            answers.append(AlreadyDone())
            continue
        head = heads.get((item.organization, item.queue, item.config_version))
        if head is None:
            answers.append(_refusal(connection, item))
            continue
        first, stored_at = head
        heads[item.organization, item.queue, item.config_version] = (first + len(item.entries), stored_at)
        answers.append(_placed(item, first, stored_at, (rows, sharing)))
        scheduled += [
            (item.organization, item.queue, seq, entry.due_at, len(entry.body), entry.key_hash)
            for seq, entry in enumerate(item.entries, first)
            if entry.due_at is not None
        ]
    for text, values in ((_INSERT, rows), (_INSERT_SHARING, sharing), (_SCHEDULE, scheduled)):
        for chunk in chunks(values):
            connection.execute(text(len(chunk)), [value for row in chunk for value in row])
    keys.answer(appends, answers)
    count(connection, _counted(appends, answers), tally_slot)
    return answers


def _counted(appends: Sequence[Append], answers: Sequence[Appended | Exception]) -> list[TallyEntry]:
    counts: dict[tuple[int, int, int], int] = {}
    for item, answer in zip(appends, answers, strict=True):
        if isinstance(answer, Appended):
            added = (item.organization, item.now // tallies.PERIOD_MS, tallies.MESSAGE_ADDED)
            stored = (item.organization, tallies.CURRENT, tallies.BYTES_STORED)
            counts[added] = counts.get(added, 0) + len(item.entries)
            counts[stored] = counts.get(stored, 0) + item.bytes
    return [TallyEntry(*place, n) for place, n in counts.items()]


def _raise_heads(connection: apsw.Connection, appends: Sequence[Append]) -> dict[_Head, tuple[int, int]]:
    """The first free seq and the storing time of each queue that takes its messages."""
    counts: dict[_Head, int] = {}
    latest = 0
    for item in appends:
        head = (item.organization, item.queue, item.config_version)
        counts[head] = counts.get(head, 0) + len(item.entries)
        latest = max(latest, item.now)
    raised: dict[_Head, tuple[int, int]] = {}
    for chunk in chunks(sorted(counts)):
        values = [value for head in chunk for value in (*head, counts[head], latest)]
        for organization, queue, version, last, stored_at in connection.execute(_RAISE_HEADS(len(chunk)), values):
            head = (organization, queue, version)
            raised[head] = (last - counts[head] + 1, stored_at)
    return raised


def _placed(
    item: Append, first: int, stored_at: int, rows: tuple[list[tuple[Value, ...]], list[tuple[Value, ...]]]
) -> Appended:
    """`rows` are those with a body of their own, and those without."""
    own, sharing = rows
    entries = []
    for seq, entry in enumerate(item.entries, first):
        is_due = entry.due_at is None
        options = (entry.alias, entry.expires_at, entry.key_hash if is_due else None, entry.extra)
        is_own = entry.body_id is None
        content = (len(entry.body), 1 if entry.is_json else 0, entry.body if is_own else entry.body_id)
        kind = 0 if is_due else WAITING
        row = (item.organization, item.queue, seq, entry.id, stored_at, kind, *options, *content)
        (own if is_own else sharing).append(row)
        entries.append(entry_of_new(entry, seq, stored_at))
    return Appended(item.organization, item.queue, tuple(entries))


def _refusal(connection: apsw.Connection, item: Append) -> Exception:
    found = connection.execute(
        "SELECT closed_at FROM queue_head WHERE organization = $1 AND queue = $2",
        (item.organization, item.queue),
    ).fetchall()
    return StaleConfiguration() if found and found[0][0] is None else QueueClosed()


_TOPICS = statement_of_rows(
    lambda values: (
        "SELECT organization, id, routes_version FROM topic "
        f"WHERE (organization, id, routes_version) IN (VALUES {values})"
    ),
    columns=3,
)
_QUEUES = statement_of_rows(
    lambda values: (
        "SELECT organization, queue, config_version FROM queue_head "
        f"WHERE (organization, queue, config_version) IN (VALUES {values}) AND closed_at IS NULL"
    ),
    columns=3,
)
_INSERT_BODIES = statement_of_rows(
    lambda values: f"INSERT OR FAIL INTO body (organization, id, size, uses, bytes) VALUES {values}", columns=5
)

_Version = tuple[int, int, int]
"""Organization, topic or queue, and the version of what was known of it."""


def route(
    connection: apsw.Connection, routed: Sequence[TopicAppend], tally_slot: int
) -> list[tuple[Appended, ...] | Exception]:
    """Must run inside a write transaction."""
    if not routed:
        return []
    refusals = _refusals(connection, routed)
    fitting = [item for number, item in enumerate(routed) if number not in refusals]
    bodies: list[tuple[Value, ...]] = [
        (item.organization, body.id, len(body.content), body.uses, body.content)
        for item in fitting
        for body in item.bodies
    ]
    for chunk in chunks(bodies):
        connection.execute(_INSERT_BODIES(len(chunk)), [value for row in chunk for value in row])
    # All of them fit: nothing else writes meanwhile.
    stored = iter(append(connection, [each for item in fitting for each in item.appends], tally_slot))
    return [
        refusals[number] if number in refusals else tuple(cast("Appended", next(stored)) for _ in item.appends)
        for number, item in enumerate(routed)
    ]


def _refusals(connection: apsw.Connection, routed: Sequence[TopicAppend]) -> dict[int, Exception]:
    refusals: dict[int, Exception] = {number: AlreadyDone() for number in _repeated_in(connection, routed)}
    topics = _found(connection, _TOPICS, (_topic_of(item) for item in routed))
    queues = _found(connection, _QUEUES, (queue for item in routed for queue in _queues_of(item)))
    for number, item in enumerate(routed):
        if _topic_of(item) not in topics or not queues.issuperset(_queues_of(item)):
            refusals.setdefault(number, StaleConfiguration())
    return refusals


def _found(connection: apsw.Connection, text: Callable[[int], str], wanted: Iterable[_Version]) -> set[_Version]:
    found: set[_Version] = set()
    for chunk in chunks(sorted(set(wanted))):
        found.update(connection.execute(text(len(chunk)), [value for key in chunk for value in key]))
    return found


def _topic_of(item: TopicAppend) -> _Version:
    return item.organization, item.topic, item.routes_version


def _queues_of(item: TopicAppend) -> list[_Version]:
    return [(each.organization, each.queue, each.config_version) for each in item.appends]


_KEEP_KEYS = statement_of_rows(
    lambda values: f"INSERT OR IGNORE INTO idempotency_key (key, answers) VALUES {values}",
    columns=2,
)
_FOUND_KEYS = statement_of_rows(
    lambda values: f"SELECT key, answers FROM idempotency_key WHERE key IN (VALUES {values})",
    columns=1,
)
_DELETE_KEYS = statement_of_rows(
    lambda values: f"DELETE FROM idempotency_key WHERE key IN (VALUES {values})",
    columns=1,
)
_INSERT_ANSWERS = statement_of_rows(
    lambda values: (
        f"INSERT OR FAIL INTO idempotency_answers (organization, id, stored_at, size, content) VALUES {values}"
    ),
    columns=5,
)


def _repeated_in(connection: apsw.Connection, items: Sequence[Append | TopicAppend]) -> set[int]:
    """Which of them have an idempotency key that is kept already, or that an earlier one has."""
    keyed = [(number, item.once.key[0]) for number, item in enumerate(items) if item.once is not None]
    known: set[int] = set()
    for chunk in chunks(sorted({key for _, key in keyed})):
        known.update(key for key, _ in connection.execute(_FOUND_KEYS(len(chunk)), list(chunk)))
    repeated = set()
    for number, key in keyed:
        if key in known:
            repeated.add(number)
        known.add(key)
    return repeated


class _IdempotencyKeys:
    """Of the appends of one transaction. They are kept first of all, and whoever comes second is known by that.

    `repeated` has the places of those in the batch.
    """

    def __init__(self, connection: apsw.Connection, appends: Sequence[Append]) -> None:
        self._connection = connection
        self._together: dict[int, list[tuple[int, IdempotencyRecord]]] = {}
        """By the id of the row that has their answers: keys of one queue, each with its place."""
        self.repeated: set[int] = set()
        self._keep(appends)

    def _keep(self, appends: Sequence[Append]) -> None:
        rows: dict[int, int] = {}
        groups: dict[tuple[int, int, int], ResponseGroup] = {}
        for number, item in enumerate(appends):
            once = item.once
            if once is None:
                continue
            half = once.key[0]
            if half in rows:
                self.repeated.add(number)
                continue
            group = (item.organization, item.queue, item.config_version)
            together = groups.get(group)
            if together is None:
                together = groups[group] = ResponseGroup()
            rows[half] = id_of_row = together.add(once)
            self._together.setdefault(id_of_row, []).append((number, once))
        if rows and (found := self._insert(rows)):
            for kept in self._together.values():
                self.repeated.update(number for number, once in kept if once.key[0] in found)

    def _insert(self, rows: dict[int, int]) -> set[int]:
        """Which of the keys are somebody else's."""
        found: set[int] = set()
        for chunk in chunks(sorted(rows.items())):
            self._connection.execute(_KEEP_KEYS(len(chunk)), [value for row in chunk for value in row])
            if self._connection.changes() < len(chunk):
                known = self._connection.execute(_FOUND_KEYS(len(chunk)), [key for key, _ in chunk])
                found.update(key for key, answers in known if answers != rows[key])
        return found

    def answer(self, appends: Sequence[Append], outcomes: Sequence[Appended | Exception]) -> None:
        """Store what was appended with the keys, and take back the keys of what was refused."""
        rows: list[tuple[int, int, int, int, bytes]] = []
        refused: list[int] = []
        for id_of_row, together in self._together.items():
            new = [each for each in together if each[0] not in self.repeated] if self.repeated else together
            if not new:
                continue
            # All are of one queue and one version of its configuration: appended at one time, or refused.
            number, onces = new[0][0], [once for _, once in new]
            outcome = outcomes[number]
            if isinstance(outcome, Appended):
                content = encode_responses(onces)
                place = (appends[number].organization, id_of_row, outcome.entries[0].stored_at)
                rows.append((*place, len(content), content))
            else:
                refused += [once.key[0] for once in onces]
        for chunk in chunks(rows):
            self._connection.execute(_INSERT_ANSWERS(len(chunk)), [value for row in chunk for value in row])
        for halves in chunks(refused):
            self._connection.execute(_DELETE_KEYS(len(halves)), list(halves))


_ADD_COUNTS = statement_of_rows(
    lambda values: (
        f"INSERT INTO tally (organization, period, kind, slot, n) VALUES {values} "
        "ON CONFLICT (organization, period, kind, slot) DO UPDATE SET n = n + excluded.n"
    ),
    columns=5,
)


def count(connection: apsw.Connection, counted: Sequence[TallyEntry], slot: int) -> None:
    """Must run inside a write transaction."""
    for chunk in chunks(counted):
        values = [value for each in chunk for value in (each.organization, each.period, each.kind, slot, each.n)]
        connection.execute(_ADD_COUNTS(len(chunk)), values)
