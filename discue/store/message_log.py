"""The log of a queue: its rows, their bodies, lists of messages, and bounds of pages by time and by message.

`stored_at` never decreases along a log, so a binary search finds a time. It is one statement with a lookup by key for
each doubling of the log's length: 20 lookups in a log of a million messages.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from discue.domain.ids import is_public_id
from discue.domain.message_data import Codec
from discue.domain.messages import Entry, StoredMessage, encode_options
from discue.store import tallies
from discue.store.engine import LogPage, NewEntry, QueueKey, Row, Transaction, Value
from discue.store.pagination import LARGEST, Part, Selection, Span, created_at, intersect
from discue.store.tables import (
    by_index,
    chunks,
    given_rows,
    placeholders,
    prefixed,
    rows_among,
    rows_at,
    rows_given,
)

WHOLE_LOG: Final = (0, LARGEST)
"""The span of all seqs."""

# Usually no message is that old, which the first look shows. Deleted messages leave holes: the first message from the
# middle on decides.
_MIDDLE: Final = "search.low + CASE WHEN search.looks = 0 THEN 1 ELSE (search.high - search.low + 1) / 2 END"
_BEGIN: Final = """
    SELECT given.place, given.queue, given.time, 0, coalesce((
            SELECT h.tail FROM queue_head h WHERE h.organization = {organization} AND h.queue = given.queue), 0),
        coalesce((SELECT h.head FROM queue_head h WHERE h.organization = {organization} AND h.queue = given.queue), 0)
    FROM given WHERE given.time IS NOT NULL"""
_SEARCH: Final = f"""search (place, queue, time, looks, low, high) AS (
    {_BEGIN}
    UNION ALL
    SELECT search.place, search.queue, search.time, search.looks + 1,
        CASE WHEN l.stored_at < search.time THEN l.seq ELSE search.low END,
        CASE WHEN l.stored_at < search.time THEN search.high ELSE {_MIDDLE} - 1 END
    FROM search LEFT JOIN log l ON l.organization = {{organization}} AND l.queue = search.queue AND l.seq = (
        SELECT x.seq FROM log x
        WHERE x.organization = {{organization}} AND x.queue = search.queue AND x.seq >= {_MIDDLE}
            AND x.seq <= search.high
        ORDER BY x.seq LIMIT 1)
    WHERE search.low < search.high)"""
"""A binary search for each given `(place, queue, time)`. At its end, `low` is the last seq that was stored earlier."""

_FOUND: Final = "(SELECT search.low + 1 FROM search WHERE search.place = {} AND search.low >= search.high)"
_COLUMNS: Final = f"""{_FOUND.format(0)}, {_FOUND.format(1)}, (
        SELECT a.seq FROM log a
        WHERE a.organization = {{organization}} AND a.id = {{anchor}} AND a.queue = {{queue}}), coalesce((
        SELECT h.head FROM queue_head h WHERE h.organization = {{organization}} AND h.queue = {{queue}}), 0)"""
BOUNDS_WIDTH: Final = 4
"""The number of columns of bounds."""
# SQLite numbers parameters as they appear.
_OF_QUEUE: Final = f"""
    WITH RECURSIVE given (place, queue, time) AS (
        VALUES (0, CAST($1 AS BIGINT), CAST($2 AS BIGINT)), (1, CAST($1 AS BIGINT), CAST($3 AS BIGINT))),
    {_SEARCH.format(organization="$4")}
    SELECT {_COLUMNS.format(organization="$4", anchor="$5", queue="$1")}"""

_FIRST_SEQS: Final = f"""
    WITH RECURSIVE given (place, queue, time) AS ({{}}),
    {_SEARCH.format(organization="$1")}
    SELECT search.queue, search.time, search.low + 1 FROM search WHERE search.low >= search.high"""


class PageBounds(NamedTuple):
    """Bounds of a page of a queue's messages, as far as the selection has them."""

    within: Span
    """The seqs whose messages pass the time filters."""
    anchor: int | None
    """The seq of the message that the page continues at; None if there is none, or it is not in the queue."""


