"""The messages of all or some queues of an organization as one list, in the order of ids, without duplicates."""

from collections.abc import Collection, Sequence
from typing import Final

from discue.domain.errors import Unavailable
from discue.store import queues
from discue.store.engine import Row, Transaction, Value
from discue.store.message_filters import States, accepts_of, has_filters
from discue.store.message_log import ABOVE_EVERY_ID, COPIES, LiveQueues, MessageRow, listed_columns, rows_named_by_id
from discue.store.pagination import (
    LARGEST,
    Bounds,
    Listing,
    Part,
    R,
    ScanLimits,
    ScanStep,
    Selection,
    browse_matching,
    first_id_at,
    too_far,
)
from discue.store.tables import by_index, rows_given

_IdKey = tuple[str, int]
"""The id of a message, and the row id of its queue."""

_IDS: Final = "SELECT id, queue, seq FROM log WHERE organization = $1"
_BETWEEN: Final = f"""
    SELECT {listed_columns("log", "id")} FROM log WHERE organization = $1 AND id >= $2 AND id <= $3
    ORDER BY id, queue LIMIT $4"""
_AT: Final = f"""
    SELECT {listed_columns("log", "id")} FROM ({{}}) AS given
    JOIN log ON {by_index("log.organization", "given.column1")} AND log.queue = given.column2
        AND log.seq = given.column3"""
_APART_MS: Final = 2_000
"""How much earlier a message's id may be made than the message is stored, given the clock skew of workers."""

_SCANNED_AT_ONCE: Final = 500
_SCANS: Final = 20
_READ_AT_ONCE: Final = 128

_LIMITS: Final = ScanLimits(first=500, step=500, in_all=500)
"""A page takes one step of at most five statements: three for messages and their queues, at most two for states."""
_LIMITS_OF_SOME: Final = ScanLimits(first=None, step=1_000, in_all=10_000)
"""Most messages may be in queues that are not listed. For those, only the index of ids is read."""


class AcrossQueues:
    """All messages of an organization that pass the filters of alias and time, by id, without duplicates."""

    def __init__(self, live: LiveQueues, selection: Selection) -> None:
        self._organization = live.organization
        self._live = live
        filters = (
            ("alias =", selection.alias),
            ("coalesce(published_at, stored_at) >", selection.created_after),
            ("coalesce(published_at, stored_at) <", selection.created_before),
        )
        given = [(condition, value) for condition, value in filters if value is not None]
        self._sql = _IDS + "".join([f" AND {condition} ${number}" for number, (condition, _) in enumerate(given, 2)])
        self._values: tuple[Value, ...] = (live.organization, *[value for _, value in given])
        earliest, latest = selection.created_after, selection.created_before
        low = "" if earliest is None else first_id_at(earliest + 1 - _APART_MS)
        self.within = (low, ABOVE_EVERY_ID if latest is None else first_id_at(latest))
        """Bounds of the ids of all messages that pass the time filters."""

    async def locate(self, tx: Transaction, public_id: str) -> Bounds:
        del tx
        return public_id, public_id

    async def read(self, tx: Transaction, part: Part) -> Sequence[MessageRow]:
        # Only the keys of skipped messages are read, not their rows. Removing duplicates in SQL is ten times slower.
        found = await self._scan(tx, part.within(self.within), part.offset + part.limit)
        return await self.rows_of(tx, found[part.offset :])

    async def _scan(self, tx: Transaction, part: Part, wanted: int) -> list[Row]:
        """Scan messages without duplicates, and without messages of deleted queues that are not removed yet.

        Raises BadRequest if a numbered page, or Unavailable if another one, would need too many steps.
        """
        found: dict[str, Row] = {}
        # Usually no queue is being deleted: then the first read has the whole page.
        chunk, keys = wanted, between(*part.span)
        for _ in range(_SCANS):
            rows = await self.ids(tx, keys, part.order, chunk)
            await self._live.learn(tx, {queue for _, queue, _ in rows})
            for row in rows:
                if row[0] not in found and self._live.public_id(row[1]) is not None:
                    found[row[0]] = row
            if len(found) >= wanted or len(rows) < chunk:
                return list(found.values())[:wanted]
            last = (rows[-1][0], rows[-1][1])
            keys = (keys[0], last) if part.newest_first else (last, keys[1])
            chunk = _SCANNED_AT_ONCE
        if part.offset:
            raise too_far()
        raise Unavailable("The messages of a deleted queue are being removed. Try again in a minute.")

    async def ids(self, tx: Transaction, keys: tuple[_IdKey, _IdKey], order: str, limit: int) -> list[Row]:
        """Read the ids, queues and seqs of all copies between two keys."""
        taken = len(self._values)
        condition = f"(id, queue) > (${taken + 1}, ${taken + 2}) AND (id, queue) < (${taken + 3}, ${taken + 4})"
        ordered = f"ORDER BY id {order}, queue {order} LIMIT ${taken + 5}"
        return await tx.rows(f"{self._sql} AND {condition} {ordered}", *self._values, *keys[0], *keys[1], limit)

    async def rows_of(self, tx: Transaction, found: Sequence[Row], *, are_all: bool = False) -> list[MessageRow]:
        """Read the messages that `ids` has found, in the same order. `are_all`: hardly any others lie between them."""
        rows: dict[tuple[int, int], MessageRow] = {}
        if are_all and len(found) > _READ_AT_ONCE:
            # Looking up many messages one by one would block the event loop for several times as long.
            first, last = sorted((found[0][0], found[-1][0]))
            most = len(found) + COPIES
            between_ids = map(MessageRow._make, await tx.rows(_BETWEEN, self._organization, first, last, most))
            rows = {(row.queue, row.seq): row for row in between_ids}
        others = [row for row in found if (row[1], row[2]) not in rows]
        read = await rows_given(tx, _AT, (self._organization,), [(queue, seq) for _, queue, seq in others])
        rows.update({(row.queue, row.seq): row for row in map(MessageRow._make, read)})
        return [rows[queue, seq] for _, queue, seq in found if (queue, seq) in rows]


