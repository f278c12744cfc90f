"""Messages of topics in lists of several logs: each is there once, as it stands in one of its queues."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from discue.store.engine import Row, Transaction
from discue.store.message_log import chosen_rows
from discue.store.pagination import MERGED_ROWS, Source, too_far

Listed = Callable[[Transaction, Sequence[Row]], Awaitable[list[Row]]]
"""Which of some rows a list could have."""


class EachOnce:
    """A list of several logs, without all but one of the copies of a message: that of the queue that was made last."""

    def __init__(self, organization: int, source: Source, logs: int, listed: Listed) -> None:
        self._organization = organization
        self._source = source
        self._logs = logs
        self._listed = listed

    async def locate(self, tx: Transaction, public_id: str) -> Any:
        row = (await self._shown(tx, [public_id])).get(public_id)
        return row[0] if row is not None else await self._source.locate(tx, public_id)

    async def older(self, tx: Transaction, bound: Any, limit: int, offset: int = 0) -> Sequence[Row]:
        if offset * self._logs > MERGED_ROWS:
            raise too_far()
        return (await self._some(tx, self._source.older, bound, offset + limit))[offset:]

    async def newer(self, tx: Transaction, bound: Any, limit: int) -> Sequence[Row]:
        return await self._some(tx, self._source.newer, bound, limit)

    async def _some(
        self, tx: Transaction, read: Callable[..., Awaitable[Sequence[Row]]], bound: Any, wanted: int
    ) -> list[Row]:
        found: list[Row] = []
        while True:
            rows = await read(tx, bound, wanted)
            shown = await self._shown(tx, [row[2] for row in rows])
            found += [row for row in rows if shown.get(row[2], row)[0] == row[0]]
            if len(found) >= wanted or len(rows) < wanted:
                return found[:wanted]
            bound = rows[-1][0]

    async def _shown(self, tx: Transaction, public_ids: Collection[str]) -> dict[str, Row]:
        """Of each of these messages, the copy that the list has."""
        shown: dict[str, Row] = {}
        if public_ids:
            for row in await self._listed(tx, await chosen_rows(tx, self._organization, public_ids)):
                known = shown.get(row[2])
                if known is None or known[1][1] < row[1][1]:
                    shown[row[2]] = row
        return shown
