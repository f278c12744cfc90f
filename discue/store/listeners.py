"""Listeners, their health (liveness, consecutive failures, and sweeps of retries), and what deliveries change.

The owner of a cursor writes the health under the cursor's token, many rows in one statement. A row is valid for one
liveness URL and one configuration, so a change of either need not write to it.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cache
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final

import msgspec

from discue.domain.ids import millisecond_of
from discue.domain.listener_health import NO_FAILURES, FailureStreak, Liveness, with_new_url
from discue.domain.model import CursorCounts, DeliveryOptions, DisableReason, Listener, Queue
from discue.domain.system_events import ListenerDisabled, ListenerInactive, ListenerRecovered, SystemEvent
from discue.domain.window import Window
from discue.store import events, feed, queues, system_events
from discue.store.domains import requires_verified_domains
from discue.store.engine import PULL_OWNER, Row, Transaction
from discue.store.events import Occurrence
from discue.store.pagination import Listing, Selection, Table, browse, listed, of_customer
from discue.store.tables import (
    by_index,
    chunks,
    padded,
    placeholders,
    prefixed,
    read_number,
    read_one,
    row_reader,
    rows_among,
    rows_at,
)

_HEALTH_COLUMNS: Final = (
    "url_hash, config_version, state, success_count, failure_count, last_success_at, last_failure_at, "
    "last_failure_status, last_failure_msg, in_a_row, changed_at, failed_at, failing_since, swept_through, sweep_until"
)
READ_HEALTH: Final = prefixed("liveness", _HEALTH_COLUMNS)
"""The columns for `parse_health`, to be read from a join."""

_TEXTS: Final = frozenset({"state", "last_failure_msg"})
_TYPES: Final = tuple("TEXT" if column in _TEXTS else "BIGINT" for column in _HEALTH_COLUMNS.split(", "))


class Sweep(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A pass over the retries of a cursor, oldest message first, even if they are not due."""

    through: int = 0
    """The last seq that was passed."""
    until: int = 0
    """The last seq of the sweep; equal to `through` if there is no sweep."""

    @property
    def is_on(self) -> bool:
        """Whether anything is left to pass."""
        return self.through < self.until


class ListenerHealth(msgspec.Struct, frozen=True, array_like=True, gc=False):
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


decode_delivery_options = msgspec.json.Decoder(DeliveryOptions).decode
"""Decodes the stored settings of a listener."""

_PLAIN: Final = (
    "id, organization, public_id, queue, alias, status, notify_url, liveness_url, secrets, config_version, created_at, "
    "updated_at, mode, disabled_by, status_changed_at, customer"
)
_COLUMNS: Final = (
    f"{prefixed('listener', _PLAIN)}, queue.public_id, queue.alias, queue.customer, listener.settings, queue.settings, "
    "queue.settings"
)
_FIELDS: Final = f"{_PLAIN}, queue_public_id, queue_alias, queue_customer, options, queue_retry, queue_title"
"""The fields that the columns have."""
_WIDTH: Final = len(_FIELDS.split(", "))
_from_row = row_reader(
    Listener,
    _FIELDS,
    options=decode_delivery_options,
    queue_retry=lambda settings: queues.read_settings(settings).retry,
    queue_title=lambda settings: queues.read_settings(settings).title,
)
_plain_values: Callable[[Listener], Row] = attrgetter(*_PLAIN.split(", "))

_WITH_QUEUE: Final = "JOIN queue ON queue.organization = listener.organization AND queue.id = listener.queue"
_WITH_QUEUES: Final = (
    f"JOIN queue ON {by_index('queue.organization', 'listener.organization')} AND queue.id = listener.queue"
)
"""For listeners of several queues."""
_IS_LIVE: Final = "listener.organization = $1 AND listener.deleted_at IS NULL AND queue.deleted_at IS NULL"
_LIVE: Final = f"SELECT {_COLUMNS} FROM listener {_WITH_QUEUE} WHERE {_IS_LIVE}"
_OF_ORGANIZATION: Final = f"SELECT {_COLUMNS} FROM listener {_WITH_QUEUES} WHERE {_IS_LIVE}"
_BY_PUBLIC_ID: Final = f"{_LIVE} AND listener.public_id = $2"
_OF_CUSTOMER: Final = f"{_BY_PUBLIC_ID} AND listener.customer = $3"
_FACTS: Final = (
    "queue_head.tail, cursor.version, queue_head.head, cursor.start_seq, cursor.position, cursor.ahead, "
    "cursor.acknowledged, cursor.missed, cursor.retrying, cursor.last_success_at, cursor.last_failure_at, "
    f"organization.settings, {READ_HEALTH}"
)
_TAIL: Final = 0
_WITH_FACTS: Final = """
    JOIN cursor ON cursor.organization = listener.organization AND cursor.listener = listener.id
        AND cursor.stream = 0
    JOIN queue_head ON queue_head.organization = listener.organization AND queue_head.queue = listener.queue
    JOIN organization ON organization.id = listener.organization AND organization.deleted_at IS NULL
    LEFT JOIN liveness ON liveness.organization = listener.organization AND liveness.listener = listener.id"""
