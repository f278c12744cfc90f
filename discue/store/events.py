"""Events: recording what happens in the control plane, and reading usage events."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from discue.domain.ids import event_id_of, millisecond_in, millisecond_of, row_id_up_to
from discue.store import tallies
from discue.store.engine import Row, Transaction, Value
from discue.store.pagination import LARGEST
from discue.store.tallies import TallyEntry

EventKind = Literal[
    "api_key_added",
    "api_key_updated",
    "api_key_deleted",
    "queue_added",
    "queue_updated",
    "queue_deleted",
    "listener_added",
    "listener_updated",
    "listener_deleted",
    "organization_added",
    "organization_updated",
    "organization_deleted",
    "domain_added",
    "domain_updated",
    "domain_deleted",
    "user_added",
    "user_updated",
    "user_deleted",
    "lockout",
    "topic_added",
    "topic_updated",
    "topic_deleted",
    "channel_added",
    "channel_updated",
    "channel_deleted",
]

_INSERT_EVENT: Final = "INSERT INTO event (organization, id, kind, client, ref, name) VALUES ($1, $2, $3, $4, $5, $6)"


class Occurrence(NamedTuple):
    """A moment, as a row id made before the transaction; and the public id of the API key at work, or ""."""

    id: int
    client: str


async def record(
    tx: Transaction, occurrence: Occurrence, kind: EventKind, organization: int, ref: str, name: str
) -> None:
    """Say what happened, in the transaction that does it. An occurrence stands for one event of an organization.

    `ref` and `name` are the public id and the alias of what it happened to, as they stand afterwards.
    """
    await tx.execute(_INSERT_EVENT, organization, occurrence.id, kind, occurrence.client, ref, name)
    period = tallies.period_of(millisecond_of(occurrence.id))
    await tallies.add(tx, [TallyEntry(organization, period, tallies.EVENT_KINDS[kind], 1)])


EventTopic = Literal["all", "api_keys", "listeners", "messages", "queues"]

_SUBJECTS: Final = {"api_keys": "api_key", "listeners": "listener", "queues": "queue"}
_VERBS: Final = ("added", "updated", "deleted")

_SCANNED_AT_ONCE: Final = 500
_SCANS: Final = 10
_ATTEMPTS_OF_A_MESSAGE: Final = 10_000
_ABOVE_EVERY_ID: Final = "z" * 22

_RECORDED: Final = "SELECT id, kind, client, ref, name FROM event WHERE organization = $1"
# What is looked up for a row is so in a subquery of its own: to join, a planner that knows nothing of the tables reads
# all queues of the organization.
_LIVE: Final = "FROM {} x WHERE x.organization = {} AND x.id = {} AND x.deleted_at IS NULL"
# A message of a topic may be in several queues, and is there as long as one of them is.
_ADDED: Final = f"""
    SELECT l.id, l.alias, CASE WHEN l.body_id IS NULL
        THEN (SELECT x.id {_LIVE.format("queue", "l.organization", "l.queue")})
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
    """Something that happened to a `subject`, by its public id and its name at that time.

    A message's name is the one that it has now. `client` is the public id of the API key that did it, or "";
    `listener` the id and name of the one that a message was published to.
    """

    id: str
    type: str
    subject: str
    ref: str
    name: str
    client: str = ""
    listener: tuple[str, str] | None = None

    @property
    def stored_at(self) -> int:
        return millisecond_in(self.id)


class EventQuery(msgspec.Struct, frozen=True):
    """Which events: behind an id, of one topic, and where `only` is not None, of these things alone (public ids).

    The newest `limit` of them, newest first; or the oldest ones, `oldest_first`.
    """

    organization: int
    after: str
    limit: int
    topic: EventTopic = "all"
    only: Collection[str] | None = None
    oldest_first: bool = False


class EventBatch(NamedTuple):
    """Events in the order that was wanted.

    `end` is None if they are all that is wanted, or as many. Else so many rows of what is no more had to be passed
    that the search was given up at this id: nothing is missing up to there.
    """

    events: Sequence[UsageEvent]
    end: str | None


class _Line(msgspec.Struct, frozen=True):
    """Rows of one sort, in the order of their first column, the key.

    `sql` is a query of `values` that ends in a WHERE clause. `event` says what a row stands for: None for what is not
    there any more. `above` and `below` bound the keys.
    """

    sql: str
    values: tuple[Value, ...]
    column: str
    above: Any
    below: Any
    id_of: Callable[[Any], str]
    event: Callable[[Row], UsageEvent | None]

    def statement(self, *, oldest_first: bool) -> str:
        number = len(self.values) + 1
        bounds = f"{self.column} > ${number} AND {self.column} < ${number + 1}"
        direction = "" if oldest_first else " DESC"
        return f"{self.sql} AND {bounds} ORDER BY {self.column}{direction} LIMIT ${number + 2}"


