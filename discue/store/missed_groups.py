"""Groups of missed messages: those of a listener that have the same cause."""

from collections.abc import Collection
from typing import Final

import msgspec

from discue.domain.causes import plain, plain_reason
from discue.store.engine import Row, Transaction
from discue.store.missed import is_among, is_named, page_of_one
from discue.store.missed_scan import Key, key_of, position_of
from discue.store.pagination import Listing, Selection
from discue.store.recipients import Recipient, find_recipient, read_recipients

_SAMPLES: Final = 5
# The index has all columns, in the order of the groups.
_COUNTED: Final = """
    SELECT listener, cause, count(*), min(due_at), max(due_at) FROM delivery
    WHERE organization = $1{} AND state = 'missed' GROUP BY listener, cause"""
_COUNTED_RANGES: Final = """
    SELECT listener, reason, CAST(sum(seq_to - seq_from + 1) AS BIGINT), min(missed_at), max(missed_at)
    FROM missed_range WHERE organization = $1{} GROUP BY listener, reason"""
_OF_ONE: Final = " AND listener = $2"
_CAUSE: Final = """
    SELECT reason, status, text FROM missed_cause WHERE organization = $1 AND listener = $2 AND cause = $3"""


_NEWEST: Final = """
    SELECT (SELECT l.id FROM log l WHERE l.organization = d.organization AND l.queue = d.queue AND l.seq = d.seq)
    FROM delivery d WHERE d.organization = $1 AND d.listener = $2 AND d.cause = $3 AND d.state = 'missed'
    ORDER BY d.seq DESC LIMIT $4"""


class MissedGroup(msgspec.Struct, frozen=True):
    """The messages that a listener missed for the same cause."""

    id: str
    of: Recipient
    count: int
    """Number of messages, including deleted messages in ranges."""
    first_at: int
    """When the first one was missed, in milliseconds since the epoch."""
    last_at: int
    reason: str = ""
    status: int = 0
    text: str = ""
    sample: tuple[str, ...] = ()
    """The ids of the newest messages that exist."""


async def page(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None = None
) -> Listing[MissedGroup]:
    """Read a page of the groups of all listeners, or of those in `only`: ids of listeners and of queues.

    The largest group comes first. Reads one entry of an index for each missed message of the
    organization, or of the selected listener.
    """
    groups = await _counted(tx, organization, selection, only)
    groups.sort(key=lambda group: (-group.count, -group.last_at, group.id))
    start = (selection.page - 1) * selection.per_page
    places = {group.id: place for place, group in enumerate(groups)}
    if selection.after is not None:
        start = places.get(selection.after, len(groups)) + 1
    elif selection.before is not None:
        end = places.get(selection.before, 0)
        start = max(0, end - selection.per_page)
    end = start + selection.per_page
    shown = [await _with_cause(tx, group) for group in groups[start:end]]
    return Listing(tuple(shown), has_next=end < len(groups), has_previous=0 < start <= len(groups))


async def _counted(
    tx: Transaction, organization: int, selection: Selection, only: Collection[str] | None
) -> list[MissedGroup]:
    values, of_one = [organization], ""
    if selection.listener is not None:
        of = await find_recipient(tx, organization, selection.listener)
        if of is None:
            return []
        values, of_one = [organization, of.listener], _OF_ONE
    rows = await tx.rows(_COUNTED.format(of_one), *values)
    ranges = await tx.rows(_COUNTED_RANGES.format(of_one), *values)
    counted: dict[Key, Row] = {(row[0], row[1] or 0): tuple(row[2:]) for row in rows}
    for listener, reason, *added in ranges:
        key = (listener, plain(reason).id)
        count, first, last = counted.get(key, (0, added[1], added[2]))
        counted[key] = (count + added[0], min(first, added[1]), max(last, added[2]))
    known = await read_recipients(tx, organization, sorted({listener for listener, _ in counted}))
    return [
        MissedGroup(position_of(key), known[key[0]], *counts)
        for key, counts in counted.items()
        if key[0] in known and is_among(known[key[0]], only) and is_named(selection, known[key[0]])
    ]


async def _with_cause(tx: Transaction, group: MissedGroup) -> MissedGroup:
    cause = key_of(group.id)[1]
    reason = plain_reason(cause)
    if reason is not None:
        newest = await page_of_one(tx, group.of, Selection(per_page=_SAMPLES, group=group.id))
        return msgspec.structs.replace(group, reason=reason, sample=tuple(message.id for message in newest.items))
    key = (*group.of.key, cause)
    reason, status, text = await tx.row(_CAUSE, *key) or ("attempts_used_up", 0, "")
    sample = tuple(row[0] for row in await tx.rows(_NEWEST, *key, _SAMPLES) if row[0] is not None)
    return msgspec.structs.replace(group, reason=reason, status=status, text=text, sample=sample)