# A given row is organization, stream and listener. The left join with the head keeps a planner from using the index
# `cursor_queue`, whose condition would follow from a plain one. A queue that is being removed may have no head.
_FACTS_OF: Final = f"""
    SELECT given.column3, {_FACTS} FROM ({{}}) AS given
    JOIN organization ON organization.id = $1 AND organization.deleted_at IS NULL
    JOIN cursor ON {by_index("cursor.organization", "given.column1")}
        AND cursor.listener = given.column3 AND cursor.stream = given.column2
    LEFT JOIN queue_head ON {by_index("queue_head.organization", "cursor.organization")}
        AND queue_head.queue = cursor.queue
    LEFT JOIN liveness ON {by_index("liveness.organization", "given.column1")}
        AND liveness.listener = given.column3"""
_FOUND: Final = f"""
    SELECT {_COLUMNS}, {_FACTS} FROM listener {_WITH_QUEUE} {_WITH_FACTS}
    WHERE {_IS_LIVE} AND listener.public_id = $2"""
_FOUND_OF_CUSTOMER: Final = f"{_FOUND} AND listener.customer = $3"
_COUNT_OF_CUSTOMER: Final = """
    SELECT count(*) FROM listener WHERE organization = $1 AND customer = $2 AND deleted_at IS NULL"""
_BY_ID: Final = f"{_LIVE} AND listener.id = $2"
_OF_QUEUE: Final = f"{_LIVE} AND listener.queue = $2"
_IDS: Final = "SELECT id FROM listener WHERE organization = $1 AND public_id IN ({})"
# The index of aliases covers all that is read of `named`: otherwise the planner would walk all listeners.
_OF_ALIAS: Final = f"""
    SELECT {_COLUMNS} FROM listener AS named
    JOIN listener ON listener.organization = named.organization AND listener.id = named.id
    {_WITH_QUEUES}
    WHERE named.organization = $1 AND named.alias = $2 AND listener.deleted_at IS NULL AND queue.deleted_at IS NULL"""
_INACTIVE: Final = f"""
    SELECT {_COLUMNS} FROM liveness
    JOIN listener ON {by_index("listener.organization", "liveness.organization")} AND listener.id = liveness.listener
    {_WITH_QUEUES}
    WHERE liveness.organization = $1 AND liveness.state = 'inactive'
        AND listener.deleted_at IS NULL AND queue.deleted_at IS NULL
    ORDER BY liveness.listener DESC LIMIT $2"""
_INSERT: Final = f"INSERT INTO listener ({_PLAIN}, settings) VALUES ({placeholders(1, 17)})"
INSERT_CURSOR: Final = """
    INSERT INTO cursor (organization, listener, stream, queue, owner, token, version, start_seq, until_seq, position,
        acknowledged, missed, retrying, last_success_at, last_failure_at)
    VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $9, 0, 0, 0, 0, 0)"""
"""Inserts a cursor. `until_seq` is that of a replay, and None for a live cursor."""
_UPDATE: Final = """
    UPDATE listener SET alias = $1, status = $2, notify_url = $3, liveness_url = $4, settings = $5,
        config_version = $6, updated_at = $7, disabled_by = $8, status_changed_at = $9, customer = $10
    WHERE organization = $11 AND id = $12 AND deleted_at IS NULL"""
_SET_SECRETS: Final = "UPDATE listener SET secrets = $1 WHERE organization = $2 AND id = $3"
_DISABLE: Final = """
    UPDATE listener SET status = 'disabled', config_version = config_version + 1, updated_at = $1,
        status_changed_at = $1, disabled_by = $2
    WHERE organization = $3 AND id = $4 AND config_version = $5 AND deleted_at IS NULL
    RETURNING public_id, alias"""
