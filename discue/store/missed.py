"""Pages of missed messages, of one listener and of all listeners of an organization, and reports of them.

Settles count missed messages; the system event follows in its own commit. The row of a report is kept for a minute
after its event, so that a listener has at most one event per minute. The count is stored with the miss, and reset with
the event: a crash in between delays the event, but no event is lost or repeated.
"""

from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Final

import msgspec

from discue.domain.errors import BadRequest, malformed
from discue.domain.model import MISSED_REASONS, Listener
from discue.domain.system_events import REPORT_INTERVAL_MS, MessageMissed, ResourceName
from discue.store import listeners, queues, system_events
from discue.store.engine import Row, Transaction
from discue.store.message_log import span_of_times
from discue.store.missed_scan import MissedMessage, MissedScan, key_of, position_of
from discue.store.pagination import LARGEST, Listing, ScanLimits, Selection, Span, browse_matching, intersect
from discue.store.recipients import Recipient, find_recipient, read_recipients
from discue.store.tables import read_one, rows_among

_LIMITS: Final = ScanLimits(first=64, step=220, in_all=330)
"""A page takes at most three steps of three statements. The first step is nearly always enough."""
_LIMITS_OF_REASON: Final = ScanLimits(first=1_000, step=1_000, in_all=1_000, in_all_numbered=3_000)
_LIMITS_OF_SEVERAL: Final = ScanLimits(first=64, step=200, in_all=200, in_all_numbered=600)
"""A page takes at most two steps of three or four statements, except a numbered one."""
_LIMITS_OF_TIMES: Final = ScanLimits(first=None, step=110, in_all=1_100)
"""Each listener with messages of other times can take a step, of at most five statements."""
_LIMITS_OF_ONE: Final = ScanLimits(first=None, step=1_000, in_all=2_000, in_all_numbered=5_000)
"""A page takes at most three steps of two statements, except a numbered one."""
_LIMITS_OF_IDS: Final = ScanLimits(first=110, step=110, in_all=220)
_LISTENERS_CHOSEN: Final = 10_000
_IDS_SHOWN: Final = 100
_IDS_LOOKED_AT: Final = 200

_BY_IDS: Final = """
    SELECT id, (SELECT q.public_id FROM queue q WHERE q.organization = listener.organization AND q.id = listener.queue)
    FROM listener WHERE organization = $1 AND public_id IN ({}) AND deleted_at IS NULL"""
_OF_QUEUE: Final = """
    SELECT id FROM listener WHERE organization = $1 AND queue = $2 AND deleted_at IS NULL ORDER BY id LIMIT $3"""
_OF_DELIVERIES: Final = """
    SELECT * FROM (
        SELECT seq, 0, (
            SELECT l.id FROM log l
            WHERE l.organization = delivery.organization AND l.queue = delivery.queue AND l.seq = delivery.seq)
        FROM delivery WHERE organization = $1 AND listener = $2 AND {} ORDER BY seq DESC LIMIT $3) AS looked_at"""
_NEWEST: Final = f"""{_OF_DELIVERIES.format("state = 'missed' AND stream + 0 = 0")}
    UNION ALL {_OF_DELIVERIES.format("state = 'ended' AND stream = 0 AND reason <> ''")}
    UNION ALL
    SELECT * FROM (
        SELECT seq_to, 1, NULL FROM missed_range WHERE organization = $1 AND listener = $2
        ORDER BY seq_from DESC LIMIT 1) AS looked_at"""


async def page_of_listener(tx: Transaction, of: Recipient, selection: Selection) -> Listing[MissedMessage]:
    """Read a page of missed messages, newest first, which continues at their ids.

    Times in the selection are those of storing.
    """
    found = await page_of_one(tx, of, selection)
    # A scan that stops among deleted messages has no id to continue at.
    while not found.items and (found.has_next or found.has_previous):
        following = msgspec.structs.replace(selection, after=found.resumes_after, before=found.resumes_before)
        found = await page_of_one(tx, of, following)
    return msgspec.structs.replace(found, resumes_after=None, resumes_before=None)


