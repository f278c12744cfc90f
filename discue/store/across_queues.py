"""The messages of all queues of an organization as one list, by id, each once."""

from collections.abc import Sequence
from functools import cache
from typing import Final

from discue.domain.errors import Unavailable
from discue.store.anchors import Neighbours
from discue.store.engine import Row, Transaction, Value
from discue.store.message_log import ABOVE_EVERY_ID, LiveQueues, MessageRow, listed_columns
from discue.store.pagination import LARGEST, Bounds, Part, Selection, first_id_at, too_far
from discue.store.tables import at_least_two, by_index, given_rows, padded

_IdKey = tuple[str, int]
"""The id of a message, and the row id of its queue."""

_IDS: Final = "SELECT id, queue, seq FROM log WHERE organization = $1"
_APART_MS: Final = 2_000
"""How much earlier a message's id may be made than the message is stored, given the clock skew of workers."""

_SCANNED_AT_ONCE: Final = 500
_SCANS: Final = 20
_READ_AT_ONCE: Final = 128


class AcrossQueues:
    """All messages of an organization that pass the filters, by id, each once."""

    def __init__(self, organization: int, live: LiveQueues, selection: Selection) -> None:
        self._organization = organization
        self._live = live
        filters = (
            ("alias =", selection.alias),
            ("coalesce(published_at, stored_at) >", selection.created_after),
            ("coalesce(published_at, stored_at) <", selection.created_before),
        )
        given = [(condition, value) for condition, value in filters if value is not None]
        self._sql = _IDS + "".join([f" AND {condition} ${number}" for number, (condition, _) in enumerate(given, 2)])
        self._values: tuple[Value, ...] = (organization, *[value for _, value in given])
        self._within = ids_of_times(selection)
        self._noted: set[int] = set()
        """Queues to read with those of the next page."""

    async def locate(self, tx: Transaction, public_id: str) -> Bounds:
        del tx
        return public_id, public_id

    async def read(self, tx: Transaction, part: Part) -> Sequence[MessageRow]:
        # Skipped keys are read, but not their rows: a database that sorts out the copies of each is ten times slower.
        span, wanted, is_numbered = part.within(self._within).span, part.offset + part.limit, part.offset > 0
        found = await self._scan(tx, span, wanted, newest_first=part.newest_first, is_numbered=is_numbered)
        return await self._read(tx, found[part.offset :])

    async def beyond(self, tx: Transaction, public_id: str, limit: int, *, newest_first: bool) -> Neighbours:
        lowest, highest = self._within
        if newest_first:
            keys, order = ((max(public_id, lowest), 0), (highest, 0)), "ASC"
        else:
            keys, order = ((lowest, LARGEST), (min(public_id, highest), LARGEST)), "DESC"
        others = await self._ids(tx, keys, order, 1)
        # Its queue is read with those of the page.
        self._noted = {queue for _, queue, _ in others}
        rows = await self.read(tx, Part.beyond((public_id, public_id), limit, newest_first=newest_first))
        if others and await self._live.public_id(tx, others[0][1]) is None:
            span = (keys[0][0], keys[1][0])
            others = await self._scan(tx, span, 1, newest_first=not newest_first)
        return Neighbours(rows, bool(rows) and bool(others))

    async def _scan(
        self, tx: Transaction, span: tuple[str, str], wanted: int, *, newest_first: bool, is_numbered: bool = False
    ) -> list[Row]:
        """Scan messages: each once, and without those of deleted queues that are not removed yet.

        Raises BadRequest if a numbered page, or Unavailable if another one, would need too many steps.
        """
        found: dict[str, Row] = {}
        # Usually no queue is being deleted: then the first read has the whole page.
        chunk, keys = wanted, _between(*span)
        for _ in range(_SCANS):
            rows = await self._ids(tx, keys, "DESC" if newest_first else "ASC", chunk)
            await self._live.learn(tx, {queue for _, queue, _ in rows} | self._noted)
            for row in rows:
                public_id, queue, _ = row
                if public_id not in found and await self._live.public_id(tx, queue) is not None:
                    found[public_id] = row
            if len(found) >= wanted or len(rows) < chunk:
                return list(found.values())[:wanted]
            last = (rows[-1][0], rows[-1][1])
            keys = (keys[0], last) if newest_first else (last, keys[1])
            chunk = _SCANNED_AT_ONCE
        if is_numbered:
            raise too_far()
        raise Unavailable("The messages of a deleted queue are being removed. Try again in a minute.")

    async def _ids(self, tx: Transaction, keys: tuple[_IdKey, _IdKey], order: str, limit: int) -> list[Row]:
        taken = len(self._values)
        condition = f"(id, queue) > (${taken + 1}, ${taken + 2}) AND (id, queue) < (${taken + 3}, ${taken + 4})"
        ordered = f"ORDER BY id {order}, queue {order} LIMIT ${taken + 5}"
        return await tx.rows(f"{self._sql} AND {condition} {ordered}", *self._values, *keys[0], *keys[1], limit)

    async def _read(self, tx: Transaction, found: Sequence[Row]) -> list[MessageRow]:
        rows: dict[tuple[int, int], MessageRow] = {}
        for start in range(0, len(found), _READ_AT_ONCE):
            some = at_least_two(padded(found[start : start + _READ_AT_ONCE], found[start]))
            values = [value for _, queue, seq in some for value in (self._organization, queue, seq)]
            read = map(MessageRow._make, await tx.rows(_at(len(some)), *values))
            rows.update({(row.queue, row.seq): row for row in read})
        return [rows[queue, seq] for _, queue, seq in found if (queue, seq) in rows]


@cache
def _at(count: int) -> str:
    """Return the statement for messages of several queues: each is given by its organization, queue and seq."""
    return f"""
        SELECT {listed_columns("log", "id")} FROM ({given_rows(count, 3)}) AS given
        JOIN log ON {by_index("log.organization", "given.column1")} AND log.queue = given.column2
            AND log.seq = given.column3"""


def _between(low: str, high: str) -> tuple[_IdKey, _IdKey]:
    """Return the keys between two ids, both excluded."""
    return (low, LARGEST), (high, 0)


def ids_of_times(selection: Selection) -> tuple[str, str]:
    """Return the ids between which all messages are that pass the time filters."""
    low, high = "", ABOVE_EVERY_ID
    if selection.created_after is not None:
        low = first_id_at(selection.created_after + 1 - _APART_MS)
    if selection.created_before is not None:
        high = first_id_at(selection.created_before)
    return low, high
