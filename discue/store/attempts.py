"""Records of delivery attempts: as rows, and as lists of a message or a listener."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from discue.domain.attempts import Attempt, StoredAttempt
from discue.domain.ids import event_id_of, millisecond_of, row_id_at, row_id_up_to
from discue.domain.messages import StoredMessage
from discue.domain.model import Listener
from discue.store.engine import Detail, Row, Transaction, Value
from discue.store.pagination import (
    CLOCKS_APART_MS,
    LARGEST,
    InMemoryRows,
    Listing,
    Part,
    ScanLimits,
    ScanStep,
    Selection,
    Span,
    browse,
    browse_matching,
    nearest_row_id,
)
from discue.store.tables import by_index, rows_among, rows_at, rows_given

COLUMNS: Final = "organization, id, listener, queue, seq, number, status, error, took_ms, detail, replay"
DETAIL_COLUMNS: Final = "organization, id, listener, size, content"


row_of: Callable[[Attempt], tuple[Value, ...]] = attrgetter(
    "organization", "id", "listener", "queue", "seq", "number", "status", "error", "duration_ms", "detail", "replay"
)
"""Returns the values of `COLUMNS`."""


def detail_row(organization: int, listener: int, detail: Detail) -> tuple[Value, ...]:
    attempt, content = detail
    return organization, attempt, listener, len(content), content


MAX_PER_MESSAGE: Final = 10_000
"""The number of a message's attempts that are read; the rest of them are left out of lists."""

_LIMITS: Final = ScanLimits(first=200, step=9_800, in_all=10_000)
"""A page takes at most two steps of one statement, even if few of the organization's attempts are the listener's."""

_RECORD: Final = "a.id, a.number, a.status, a.error, a.detail, a.took_ms, a.replay"
_LISTENER: Final = """
    SELECT x.public_id FROM listener x
    WHERE x.organization = a.organization AND x.id = a.listener AND x.deleted_at IS NULL"""
_MESSAGE: Final = "SELECT x.id FROM log x WHERE x.organization = a.organization AND x.queue = a.queue AND x.seq = a.seq"
_OF_MESSAGE: Final = "FROM attempt a WHERE a.organization = $1 AND a.queue = $2 AND a.seq = $3 LIMIT $4"
_TO_CUSTOMER: Final = """
    FROM attempt a
    JOIN listener x ON x.organization = a.organization AND x.id = a.listener AND x.deleted_at IS NULL
    WHERE a.organization = $1 AND a.queue = $2 AND a.seq = $3 AND x.customer = $4 LIMIT $5"""
# SQLite numbers parameters as they appear: the listener is the second one in all conditions.
_IS_ANY: Final = "a.organization = $1 AND CAST($2 AS BIGINT) IS NOT NULL"
_IS_OF_LISTENER: Final = "a.organization = $1 AND a.listener = $2"
# Adding 0 keeps the planner from the primary key, by which it would pass all attempts of the organization.
_IS_FAILED: Final = "a.organization + 0 = $1 AND a.listener = $2 AND a.error <> ''"
# The end of a step is found first, by an index alone; then only matching rows up to there are read.
_STEP: Final = f"""
    WITH step (last) AS (
        SELECT a.id FROM attempt a WHERE {{scanned}} AND a.id > $3 AND a.id < $4
        ORDER BY a.id {{order}} LIMIT 1 OFFSET $5)
    SELECT step.last, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM step
    UNION ALL
    SELECT * FROM (
        SELECT {_RECORD}, ({_MESSAGE}) FROM attempt a WHERE {{matching}} AND {{bounds}}
        ORDER BY a.id {{order}} LIMIT ${{limit}}) AS looked_at"""
