"""A scan of the messages that any listener has missed, with a few statements for any number of listeners."""

from collections.abc import Iterator, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Final

from discue.store.engine import Transaction
from discue.store.log_bounds import WHOLE_LOG, first_of_spans, spans_of_times
from discue.store.message_log import WAITING, seqs_around
from discue.store.missed_candidates import (
    Candidate,
    Candidates,
    read_of_all,
    read_of_listener,
    read_of_listeners,
    that_missed,
)
from discue.store.missed_messages import (
    POSITION_CHARACTERS,
    Key,
    MissedMessage,
    key_at,
    position_of,
)
from discue.store.pagination import LARGEST, Bounds, Part, ScanStep, Selection, Span
from discue.store.recipients import Recipient, read_recipients
from discue.store.tables import padded

Found = tuple[Key, MissedMessage]
_EVERYTHING: Final = ((0, 0), (LARGEST, LARGEST))
_AT_ONCE: Final = 128
_MESSAGES_AT_MOST: Final = 110
"""The largest number of spans that one step of a filtered scan looks at: so one statement reads their messages."""
_SPARE: Final = 10
"""The number of messages that a step of a filtered scan reads in addition to those that are wanted."""
_NO_SPAN: Final = (0, 0, 0, 0, 0, 0)
"""A span in `_messages_in` that has no messages."""


class MissedScan:
    """A scan of all messages that any listener has missed: rows of the key and the message. Ids are positions.

    A step takes one statement to find where messages were missed, two with listeners to choose from, one for the
    listeners that are not known yet, one for time filters, and one for the messages.
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
        self._within = within
        self._has_times = only is None and (selection.created_after, selection.created_before) != (None, None)
        self._is_filtered = self._has_times or (only is None and (among, selection.reason) != (None, None))
        self._known: dict[int, Recipient] = {} if only is None else {only.listener: only}
        self._asked = set(self._known)
        """The listeners that were read, whether they exist or not."""
        self._times: dict[int, Span] = {}
        """The seqs of queues that pass the time filters, as far as they are known."""
        self._anchor: set[int] = set()
        """The listener that a page continues at. The page before it ends there, so it is read with the others."""

    async def locate(self, tx: Transaction, public_id: str) -> Bounds:
        if self._only is None or len(public_id) == POSITION_CHARACTERS:
            key = key_at(public_id)
            self._anchor = {key[0]} if 0 < key[0] < LARGEST else set()
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
            # Only whether any is left: of a listener that is not known, it takes another statement to find out.
            if wanted == 1 and spans and not self._has_times and spans[0].listener not in self._asked:
                return ScanStep((), start, position_of(start))
        spans = _first(spans, count, ends, newest_first=newest_first)
        await self._learn(tx, {each.listener for each in spans} | self._anchor)
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
        """Return a key beyond what follows an end and is not shown, however much that is."""
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
            if not each.is_range or each.listener != listener:
                yield each
            elif newest_first and each.low < seq:
                yield each._replace(high=min(each.high, seq - 1))
            elif not newest_first and each.high > seq:
                yield each._replace(low=max(each.low, seq + 1))

    def _within_times(self, spans: Sequence[Candidate]) -> Iterator[Candidate]:
        """Yield the spans of listeners that exist, as far as they pass the time filters."""
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
            start = (self._only.listener, start[1])
            return await read_of_listener(
                tx, organization, start, count, reason=self._reason, newest_first=newest_first
            )
        if self._among is None:
            return await read_of_all(tx, organization, start, count, newest_first=newest_first)
        given, last = await that_missed(tx, organization, self._among, start[0], newest_first=newest_first)
        first_seq, last_seq = (LARGEST, 0) if newest_first else (0, LARGEST)
        end = None if last is None else (last, last_seq)
        if not given:
            return Candidates([], end)
        await self._learn(tx, set(given))
        keys = [start if each == start[0] else (each, first_seq) for each in given]
        starts = dict(self._passing_others(key, newest_first=newest_first) for key in keys)
        found = await read_of_listeners(tx, organization, starts, count, newest_first=newest_first)
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
        """Return the messages of spans, and the last keys of spans that may have more."""
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
    """Return spans until these may have enough messages, and all others that begin where the last one does.

    If others follow, their beginning is added to the ends.
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
    seq, public_id, alias, stored_at, kind, origin_seq, other = row
    if kind == WAITING or (origin_seq or seq) <= of.start_seq:
        return None
    # In a range, a delivery row decides, or the message that another one of its key waits for.
    if span.is_range and (other is not None or not of.window.is_settled(seq)):
        return None
    delivery = (of.queue, seq, of.listener)
    names = (of.public_id, of.alias, of.queue_public_id, of.queue_alias)
    why = (span.reason, span.missed_at, span.attempts)
    return MissedMessage(public_id, alias or public_id, seq, stored_at, *why, delivery, None, *names)


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
    columns = f"span.place, l.seq, l.id, l.alias, l.stored_at, l.kind, l.origin_seq, {other}"
    names = "place, is_range, listener, queue, low, high"
    return first_of_spans(columns, names, count, organization=organization, offset=offset, newest_first=newest_first)