def with_bounds(sql: str) -> str:
    """Return a statement for the columns of a row and those of the bounds of a page in its queue.

    `sql` selects a row with a column `queue`. Its first parameter is the organization, and it has one other; the
    parameters for `bounds_values` follow.
    """
    return f"""
    WITH RECURSIVE found AS ({sql}),
    given (place, queue, time) AS (
        SELECT 0, found.queue, CAST($3 AS BIGINT) FROM found
        UNION ALL SELECT 1, found.queue, CAST($4 AS BIGINT) FROM found),
    {_SEARCH.format(organization="$1")}
    SELECT found.*, {_COLUMNS.format(organization="$1", anchor="$5", queue="found.queue")} FROM found"""


def bounds_values(selection: Selection) -> tuple[int | None, int | None, str | None]:
    """Return the first moment that passes the time filters, the first one after those, and where the page continues."""
    after = None if selection.created_after is None else selection.created_after + 1
    return after, selection.created_before, selection.before if selection.after is None else selection.after


def bounds_from(selection: Selection, columns: Row) -> PageBounds:
    """Convert the columns of bounds."""
    first, end, anchor, head = columns
    low = 0 if selection.created_after is None else first - 1
    return PageBounds((low, head + 1 if selection.created_before is None else end), anchor)


async def bounds_of(tx: Transaction, organization: int, queue: int, selection: Selection) -> PageBounds:
    """Find the bounds of a page, with one statement or none."""
    *times, anchor = bounds_values(selection)
    if times == [None, None] and anchor is None:
        return PageBounds(WHOLE_LOG, None)
    [row] = await tx.rows(_OF_QUEUE, queue, *times, organization, anchor)
    return bounds_from(selection, row)


async def span_of_times(tx: Transaction, organization: int, queue: int, selection: Selection) -> Span:
    """Return the span of seqs whose messages pass the time filters."""
    times = msgspec.structs.replace(selection, after=None, before=None)
    return (await bounds_of(tx, organization, queue, times)).within


async def spans_of_times(
    tx: Transaction, organization: int, queues: Sequence[int], selection: Selection
) -> dict[int, Span]:
    """Return what `span_of_times` returns for each of several queues."""
    *times, _ = bounds_values(selection)
    given = [(queue, time) for queue in queues for time in times if time is not None]
    found, (first, end) = await first_seqs_at(tx, organization, given), times
    return {queue: (found.get((queue, first), 1) - 1, found.get((queue, end), LARGEST)) for queue in queues}


async def first_seqs_at(
    tx: Transaction, organization: int, places: Sequence[tuple[int, int]]
) -> dict[tuple[int, int | None], int]:
    """Return the smallest seq that was stored in a queue at a time or later, for several queues and times.

    It is above the head of the queue if there is no such message.
    """
    return {(queue, time): seq for queue, time, seq in await rows_given(tx, _FIRST_SEQS, (organization,), places)}


def first_of_spans(columns: str, names: str, count: int, *, organization: str, offset: str, newest_first: bool) -> str:
    """Return the statement for the first messages `l` of each span: it finds the last of them, then reads up to it.

    A given `span` has columns with `names`, which end in `queue, low, high`: two seqs, both excluded. The others are
    parameters such as `$7`: the organization, and how many messages of a span are passed to find the last one. SQLite
    keeps the order of a CROSS JOIN: otherwise it would walk the log, and look for each row in the spans.
    """
    order, last, bounds = (
        ("DESC", "given.low + 1", "l.seq >= span.last AND l.seq < span.high")
        if newest_first
        else ("ASC", "given.high - 1", "l.seq <= span.last AND l.seq > span.low")
    )
    return f"""
        WITH given ({names}) AS ({given_rows(count, names.count(",") + 1)})
        SELECT {columns} FROM (
            SELECT given.*, coalesce((
                SELECT x.seq FROM log x
                WHERE x.organization = {organization} AND x.queue = given.queue AND x.seq > given.low
                    AND x.seq < given.high
                ORDER BY x.seq {order} LIMIT 1 OFFSET {offset}), {last}) AS last
            FROM given) AS span
        CROSS JOIN log l WHERE l.organization = {organization} AND l.queue = span.queue AND {bounds}"""


WAITING: Final = 1
"""The kind of a delayed message that is not due yet; 0 is that of all others."""

BODY: Final = "coalesce(l.body, (SELECT b.bytes FROM body b WHERE b.id = l.body_id))"
"""The body of a row `l` of the log: in the row, or in the table `body`."""