_MARK_DELETED: Final = """
    UPDATE listener SET deleted_at = $1 WHERE organization = $2 AND id = $3 AND deleted_at IS NULL"""
_IDS_OF_QUEUE: Final = """
    SELECT id FROM listener WHERE organization = $1 AND queue = $2 AND id > $3 ORDER BY id LIMIT $4"""
_QUEUES: Final = f"""
    SELECT listener.public_id, queue.public_id FROM listener {_WITH_QUEUE}
    WHERE listener.organization = $1 AND listener.public_id IN ({{}}) AND listener.deleted_at IS NULL"""


class ListenerFacts(msgspec.Struct, frozen=True):
    """The facts about a listener that deliveries change, and whether its domain must be verified."""

    counts: CursorCounts
    liveness: Liveness
    tail: int
    """The last seq of the queue that retention removed."""
    start_seq: int
    """The listener receives messages with higher seqs."""
    ahead: bytes | None
    """The settled messages beyond the position, as they are stored."""
    version: int
    """The version of the cursor of live messages."""
    must_be_verified: bool

    @property
    def window(self) -> Window:
        return Window.decode(self.counts.position, self.ahead)


async def get(tx: Transaction, organization: int, public_id: str, customer: str | None = None) -> Listener | None:
    """Find a listener; with a customer, only among theirs."""
    if customer is None:
        return await read_one(tx, _from_row, _BY_PUBLIC_ID, organization, public_id)
    return await read_one(tx, _from_row, _OF_CUSTOMER, organization, public_id, customer)


async def get_with_facts(
    tx: Transaction, organization: int, public_id: str, customer: str | None = None
) -> tuple[Listener, ListenerFacts] | None:
    """Find a listener like `get`, with the facts about it, in one statement."""
    if customer is None:
        row = await tx.row(_FOUND, organization, public_id)
    else:
        row = await tx.row(_FOUND_OF_CUSTOMER, organization, public_id, customer)
    if row is None:
        return None
    listener = _from_row(row[:_WIDTH])
    return listener, _facts(listener, row[_WIDTH:])


async def count_of_customer(tx: Transaction, organization: int, customer: str) -> int:
    return await read_number(tx, _COUNT_OF_CUSTOMER, organization, customer)


async def by_id(tx: Transaction, organization: int, listener: int) -> Listener | None:
    return await read_one(tx, _from_row, _BY_ID, organization, listener)


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[Listener]:
    """Read a page of the organization's listeners, or of those in `only`: public ids of listeners and of queues."""
    table = _table(_OF_ORGANIZATION, organization)
    if selection.alias is not None:
        table = Table("listener", _OF_ALIAS, (organization, selection.alias), "named.id", "listener.")
    table = of_customer(table, selection)
    if only is not None:
        table = await _among(tx, table, organization, only)
    found = await browse(tx, table.matching(msgspec.structs.replace(selection, alias=None)), selection)
    return found.with_items(map(_from_row, found.items))


async def inactive(tx: Transaction, organization: int, limit: int) -> list[Listener]:
    """Read listeners whose last known state is inactive, newest first.

    It is the state of the URL that was probed, which may have been changed since.
    """
    return [_from_row(row) for row in await tx.rows(_INACTIVE, organization, limit)]


async def _among(tx: Transaction, table: Table, organization: int, only: Collection[str]) -> Table:
    """Restrict a table of listeners to public ids of listeners and of queues, in one statement for any number."""
    rows = await rows_among(tx, _IDS, (organization,), list(only))
    chosen, owners = [row[0] for row in rows], await queues.ids_of(tx, organization, only)
    among, values = [], table.values
    for ids in (chosen, owners):
        # No row has the id -1.
        some = padded(ids, -1)
        among.append(placeholders(len(values) + 1, len(some)))
        values = (*values, *some)
    # Adding 0 keeps the planner from collecting and sorting all of them: the primary key has them in order.
    sql = f"{table.sql} AND (listener.id + 0 IN ({among[0]}) OR listener.queue + 0 IN ({among[1]}))"
    return msgspec.structs.replace(table, sql=sql, values=values)