"""The last attempt of the step, if others follow it, without a number; and those that match."""
_WITHIN_STEP: Final = {
    "DESC": "a.id >= coalesce((SELECT step.last FROM step), $3 + 1) AND a.id < $4",
    "ASC": "a.id > $3 AND a.id <= coalesce((SELECT step.last FROM step), $4 - 1)",
}
"""Each has one lower and one upper bound, so that SQLite uses both."""
_ONE: Final = f"""
    SELECT {_RECORD}, ({_LISTENER}), ({_MESSAGE}), a.listener, a.queue, a.seq FROM attempt a
    WHERE a.organization = $1 AND a.id = $2"""
_SEARCHED: Final = 200
"""The number of a message's attempts that are searched for its last failure."""
_LAST_OF_LISTENERS: Final = f"""
    SELECT given.column3, {_RECORD} FROM ({{}}) AS given
    JOIN attempt a ON {by_index("a.organization", "given.column1")} AND a.id = (
        SELECT x.id FROM attempt x
        WHERE x.organization + 0 = given.column1 AND x.listener = given.column3 AND x.error <> ''
        ORDER BY x.id DESC LIMIT 1)"""
_LAST_OF_MESSAGE: Final = f"""
        SELECT max(x.id) FROM (
            SELECT y.id, y.listener, y.error, y.replay FROM attempt y
            WHERE y.organization = given.column1 AND y.queue = given.column2 AND y.seq = given.column3
            LIMIT {_SEARCHED}) AS x
        WHERE x.error <> '' AND x.replay IS NULL"""
# A given row is organization, queue, seq and listener.
_LAST_OF_DELIVERIES: Final = f"""
    SELECT given.column2, given.column3, given.column4, {_RECORD} FROM ({{}}) AS given
    JOIN attempt a ON {by_index("a.organization", "given.column1")}
        AND a.id = ({_LAST_OF_MESSAGE} AND x.listener = given.column4)"""
# A given row is organization, queue, seq, and 1 for a message whose last failure is wanted.
_GLANCES: Final = f"""
    SELECT l.queue, l.seq, coalesce(substr(l.body, 1, {{most}}), body_start(l.body_id, {{most}})), {_RECORD}
    FROM ({{}}) AS given
    JOIN log l ON {by_index("l.organization", "given.column1")} AND l.queue = given.column2 AND l.seq = given.column3
    LEFT JOIN attempt a ON {by_index("a.organization", "given.column1")}
        AND a.id = CASE WHEN given.column4 = 1 THEN ({_LAST_OF_MESSAGE}) END"""
_CONTENTS: Final = "SELECT id, content FROM attempt_detail WHERE organization = $1 AND id IN ({})"


class AttemptRow(NamedTuple):
    """A row of `_RECORD`, and a column that a list needs in addition."""

    id: int
    number: int
    status: int
    error: str
    detail: str
    duration_ms: int
    replay: int | None
    of: Any
    """The listener, or the message, by its public id or its row id; None if it was deleted."""

    def shown(self, listener_id: str, message_id: str) -> StoredAttempt:
        return _shown(self[:-1], listener_id, message_id)


async def of_message(tx: Transaction, message: StoredMessage, selection: Selection) -> Listing[StoredAttempt]:
    """List the attempts of a message. Beyond `MAX_PER_MESSAGE` some are left out."""
    rows = await _read_of_message(tx, message, f"({_LISTENER})", _OF_MESSAGE)
    found = await browse(tx, InMemoryRows([row for row in rows if _is_shown(row, selection)], _locate), selection)
    return found.with_items(row.shown(row.of, message.id) for row in found.items)


async def rows_of_message(tx: Transaction, message: StoredMessage, customer: str | None = None) -> list[AttemptRow]:
    """Read a message's attempts, or those to listeners of a customer, each with its listener, in any order."""
    if customer is None:
        return await _read_of_message(tx, message, "a.listener", _OF_MESSAGE)
    return await _read_of_message(tx, message, "a.listener", _TO_CUSTOMER, customer)