async def newest_ids(tx: Transaction, listener: Listener, limit: int = _IDS_SHOWN) -> list[str]:
    """Read up to `limit` ids of messages that a listener has missed, newest first.

    Only about 200 of the newest missed deliveries are searched, and deleted messages have no id. So a result with
    fewer than `limit` ids may be incomplete.
    """
    rows = await tx.rows(_NEWEST, listener.organization, listener.id, _IDS_LOOKED_AT)
    ids: list[str] = []
    for _, is_range, public_id in sorted(rows, key=itemgetter(0), reverse=True):
        if is_range:
            break
        if public_id is not None:
            ids.append(public_id)
        if len(ids) == limit:
            return ids
    else:
        return ids
    # Finding the messages of ranges takes longer.
    of = await find_recipient(tx, listener.organization, listener.public_id)
    if of is None:
        return []
    selection = Selection(per_page=limit)
    found = await _page(tx, _scan_of_one(of, selection, (of.start_seq, LARGEST)), selection, _LIMITS_OF_IDS)
    return [each.id for each in found.items]


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[MissedMessage]:
    """Read a page of the messages missed by any listener, or by those in `only`: ids of listeners and of queues.

    The list goes from the newest listener to the oldest. Raises BadRequest for a listener or a queue in the selection
    that does not exist, and for a numbered page that is too far from the first.
    """
    page = Listing[MissedMessage]((), has_next=False, has_previous=False)
    if selection.group is not None:
        of_group = await recipient_of_group(tx, organization, selection.group)
        is_listed = is_among(of_group, only) and is_named(selection, of_group)
        return await page_of_one(tx, of_group, selection) if is_listed else page
    if selection.listener is None:
        among = selection.queue if only is None else await _listeners_among(tx, organization, only, selection.queue)
        scan = MissedScan(organization, among=among, selection=selection)
        page = await _page(tx, scan, selection, _limits(selection, among))
    else:
        of = await find_recipient(tx, organization, selection.listener)
        if of is None:
            raise _wrong("listener", "must be the id of a listener")
        if is_among(of, only) and is_named(selection, of):
            return await page_of_one(tx, of, selection)
    if page.items or selection.queue is None:
        return page
    if not await queues.ids_of(tx, organization, [selection.queue]):
        raise _wrong("queue", "must be the id of a queue")
    return page


async def recipient_of_group(tx: Transaction, organization: int, group: str) -> Recipient:
    """Return the listener of a group by its id. Raises BadRequest."""
    listener, _ = key_of(group)
    found = await read_recipients(tx, organization, [listener])
    if listener not in found:
        raise _wrong("group", "must be the id of a group")
    return found[listener]


def is_among(of: Recipient, only: Collection[str] | None) -> bool:
    """Return whether a listener is in `only`: ids of listeners and of queues; None means all."""
    return only is None or of.public_id in only or of.queue_public_id in only


def is_named(selection: Selection, of: Recipient) -> bool:
    """Return whether a listener passes the filters of listener and queue."""
    return selection.listener in {None, of.public_id} and selection.queue in {None, of.queue_public_id}


async def page_of_one(tx: Transaction, of: Recipient, selection: Selection) -> Listing[MissedMessage]:
    """Read a page of the messages that a listener has missed, which continues at positions or ids of messages."""
    times = await span_of_times(tx, of.organization, of.queue, selection)
    scan = _scan_of_one(of, selection, intersect((of.start_seq, LARGEST), times))
    return await _page(tx, scan, selection, _LIMITS_OF_ONE)


def _scan_of_one(of: Recipient, selection: Selection, within: Span) -> MissedScan:
    low, high = within
    keys = ((of.listener, low), (of.listener, high))
    return MissedScan(of.organization, only=of, selection=selection, within=keys)


async def _page(tx: Transaction, scan: MissedScan, selection: Selection, limits: ScanLimits) -> Listing[MissedMessage]:
    """Read a page, with the positions at which its neighbours continue."""
    found = await browse_matching(tx, scan, selection, limits)
    after = found.resumes_after or (position_of(found.items[-1][0]) if found.has_next and found.items else None)
    before = found.resumes_before or (position_of(found.items[0][0]) if found.has_previous and found.items else None)
    items = tuple(message for _, message in found.items)
    return Listing(items, found.has_next, found.has_previous, resumes_after=after, resumes_before=before)


