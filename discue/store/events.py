"""Events: recording them in the control plane, and reading them together with those of messages.

Only events of the control plane have rows. A message's row in the log says that it was added, and an attempt says that
it was published: so publishing and delivery write no additional rows.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

from discue.domain.errors import TooManyRequests
from discue.domain.ids import event_id_of, millisecond_in, millisecond_of, row_id_up_to
from discue.store import tallies
from discue.store.engine import Row, Transaction, Value
from discue.store.message_log import ABOVE_EVERY_ID
from discue.store.pagination import LARGEST
from discue.store.tallies import EventKind, TallyEntry

_INSERT_EVENT: Final = """
    INSERT INTO event (organization, id, kind, client, ref, name, user_id, changes)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"""


MOST_A_PERIOD: Final = 1_000
"""How many events of one kind an organization records in five minutes, for lockouts, changes and the kinds in
`_REFUSED_BEYOND`. Additions and deletions have no such limit: `creations_a_day` limits creations, and nothing is
deleted or ended more often than it was created.
"""
MOST_BEYOND: Final = 10
"""How many more are recorded of each author, so that a flood of one author's events hides none of another's."""
_REFUSED_BEYOND: Final[frozenset[EventKind]] = frozenset(
    {"api_key_updated", "organization_updated", "user_updated", "second_factor_added", "session_added"}
)
"""Kinds of access changes and of sign-ins. Beyond the limit, they are refused, so that each one is recorded. Others are
only counted.

Events without an author have no limit: the operator has caused them on the command line.
"""


class Occurrence(NamedTuple):
    """When, and by which API key or user, an event happened."""

    id: int
    """A row id made before the transaction."""
    client: str
    """The public id of the API key; empty for none."""
    user: str = ""
    """The public id of the user, or of the session of a customer in the portal; empty for none."""
    customer: str = ""
    """The customer of the session in the portal: all of their sessions are one author. Empty for other authors."""

    @property
    def author(self) -> str:
        """The subject of the author's budgets; empty without an author."""
        return f"customer {self.customer}" if self.customer else self.user or self.client


