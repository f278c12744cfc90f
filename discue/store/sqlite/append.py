"""Append on SQLite: numbers under the heads' rows, then the entries, in a statement or two for all queues."""

from collections.abc import Sequence

import apsw

from discue.store import tallies
from discue.store.engine import AlreadyDone, Append, Appended, QueueClosed, StaleConfiguration, Value
from discue.store.message_log import WAITING, appended
from discue.store.sqlite.once import Keys
from discue.store.sqlite.tally import count
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
    keys = Keys(connection, appends)
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
            stored = (item.organization, tallies.NOW, tallies.BYTES_STORED)
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
        entries.append(appended(entry, seq, stored_at))
    return Appended(item.organization, item.queue, tuple(entries))


def _refusal(connection: apsw.Connection, item: Append) -> Exception:
    found = connection.execute(
        "SELECT closed_at FROM queue_head WHERE organization = $1 AND queue = $2",
        (item.organization, item.queue),
    ).fetchall()
    return StaleConfiguration() if found and found[0][0] is None else QueueClosed()