SIZE_OF_DATA: Final = "coalesce(length(l.body), l.size - coalesce(length(l.extra), 0))"
"""The size of the body of a row `l` of the log, which is read without the body."""


def entry_of(row: Row) -> Entry:
    """Convert a row of `seq, id, stored_at, codec, body, expires_at, key_hash, extra`."""
    seq, public_id, stored_at, codec, body, expires_at, key_hash, extra = row
    return Entry(seq, public_id, stored_at, codec, body, expires_at or 0, key_hash, extra or b"")


def page_of(found: Iterable[Row], after: int, limit: int, max_bytes: int) -> LogPage:
    """Convert rows of the head and the columns of `_entry_of_page_row` to a page of at most `limit` entries.

    After the first entry, bodies have at most `max_bytes`. A row without a body does not fit, and without a seq is the
    only one.
    """
    entries: list[Entry] = []
    size, head, cut = 0, after, False
    for newest, *row in found:
        head = newest
        if row[0] is None:
            break
        body = row[4]
        if body is None or (entries and size + len(body) > max_bytes):
            cut = True
            break
        size += len(body)
        entries.append(_entry_of_page_row(row))
    whole = not cut and len(entries) < limit
    return LogPage(head, max(head, after) if whole else entries[-1].seq, tuple(entries))


def _entry_of_page_row(row: Sequence[Any]) -> Entry:
    """Convert a row that has `kind` and `origin_seq` in addition to the columns for `entry_of`."""
    seq, public_id, stored_at, codec, body, expires_at, key_hash, extra, kind, origin_seq = row
    options = (expires_at or 0, key_hash, extra or b"")
    return Entry(seq, public_id, stored_at, codec, body, *options, kind == WAITING, origin_seq or 0)


def entry_of_new(new: NewEntry, seq: int, stored_at: int) -> Entry:
    """Return a new message as it is in the log."""
    # Most messages have no options, and this runs for each message that is published.
    if new.extra is None and new.expires_at is None and new.key_hash is None:
        return Entry(seq, new.id, stored_at, new.codec, new.body)
    options = (new.expires_at or 0, new.key_hash, new.extra or b"")
    if new.due_at is not None:
        return Entry(seq, new.id, stored_at, new.codec, b"", *options, is_delayed=True)
    return Entry(seq, new.id, stored_at, new.codec, new.body, *options)


def entry_of_message(message: StoredMessage) -> Entry:
    """Return a stored message as lanes read it, except for its order."""
    extra = encode_options(message.options) or b""
    return Entry(
        message.seq, message.id, message.stored_at, message.codec, message.body or b"", message.expires_at, extra=extra
    )


_DELETE_UNSHARED: Final = "DELETE FROM body WHERE id IN ({}) AND uses <= 1"
_RELEASE_SHARED: Final = "UPDATE body SET uses = uses - 1 WHERE id IN ({})"
_DELETE_RELEASED: Final = "DELETE FROM body WHERE id IN ({}) AND uses <= 0"


async def release_bodies(tx: Transaction, organization: int, rows: Collection[Row]) -> int:
    """Subtract deleted messages of one queue from the tallies, and release their bodies. Returns their number.

    `rows` are their sizes and the ids of their bodies (None if the body is in the row of the log). A shared body is
    deleted with the last message that uses it. A count is safe when two of these messages are deleted at the same time;
    a search for other users would not be.
    """
    # All transactions use this order: otherwise two queues that share many bodies could deadlock.
    for chunk in chunks(sorted(body for _, body in rows if body is not None)):
        among = placeholders(1, len(chunk))
        if await tx.execute(_DELETE_UNSHARED.format(among), *chunk) < len(chunk):
            await tx.execute(_RELEASE_SHARED.format(among), *chunk)
            await tx.execute(_DELETE_RELEASED.format(among), *chunk)
    return await tallies.subtract_bytes(tx, organization, [(size,) for size, _ in rows])


class MessageRow(NamedTuple):
    """A message of a list, without its body."""

    key: Any
    """The key of the row in the order of its list."""
    stored_at: int
    queue: int
    seq: int
    id: str
    alias: str | None
    updated_at: int | None
    codec: Codec
    published_at: int | None
    """None unless the message was delayed."""
    kind: int
    origin: int | None
    """The seq of a delayed message before it was due."""
    size: int
    """The size of the data."""
    extra: bytes | None

    @property
    def origin_seq(self) -> int:
        return self.origin or self.seq

    @property
    def is_delayed(self) -> bool:
        return self.kind == WAITING

    @property
    def created_at(self) -> int:
        return self.published_at or self.stored_at

    @property
    def name(self) -> str:
        return self.alias or self.id


