"""A scan of the messages that any listener has missed, with a few statements for any number of listeners.

First it finds candidates: spans of a log in which listeners may have missed messages. Then it reads their messages. The
list goes from the newest listener to the oldest, and at each from the newest message to the oldest.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from discue.domain.attempts import StoredAttempt
from discue.domain.causes import plain_reason
from discue.domain.ids import decode, encode
from discue.domain.messages import decode_options
from discue.store.attempts import DeliveryKey
from discue.store.engine import Transaction, Value
from discue.store.message_log import WAITING, WHOLE_LOG, first_of_spans, seqs_around, spans_of_times
from discue.store.pagination import LARGEST, Bounds, Part, ScanStep, Selection, Span
from discue.store.recipients import Recipient, read_recipients
from discue.store.tables import padded, placeholders, shifted

POSITION_PATTERN: Final = "^[0-9A-Za-z]{22}$"
"""The form of positions in the list."""
_CHARACTERS: Final = 11
POSITION_CHARACTERS: Final = 2 * _CHARACTERS

Key = tuple[int, int]
"""The row id of a listener, and a seq."""


class MissedMessage(msgspec.Struct, frozen=True):
    """A message that a listener has missed."""

    id: str
    alias: str
    seq: int
    stored_at: int
    reason: str
    missed_at: int
    attempts: int
    """The number of attempts that were made."""
    delivery: DeliveryKey
    last_failure: StoredAttempt | None = None
    """None if nothing was sent, if it is no longer kept, or if it was not asked for."""
    type: str | None = None
    listener_public_id: str = ""
    listener_alias: str = ""
    queue_public_id: str = ""
    queue_alias: str = ""


def position_of(key: Key) -> str:
    """Return the position of a message in the list, which clients give as `after` and `before`."""
    return encode(key[0], _CHARACTERS) + encode(key[1], _CHARACTERS)


def key_of(position: str) -> Key:
    """Return the key of a position, or the listener and the cause of the id of a group."""
    listener, seq = decode(position[:_CHARACTERS]), decode(position[_CHARACTERS:])
    return min(listener, LARGEST), min(seq, LARGEST)


def chosen_by(
    reason: str | None, cause: int | None, of_reason: str, of_cause: str
) -> tuple[tuple[str, str], tuple[Value, ...]]:
    """Return what selects deliveries of a reason and a cause in SQL: single ones, and ranges; and the one parameter.

    `of_reason` and `of_cause` are conditions on the parameter.
    """
    if cause is None:
        return ((of_reason, of_reason), (reason,)) if reason is not None else (("", ""), ())
    # A cause has one reason, and a range has the plain cause of its reason.
    return (of_cause, f" AND reason = '{plain_reason(cause) or ''}'"), (cause,)


# Each part is read by one index, which the order and the columns leave as the only one. Adding 0 keeps the order of the
# index: otherwise SQLite would sort.
_OF_ALL: Final = """
    SELECT * FROM (
        SELECT listener, seq, seq, 0, reason, due_at, attempts FROM delivery
        WHERE organization = $1 AND (listener, seq) {0} ($2, $3) AND state = 'missed' AND stream + 0 = 0
        ORDER BY listener {1}, seq {1} LIMIT $4) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT listener, seq, seq, 0, reason, due_at, attempts FROM delivery
        WHERE organization = $1 AND (listener, stream, seq) {0} ($2, 0, $3) AND state = 'ended' AND stream + 0 = 0
            AND reason <> ''
        ORDER BY listener {1}, stream {1}, seq {1} LIMIT $4) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT listener, seq_from, seq_to, 1, reason, missed_at, 0 FROM missed_range
        WHERE organization = $1 AND (listener, seq_from) {0} ($2, $3)
        ORDER BY listener {1}, seq_from {1} LIMIT $4) AS looked_at"""
_OF_LISTENER: Final = """
    SELECT * FROM (
        SELECT listener, seq, seq, 0, reason, due_at, attempts FROM delivery
        WHERE organization = $1 AND listener = $2 AND seq {0} $3 AND state = 'missed' AND stream + 0 = 0{2}
        ORDER BY seq {1} LIMIT {4}) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT listener, seq, seq, 0, reason, due_at, attempts FROM delivery
        WHERE organization = $1 AND listener = $2 AND seq {0} $3 AND state = 'ended' AND stream = 0 AND reason <> ''{2}
        ORDER BY seq {1} LIMIT {4}) AS looked_at
    UNION ALL
    SELECT * FROM (
        SELECT listener, seq_from, seq_to, 1, reason, missed_at, 0 FROM missed_range
        WHERE organization = $1 AND listener = $2 AND seq_from {0} $3{3}
        ORDER BY seq_from {1} LIMIT {4}) AS looked_at"""
"""The spans of one listener, of one reason or cause if conditions for single deliveries and for ranges are inserted."""
_OF_REASON: Final = " AND reason = $4"
_OF_CAUSE: Final = " AND cause = $4"
_RANGE_AROUND: Final = """
    UNION ALL
    SELECT * FROM (
        SELECT listener, seq_from, seq_to, 1, reason, missed_at, 0 FROM missed_range
        WHERE organization = $1 AND listener = $2 AND seq_from <= $3
        ORDER BY seq_from DESC LIMIT 1) AS looked_at
    WHERE seq_to > $3"""
"""Upwards, a range that begins before the span may reach into it."""

_LISTENERS_AT_ONCE: Final = 16
"""How many listeners that have missed something are read at once, each up to the limit of a part."""
_LISTENERS_LOOKED_AT: Final = 1_000
"""How many listeners of a queue are looked at to find those that have missed something."""
_CHOSEN_LOOKED_AT: Final = 128
"""How many listeners that are given by their ids are looked at to find those that have missed something."""
_OF_QUEUE: Final = """FROM listener
        WHERE organization = $1 AND queue = (
            SELECT q.id FROM queue q WHERE q.organization = $1 AND q.public_id = $2 AND q.deleted_at IS NULL)
        AND id {before}= $3 AND deleted_at IS NULL ORDER BY id {order}"""
_CHOSEN: Final = "FROM listener WHERE organization = $1 AND id IN ({given}) AND deleted_at IS NULL ORDER BY id {order}"
# PostgreSQL would read all delivery rows once to answer EXISTS for many listeners.
_THAT_MISSED: Final = """
    SELECT * FROM (
        SELECT 0, id FROM (SELECT organization, id {listeners} LIMIT {looked_at}) AS looked_at
        WHERE coalesce((
            SELECT x.seq FROM delivery x
            WHERE x.organization = $1 AND x.listener = looked_at.id AND x.state = 'missed' AND x.stream + 0 = 0
            ORDER BY x.seq LIMIT 1), (
            SELECT x.seq FROM delivery x
            WHERE x.organization = $1 AND x.listener = looked_at.id AND x.stream = 0 AND x.state = 'ended'
                AND x.reason <> ''
            ORDER BY x.seq LIMIT 1), (
            SELECT x.seq_from FROM missed_range x WHERE x.organization = $1 AND x.listener = looked_at.id
            ORDER BY x.seq_from LIMIT 1)) IS NOT NULL
        ORDER BY id {order} LIMIT {at_once}) AS looked_at"""
_LAST_LOOKED_AT: Final = """
    UNION ALL
    SELECT * FROM (SELECT 1, id {listeners} LIMIT 1 OFFSET {looked_at} - 1) AS looked_at"""
_MORE: Final = 2
"""Candidates read in addition: the last one shows up to where the others are complete, and another can begin there."""
_NO_LISTENER: Final = 0
_WIDTH: Final = 4
"""The number of parameters of `_OF_LISTENER` without a reason."""


class Candidate(NamedTuple):
    """A span in which a listener may have missed messages: one message that has a delivery row, or a missed range."""

    listener: int
    low: int
    """The first seq. Both ends are included."""
    high: int
    is_range: int
    """1 for a range. Its messages were missed unless they have a delivery row; 0 otherwise."""
    reason: str
    missed_at: int
    attempts: int

    def before(self, *, newest_first: bool) -> Key:
        """Return the last key before the list reaches the span."""
        return self.listener, self.high + 1 if newest_first else self.low - 1


class Candidates(NamedTuple):
    """The next candidates of a list, in order."""

    spans: list[Candidate]
    end: Key | None
    """The key up to which the candidates are complete; None if no others follow."""


async def that_missed(
    tx: Transaction, organization: int, among: str | Sequence[int], start: int, *, newest_first: bool
) -> tuple[list[int], int | None]:
    """Return the row ids of the next listeners that have missed something, beginning at `start`, in order.

    `among` is the public id of their queue, or their row ids, in order. The second result is the last listener that was
    looked at, if others may follow.
    """
    before, order = _order(newest_first=newest_first)
    values: Sequence[Value] = ()
    last = None
    if isinstance(among, str):
        sql, values, looked_at = _THAT_MISSED + _LAST_LOOKED_AT, (among, start), _LISTENERS_LOOKED_AT
        listeners = _OF_QUEUE.format(before=before, order=order)
    else:
        chosen = among[: bisect_right(among, start)][::-1] if newest_first else among[bisect_left(among, start) :]
        last = chosen[_CHOSEN_LOOKED_AT - 1] if len(chosen) > _CHOSEN_LOOKED_AT else None
        values = padded(chosen[:_CHOSEN_LOOKED_AT] or [_NO_LISTENER], _NO_LISTENER)
        sql, looked_at = _THAT_MISSED, len(values)
        listeners = _CHOSEN.format(given=placeholders(2, looked_at), order=order)
    sql = sql.format(listeners=listeners, order=order, looked_at=looked_at, at_once=_LISTENERS_AT_ONCE)
    found = await tx.rows(sql, organization, *values)
    given = sorted((listener for part, listener in found if not part), reverse=newest_first)
    if len(given) == _LISTENERS_AT_ONCE:
        return given, given[-1]
    return given, next((listener for part, listener in found if part), last)


@cache
def _of_listeners(count: int, *, newest_first: bool) -> str:
    sql = _parts(_OF_LISTENER, "", "", f"${_WIDTH}", newest_first=newest_first)
    return " UNION ALL ".join(shifted(sql, place * _WIDTH) for place in range(count))


def _parts(sql: str, *conditions: str, newest_first: bool) -> str:
    parts = sql.format(*_order(newest_first=newest_first), *conditions)
    return parts if newest_first else parts + _RANGE_AROUND


def _order(*, newest_first: bool) -> tuple[str, str]:
    return ("<", "DESC") if newest_first else (">", "ASC")


async def _read(tx: Transaction, parts: str, values: Sequence[Value], count: int, *, newest_first: bool) -> Candidates:
    """Read the first candidates of the parts. The last value limits the candidates of each part."""
    rows = await tx.rows(parts, *values)
    # In the order in which the list reaches them. Up to the last one that is returned, each part is complete.
    rows.sort(key=itemgetter(0, 2 if newest_first else 1), reverse=newest_first)
    found = list(map(Candidate._make, rows[: count + _MORE]))
    if len(found) < count + _MORE:
        return Candidates(found, None)
    return Candidates(found[:-1], found[-1].before(newest_first=newest_first))


Found = tuple[Key, MissedMessage]
_EVERYTHING: Final = ((0, 0), (LARGEST, LARGEST))
_AT_ONCE: Final = 128
_MESSAGES_AT_MOST: Final = 110
"""The largest number of spans in one step of a filtered scan, so that one statement reads their messages."""
_SPARE: Final = 10
"""The number of messages that a step of a filtered scan reads in addition to those that are wanted."""
_NO_SPAN: Final = (0, 0, 0, 0, 0, 0)
"""A span in `_messages_in` that has no messages."""


class MissedScan:
    """A scan of all messages that any listener has missed. Rows are the key and the message; ids are positions.

    A step takes one statement to find where messages were missed (two if the listeners are limited), one for listeners
    that are not known yet, one for time filters, and one for the messages.
    """

    def __init__(
        self,
        organization: int,
        *,
        only: Recipient | None = None,
        among: str | Sequence[int] | None = None,
        selection: Selection,
        within: Bounds = _EVERYTHING,
    ) -> None:
        """Limit the scan to a listener, to those of the queue `among`, or to those with these row ids, in order."""
        self._organization = organization
        self._only = only
        self._among = among
        self._selection = selection
        self._reason = selection.reason
        self._cause = None if selection.group is None else key_of(selection.group)[1]
        self._within = within
        filters = (among, selection.reason, selection.created_after, selection.created_before)
        self._is_filtered = only is None and filters != (None, None, None, None)
        self._known: dict[int, Recipient] = {} if only is None else {only.listener: only}
        self._asked = set(self._known)
        """The listeners that were looked up, including those that do not exist."""
        self._times: dict[int, Span] = {}
        """The known spans of seqs that pass the time filters, by queue."""

    async def locate(self, tx: Transaction, public_id: str) -> Bounds:
        if self._only is None or len(public_id) == POSITION_CHARACTERS:
            key = key_of(public_id)
            return key, key
        of = self._only
        older, newer = await seqs_around(tx, (of.organization, of.queue), public_id)
        return (of.listener, older), (of.listener, newer)

    async def scan(self, tx: Transaction, part: Part, wanted: int) -> ScanStep[Found]:
        (low, high), count, newest_first = part.within(self._within).span, part.limit, part.newest_first
        start: Key = high if newest_first else low
        candidates = await self._candidates(tx, start, count, newest_first=newest_first)
        spans: Sequence[Candidate] = list(self._within_start(candidates.spans, start, newest_first=newest_first))
        ends = [] if candidates.end is None else [candidates.end]
        shown = count
        if self._is_filtered:
            count = min(count, _MESSAGES_AT_MOST)
            shown = min(count, wanted + _SPARE)
        spans = _first(spans, count, ends, newest_first=newest_first)
        await self._learn(tx, {each.listener for each in spans})
        spans = _first(list(self._within_times(spans)), shown, ends, newest_first=newest_first)
        found, full = await self._messages(tx, spans, shown, newest_first=newest_first)
        ends += full
        found = [row for row in found if low < row[0] < high]
        found.sort(key=itemgetter(0), reverse=newest_first)
        end = max(ends, default=low) if newest_first else min(ends, default=high)
        found = [row for row in found if (row[0] >= end if newest_first else row[0] <= end)]
        end = self._passing_others(end, newest_first=newest_first)
        is_last = end <= low if newest_first else end >= high
        return ScanStep(found, None) if is_last else ScanStep(found, end, position_of(end))

    def _passing_others(self, end: Key, *, newest_first: bool) -> Key:
        """Return the key at which to continue after an end, beyond everything that is not shown."""
        listener, seq = end
        of = self._known.get(listener)
        last = (listener, 0 if newest_first else LARGEST)
        if of is None:
            return last if listener in self._asked else end
        low, high = self._times.get(of.queue, WHOLE_LOG)
        if newest_first:
            return last if seq <= low + 1 else (listener, min(seq, high))
        return last if seq >= high - 1 else (listener, max(seq, low))

    def _within_start(self, spans: Sequence[Candidate], start: Key, *, newest_first: bool) -> Iterator[Candidate]:
        """Yield the spans of the reason from a key on: a range may begin or end beyond it."""
        listener, seq = start
        for each in spans:
            if self._reason not in {None, each.reason}:
                continue
            if each.is_range and self._cause is not None and plain_reason(self._cause) != each.reason:
                continue
            if not each.is_range or each.listener != listener:
                yield each
            elif newest_first and each.low < seq:
                yield each._replace(high=min(each.high, seq - 1))
            elif not newest_first and each.high > seq:
                yield each._replace(low=max(each.low, seq + 1))

    def _within_times(self, spans: Sequence[Candidate]) -> Iterator[Candidate]:
        """Yield the parts of spans that pass the time filters, of listeners that exist."""
        for each in spans:
            of = self._known.get(each.listener)
            if of is not None:
                low, high = self._times.get(of.queue, WHOLE_LOG)
                if low < each.low and each.high < high:
                    yield each
                elif each.high > low and each.low < high:
                    yield each._replace(low=max(each.low, low + 1), high=min(each.high, high - 1))

    async def _candidates(self, tx: Transaction, start: Key, count: int, *, newest_first: bool) -> Candidates:
        organization = self._organization
        if self._only is not None:
            conditions, chosen = chosen_by(self._reason, self._cause, _OF_REASON, _OF_CAUSE)
            sql = _parts(_OF_LISTENER, *conditions, f"${_WIDTH + len(chosen)}", newest_first=newest_first)
            values = [organization, self._only.listener, start[1], *chosen, count + _MORE]
            return await _read(tx, sql, values, count, newest_first=newest_first)
        if self._among is None:
            sql = _parts(_OF_ALL, newest_first=newest_first)
            return await _read(tx, sql, (organization, *start, count + _MORE), count, newest_first=newest_first)
        given, last = await that_missed(tx, organization, self._among, start[0], newest_first=newest_first)
        first_seq, last_seq = (LARGEST, 0) if newest_first else (0, LARGEST)
        end = None if last is None else (last, last_seq)
        if not given:
            return Candidates([], end)
        await self._learn(tx, set(given))
        keys = [start if each == start[0] else (each, first_seq) for each in given]
        starts = dict(self._passing_others(key, newest_first=newest_first) for key in keys)
        some = padded(list(starts), _NO_LISTENER)
        values = [value for each in some for value in (organization, each, starts.get(each, 0), count + _MORE)]
        sql = _of_listeners(len(some), newest_first=newest_first)
        found = await _read(tx, sql, values, count, newest_first=newest_first)
        return found if found.end is not None else Candidates(found.spans, end)

    async def _learn(self, tx: Transaction, listeners: set[int]) -> None:
        unknown = sorted(listeners - self._asked)
        self._asked.update(unknown)
        self._known.update(await read_recipients(tx, self._organization, unknown))
        if self._only is None:
            queues = {self._known[each].queue for each in listeners & self._known.keys()}
            unlimited = sorted(queues - self._times.keys())
            self._times.update(await spans_of_times(tx, self._organization, unlimited, self._selection))

    async def _messages(
        self, tx: Transaction, spans: Sequence[Candidate], count: int, *, newest_first: bool
    ) -> tuple[list[Found], list[Key]]:
        """Return the messages of spans, and the last key of each span that may have more."""
        given = [
            (place, each.is_range, each.listener, self._known[each.listener].queue, each.low - 1, each.high + 1)
            for place, each in enumerate(spans)
        ]
        found: list[Found] = []
        read: dict[int, list[int]] = {}
        for start in range(0, len(given), _AT_ONCE):
            some = padded(given[start : start + _AT_ONCE], _NO_SPAN)
            values = [value for each in some for value in each]
            sql = _messages_in(len(some), newest_first=newest_first)
            for place, *row in await tx.rows(sql, *values, self._organization, count - 1):
                read.setdefault(place, []).append(row[0])
                message = _message(row, spans[place], self._known[spans[place].listener])
                if message is not None:
                    found.append(((spans[place].listener, message.seq), message))
        farthest = min if newest_first else max
        full = [(spans[place].listener, farthest(seqs)) for place, seqs in read.items() if len(seqs) == count]
        return found, full


def _first(spans: Sequence[Candidate], count: int, ends: list[Key], *, newest_first: bool) -> Sequence[Candidate]:
    """Return the first spans that may have enough messages, and all others that begin where the last one does.

    If others follow, adds their beginning to `ends`.
    """
    room, last = count, None
    for place, each in enumerate(spans):
        before = each.before(newest_first=newest_first)
        if room <= 0 and before != last:
            ends.append(before)
            return spans[:place]
        room, last = room - (each.high - each.low + 1), before
    return spans


def _message(row: Sequence[Any], span: Candidate, of: Recipient) -> MissedMessage | None:
    """Return a message of a span; None if the listener has not missed it."""
    seq, public_id, alias, stored_at, kind, origin_seq, extra, other = row
    if kind == WAITING or (origin_seq or seq) <= of.start_seq:
        return None
    # A message in a range was missed unless it has a delivery row or waits for an earlier message with its key.
    if span.is_range and (other is not None or not of.window.is_settled(seq)):
        return None
    delivery = (of.queue, seq, of.listener)
    names = (of.public_id, of.alias, of.queue_public_id, of.queue_alias)
    why = (span.reason, span.missed_at, span.attempts)
    return MissedMessage(
        public_id, alias or public_id, seq, stored_at, *why, delivery, None, decode_options(extra).type, *names
    )


@cache
def _messages_in(count: int, *, newest_first: bool) -> str:
    """Return the statement for the first messages of each span, and for those of ranges, what else decides about them.

    Scalar subqueries keep a planner from reading all delivery rows for a join.
    """
    taken = count * len(_NO_SPAN)
    organization, offset = f"${taken + 1}", f"${taken + 2}"
    other = f"""CASE WHEN span.is_range = 1 THEN coalesce((
            SELECT e.seq FROM delivery e
            WHERE e.organization = {organization} AND e.listener = span.listener AND e.stream = 0 AND e.seq = l.seq), (
            SELECT b.seq FROM delivery b
            WHERE b.organization = {organization} AND b.queue = l.queue AND b.key_hash = l.key_hash
                AND b.key_hash IS NOT NULL AND b.listener = span.listener AND b.stream = 0 AND b.seq < l.seq
                AND b.blocked > 0
            LIMIT 1)) END"""
    columns = f"span.place, l.seq, l.id, l.alias, l.stored_at, l.kind, l.origin_seq, l.extra, {other}"
    names = "place, is_range, listener, queue, low, high"
    return first_of_spans(columns, names, count, organization=organization, offset=offset, newest_first=newest_first)
