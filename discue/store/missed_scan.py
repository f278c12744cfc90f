"""A scan of the messages that any listener has missed, with a few statements for any number of listeners."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from discue.store.engine import Transaction
from discue.store.log_bounds import WHOLE_LOG, first_of_spans, spans_of_times
from discue.store.message_log import WAITING, seqs_around
from discue.store.missed_candidates import (
    OF_RANGES,
    PARTS,
    Candidates,
    read_of_all,
    read_of_listener,
    read_of_listeners,
)
from discue.store.missed_messages import (
    POSITION_CHARACTERS,
    Key,
    MissedMessage,
    Missing,
    key_at,
    position_of,
    read_missing,
)
from discue.store.pagination import LARGEST, Bounds, Part, ScanStep, Selection, Span, intersect
from discue.store.recipients import state_of_row
from discue.store.tables import padded

Found = tuple[Key, MissedMessage]
_EVERYTHING: Final = ((0, 0), (LARGEST, LARGEST))
_AT_ONCE: Final = 128
_MESSAGES_AT_MOST: Final = 110
"""The largest number of spans whose messages one step of a filtered scan reads: so one statement does."""
_NO_SPAN: Final = (0, 0, 0, 0, 0)
"""A span in `_messages_in` that has no messages."""


class _Span(NamedTuple):
    """Seqs, both ends included, among which a listener may have missed messages."""

    listener: int
    low: int
    high: int
    is_range: bool
    """Whether its messages without a delivery row were missed. Others have no reason and time of their own."""
    reason: str
    missed_at: int

    def near(self, *, newest_first: bool) -> Key:
        """Return the key at which the list reaches the span."""
        return self.listener, self.high if newest_first else self.low


class MissedScan:
    """A scan of all messages that any listener has missed: rows of the key and the message. Ids are positions.

    A step takes one statement to find where messages were missed, two with listeners to choose from, one for the
    listeners that are not known yet, one or two for time filters, and one for the messages.
    """

    def __init__(
        self,
        organization: int,
        *,
        only: Missing | None = None,
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
        self._within = within
        self._has_times = only is None and (selection.created_after, selection.created_before) != (None, None)
        self._is_filtered = self._has_times or (only is None and (among, selection.reason) != (None, None))
        self._known: dict[int, Missing | None] = {} if only is None else {only.of.listener: only}
        self._times: dict[int, Span] = {}
        """The seqs of queues that pass the time filters, as far as they are known."""
        self._anchor: set[int] = set()
        """The listener that a page continues at. The page before it ends there, so it is read with the others."""

    async def locate(self, tx: Transaction, public_id: str) -> Bounds:
        if self._only is None or len(public_id) == POSITION_CHARACTERS:
            key = key_at(public_id)
            self._anchor = {key[0]} if 0 < key[0] < LARGEST else set()
            return key, key
        of = self._only.of
        older, newer = await seqs_around(tx, (of.organization, of.queue), public_id)
        return (of.listener, older), (of.listener, newer)

    async def scan(self, tx: Transaction, part: Part, wanted: int) -> ScanStep[Found]:
        (low, high), count, newest_first = part.within(self._within).span, part.limit, part.newest_first
        start: Key = high if newest_first else low
        # Only whether any is left: nearly always the next candidate is, of a listener that is known.
        is_any = wanted == 1 and not self._has_times
        if is_any and (self._only is not None or self._reason is None):
            count = 1
        spans, ends = await self._spans(tx, start, count, newest_first=newest_first)
        if self._is_filtered:
            count = 1 if is_any else min(count, _MESSAGES_AT_MOST)
        some = list(_first(spans, count, newest_first=newest_first))
        if self._is_filtered and is_any and any(each.listener not in self._known for each in some):
            # The list may go on there, which takes another statement to find out.
            return ScanStep((), start, position_of(start))
        if len(some) < len(spans):
            listener, seq = spans[len(some)].near(newest_first=newest_first)
            # Complete up to the message before.
            ends.append((listener, seq + 1 if newest_first else seq - 1))
        await self._learn(tx, {each.listener for each in some} | self._anchor)
        found, full = await self._messages(tx, some, count, newest_first=newest_first)
        ends += full
        within = {key: row for key, row in found.items() if low < key < high}
        if not ends:
            return ScanStep(_in_order(within, newest_first=newest_first), None)
        end = max(ends) if newest_first else min(ends)
        within = {key: row for key, row in within.items() if (key >= end if newest_first else key <= end)}
        end = self._passing_others(end, newest_first=newest_first)
        return ScanStep(_in_order(within, newest_first=newest_first), end, position_of(end))

    def _passing_others(self, end: Key, *, newest_first: bool) -> Key:
        """Return a key beyond what follows an end and is not shown, however much that is."""
        listener, seq = end
        missing = self._known.get(listener)
        last = (listener, 0 if newest_first else LARGEST)
        if missing is None:
            return last if listener in self._known else end
        low, high = self._times.get(missing.of.queue, WHOLE_LOG)
        if newest_first:
            return last if seq <= low + 1 else (listener, min(seq, high))
        return last if seq >= high - 1 else (listener, max(seq, low))

    async def _spans(
        self, tx: Transaction, start: Key, count: int, *, newest_first: bool
    ) -> tuple[list[_Span], list[Key]]:
        """Return the next spans after a key, in order, and the keys up to which parts that may go on are complete."""
        found = await self._candidates(tx, start, count, newest_first=newest_first)
        spans = []
        for part, listener, first, last, reason, missed_at in found.rows:
            if self._reason not in {None, reason}:
                continue
            low, high = first, last
            # A range may begin or end beyond the start.
            if listener == start[0] and newest_first:
                high = min(last, start[1] - 1)
            elif listener == start[0]:
                low = max(first, start[1] + 1)
            if low <= high:
                spans.append(_Span(listener, low, high, part in OF_RANGES, reason, missed_at))
        ends = self._ends(found, count, newest_first=newest_first)
        return sorted(spans, key=lambda each: each.near(newest_first=newest_first), reverse=newest_first), ends

    async def _candidates(self, tx: Transaction, start: Key, count: int, *, newest_first: bool) -> Candidates:
        organization = self._organization
        if self._only is not None:
            start = (self._only.of.listener, start[1])
            return await read_of_listener(
                tx, organization, start, count, reason=self._reason, newest_first=newest_first
            )
        if self._among is not None:
            return await read_of_listeners(tx, organization, start, count, among=self._among, newest_first=newest_first)
        return await read_of_all(tx, organization, start, count, newest_first=newest_first)

    def _ends(self, found: Candidates, count: int, *, newest_first: bool) -> list[Key]:
        """Return the keys up to which the parts of candidates that may go on are complete."""
        read: dict[tuple[int, int], list[Key]] = {}
        for part, listener, first, last, *_ in found.rows:
            if part < PARTS:
                of_part = read.setdefault((part, 0 if self._among is None else listener), [])
                of_part.append((listener, first if newest_first else last))
        ends = [min(each) if newest_first else max(each) for each in read.values() if len(each) == count]
        if found.last_listener is not None:
            ends.append((found.last_listener, 0 if newest_first else LARGEST))
        return ends

    async def _learn(self, tx: Transaction, listeners: set[int]) -> None:
        unknown = sorted(listeners - self._known.keys())
        self._known.update(dict.fromkeys(unknown))
        self._known.update(await read_missing(tx, self._organization, unknown))
        if self._only is None:
            queues = {missing.of.queue for each in listeners if (missing := self._known[each]) is not None}
            unlimited = sorted(queues - self._times.keys())
            self._times.update(await spans_of_times(tx, self._organization, unlimited, self._selection))

    async def _messages(
        self, tx: Transaction, spans: Sequence[_Span], count: int, *, newest_first: bool
    ) -> tuple[dict[Key, Found], list[Key]]:
        """Return the messages of spans by key, and the last keys of spans that may have more."""
        missing = {place: one for place, each in enumerate(spans) if (one := self._known[each.listener]) is not None}
        within = {
            place: intersect((spans[place].low - 1, spans[place].high + 1), self._times.get(one.of.queue, WHOLE_LOG))
            for place, one in missing.items()
        }
        given = [
            (place, spans[place].listener, one.of.queue, *within[place])
            for place, one in missing.items()
            if within[place][1] - within[place][0] > 1
        ]
        found: dict[Key, Found] = {}
        read: dict[int, list[int]] = {}
        for start in range(0, len(given), _AT_ONCE):
            some = padded(given[start : start + _AT_ONCE], _NO_SPAN)
            values = [value for each in some for value in each]
            sql = _messages_in(len(some), newest_first=newest_first)
            for place, *row in await tx.rows(sql, *values, self._organization, count - 1):
                read.setdefault(place, []).append(row[0])
                message = _message(row, spans[place], missing[place])
                if message is not None and self._reason in {None, message.reason}:
                    key = (spans[place].listener, message.seq)
                    found[key] = (key, message)
        farthest = min if newest_first else max
        full = [(spans[place].listener, farthest(seqs)) for place, seqs in read.items() if len(seqs) == count]
        return found, full


def _first(spans: Sequence[_Span], count: int, *, newest_first: bool) -> Iterator[_Span]:
    """Yield spans until these may have enough messages, and all others that begin where the last one does."""
    room, last = count, None
    for each in spans:
        near = each.near(newest_first=newest_first)
        if room <= 0 and near != last:
            return
        room, last = room - (each.high - each.low + 1), near
        yield each


def _message(row: Sequence[Any], span: _Span, missing: Missing) -> MissedMessage | None:
    """Return a message of a span; None if the listener has not missed it."""
    seq, public_id, alias, stored_at, kind, origin_seq, state, *of_row, blocked = row
    of, reason, missed_at, attempts = missing.of, span.reason, span.missed_at, 0
    if kind == WAITING or (origin_seq or seq) <= of.start_seq:
        return None
    if state is not None:
        # The delivery row decides, also in a range.
        reason, missed_at, attempts = of_row
        is_missed = state_of_row(state, attempts, reason)[0] == "missed"
    else:
        is_missed = span.is_range and blocked is None and of.window.is_settled(seq)
    if not is_missed:
        return None
    delivery = (of.queue, seq, of.listener)
    names = (missing.public_id, missing.alias, of.queue_public_id, missing.queue_alias)
    place = (alias or public_id, seq, stored_at)
    return MissedMessage(public_id, *place, reason, missed_at, attempts, delivery, None, *names)


def _in_order(found: dict[Key, Found], *, newest_first: bool) -> list[Found]:
    return [found[key] for key in sorted(found, reverse=newest_first)]


@cache
def _messages_in(count: int, *, newest_first: bool) -> str:
    """Return the statement for the first messages of each span, with their deliveries.

    Scalar subqueries keep a planner from reading all delivery rows for a join.
    """
    taken = count * len(_NO_SPAN)
    organization, offset = f"${taken + 1}", f"${taken + 2}"
    own = f"""FROM delivery e
            WHERE e.organization = {organization} AND e.listener = span.listener AND e.stream = 0 AND e.seq = l.seq"""
    blocked = f"""SELECT b.seq FROM delivery b
            WHERE b.organization = {organization} AND b.queue = l.queue AND b.key_hash = l.key_hash
                AND b.key_hash IS NOT NULL AND b.listener = span.listener AND b.stream = 0 AND b.seq < l.seq
                AND b.blocked > 0
            LIMIT 1"""
    of_row = ", ".join(f"(SELECT e.{name} {own})" for name in ("state", "reason", "due_at", "attempts"))
    columns = f"span.place, l.seq, l.id, l.alias, l.stored_at, l.kind, l.origin_seq, {of_row}, ({blocked})"
    names = "place, listener, queue, low, high"
    return first_of_spans(columns, names, count, organization=organization, offset=offset, newest_first=newest_first)
