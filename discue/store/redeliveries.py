"""Redeliveries as rows: what clients asked for and see, and what was counted when they did."""

from typing import Final

import msgspec

from discue.domain.intervals import total_length
from discue.domain.model import MissedSelection, Redelivery
from discue.store.deliveries import Recipient
from discue.store.engine import Row, Transaction
from discue.store.listener_messages import MessageSource, missed_for
from discue.store.message_log import Span
from discue.store.pagination import Listing, Selection, Table, listed

COUNTED: Final = 100_000
"""So many rows are counted at most: reads run on the event loop."""

_COLUMNS: Final = (
    "id, organization, public_id, listener, state, spec, position, until_seq, selected, created_at, updated_at, pace, "
    "redelivered, gone, ended_at"
)
_OF_LISTENER: Final = f"SELECT {_COLUMNS} FROM redelivery WHERE organization = $1 AND listener = $2"
_GET: Final = f"SELECT {_COLUMNS} FROM redelivery WHERE organization = $1 AND public_id = $2"
_OPEN: Final = f"{_OF_LISTENER} AND ended_at IS NULL ORDER BY id LIMIT $3"
_ANCHOR: Final = "SELECT id FROM redelivery WHERE organization = $1 AND public_id = $2"
_INSERT: Final = f"""
    INSERT INTO redelivery ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"""
_DELETE: Final = "DELETE FROM redelivery WHERE organization = $1 AND id = $2"
_COUNT: Final = """
    SELECT count(*) FROM (
        SELECT seq FROM exception
        WHERE organization = $1 AND listener = $2 AND seq > $3 AND seq < $4 AND state = 'missed' AND stream + 0 = 0{}
        LIMIT ${}
    ) AS counted"""
_RANGES: Final = """
    SELECT seq_from, seq_to FROM missed_range
    WHERE organization = $1 AND listener = $2 AND seq_to > $3 AND seq_from < $4{} ORDER BY seq_from LIMIT ${}"""
_RANGES_COUNTED: Final = 10_000


class RedeliveryPreview(msgspec.Struct, frozen=True):
    """How many deliveries are chosen, and the ids of the first and the last message; both "" when there are none."""

    selected: int
    first: str
    last: str


async def get(tx: Transaction, organization: int, public_id: str) -> Redelivery | None:
    row = await tx.row(_GET, organization, public_id)
    return None if row is None else _from_row(row)


async def page(tx: Transaction, organization: int, listener: int, selection: Selection) -> Listing[Redelivery]:
    table = Table(_OF_LISTENER, (organization, listener), "id", _ANCHOR, (organization,), alias_column="public_id")
    found = await listed(tx, table, selection)
    return Listing(tuple(_from_row(row) for row in found.rows), found.has_next, found.has_previous)


async def list_open(tx: Transaction, organization: int, listener: int, limit: int) -> list[Redelivery]:
    """Those that have not ended, oldest first."""
    return [_from_row(row) for row in await tx.rows(_OPEN, organization, listener, limit)]


async def insert(tx: Transaction, made: Redelivery) -> None:
    await tx.execute(
        _INSERT,
        made.id,
        made.organization,
        made.public_id,
        made.listener,
        made.state,
        msgspec.json.encode(made.chosen).decode(),
        made.position,
        made.until_seq,
        made.selected,
        made.created_at,
        made.updated_at,
        made.pace,
        made.redelivered,
        made.gone,
        made.ended_at,
    )


async def delete(tx: Transaction, redelivery: Redelivery) -> bool:
    """Whether it was there. The step of it that is under way is stored nevertheless, and counted nowhere."""
    return await tx.execute(_DELETE, redelivery.organization, redelivery.id) == 1


async def preview(tx: Transaction, of: Recipient, chosen: MissedSelection, span: Span) -> RedeliveryPreview:
    """What is chosen between two seqs at this moment. Of those that stand alone no more than COUNTED are counted."""
    if chosen.seqs is not None:
        return RedeliveryPreview(len(chosen.seqs), "", "")
    candidates = missed_for(of, chosen.reason)
    first = await _id_at_end(tx, candidates, span, newest_first=False)
    last = await _id_at_end(tx, candidates, span, newest_first=True)
    return RedeliveryPreview(await _count(tx, of, chosen.reason, span), first, last)


async def _id_at_end(tx: Transaction, candidates: MessageSource, span: Span, *, newest_first: bool) -> str:
    rows = await candidates.stretch(tx, span, 1, newest_first=newest_first)
    return str(rows[0][2]) if rows else ""


async def _count(tx: Transaction, of: Recipient, reason: str | None, span: Span) -> int:
    condition, values = ("", ()) if reason is None else (" AND reason = $5", (reason,))
    limit, key = 5 + len(values), (of.organization, of.listener)
    apart = await tx.row(_COUNT.format(condition, limit), *key, *span, *values, COUNTED)
    ranges = await tx.rows(_RANGES.format(condition, limit), *key, *span, *values, _RANGES_COUNTED)
    within = [(max(first, span[0] + 1), min(last, span[1] - 1)) for first, last in ranges]
    return (int(apart[0]) if apart else 0) + total_length(within)


def _from_row(row: Row) -> Redelivery:
    row_id, organization, public_id, listener, state, spec, position, until_seq, selected, *rest = row
    created_at, updated_at, pace, redelivered, gone, ended_at = rest
    return Redelivery(
        organization=organization,
        id=row_id,
        public_id=public_id,
        listener=listener,
        state=state,
        chosen=msgspec.json.decode(spec, type=MissedSelection),
        position=position,
        until_seq=until_seq,
        selected=selected,
        created_at=created_at,
        updated_at=updated_at,
        pace=pace,
        redelivered=redelivered,
        gone=gone,
        ended_at=ended_at,
    )