async def page_of_queue(
    tx: Transaction, queue: Queue, selection: Selection, only: Collection[str] | None = None
) -> Listing[Listener]:
    """Read a page of the queue's listeners, or of those in `only` (public ids)."""
    table = of_customer(_table(_OF_QUEUE, queue.organization, queue.id), selection)
    return await listed(tx, table, selection, _from_row, only=only)


async def queues_of(tx: Transaction, organization: int, public_ids: Collection[str]) -> dict[str, str]:
    """Read the public ids of the queues that existing listeners are in, by those of the listeners."""
    return dict(await rows_among(tx, _QUEUES, (organization,), list(public_ids)))


async def insert(tx: Transaction, listener: Listener, head: int) -> None:
    """Insert a listener, and its cursor at `head`: it receives what comes later.

    Raises UniqueViolation if its alias is taken.
    """
    await tx.execute(_INSERT, *_plain_values(listener), _settings(listener))
    owner = PULL_OWNER if listener.mode == "pull" else None
    await tx.execute(INSERT_CURSOR, listener.organization, listener.id, 0, listener.queue, owner, 0, head, None, head)


async def update(tx: Transaction, listener: Listener) -> bool:
    """Update a listener. Returns False if it was deleted; raises UniqueViolation if its alias is taken."""
    urls = (listener.notify_url, listener.liveness_url)
    values = (listener.alias, listener.status, *urls, _settings(listener), listener.config_version, listener.updated_at)
    status = (listener.disabled_by, listener.status_changed_at)
    key = (listener.organization, listener.id)
    return await tx.execute(_UPDATE, *values, *status, listener.customer, *key) == 1


async def set_secrets(tx: Transaction, organization: int, listener: int, secrets: bytes) -> None:
    """Store secrets in their stored form: encrypted, or not."""
    await tx.execute(_SET_SECRETS, secrets, organization, listener)


async def disable(
    tx: Transaction,
    organization: int,
    listener: int,
    config_version: int,
    *,
    disabled_by: DisableReason,
    occurrence: Occurrence,
) -> bool:
    """Disable a listener, and record it in the change feed. Returns False if its configuration has changed."""
    now = millisecond_of(occurrence.id)
    changed = await tx.row(_DISABLE, now, disabled_by, organization, listener, config_version)
    if changed is None:
        return False
    if (names := await system_events.names_of(tx, organization, listener)) is not None:
        event = ListenerDisabled(at=now, listener=names[0], queue=names[1], reason=disabled_by)
        await system_events.record(tx, organization, occurrence.id, event)
    await feed.record(tx, "listener", organization, listener)
    ref, name = changed
    await events.record(tx, occurrence, "listener_updated", organization, ref=ref, name=name, changes=("disabled",))
    return True


async def mark_deleted(tx: Transaction, organization: int, listener: int, now: int) -> bool:
    return await tx.execute(_MARK_DELETED, now, organization, listener) == 1


async def ids_of_queue(tx: Transaction, organization: int, queue: int, after: int, *, limit: int) -> list[int]:
    """Read row ids of the queue's listeners above `after`, including deleted ones."""
    return [row[0] for row in await tx.rows(_IDS_OF_QUEUE, organization, queue, after, limit)]


async def read_facts(tx: Transaction, organization: int, listeners: Sequence[Listener]) -> dict[int, ListenerFacts]:
    """Read the facts about an organization's listeners, by row id."""
    known = {listener.id: listener for listener in listeners}
    rows = await rows_at(tx, _FACTS_OF, (organization, 0), list(known))
    return {row_id: _facts(known[row_id], facts) for row_id, *facts in rows if facts[_TAIL] is not None}


def _facts(listener: Listener, row: Sequence[Any]) -> ListenerFacts:
    tail, version, head, start_seq, position, ahead, *counted, owner_settings = row[:12]
    settled_ahead = Window.decode(position, ahead).settled_count_beyond if ahead else 0
    return ListenerFacts(
        CursorCounts(head, position, settled_ahead, *counted),
        parse_health(row[12:], listener.liveness_url, listener.config_version).liveness,
        tail,
        start_seq,
        ahead,
        version,
        requires_verified_domains(owner_settings),
    )


def _table(sql: str, organization: int, *values: int) -> Table:
    return Table("listener", sql, (organization, *values), "listener.id", "listener.")


def _settings(listener: Listener) -> str:
    return msgspec.json.encode(listener.options).decode()