def between(low: str, high: str) -> tuple[_IdKey, _IdKey]:
    """Return the keys between two ids, both excluded."""
    return (low, LARGEST), (high, 0)


async def page_of_matching(
    tx: Transaction,
    live: LiveQueues,
    selection: Selection,
    *,
    only: Collection[str] | None,
    chosen: Collection[int],
) -> Listing[MessageRow]:
    """Read a page of messages by key, header or state. With `only`, limit it to these ids and the `chosen` queues.

    Raises BadRequest for a numbered page that is too far from the first, and for a state if a queue has too many
    listeners.
    """
    named = await rows_named_by_id(tx, live.organization, selection.alias)
    above = ABOVE_EVERY_ID
    if only is not None:
        # Newer messages may all be in other queues: without this bound, the first pages would be empty.
        heads = await queues.heads(tx, live.organization, list(chosen))
        newest = max((head.last_stored_at for head in heads.values()), default=0)
        above = max(first_id_at(newest + _APART_MS), *only) + ABOVE_EVERY_ID
    scan = _Matching(live, selection, only=only, chosen=chosen, named=named, above=above)
    return await browse_matching(tx, scan, selection, _LIMITS if has_filters(selection) else _LIMITS_OF_SOME)


class _Matching:
    """A scan for messages that match filters without an index."""

    def __init__(
        self,
        live: LiveQueues,
        selection: Selection,
        *,
        only: Collection[str] | None,
        chosen: Collection[int],
        named: Sequence[MessageRow],
        above: str,
    ) -> None:
        """`only` are ids of messages, `chosen` the row ids of queues, and `named` copies that the alias names by id.

        Only messages with ids below `above` are read.
        """
        self._live = live
        self._only = only
        self._chosen = chosen
        self._named: list[Row] = [(row.id, row.queue, row.seq) for row in named if selection.admits(row.created_at)]
        self._accepts = accepts_of(selection)
        self._states = None if selection.state is None else States(live.organization, selection.state)
        self._reads_all = has_filters(selection)
        self._are_all = only is None and selection.alias is None
        self._all = AcrossQueues(live, selection)
        low, high = self._all.within
        self._all.within = (low, min(high, above))
        self.locate = self._all.locate

    async def scan(self, tx: Transaction, part: Part, wanted: int) -> ScanStep[MessageRow]:
        low, high = keys = between(*part.within(self._all.within).span)
        ids = await self._all.ids(tx, keys, part.order, part.limit + COPIES)
        # Includes all copies of the last message, because the next step begins behind its id.
        count = next((n for n in range(part.limit, len(ids)) if ids[n][0] != ids[n - 1][0]), len(ids))
        end: str | None = ids[count - 1][0] if count < len(ids) else None
        found_ids = ids[:count]
        if self._named:
            if end is not None:
                low, high = ((end, 0), high) if part.newest_first else (low, (end, LARGEST))
            found_ids += [row for row in self._named if low < (row[0], row[1]) < high]
            found_ids.sort(reverse=part.newest_first)
        listed = [row for row in found_ids if self._only is None or row[0] in self._only or row[1] in self._chosen]
        await self._live.learn(tx, {queue for _, queue, _ in listed})
        listed = [row for row in listed if self._live.public_id(row[1]) is not None]
        if not self._reads_all:
            shown = _each_once(listed, newest_first=part.newest_first)[:wanted]
            return ScanStep(await self._all.rows_of(tx, shown), end, end or "")
        rows = await self._all.rows_of(tx, listed, are_all=self._are_all)
        found = [row for row in rows if self._accepts(row)]
        if self._states is not None:
            found, looked_at = await self._states.select(tx, found, wanted)
            end = end if looked_at is None else looked_at.id
        return ScanStep(_each_once(found, newest_first=part.newest_first), end, end or "")


def _each_once(rows: Sequence[R], *, newest_first: bool) -> list[R]:
    """Return one copy of each message: the copy in its newest queue. Rows begin with ids."""
    shown: dict[str, R] = {}
    for row in rows:
        if row[0] not in shown or not newest_first:
            shown[row[0]] = row
    return list(shown.values())