async def _read_of_message(
    tx: Transaction, message: StoredMessage, column: str, among: str, *values: Value
) -> list[AttemptRow]:
    key = (message.organization, message.queue, message.seq)
    rows = await tx.rows(f"SELECT {_RECORD}, {column} {among}", *key, *values, MAX_PER_MESSAGE)
    return [AttemptRow(*row) for row in rows]


def newest_of(
    rows: Sequence[AttemptRow], message: StoredMessage, listeners: Mapping[int, str], limit: int
) -> list[StoredAttempt]:
    """Return the newest attempts of `rows_of_message` to some listeners, the oldest of them first.

    `listeners` are their public ids by row id.
    """
    shown = sorted(row for row in rows if row.of in listeners)[-limit:]
    return [row.shown(listeners[row.of], message.id) for row in shown]


async def of_listener(tx: Transaction, listener: Listener, selection: Selection) -> Listing[StoredAttempt]:
    """List the attempts of a listener, newest first. Raises BadRequest for a numbered page too far from the first.

    An index has the failures. Other attempts are searched among those of the whole organization: an index that every
    delivery had to update would cost more than the rest of its record.
    """
    found = await browse_matching(tx, _AttemptScan(listener.organization, listener, selection), selection, _LIMITS)
    return found.with_items(row.shown(listener.public_id, row.of or "") for row in found.items)


async def of_organization(tx: Transaction, organization: int, selection: Selection) -> Listing[StoredAttempt]:
    """List the attempts to all listeners of an organization. The items have no ids of listeners."""
    found = await browse_matching(tx, _AttemptScan(organization, None, selection), selection, _LIMITS)
    return found.with_items(row.shown("", row.of or "") for row in found.items)


async def get(tx: Transaction, organization: int, public_id: str, of: StoredMessage | Listener) -> StoredAttempt | None:
    """Find an attempt of the message or the listener."""
    row_id = row_id_up_to(public_id)
    row = await tx.row(_ONE, organization, row_id)
    if row is None or event_id_of(row_id) != public_id:
        return None
    listener_id, message_id, listener, queue, seq = row[7:]
    is_theirs = (queue, seq) == (of.queue, of.seq) if isinstance(of, StoredMessage) else listener == of.id
    if not is_theirs or listener_id is None:
        return None
    return _shown(row[:7], listener_id, message_id or "")


async def contents(tx: Transaction, organization: int, public_ids: Sequence[str]) -> dict[str, bytes]:
    """Read the packed details of those attempts whose details are kept."""
    rows = await rows_among(tx, _CONTENTS, (organization,), [row_id_up_to(each) for each in public_ids])
    return {event_id_of(row_id): bytes(content) for row_id, content in rows}


async def last_failures_of_listeners(
    tx: Transaction, organization: int, listeners: Sequence[int]
) -> dict[int, StoredAttempt]:
    """Read the last failed attempt of each listener, by row id. The ids of listeners and messages are left out."""
    rows = await rows_at(tx, _LAST_OF_LISTENERS, (organization, 0), listeners)
    return {row[0]: _shown(row[1:], "", "") for row in rows}


DeliveryKey = tuple[int, int, int]
"""A queue, a seq, and a listener."""


async def last_failures_of_deliveries(
    tx: Transaction, organization: int, deliveries: Sequence[DeliveryKey]
) -> dict[DeliveryKey, StoredAttempt]:
    """Read the last failed attempt of each delivery, without those of replays.

    At most `_SEARCHED` attempts of the message are searched. The ids of listeners and messages are left out.
    """
    rows = await rows_given(tx, _LAST_OF_DELIVERIES, (organization,), deliveries)
    return {(row[0], row[1], row[2]): _shown(row[3:], "", "") for row in rows}


class Glance(NamedTuple):
    """The part of a message that a row of a list shows."""

    start: bytes
    """The first bytes of the data."""
    last_failure: StoredAttempt | None


MessageKey = tuple[int, int]
"""A queue and a seq."""


