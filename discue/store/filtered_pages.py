"""Pages of what fits among what would have to be looked at: so many rows for a page, and it may be cut short there."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from discue.store.engine import Row, Transaction
from discue.store.pagination import RowPage, Selection, too_far

Span = tuple[int, int]
"""What lies between two keys, without them."""


class Seen(NamedTuple):
    """Rows that fit, in order, among the first of a span; `last` is the key up to which it was searched, if not all."""

    rows: Sequence[Row]
    last: int | None


class ScanSource(Protocol):
    """Rows by a whole number, their key, with which a row begins."""

    async def look(self, tx: Transaction, span: Span, looked_at: int, wanted: int, *, newest_first: bool) -> Seen:
        """Those that fit, at most as many as wanted, among the first that are to be looked at."""
        ...


class Effort(NamedTuple):
    """How many rows are looked at: at first, then at once, and in all for a page."""

    first: int
    step: int
    in_all: int


class Sifted:
    """A list of what fits, between two keys. `place` finds the key of a public id, and `name` makes an id of a key."""

    def __init__(
        self,
        candidates: ScanSource,
        within: Span,
        effort: Effort,
        place: Callable[[Transaction, str], Awaitable[int]],
        name: Callable[[int], str],
    ) -> None:
        self._candidates = candidates
        self._within = within
        self._effort = effort
        self._place = place
        self._name = name

    async def page(self, tx: Transaction, selection: Selection) -> RowPage:
        """Raises BadRequest for a numbered page that is too far from the first."""
        if selection.after is None and selection.before is not None:
            return await self._page_before(tx, selection.before, selection.per_page)
        size, skipped, span = selection.per_page, 0, self._within
        if selection.after is not None:
            span = (span[0], min(span[1], await self._place(tx, selection.after)))
        else:
            skipped = (selection.page - 1) * size
        found = await self._first(tx, span, skipped + size + 1, newest_first=True)
        if found.last is not None and skipped and len(found.rows) <= skipped:
            raise too_far()
        rows = found.rows[skipped:]
        shown, has_next = rows[:size], len(rows) > size or found.last is not None
        is_first = selection.after is None and selection.page == 1
        has_previous = bool(shown) and not is_first and await self._goes_on(tx, shown[0], newest_first=False)
        return RowPage(shown, has_next, has_previous, resumes_after=self._cut(found, rows, size))

    async def _page_before(self, tx: Transaction, before: str, size: int) -> RowPage:
        span = (max(self._within[0], await self._place(tx, before)), self._within[1])
        found = await self._first(tx, span, size + 1, newest_first=False)
        shown = found.rows[:size][::-1]
        has_previous = len(found.rows) > size or found.last is not None
        has_next = bool(shown) and await self._goes_on(tx, shown[-1], newest_first=True)
        return RowPage(shown, has_next, has_previous, resumes_before=self._cut(found, found.rows, size))

    async def _goes_on(self, tx: Transaction, row: Row, *, newest_first: bool) -> bool:
        """Whether there is something beyond a row: also when that was not found out."""
        found = await self._first(
            tx, _beyond(self._within, row[0], newest_first=newest_first), 1, newest_first=newest_first
        )
        return bool(found.rows) or found.last is not None

    async def _first(self, tx: Transaction, span: Span, wanted: int, *, newest_first: bool) -> Seen:
        rows: list[Row] = []
        looked_at, left = self._effort.first, self._effort.in_all
        last: int | None = None
        while left > 0:
            seen = await self._candidates.look(tx, span, looked_at, wanted - len(rows), newest_first=newest_first)
            rows += seen.rows
            if len(rows) >= wanted or seen.last is None:
                return Seen(rows, None)
            last, left = seen.last, left - looked_at
            span, looked_at = _beyond(span, last, newest_first=newest_first), self._effort.step
        return Seen(rows, last)

    def _cut(self, found: Seen, rows: Sequence[Row], size: int) -> str | None:
        """Where a page that was cut short goes on."""
        return None if found.last is None or len(rows) > size else self._name(found.last)


def _beyond(span: Span, key: int, *, newest_first: bool) -> Span:
    return (span[0], min(key, span[1])) if newest_first else (max(key, span[0]), span[1])
