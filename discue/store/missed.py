"""What a listener has missed, as a list: each message with why, since when, and after how many attempts."""

from collections.abc import Sequence
from typing import Final

import msgspec

from discue.store.deliveries import Recipient, missed_range
from discue.store.engine import Row, Transaction
from discue.store.message_log import common, span_of_times
from discue.store.pagination import LARGEST, Listing, Selection
from discue.store.received import Received, missed_for
from discue.store.tables import placeholders

_DETAILS: Final = """
    SELECT seq, reason, due_at, attempts FROM exception
    WHERE organization = $1 AND listener = $2 AND stream = 0 AND seq IN ({})"""


class MissedMessage(msgspec.Struct, frozen=True):
    """A message that a listener has missed; `attempts` are those that were made."""

    id: str
    alias: str
    seq: int
    stored_at: int
    reason: str
    missed_at: int
    attempts: int


async def page(tx: Transaction, of: Recipient, selection: Selection) -> Listing[MissedMessage]:
    """Newest first. Times in the selection are those at which messages were stored."""
    times = await span_of_times(tx, of.organization, of.queue, selection)
    within = common((of.start_seq, LARGEST), times)
    found = await Received(of, "missed", missed_for(of, selection.reason), within).page(tx, selection)
    items = await _described(tx, of, found.rows)
    return Listing(tuple(items), found.has_next, found.has_previous, found.resumes_after, found.resumes_before)


async def _described(tx: Transaction, of: Recipient, rows: Sequence[Row]) -> list[MissedMessage]:
    apart = await _apart(tx, of, [_seq(row) for row in rows])
    around: Row | None = None
    items = []
    for row in rows:
        seq = _seq(row)
        if seq in apart:
            reason, missed_at, attempts = apart[seq]
        else:
            if around is None or not around[0] <= seq <= around[1]:
                around = await missed_range(tx, of, seq)
            (reason, missed_at), attempts = around[2:] if around else ("", 0), 0
        (stored_at, _, _), public_id, alias = row[1:4]
        items.append(MissedMessage(public_id, alias or public_id, seq, stored_at, reason, missed_at, attempts))
    return items


async def _apart(tx: Transaction, of: Recipient, seqs: Sequence[int]) -> dict[int, tuple[str, int, int]]:
    """Reason, time and attempts of those that stand in a row of their own."""
    if not seqs:
        return {}
    sql = _DETAILS.format(placeholders(3, len(seqs)))
    return {row[0]: (row[1], row[2], row[3]) for row in await tx.rows(sql, of.organization, of.listener, *seqs)}


def _seq(row: Row) -> int:
    return int(row[0][2])