def _limits(selection: Selection, among: str | Sequence[int] | None) -> ScanLimits:
    if (selection.created_after, selection.created_before) != (None, None):
        return _LIMITS_OF_TIMES
    if among is not None:
        return _LIMITS_OF_SEVERAL
    return _LIMITS if selection.reason is None else _LIMITS_OF_REASON


async def _listeners_among(
    tx: Transaction, organization: int, only: Collection[str], queue: str | None
) -> str | list[int]:
    """Return what a list is limited to: a queue, by its public id, or the row ids of listeners, in order."""
    if queue is not None and queue in only:
        return queue
    rows: list[Row] = await rows_among(tx, _BY_IDS, (organization,), list(only))
    found = {listener for listener, of in rows if queue in {None, of}}
    if queue is None:
        for each in await queues.ids_of(tx, organization, only):
            found |= {row[0] for row in await tx.rows(_OF_QUEUE, organization, each, _LISTENERS_CHOSEN)}
            if len(found) >= _LISTENERS_CHOSEN:
                raise _wrong("listener", "is required: the queues have too many listeners")
    return sorted(found)


def _wrong(name: str, rule: str) -> BadRequest:
    return malformed(f"?{name}", rule, code="invalid_parameter")


_MESSAGES_NAMED: Final = 10
_REPORTED: Final = ("n", *MISSED_REASONS)
_DUE_REPORTS: Final = f"""
    SELECT organization, listener, since, {", ".join(_REPORTED)} FROM missed_report
    WHERE due_at <= $1 ORDER BY due_at LIMIT $2"""
_NEXT_REPORT: Final = "SELECT due_at FROM missed_report ORDER BY due_at LIMIT 1"
# Subtracted, not set to 0: a settle may have counted more since the row was read.
_TAKE_REPORT: Final = f"""
    UPDATE missed_report SET {", ".join(f"{name} = {name} - ${place}" for place, name in enumerate(_REPORTED, 1))},
        since = ${len(_REPORTED) + 1}, due_at = ${len(_REPORTED) + 2}
    WHERE organization = ${len(_REPORTED) + 3} AND listener = ${len(_REPORTED) + 4}"""
_DELETE_REPORT: Final = "DELETE FROM missed_report WHERE organization = $1 AND listener = $2 AND n = 0"


async def next_report_at(tx: Transaction) -> int | None:
    """Return when the next report is due, in milliseconds since the epoch; None if there is none."""
    return await read_one(tx, lambda row: int(row[0]), _NEXT_REPORT)


async def report(tx: Transaction, now: int, event_ids: Sequence[int]) -> list[MessageMissed]:
    """Record the events that are due, at most one for each of the ids, and return them.

    Requires an exclusive transaction: two workers must not report the same deliveries.
    """
    rows = await tx.rows(_DUE_REPORTS, now, len(event_ids))
    reports: list[MessageMissed] = []
    # Sorted, so that heads of system queues are locked in one order.
    for event_id, row in zip(event_ids, sorted(rows), strict=False):
        if (event := await _report(tx, row, now, event_id)) is not None:
            reports.append(event)
    return reports


async def _report(tx: Transaction, row: Row, now: int, event_id: int) -> MessageMissed | None:
    organization, listener, since, *counts = row
    if not counts[0]:
        await tx.execute(_DELETE_REPORT, organization, listener)
        return None
    await tx.execute(_TAKE_REPORT, *counts, now, now + REPORT_INTERVAL_MS, organization, listener)
    missed_by = await listeners.by_id(tx, organization, listener)
    queue = await queues.by_id(tx, organization, missed_by.queue) if missed_by is not None else None
    # An event about missed events could be missed, too, and so on without end.
    if missed_by is None or queue is None or queue.is_system:
        return None
    event = MessageMissed(
        at=now,
        listener=ResourceName(missed_by.public_id, missed_by.alias),
        queue=ResourceName(queue.public_id, queue.alias),
        count=counts[0],
        since=since,
        reasons={reason: count for reason, count in zip(MISSED_REASONS, counts[1:], strict=True) if count},
        message_ids=await newest_ids(tx, missed_by, min(counts[0], _MESSAGES_NAMED)),
    )
    await system_events.record(tx, organization, event_id, event)
    return event