async def glances(
    tx: Transaction, organization: int, failing: Mapping[MessageKey, bool], most: int
) -> dict[MessageKey, Glance]:
    """Read the first bytes of the data of messages, without the rest of it, and the last failed attempt of some.

    The failed attempt is searched as in `last_failures_of_deliveries`, among the attempts for all listeners.
    """
    messages = [(*key, int(is_failing)) for key, is_failing in failing.items()]
    rows = await rows_given(tx, _GLANCES.format("{}", most=most), (organization,), messages)
    return {
        (row[0], row[1]): Glance(bytes(row[2] or b""), None if row[3] is None else _shown(row[3:], "", ""))
        for row in rows
    }


def status_bounds(status: str) -> tuple[int, int]:
    """Return the lowest and the highest status that `503`, `5xx` or `0` stands for."""
    if status.endswith("xx"):
        return int(status[0]) * 100, int(status[0]) * 100 + 99
    return int(status), int(status)


async def _locate(_: Transaction, public_id: str) -> Span:
    key = row_id_up_to(public_id)
    return key, key


class _AttemptScan:
    """A scan for the attempts of one listener that pass the filters; of all listeners if the listener is None."""

    def __init__(self, organization: int, listener: Listener | None, selection: Selection) -> None:
        self._organization, self._listener = organization, 0 if listener is None else listener.id
        self._within = _span(listener, selection)
        self.locate = _locate
        is_no_success = selection.status is not None and not selection.status.startswith("2")
        is_failed = selection.outcome == "failed" or is_no_success
        self._scanned, self._matching = _IS_ANY, _IS_ANY if listener is None else _IS_OF_LISTENER
        if is_failed and listener is not None:
            self._scanned = self._matching = _IS_FAILED
        elif is_failed:
            self._matching += " AND a.error <> ''"
        self._values: tuple[Value, ...] = ()
        if selection.outcome == "acknowledged":
            self._matching += " AND a.error = ''"
        if selection.status is not None:
            self._matching += " AND a.status >= $6 AND a.status <= $7"
            self._values = status_bounds(selection.status)

    async def scan(self, tx: Transaction, part: Part, wanted: int) -> ScanStep[AttemptRow]:
        order, span = part.order, part.within(self._within).span
        values: tuple[Value, ...] = (self._organization, self._listener, *span, part.limit - 1, *self._values, wanted)
        bounds, limit = _WITHIN_STEP[order], len(values)
        sql = _STEP.format(scanned=self._scanned, matching=self._matching, bounds=bounds, order=order, limit=limit)
        rows = await tx.rows(sql, *values)
        last = next((int(row[0]) for row in rows if row[1] is None), None)
        found = sorted((AttemptRow(*row) for row in rows if row[1] is not None), reverse=part.newest_first)
        return ScanStep(found, last, "" if last is None else event_id_of(last))


def _span(listener: Listener | None, selection: Selection) -> Span:
    """Return the row ids that attempts of the listener can have. None is older than it, except by clock skew."""
    low, high = 0 if listener is None else listener.id - row_id_at(CLOCKS_APART_MS), LARGEST
    if selection.created_after is not None:
        low = max(low, nearest_row_id(selection.created_after + 1) - 1)
    if selection.created_before is not None:
        high = nearest_row_id(selection.created_before)
    return low, high


def _is_shown(row: AttemptRow, selection: Selection) -> bool:
    """Return whether an attempt passes the filters, and its listener exists."""
    if row.of is None or not selection.admits(millisecond_of(row.id)):
        return False
    if selection.listener not in (None, row.of):
        return False
    if selection.outcome is not None and (selection.outcome == "failed") != bool(row.error):
        return False
    low, high = status_bounds(selection.status) if selection.status is not None else (0, LARGEST)
    return low <= row.status <= high


def _shown(record: Row, listener_id: str, message_id: str) -> StoredAttempt:
    row_id, *rest, replay = record
    rest.append("" if replay is None else event_id_of(replay))
    return StoredAttempt(event_id_of(row_id), millisecond_of(row_id), listener_id, message_id, *rest)
