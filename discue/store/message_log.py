"""The log of a queue: its rows, their bodies, and lists of messages."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from discue.domain.ids import is_public_id
from discue.domain.message_data import Codec
from discue.domain.messages import Entry, StoredMessage, encode_options
from discue.store import tallies
from discue.store.anchors import Neighbours, around_anchor, neighbours_of
from discue.store.engine import LogPage, NewEntry, QueueKey, Row, Transaction, Value
from discue.store.log_bounds import WHOLE_LOG, first_seq_at
from discue.store.pagination import LARGEST, Part, Span, created_at, intersect
from discue.store.tables import by_index, chunks, placeholders, prefixed, repeated_rows_at, rows_among, rows_at

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


LogPosition = tuple[int, int, int]
"""When a message was stored, its queue and its seq.

Within one queue this is the order of seq, because `stored_at` never decreases.
"""


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
    def place(self) -> LogPosition:
        return self.stored_at, self.queue, self.seq

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
_PLACE_IN: Final = "SELECT stored_at, queue, seq FROM log WHERE organization = $1 AND id = $2 AND queue = $3"
_PLACE_OF: Final = "SELECT stored_at, queue, seq FROM log WHERE organization = $1 AND id = $2 LIMIT 1"
_LOG: Final = (
    f"SELECT {listed_columns('listed')} FROM log AS listed WHERE listed.organization = $1 AND listed.queue = $2"
)
# The index of aliases covers all that is read of `listed`: otherwise the planner would walk the log.
_LOG_OF_ALIAS: Final = f"""
    SELECT {LIST_COLUMNS} FROM log AS listed
    JOIN log ON log.organization = listed.organization AND log.queue = listed.queue AND log.seq = listed.seq
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
_ENDS: Final = "SELECT tail, head FROM queue_head WHERE organization = $1 AND queue = $2"
_LIVE_QUEUES: Final = """
    SELECT id, public_id FROM queue WHERE organization = $1 AND id IN ({}) AND deleted_at IS NULL"""
_LIVE_QUEUE: Final = "SELECT public_id FROM queue WHERE organization = $1 AND id = $2 AND deleted_at IS NULL"

ABOVE_EVERY_ID: Final = "z" * 22

_COPIES: Final = 100
"""A message is in at most so many queues."""


class LiveQueues:
    """The public ids of an organization's queues by row id, each read once."""

    def __init__(self, organization: int, known: Mapping[int, str] | None = None) -> None:
        """`known` are the public ids of queues that were read before."""
        self.organization = organization
        self._known: dict[int, str | None] = {**(known or {})}

    async def learn(self, tx: Transaction, queues: Collection[int]) -> None:
        """Read several of them at once, unless they are known."""
        unknown = sorted(set(queues) - self._known.keys())
        self._known.update(dict.fromkeys(unknown))
        self._known.update(await rows_among(tx, _LIVE_QUEUES, (self.organization,), unknown))

    async def public_id(self, tx: Transaction, queue: int) -> str | None:
        """Return the public id; None for a deleted queue, whose messages may still exist."""
        if queue not in self._known:
            row = await tx.row(_LIVE_QUEUE, self.organization, queue)
            self._known[queue] = row[0] if row is not None else None
        return self._known[queue]