async def record(
    tx: Transaction,
    occurrence: Occurrence,
    kind: EventKind,
    organization: int,
    *,
    ref: str,
    name: str,
    changes: Sequence[str] = (),
) -> None:
    """Record an event in the transaction that causes it, and count it. An occurrence records one event per
    organization. Beyond `MOST_A_PERIOD` and `MOST_BEYOND`, some kinds are only counted, and others raise
    TooManyRequests.

    `ref` and `name` are the public id and the alias of the changed resource after the change, `changes` the names of
    its settings that have changed.
    """
    now = millisecond_of(occurrence.id)
    period = tallies.period_of(now)
    end, author = tallies.end_of(range(period, period + 1)), occurrence.author
    is_limited = bool(author) if kind in _REFUSED_BEYOND else kind == "lockout" or kind.endswith("_updated")
    count = await tallies.add_one(tx, TallyEntry(organization, period, tallies.EVENT_KINDS[kind], 1))
    is_limited = is_limited and count > MOST_A_PERIOD
    if is_limited and not await tallies.take_one(tx, organization, f"{kind} {author}", end=end, limit=MOST_BEYOND):
        if kind not in _REFUSED_BEYOND:
            return
        seconds = -((now - end) // 1_000)
        rule = f"In five minutes, {MOST_A_PERIOD} events `{kind}` can happen, and {MOST_BEYOND} more by each author."
        raise TooManyRequests(f"{rule} Try again in {seconds} s.", retry_after_seconds=seconds)
    values = (organization, occurrence.id, kind, occurrence.client, ref, name, occurrence.user, ",".join(changes))
    await tx.execute(_INSERT_EVENT, *values)


EventTopic = Literal["all", "api_keys", "listeners", "messages", "queues"]

_SUBJECTS: Final = {"api_keys": "api_key", "listeners": "listener", "queues": "queue"}

_ROWS_A_STEP: Final = 100
_PASSED: Final = 4_500
"""The number of rows that a scan reads in addition to those that are wanted, to pass rows of deleted resources."""
_ATTEMPTS_OF_A_MESSAGE: Final = 10_000
_RECORDED: Final = "SELECT id, kind, client, ref, name, user_id, changes FROM event WHERE organization = $1"
# Names are looked up in subqueries: for a join, a planner without statistics would read all queues of the organization.
_LIVE: Final = "FROM {} x WHERE x.organization = {} AND x.id = {} AND x.deleted_at IS NULL"
# A message of a topic may be in several queues, and exists as long as one of them does. System events were not added by
# a client, and are not counted as such.
_ADDED: Final = f"""
    SELECT l.id, l.alias, CASE WHEN l.body_id IS NULL
        THEN (SELECT x.id {_LIVE.format("queue", "l.organization", "l.queue")} AND x.is_system = 0)
        ELSE (SELECT o.queue FROM log o WHERE o.organization = l.organization AND o.id = l.id
            AND EXISTS (SELECT 1 {_LIVE.format("queue", "o.organization", "o.queue")}) LIMIT 1) END, l.queue, l.seq
    FROM log l WHERE l.organization = $1"""
_ATTEMPTED: Final = f"""
    SELECT a.id, a.error, l.id, l.alias, (SELECT x.id {_LIVE.format("queue", "a.organization", "a.queue")}),
        (SELECT x.public_id {_LIVE.format("listener", "a.organization", "a.listener")}),
        (SELECT x.alias {_LIVE.format("listener", "a.organization", "a.listener")})
    FROM attempt a LEFT JOIN log l ON l.organization = a.organization AND l.queue = a.queue AND l.seq = a.seq
    WHERE a.organization = $1"""
_CHOSEN: Final = f"{_ADDED} AND l.id = $2 LIMIT 100"
_OF_MESSAGE: Final = f"{_ATTEMPTED} AND a.queue = $2 AND a.seq = $3 LIMIT $4"


class UsageEvent(msgspec.Struct, frozen=True):
    """An event."""

    id: str
    type: str
    subject: str
    ref: str
    """The public id of the resource that it happened to."""
    name: str
    """The alias of the resource at that time; of a message, its current alias."""
    client: str = ""
    """The public id of the API key that caused it; empty for none."""
    user: str = ""
    """The public id of the user, or of the session of a customer, who caused it; empty for none."""
    listener: tuple[str, str] | None = None
    """The id and alias of the listener that a message was published to."""
    changes: tuple[str, ...] = ()
    """The names of the settings that have changed, as in the API; of a status, its new value. Events of programs before
    schema version 29 have none."""

    @property
    def stored_at(self) -> int:
        return millisecond_in(self.id)


class EventQuery(msgspec.Struct, frozen=True):
    """A query for events of an organization."""

    organization: int
    after: str
    """Only events with larger ids."""
    limit: int
    topic: str = "all"
    """An `EventTopic`, or, on pages, the subject of events, such as `domain` or `lockout`."""
    only: Collection[str] | None = None
    """Only events of these resources, by public ids; None: of all."""
    oldest_first: bool = False
    """Whether the oldest `limit` events are read, in this order, instead of the newest."""
    below: str = ABOVE_EVERY_ID
    """Only events with smaller ids."""
    has_messages: bool = True
    """Whether messages that were added and published are among all events."""
    author: str = ""
    """The public id of the user or API key whose changes are selected; "" for all changes."""


class EventBatch(NamedTuple):
    """Events in the order of the query."""

    events: Sequence[UsageEvent]
    end: str | None
    """None if the query is complete. Otherwise the scan stopped at this id, after too many rows of deleted resources:
    no event up to it is missing.
    """


class _Line(msgspec.Struct, frozen=True):
    """Rows of one kind in the order of their key."""

    sql: str
    """A query of `values` that selects the key first and ends in a WHERE clause."""
    values: tuple[Value, ...]
    column: str
    above: Any
    """A lower bound of the keys, excluded, like the upper bound `below`."""
    below: Any
    id_of: Callable[[Any], str]
    event: Callable[[Row], UsageEvent | None]
    """Returns the event of a row; None if its resource was deleted."""


async def find(tx: Transaction, wanted: EventQuery) -> EventBatch:
    """Find events. Costs `limit` rows of each kind, and some more to pass rows of deleted resources."""
    parts, lines = [], _recorded(wanted)
    if wanted.topic == "messages" or (wanted.topic == "all" and wanted.has_messages):
        if wanted.only is None:
            added = _Line(_ADDED, (wanted.organization,), "l.id", wanted.after, wanted.below, str, _addition)
            lines += [added, _by_row_id(wanted, _ATTEMPTED, "a.id", _attempt)]
        else:
            parts.append(EventBatch(await _of_messages(tx, wanted, wanted.only), None))
    return _merged([*parts, *[await _scan(tx, line, wanted) for line in lines]], wanted)


def _merged(parts: Sequence[EventBatch], wanted: EventQuery) -> EventBatch:
    """Merge parts in order. If one stopped early, omit what others have beyond its end: it would never be completed."""
    merged = [event for part in parts for event in part.events]
    events = sorted(merged, key=lambda event: event.id, reverse=not wanted.oldest_first)
    ends = sorted(part.end for part in parts if part.end is not None)
    if not ends:
        return EventBatch(events[: wanted.limit], None)
    end = ends[0] if wanted.oldest_first else ends[-1]
    seen = [event for event in events if (event.id <= end if wanted.oldest_first else event.id >= end)]
    return EventBatch(seen[: wanted.limit], None if len(seen) >= wanted.limit else end)


async def _scan(tx: Transaction, line: _Line, wanted: EventQuery) -> EventBatch:
    """Scan one kind of rows. Stops early after too many rows of deleted resources."""
    number = len(line.values) + 1
    bounds = f"{line.column} > ${number} AND {line.column} < ${number + 1}"
    order = f"ORDER BY {line.column} {'ASC' if wanted.oldest_first else 'DESC'} LIMIT ${number + 2}"
    above, below, left = line.above, line.below, wanted.limit + _PASSED
    # Rows with one id are the same event, so a step may begin after any of them.
    found: dict[str, UsageEvent] = {}
    while left:
        # A row with a large body takes long to find, and `Engine.search` lets other tasks run between statements.
        count = min(left, _ROWS_A_STEP)
        rows = await tx.rows(f"{line.sql} AND {bounds} {order}", *line.values, above, below, count)
        found |= {event.id: event for row in rows if (event := line.event(row)) is not None}
        if len(found) >= wanted.limit or len(rows) < count:
            return EventBatch(list(found.values())[: wanted.limit], None)
        above, below = (rows[-1][0], below) if wanted.oldest_first else (above, rows[-1][0])
        left -= count
    return EventBatch(list(found.values()), line.id_of(above if wanted.oldest_first else below))


def _recorded(wanted: EventQuery) -> list[_Line]:
    if wanted.topic == "messages":
        return []
    subject = _SUBJECTS.get(wanted.topic, wanted.topic)
    every = sorted(get_args(EventKind))
    kinds = None if subject == "all" else [each for each in every if subject in (each, each.rpartition("_")[0])]

    def event(row: Row) -> UsageEvent | None:
        row_id, kind, client, ref, name, user, changes = row
        if (kinds is not None and kind not in kinds) or wanted.author not in ("", client, user):
            return None
        subject = kind.rpartition("_")[0] or kind
        names = tuple(changes.split(",")) if changes else ()
        return UsageEvent(event_id_of(row_id), kind, subject, ref, name, client, user, changes=names)

    if wanted.only is not None:
        return [_by_row_id(wanted, f"{_RECORDED} AND ref = $2", "id", event, ref) for ref in sorted(wanted.only)]
    if kinds is not None:
        return [_by_row_id(wanted, f"{_RECORDED} AND kind = $2", "id", event, kind) for kind in kinds]
    return [_by_row_id(wanted, _RECORDED, "id", event)]


def _by_row_id(
    wanted: EventQuery, sql: str, column: str, event: Callable[[Row], UsageEvent | None], *values: Value
) -> _Line:
    below = row_id_up_to(wanted.below)
    if event_id_of(below) != wanted.below:
        # No row has exactly this id: the last one before it is wanted, too.
        below = min(below + 1, LARGEST)
    return _Line(sql, (wanted.organization, *values), column, row_id_up_to(wanted.after), below, event_id_of, event)


async def _of_messages(tx: Transaction, wanted: EventQuery, only: Collection[str]) -> list[UsageEvent]:
    # The events of chosen messages are few: they need no scan, and are never cut short.
    found: list[UsageEvent | None] = []
    # One by one: without statistics, the planner would filter by a list of ids instead of searching for each.
    for public_id in sorted(only):
        rows = await tx.rows(_CHOSEN, wanted.organization, public_id)
        found += [_addition(row) for row in rows[:1]]
        for row in rows:
            attempts = await tx.rows(_OF_MESSAGE, wanted.organization, row[3], row[4], _ATTEMPTS_OF_A_MESSAGE)
            found += map(_attempt, attempts)
    return [event for event in found if event is not None and wanted.after < event.id < wanted.below]


def _addition(row: Row) -> UsageEvent | None:
    public_id, alias, queue, *_ = row
    if queue is None:
        return None
    return UsageEvent(public_id, "message_added", "message", public_id, alias or public_id)


def _attempt(row: Row) -> UsageEvent | None:
    row_id, error, message, alias, queue, listener, listener_alias = row
    if message is None or queue is None or listener is None:
        return None
    kind = "message_published_not_ok" if error else "message_published_ok"
    to = (listener, listener_alias)
    return UsageEvent(event_id_of(row_id), kind, "message", message, alias or message, listener=to)