async def find(tx: Transaction, wanted: EventQuery) -> EventBatch:
    """Costs `limit` rows of each sort, and some steps over those of what was deleted."""
    parts = [await _scan(tx, line, wanted) for line in _lines(wanted)]
    if wanted.only is not None and wanted.topic in ("all", "messages"):
        parts.append(EventBatch(await _of_messages(tx, wanted, wanted.only), None))
    return _merged(parts, wanted)


def _merged(parts: Sequence[EventBatch], wanted: EventQuery) -> EventBatch:
    """Where one part was given up, what the others have beyond that is left out: nobody comes back for the rest."""
    events = sorted((event for part in parts for event in part.events), key=_id, reverse=not wanted.oldest_first)
    ends = sorted(part.end for part in parts if part.end is not None)
    if not ends:
        return EventBatch(events[: wanted.limit], None)
    end = ends[0] if wanted.oldest_first else ends[-1]
    seen = [event for event in events if (event.id <= end if wanted.oldest_first else event.id >= end)]
    return EventBatch(seen[: wanted.limit], None if len(seen) >= wanted.limit else end)


async def _scan(tx: Transaction, line: _Line, wanted: EventQuery) -> EventBatch:
    """As many as wanted. Steps over rows of what is not there any more, and gives up if they are too many."""
    statement = line.statement(oldest_first=wanted.oldest_first)
    above, below, chunk = line.above, line.below, wanted.limit
    # Rows of one id are the same event: it does not matter which of them a chunk begins behind.
    found: dict[str, UsageEvent] = {}
    for _ in range(_SCANS):
        rows = await tx.rows(statement, *line.values, above, below, chunk)
        found |= {event.id: event for row in rows if (event := line.event(row)) is not None}
        if len(found) >= wanted.limit or len(rows) < chunk:
            return EventBatch(list(found.values())[: wanted.limit], None)
        above, below = (rows[-1][0], below) if wanted.oldest_first else (above, rows[-1][0])
        chunk = _SCANNED_AT_ONCE
    return EventBatch(list(found.values()), line.id_of(above if wanted.oldest_first else below))


def _lines(wanted: EventQuery) -> list[_Line]:
    """What is read in order. Of messages, that is all or nothing: chosen ones are looked up."""
    lines = _recorded(wanted)
    if wanted.only is None and wanted.topic in ("all", "messages"):
        lines += [_added(wanted), _attempted(wanted)]
    return lines


def _recorded(wanted: EventQuery) -> list[_Line]:
    kinds = _kinds(wanted.topic)
    if wanted.topic == "messages":
        return []
    if wanted.only is not None:
        return [_recorded_line(wanted, " AND ref = $2", (ref,), kinds) for ref in sorted(wanted.only)]
    if kinds is not None:
        return [_recorded_line(wanted, " AND kind = $2", (kind,)) for kind in sorted(kinds)]
    return [_recorded_line(wanted, "", ())]


def _recorded_line(
    wanted: EventQuery, condition: str, values: tuple[Value, ...], kinds: Collection[str] | None = None
) -> _Line:
    def event(row: Row) -> UsageEvent | None:
        row_id, kind, client, ref, name = row
        if kinds is not None and kind not in kinds:
            return None
        return UsageEvent(event_id_of(row_id), kind, _subject(kind), ref, name, client)

    return _Line(
        sql=_RECORDED + condition,
        values=(wanted.organization, *values),
        column="id",
        above=row_id_up_to(wanted.after),
        below=LARGEST,
        id_of=event_id_of,
        event=event,
    )


def _added(wanted: EventQuery) -> _Line:
    return _Line(
        sql=_ADDED,
        values=(wanted.organization,),
        column="l.id",
        above=wanted.after,
        below=_ABOVE_EVERY_ID,
        id_of=str,
        event=_addition,
    )


def _attempted(wanted: EventQuery) -> _Line:
    return _Line(
        sql=_ATTEMPTED,
        values=(wanted.organization,),
        column="a.id",
        above=row_id_up_to(wanted.after),
        below=LARGEST,
        id_of=event_id_of,
        event=_attempt,
    )


async def _of_messages(tx: Transaction, wanted: EventQuery, only: Collection[str]) -> list[UsageEvent]:
    found: list[UsageEvent | None] = []
    # One by one: a list of ids is filtered by, not searched for, where the planner knows nothing of the table.
    for public_id in sorted(only):
        rows = await tx.rows(_CHOSEN, wanted.organization, public_id)
        found += [_addition(row) for row in rows[:1]]
        for row in rows:
            attempts = await tx.rows(_OF_MESSAGE, wanted.organization, row[3], row[4], _ATTEMPTS_OF_A_MESSAGE)
            found += map(_attempt, attempts)
    return [event for event in found if event is not None and event.id > wanted.after]


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


def _kinds(topic: EventTopic) -> frozenset[str] | None:
    """What can be recorded of a topic; None for everything."""
    subject = _SUBJECTS.get(topic)
    return None if subject is None else frozenset(f"{subject}_{verb}" for verb in _VERBS)


def _subject(kind: str) -> str:
    return kind.rpartition("_")[0] or kind


def _id(event: UsageEvent) -> str:
    return event.id