class OneLog:
    """A queue's messages by seq, in a span, with an alias if one is given.

    Only messages that were published after the seq `floor` are included, even if they were due later.
    """

    def __init__(
        self,
        organization: int,
        queue: int,
        within: Span = WHOLE_LOG,
        alias: str | None = None,
        *,
        floor: int = 0,
    ) -> None:
        self._organization = organization
        self._queue = queue
        self._within = within
        self._sql = _LOG
        self._key: tuple[Value, ...] = (organization, queue)
        if alias is not None:
            self._sql, self._key = _LOG_OF_ALIAS, (organization, queue, alias)
        if floor:
            row = "listed" if self._sql is _LOG else "log"
            self._key = (*self._key, floor)
            self._sql += f" AND coalesce({row}.origin_seq, {row}.seq) > ${len(self._key)}"

    async def locate(self, tx: Transaction, public_id: str) -> Span:
        return await seqs_around(tx, (self._organization, self._queue), public_id)

    async def read(self, tx: Transaction, part: Part) -> Sequence[MessageRow]:
        # An offset beyond the end would walk the whole log to find nothing.
        if part.offset and await self._capacity(tx) <= part.offset:
            return []
        taken = len(self._key)
        condition = f"listed.seq > ${taken + 1} AND listed.seq < ${taken + 2}"
        sql = f"{self._sql} AND {condition} ORDER BY listed.seq {part.order} LIMIT ${taken + 3} OFFSET ${taken + 4}"
        bounds = part.within(self._within).span
        return list(map(MessageRow._make, await tx.rows(sql, *self._key, *bounds, part.limit, part.offset)))

    async def beyond(self, tx: Transaction, public_id: str, limit: int, *, newest_first: bool) -> Neighbours | None:
        given = len(self._key) + 1
        # Only a message of this queue: the place of another one, or a deleted one, takes a search.
        place = f"SELECT anchor.seq FROM log anchor WHERE anchor.organization = $1 AND anchor.id = ${given}"
        anchor = f"({place} AND anchor.queue = $2)"
        sql = around_anchor(self._sql, "listed.seq", anchor, given + 1, newest_first=newest_first)
        rows = await tx.rows(sql, *self._key, public_id, *self._within, limit)
        found = neighbours_of(rows, newest_first=newest_first)
        if not found.has_others:
            return None
        return found._replace(rows=list(map(MessageRow._make, found.rows)))

    async def _capacity(self, tx: Transaction) -> int:
        """Return the largest possible number of messages: beyond it, no rows need to be skipped."""
        low, high = intersect(self._within, await span_of_log(tx, self._organization, self._queue))
        return int(high - low - 1)


async def seqs_around(tx: Transaction, log: tuple[int, int], public_id: str, anchor: int | None = None) -> Span:
    """Return the seqs around a message of a queue; see `Source.locate`. `anchor` is its seq if that is known.

    `log` is the organization and the queue.
    """
    if anchor is not None:
        return anchor, anchor
    organization, queue = log
    stored_at, of, seq = await position_of(tx, organization, public_id, queue)
    if of == queue:
        return seq, seq
    # Messages of one millisecond are ordered by queue: those of this log are all before the position, or after it.
    boundary = await first_seq_at(tx, organization, queue, stored_at + (queue < of))
    return boundary, boundary - 1


async def span_of_log(tx: Transaction, organization: int, queue: int) -> Span:
    tail, head = await _ends(tx, organization, queue)
    return tail, head + 1


async def rows_by_seq(tx: Transaction, organization: int, queue: int, seqs: Sequence[int]) -> list[MessageRow]:
    """Read the messages of a queue with these seqs, in any order."""
    return list(map(MessageRow._make, await rows_at(tx, _AT, (organization, queue), seqs)))


async def bodies_by_seq(tx: Transaction, queue: QueueKey, seqs: Sequence[int]) -> dict[int, bytes]:
    """Read the bodies of messages of a queue, as far as they exist."""
    # Bodies are long: a set of rows would hash them.
    return dict[int, bytes](await repeated_rows_at(tx, _BODIES_AT, queue, seqs))


async def rows_named_by_id(tx: Transaction, organization: int, alias: str | None) -> list[MessageRow]:
    """Read the message without an alias that has this text as its id: it is its name, in each of its queues."""
    if alias is None or not is_public_id(alias):
        return []
    return list(map(MessageRow._make, await tx.rows(_WITHOUT_ALIAS, organization, alias, _COPIES)))


async def position_of(tx: Transaction, organization: int, public_id: str, queue: int) -> LogPosition:
    """Return the position of a message: in that queue, or else in another one.

    A deleted message has the position after all that was stored when its id was made.
    """
    row = await tx.row(_PLACE_IN, organization, public_id, queue)
    if row is None:
        row = await tx.row(_PLACE_OF, organization, public_id)
    return (row[0], row[1], row[2]) if row is not None else (created_at(public_id), LARGEST, LARGEST)


async def stored_at_after(tx: Transaction, organization: int, queue: int, seq: int) -> int:
    """Return when the first message beyond a seq was stored; 0 if there is none."""
    row = await tx.row(_FIRST_BETWEEN, organization, queue, seq + 1, LARGEST)
    return 0 if row is None else int(row[1])


async def rows_by_id(tx: Transaction, organization: int, public_ids: Collection[str]) -> list[MessageRow]:
    """Read the messages with these ids, in all queues."""
    return list(map(MessageRow._make, await rows_among(tx, _OF_IDS, (organization,), list(public_ids))))


async def _ends(tx: Transaction, organization: int, queue: int) -> tuple[int, int]:
    """Read tail and head: the seqs of the log are above the first, up to the second."""
    ends = await tx.row(_ENDS, organization, queue)
    return (ends[0], ends[1]) if ends is not None else (0, 0)


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