def listed_columns(row: str, key: str = "seq") -> str:
    """Return the columns of a row of the log for a `MessageRow` with a column as its key. No body is read."""
    names = f"{key}, stored_at, queue, seq, id, alias, updated_at, codec, published_at, kind, origin_seq"
    size = f"coalesce(length({row}.body), {row}.size - coalesce(length({row}.extra), 0))"
    return f"{prefixed(row, names)}, {size}, {row}.extra"


LIST_COLUMNS: Final = listed_columns("log")
_PLACE_IN: Final = "SELECT seq FROM log WHERE organization = $1 AND id = $2 AND queue = $3"
_PLACE_OF: Final = "SELECT stored_at, queue FROM log WHERE organization = $1 AND id = $2 LIMIT 1"
_LOG: Final = (
    f"SELECT {listed_columns('listed')} FROM log AS listed WHERE listed.organization = $1 AND listed.queue = $2"
)
# The index of aliases covers all that is read of `listed`: otherwise the planner would walk the log.
_LOG_OF_ALIAS: Final = f"""
    SELECT {LIST_COLUMNS} FROM log AS listed
    JOIN log ON {by_index("log.organization", "listed.organization")}
        AND log.queue = listed.queue AND log.seq = listed.seq
    WHERE listed.organization = $1 AND listed.queue = $2 AND listed.alias = $3"""
_WITHOUT_ALIAS: Final = f"SELECT {LIST_COLUMNS} FROM log WHERE organization = $1 AND id = $2 AND alias IS NULL LIMIT $3"
_BODIES_AT: Final = f"""
    SELECT l.seq, {BODY} FROM ({{}}) AS given
    JOIN log l ON {by_index("l.organization", "given.column1")} AND l.queue = given.column2 AND l.seq = given.column3"""
_AT: Final = f"""
    SELECT {LIST_COLUMNS} FROM ({{}}) AS given
    JOIN log ON {by_index("log.organization", "given.column1")}
        AND log.queue = given.column2 AND log.seq = given.column3"""
_OF_IDS: Final = f"SELECT {LIST_COLUMNS} FROM log WHERE organization = $1 AND id IN ({{}})"
_LIVE_QUEUES: Final = """
    SELECT id, public_id FROM queue WHERE organization = $1 AND id IN ({}) AND deleted_at IS NULL"""

ABOVE_EVERY_ID: Final = "z" * 22

COPIES: Final = 100
"""The largest number of copies of a message, each in another queue."""


class LiveQueues:
    """The public ids of an organization's queues by row id. Each is read once."""

    def __init__(self, organization: int, known: Mapping[int, str] | None = None) -> None:
        """`known` are the public ids of queues that were read before."""
        self.organization = organization
        self._known: dict[int, str | None] = {**(known or {})}

    async def learn(self, tx: Transaction, queues: Collection[int]) -> None:
        """Read the public ids that are not known yet."""
        unknown = sorted(set(queues) - self._known.keys())
        self._known.update(dict.fromkeys(unknown))
        self._known.update(await rows_among(tx, _LIVE_QUEUES, (self.organization,), unknown))

    def public_id(self, queue: int) -> str | None:
        """Return the public id of a known queue; None if it is deleted. Its messages may still exist."""
        return self._known[queue]


