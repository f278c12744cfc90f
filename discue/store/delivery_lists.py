"""The deliveries of a message as a list: by its listeners, newest first, and those in a state among them."""

from collections.abc import Sequence
from typing import Final

from discue.domain.ids import event_id_of, row_id_up_to
from discue.domain.model import Delivery, StoredMessage
from discue.store.deliveries import RECIPIENTS, LastAttempts, delivery, last_attempts
from discue.store.engine import Row, Transaction
from discue.store.filtered_pages import Effort, Seen, Sifted, Span
from discue.store.pagination import CLOCKS_APART_MS, Listing, Selection, browse, nearest_row_id

_LOOKED_AT: Final = Effort(first=100, step=100, in_all=300)
"""Of each a few rows are read."""

_BETWEEN: Final = f"{RECIPIENTS} AND listener.id > $4 AND listener.id < $5 ORDER BY listener.id"
_ANCHOR: Final = "SELECT id FROM listener WHERE organization = $1 AND public_id = $2"


async def of_message(tx: Transaction, message: StoredMessage, selection: Selection) -> Listing[Delivery]:
    """Of each listener that was there when the message was stored. `created_…` is about that moment.

    Raises BadRequest for a numbered page that is too far from the first.
    """
    if not selection.admits(message.stored_at):
        return Listing((), has_next=False, has_previous=False)
    recipients = _Recipients(message)
    last = await last_attempts(tx, message)
    if selection.state is None:
        found = await browse(tx, recipients, selection)
        items = [await delivery(tx, message, row, last) for row in found.rows]
    else:
        sifted = Sifted(
            _InState(recipients, selection.state, last), recipients.within, _LOOKED_AT, recipients.locate, event_id_of
        )
        found = await sifted.page(tx, selection)
        items = [item for _, item in found.rows]
    return Listing(tuple(items), found.has_next, found.has_previous, found.resumes_after, found.resumes_before)


class _Recipients:
    """The listeners that a message is for, by row id."""

    def __init__(self, message: StoredMessage) -> None:
        self.message = message
        self.within = (0, nearest_row_id(message.stored_at + CLOCKS_APART_MS))

    async def locate(self, tx: Transaction, public_id: str) -> int:
        row = await tx.row(_ANCHOR, self.message.organization, public_id)
        return int(row[0]) if row is not None else row_id_up_to(public_id)

    async def older(self, tx: Transaction, bound: int | None, limit: int, offset: int = 0) -> Sequence[Row]:
        high = self.within[1] if bound is None else min(bound, self.within[1])
        return await self.between(tx, (0, high), limit, offset, newest_first=True)

    async def newer(self, tx: Transaction, bound: int, limit: int) -> Sequence[Row]:
        return await self.between(tx, (bound, self.within[1]), limit, newest_first=False)

    async def between(
        self, tx: Transaction, span: Span, limit: int, offset: int = 0, *, newest_first: bool
    ) -> Sequence[Row]:
        message = self.message
        sql = f"{_BETWEEN} {'DESC' if newest_first else 'ASC'} LIMIT $6 OFFSET $7"
        return await tx.rows(sql, message.organization, message.queue, message.origin_seq, *span, limit, offset)


class _InState:
    """Rows of a listener's row id and its delivery, of those that are in a state."""

    def __init__(self, recipients: _Recipients, state: str, last: LastAttempts) -> None:
        self._recipients = recipients
        self._state = state
        self._last = last

    async def look(self, tx: Transaction, span: Span, looked_at: int, wanted: int, *, newest_first: bool) -> Seen:
        found: list[Row] = []
        rows = await self._recipients.between(tx, span, looked_at, newest_first=newest_first)
        for row in rows:
            item = await delivery(tx, self._recipients.message, row, self._last)
            if item.state == self._state:
                found.append((row[0], item))
            if len(found) == wanted:
                break
        return Seen(found, rows[-1][0] if len(rows) == looked_at else None)
