"""Pages of missed messages: of one listener, and of all listeners of an organization.

The list of an organization is read by the indexes of listeners, and listeners that missed nothing cost nothing. With a
filter by time, and for a caller who may not see everything, each listener on a page takes a few statements.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

import msgspec

from discue.domain.errors import BadRequest, malformed
from discue.store.engine import Row, Transaction
from discue.store.filtered_pages import FilteredPages, ScanLimits, ScanStep
from discue.store.listener_messages import LIMITS, ListenerScan, accept_all, missed_for
from discue.store.log_bounds import span_of_times
from discue.store.message_log import LISTED
from discue.store.missed_messages import MissedKeys, MissedMessage, Missing, find_missing, position_of, read_missing
from discue.store.missed_scan import MissedScan
from discue.store.pagination import LARGEST, Bounds, Listing, Selection, Span, intersect
from discue.store.recipients import MissedRanges, Recipient
from discue.store.tables import at_given, rows_among, rows_at

_AGAIN: Final = f"SELECT j.seq, j.state FROM ({{}}) AS given JOIN delivery j ON {at_given('j')}"


async def page_of_listener(tx: Transaction, of: Recipient, selection: Selection) -> Listing[MissedMessage]:
    """Read a page of missed messages, newest first. Times in the selection are those of storing."""
    times = await span_of_times(tx, of.organization, of.queue, selection)
    within = intersect((of.start_seq, LARGEST), times)
    found = await FilteredPages(_MissedFor(of, selection.reason), within, LIMITS).page(tx, selection)
    return found.with_items(await _details(tx, of, found.items))


class _MissedFor(ListenerScan):
    """A scan of the messages that a listener has missed, for one reason or for any. The last reason of each counts."""

    def __init__(self, of: Recipient, reason: str | None) -> None:
        super().__init__(of, "missed", missed_for(of, reason), accept_all)
        self._reason = reason

    async def scan(self, tx: Transaction, span: Span, count: int, wanted: int, *, newest_first: bool) -> ScanStep:
        step = await super().scan(tx, span, count, wanted, newest_first=newest_first)
        if self._reason is None:
            return step
        # A message of a range that has a delivery row was missed again. If that were for this reason, the row would be
        # here instead.
        of_ranges = [row[1][2] for row in step.rows if len(row) == LISTED]
        again = {row[0] for row in await rows_at(tx, _AGAIN, (*self._of.key, 0), of_ranges)}
        return step._replace(rows=[row for row in step.rows if len(row) > LISTED or row[1][2] not in again])


async def _details(tx: Transaction, of: Recipient, rows: Sequence[Row]) -> list[MissedMessage]:
    """Return why and when the listener missed each message: its delivery row says so, or a range that is read."""
    ranges = MissedRanges(tx, of.key, len(rows))
    items = []
    for row in rows:
        (stored_at, _, seq), public_id, alias = row[1:4]
        if len(row) > LISTED:
            reason, missed_at, attempts = row[LISTED:]
        else:
            around = await ranges.around(seq)
            reason, missed_at, attempts = (around.reason, around.missed_at, 0) if around else ("", 0, 0)
        place, delivery = (alias or public_id, seq, stored_at), (of.queue, seq, of.listener)
        items.append(MissedMessage(public_id, *place, reason, missed_at, attempts, delivery))
    return items


_EVERYTHING: Final = ((0, 0), (LARGEST, LARGEST))
_LIMITS: Final = ScanLimits(first=None, step=110, in_all=330)
_LIMITS_UNFILTERED: Final = ScanLimits(first=110, step=220, in_all=330)
"""At most two steps of three statements; the first one nearly always finds a page."""
_LIMITS_OF_REASON: Final = ScanLimits(first=1_000, step=1_000, in_all=1_000, in_all_numbered=3_000)
_LIMITS_OF_QUEUE: Final = ScanLimits(first=200, step=200, in_all=200, in_all_numbered=600, around=0)
"""A page takes one step of three or four statements. The latter limits count for each of several listeners."""
_LIMITS_OF_ONE: Final = ScanLimits(first=110, step=1_000, in_all=2_110)
"""At most three steps of two statements."""
_LISTENERS_AT_ONCE: Final = 20
"""The largest number of listeners in one step: each takes several reads."""
_LISTENERS_CHOSEN: Final = 10_000

# Each part finds the next listener by one index, which the order and the columns leave as the only one.
_NEXT: Final = """
    SELECT listener FROM (
        SELECT listener FROM delivery WHERE organization = $1 AND listener {0} $2 AND state = 'missed'
        ORDER BY listener {1}, seq {1} LIMIT 1) AS looked_at
    UNION ALL
    SELECT listener FROM (
        SELECT listener FROM delivery WHERE organization = $1 AND listener {0} $2 AND state = 'ended'
        ORDER BY listener {1}, stream {1}, seq {1} LIMIT 1) AS looked_at
    UNION ALL
    SELECT listener FROM (
        SELECT listener FROM missed_range WHERE organization = $1 AND listener {0} $2
        ORDER BY listener {1}, seq_from {1} LIMIT 1) AS looked_at"""
_BY_IDS: Final = "SELECT id FROM listener WHERE organization = $1 AND public_id IN ({}) AND deleted_at IS NULL"
_OF_QUEUE: Final = """
    SELECT id FROM listener WHERE organization = $1 AND queue = $2 AND deleted_at IS NULL ORDER BY id LIMIT $3"""
_QUEUES: Final = "SELECT id FROM queue WHERE organization = $1 AND public_id IN ({}) AND deleted_at IS NULL"


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[MissedMessage]:
    """Read a page of the messages that any listener has missed, or those in `only`: ids of listeners and of queues.

    Raises BadRequest for a listener or a queue in the selection that is not among these, and for a numbered page that
    is too far from the first.
    """
    if selection.listener is not None and (only is None or selection.listener in only):
        missing = await find_missing(tx, organization, selection.listener)
        if missing is None:
            raise _wrong("listener", "must be the id of a listener")
        if selection.queue in {None, missing.of.queue_public_id}:
            return await page_of_one(tx, missing, selection)
        await _require_queue(tx, organization, selection.queue)
        return Listing((), has_next=False, has_previous=False)
    if (only, selection.listener, selection.created_after, selection.created_before) == (None, None, None, None):
        return await _page_of_many(tx, organization, selection)
    chosen = await _chosen(tx, organization, selection, only)
    scan = _OfAll(organization, selection, chosen)
    found = await FilteredPages(scan, _EVERYTHING, _LIMITS).page(tx, selection)
    items: list[MissedMessage] = []
    for missing, rows in groupby(found.items, key=itemgetter(1)):
        items += map(missing.named, await _details(tx, missing.of, [row[2] for row in rows]))
    return _with_positions(found, found.with_items(items))


async def _page_of_many(tx: Transaction, organization: int, selection: Selection) -> Listing[MissedMessage]:
    """Read a page of what all listeners have missed, or those of a queue; for one reason if the selection has one."""
    limits = _LIMITS_UNFILTERED if selection.reason is None else _LIMITS_OF_REASON
    if selection.queue is not None:
        limits = _LIMITS_OF_QUEUE
    scan = MissedScan(organization, queue=selection.queue, reason=selection.reason)
    found = await FilteredPages(scan, _EVERYTHING, limits).page(tx, selection)
    if selection.queue is not None and not found.items:
        await _require_queue(tx, organization, selection.queue)
    return _with_positions(found, found.with_items(message for _, message in found.items))


async def page_of_one(tx: Transaction, missing: Missing, selection: Selection) -> Listing[MissedMessage]:
    """Read a page of the messages that a listener has missed, which continues at positions or ids of messages."""
    of = missing.of
    times = await span_of_times(tx, of.organization, of.queue, selection)
    low, high = intersect((of.start_seq, LARGEST), times)
    scan = MissedScan(of.organization, missing, reason=selection.reason)
    pages = FilteredPages(scan, ((of.listener, low), (of.listener, high)), _LIMITS_OF_ONE)
    found = await pages.page(tx, selection)
    return _with_positions(found, found.with_items(message for _, message in found.items))


def _with_positions(found: Listing[Row], page: Listing[MissedMessage]) -> Listing[MissedMessage]:
    """Return a page of rows found, with the positions at which its neighbours continue."""
    after = found.resumes_after or (position_of(found.items[-1][0]) if found.has_next and found.items else None)
    before = found.resumes_before or (position_of(found.items[0][0]) if found.has_previous and found.items else None)
    return msgspec.structs.replace(page, resumes_after=after, resumes_before=before)


async def _chosen(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None
) -> list[int] | None:
    """Return the row ids of the listeners that the list is limited to, in order; None for all."""
    chosen = None if only is None else await _listeners_among(tx, organization, only)
    for name, public_id in (("listener", selection.listener), ("queue", selection.queue)):
        if public_id is not None:
            named = await _listeners_among(tx, organization, {public_id}, kind=name)
            chosen = named if chosen is None else chosen & named
    return None if chosen is None else sorted(chosen)


async def _require_queue(tx: Transaction, organization: int, public_id: str | None) -> None:
    """Raise BadRequest for a queue that does not exist."""
    if await tx.row(_QUEUES.format("$2"), organization, public_id) is None:
        raise _wrong("queue", "must be the id of a queue")


async def _listeners_among(
    tx: Transaction, organization: int, public_ids: Collection[str], *, kind: str = ""
) -> set[int]:
    """Return the row ids of listeners that have these ids, or whose queues have them."""
    listeners, queues = [], []
    if kind != "queue":
        listeners = [row[0] for row in await rows_among(tx, _BY_IDS, (organization,), list(public_ids))]
    if kind != "listener":
        queues = [row[0] for row in await rows_among(tx, _QUEUES, (organization,), list(public_ids))]
    if kind and not (listeners or queues):
        raise _wrong(kind, f"must be the id of a {kind}")
    found = set(listeners)
    for queue in queues:
        found |= {row[0] for row in await tx.rows(_OF_QUEUE, organization, queue, _LISTENERS_CHOSEN)}
        if len(found) >= _LISTENERS_CHOSEN:
            raise _wrong("listener", "is required: the queues have too many listeners")
    return found


class _OfAll(MissedKeys):
    """A scan like `MissedScan` with other filters: rows of the key, the listener, and the message's row.

    It reads the lists of one listener after the other, by the indexes of each.
    """

    def __init__(self, organization: int, selection: Selection, chosen: list[int] | None) -> None:
        self._organization = organization
        self._selection = selection
        self._chosen = chosen
        self._known: dict[int, Missing | None] = {}
        self._times: dict[int, Span] = {}

    async def scan(self, tx: Transaction, span: Bounds, count: int, wanted: int, *, newest_first: bool) -> ScanStep:
        low, high = span
        found: list[Row] = []
        listener, seq = high if newest_first else low
        for _ in range(_LISTENERS_AT_ONCE):
            missing = await self._missing(tx, listener)
            if missing is not None:
                bounds = (low[1] if listener == low[0] else 0, high[1] if listener == high[0] else LARGEST)
                within = intersect(bounds, await self._span(tx, missing.of))
                scan = _MissedFor(missing.of, self._selection.reason)
                left = count - len(found)
                step = await scan.scan(tx, within, left, left, newest_first=newest_first)
                found += [((listener, row[1][2]), missing, row) for row in step.rows]
                if step.last is not None:
                    key = (listener, step.last)
                    return ScanStep(found, key, position_of(key))
            if len(found) >= min(count, wanted):
                # Nothing is left of this listener: the next step begins behind it.
                seq = 0 if newest_first else LARGEST
                break
            following = await self._next(tx, listener, newest_first=newest_first)
            if following is None or not low[0] <= following <= high[0]:
                return ScanStep(found, None)
            listener, seq = following, LARGEST if newest_first else 0
        return ScanStep(found, (listener, seq), position_of((listener, seq)))

    async def _missing(self, tx: Transaction, listener: int) -> Missing | None:
        """Return the listener; None if it does not exist, or is not chosen."""
        if self._chosen is not None:
            place = bisect_left(self._chosen, listener)
            if place == len(self._chosen) or self._chosen[place] != listener:
                return None
        if listener in {0, LARGEST}:
            # The ends of the list.
            return None
        if listener not in self._known:
            self._known[listener] = (await read_missing(tx, self._organization, [listener])).get(listener)
        return self._known[listener]

    async def _span(self, tx: Transaction, of: Recipient) -> Span:
        """Return the seqs of messages that are for the listener and pass the time filters."""
        if of.queue not in self._times:
            self._times[of.queue] = await span_of_times(tx, of.organization, of.queue, self._selection)
        return intersect((of.start_seq, LARGEST), self._times[of.queue])

    async def _next(self, tx: Transaction, listener: int, *, newest_first: bool) -> int | None:
        """Return the next listener that may have missed something."""
        signs = ("<", "DESC") if newest_first else (">", "ASC")
        nearest = max if newest_first else min
        rows = await tx.rows(_NEXT.format(*signs), self._organization, listener)
        following: int | None = nearest([row[0] for row in rows], default=None)
        if following is None or self._chosen is None:
            return following
        # The next chosen one from there on: without a look whether it has missed something, which its own read shows.
        place = bisect_right(self._chosen, following) - 1 if newest_first else bisect_left(self._chosen, following)
        return self._chosen[place] if 0 <= place < len(self._chosen) else None


def _wrong(name: str, rule: str) -> BadRequest:
    return malformed(f"?{name}", rule, code="invalid_parameter")
