"""Pages of missed messages: of one listener, and of all listeners of an organization."""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from discue.domain.errors import BadRequest, malformed
from discue.domain.model import Listener
from discue.store.engine import Row, Transaction
from discue.store.log_bounds import span_of_times
from discue.store.missed_messages import MissedMessage, position_of
from discue.store.missed_scan import MissedScan
from discue.store.pagination import LARGEST, Listing, ScanLimits, Selection, browse_matching, intersect
from discue.store.recipients import Recipient, find_recipient
from discue.store.tables import rows_among

_LIMITS: Final = ScanLimits(first=64, step=220, in_all=330, around=0)
"""A page takes at most three steps of three statements. The first one, which also looks at neighbours, nearly always
finds it."""
_LIMITS_OF_REASON: Final = ScanLimits(first=1_000, step=1_000, in_all=1_000, in_all_numbered=3_000)
_LIMITS_OF_SEVERAL: Final = ScanLimits(first=64, step=200, in_all=200, in_all_numbered=600, around=0)
"""A page takes at most two steps of three or four statements, except a numbered one."""
_LIMITS_OF_TIMES: Final = ScanLimits(first=None, step=110, in_all=4_400, around=0)
"""Each listener with messages of other times can take a step, of at most five statements."""
_LIMITS_OF_ONE: Final = ScanLimits(first=None, step=1_000, in_all=2_000, in_all_numbered=5_000)
"""A page takes at most three steps of two statements, except a numbered one."""
_LISTENERS_CHOSEN: Final = 10_000
_IDS_SHOWN: Final = 100

_BY_IDS: Final = """
    SELECT id, (SELECT q.public_id FROM queue q WHERE q.organization = listener.organization AND q.id = listener.queue)
    FROM listener WHERE organization = $1 AND public_id IN ({}) AND deleted_at IS NULL"""
_OF_QUEUE: Final = """
    SELECT id FROM listener WHERE organization = $1 AND queue = $2 AND deleted_at IS NULL ORDER BY id LIMIT $3"""
_QUEUES: Final = "SELECT id FROM queue WHERE organization = $1 AND public_id IN ({}) AND deleted_at IS NULL"


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
    """Read the ids of messages that a listener has missed, newest first."""
    of = await find_recipient(tx, listener.organization, listener.public_id)
    found = None if of is None else await page_of_one(tx, of, Selection(per_page=limit))
    return [] if found is None else [each.id for each in found.items]


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[MissedMessage]:
    """Read a page of the messages that any listener has missed, or those in `only`: ids of listeners and of queues.

    The list goes from the newest listener to the oldest. Raises BadRequest for a listener or a queue in the selection
    that does not exist, and for a numbered page that is too far from the first.
    """
    page = Listing[MissedMessage]((), has_next=False, has_previous=False)
    if selection.listener is None:
        among = selection.queue if only is None else await _listeners_among(tx, organization, only, selection.queue)
        scan = MissedScan(organization, among=among, selection=selection)
        page = await _page(tx, scan, selection, _limits(selection, among))
    else:
        of = await find_recipient(tx, organization, selection.listener)
        if of is None:
            raise _wrong("listener", "must be the id of a listener")
        is_listed = only is None or of.public_id in only or of.queue_public_id in only
        if is_listed and selection.queue in {None, of.queue_public_id}:
            return await page_of_one(tx, of, selection)
    if selection.queue is not None and not page.items:
        await _require_queue(tx, organization, selection.queue)
    return page


async def page_of_one(tx: Transaction, of: Recipient, selection: Selection) -> Listing[MissedMessage]:
    """Read a page of the messages that a listener has missed, which continues at positions or ids of messages."""
    times = await span_of_times(tx, of.organization, of.queue, selection)
    low, high = intersect((of.start_seq, LARGEST), times)
    within = ((of.listener, low), (of.listener, high))
    scan = MissedScan(of.organization, only=of, selection=selection, within=within)
    return await _page(tx, scan, selection, _LIMITS_OF_ONE)


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
        for (each,) in await rows_among(tx, _QUEUES, (organization,), list(only)):
            found |= {row[0] for row in await tx.rows(_OF_QUEUE, organization, each, _LISTENERS_CHOSEN)}
            if len(found) >= _LISTENERS_CHOSEN:
                raise _wrong("listener", "is required: the queues have too many listeners")
    return sorted(found)


async def _require_queue(tx: Transaction, organization: int, public_id: str) -> None:
    """Raise BadRequest for a queue that does not exist."""
    if await tx.row(_QUEUES.format("$2"), organization, public_id) is None:
        raise _wrong("queue", "must be the id of a queue")


def _wrong(name: str, rule: str) -> BadRequest:
    return malformed(f"?{name}", rule, code="invalid_parameter")