class OneLog:
    """A queue's messages by seq, in a span, with an alias if one is given.

    Only messages that were published after the seq `floor` are included, even if they were due later.
    """

    def __init__(self, log: QueueKey, bounds: PageBounds, alias: str | None = None, *, floor: int = 0) -> None:
        self._log = log
        self.within: Span = intersect((floor, None), bounds.within)
        self._anchor = bounds.anchor
        self._sql = _LOG
        self._key: tuple[Value, ...] = log
        if alias is not None:
            self._sql, self._key = _LOG_OF_ALIAS, (*log, alias)
        if floor:
            row = "listed" if self._sql is _LOG else "log"
            self._key = (*self._key, floor)
            self._sql += f" AND coalesce({row}.origin_seq, {row}.seq) > ${len(self._key)}"

    async def locate(self, tx: Transaction, public_id: str) -> Span:
        return await seqs_around(tx, self._log, public_id, self._anchor)

    async def read(self, tx: Transaction, part: Part) -> Sequence[MessageRow]:
        taken = len(self._key)
        condition = f"listed.seq > ${taken + 1} AND listed.seq < ${taken + 2}"
        sql = f"{self._sql} AND {condition} ORDER BY listed.seq {part.order} LIMIT ${taken + 3} OFFSET ${taken + 4}"
        bounds = part.within(self.within).span
        return list(map(MessageRow._make, await tx.rows(sql, *self._key, *bounds, part.limit, part.offset)))


async def seqs_around(tx: Transaction, log: tuple[int, int], public_id: str, anchor: int | None = None) -> Span:
    """Return the seqs around a message of a queue; see `Source.locate`. `anchor` is its seq if that is known.

    `log` is the organization and the queue.
    """
    if anchor is not None:
        return anchor, anchor
    organization, queue = log
    if (found := await tx.row(_PLACE_IN, organization, public_id, queue)) is not None:
        return found[0], found[0]
    # A deleted message counts as stored after everything that was stored before its id was made.
    stored_at, of = await tx.row(_PLACE_OF, organization, public_id) or (created_at(public_id), LARGEST)
    # Messages of one millisecond are ordered by queue: those of this log are all before the position, or after it.
    time = stored_at + (queue < of)
    boundary = (await first_seqs_at(tx, organization, [(queue, time)]))[queue, time]
    return boundary, boundary - 1


async def rows_by_seq(tx: Transaction, organization: int, queue: int, seqs: Sequence[int]) -> list[MessageRow]:
    """Read the messages of a queue with these seqs, in any order."""
    return list(map(MessageRow._make, await rows_at(tx, _AT, (organization, queue), seqs)))


async def bodies_by_seq(tx: Transaction, queue: QueueKey, seqs: Sequence[int]) -> dict[int, bytes]:
    """Read the bodies of messages of a queue, as far as they exist."""
    # Bodies are long: a set of rows would hash them.
    return dict[int, bytes](await rows_given(tx, _BODIES_AT, queue, [(seq,) for seq in seqs]))


async def rows_named_by_id(tx: Transaction, organization: int, alias: str | None) -> list[MessageRow]:
    """Read the message without an alias that has this text as its id: it is its name, in each of its queues."""
    if alias is None or not is_public_id(alias):
        return []
    return list(map(MessageRow._make, await tx.rows(_WITHOUT_ALIAS, organization, alias, COPIES)))


async def stored_at_after(tx: Transaction, organization: int, queue: int, seq: int) -> int:
    """Return when the first message beyond a seq was stored; 0 if there is none."""
    row = await tx.row(_FIRST_BETWEEN, organization, queue, seq + 1, LARGEST)
    return 0 if row is None else int(row[1])


async def rows_by_id(tx: Transaction, organization: int, public_ids: Collection[str]) -> list[MessageRow]:
    """Read the messages with these ids, in all queues."""
    return list(map(MessageRow._make, await rows_among(tx, _OF_IDS, (organization,), list(public_ids))))


_FIRST_BETWEEN: Final = """
    SELECT seq, stored_at FROM log WHERE organization = $1 AND queue = $2 AND seq >= $3 AND seq <= $4
    ORDER BY seq LIMIT 1"""


async def last_seq_stored_before(
    tx: Transaction, organization: int, queue: int, bounds: tuple[int, int], *, before: int
) -> int:
    """Return the highest seq in (`bounds`] whose message was stored before a time; the lower bound if there is none.

    `stored_at` never decreases along a log, so this is a binary search: lookups by key, one for each doubling of the
    bounds, which are 20 in a log of a million. Usually no message is that old, which the first lookup shows.
    """
    low, high = bounds
    middle = low + 1
    while low < high:
        # Deleted messages leave holes: the first message from the middle on decides.
        row = await tx.row(_FIRST_BETWEEN, organization, queue, middle, high)
        if row is not None and row[1] < before:
            low = row[0]
        else:
            high = middle - 1
        middle = (low + high + 1) // 2
    return low
