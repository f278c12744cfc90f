"""Pages of the rows that match a filter for which there is no index: scanned in steps, up to a limit."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from discue.store.engine import Row, Transaction
from discue.store.pagination import Bounds, Listing, Selection, intersect, too_far


class ScanStep(NamedTuple):
    """Matching rows of a scan, in order, and where the scan stopped."""

    rows: Sequence[Row]
    last: Any
    """The last key that was scanned; None at the end of the span."""
    last_id: str = ""
    """The public id of the last row that was scanned."""


class ScanSource(Protocol):
    """Rows by a key, of which some match."""

    async def scan(self, tx: Transaction, span: Bounds, count: int, wanted: int, *, newest_first: bool) -> ScanStep:
        """Return the matching rows among the next `count` of a span. More than `wanted` are not needed."""

    async def position(self, tx: Transaction, public_id: str) -> Bounds:
        """Return keys around an id: older rows are below the first key, newer ones above the second."""

    def key_of(self, row: Row) -> Any:
        """Return the key of a matching row."""


class ScanLimits(NamedTuple):
    """How many rows are scanned for one page."""

    first: int | None
    """In the first step; None: as many as are wanted."""
    step: int
    """In each later step, and at most in the first."""
    in_all: int
    in_all_numbered: int = 0
    """Instead of `in_all` for a numbered page beyond the first; 0: the same."""
    around: int | None = None
    """To find whether the list goes on at the end of a page at which it begins; None: as `in_all`.

    If that many rows do not show it, the page has a neighbour there: nearly always the one that links to it. 0: none is
    looked for.
    """


class FilteredPages:
    """Pages of the rows that match a filter for which there is no index.

    The scan stops at a limit, so that a page may be cut short: it then says at which id its neighbour continues.
    """

    def __init__(self, source: ScanSource, within: Bounds, limits: ScanLimits) -> None:
        self._source = source
        self._within = within
        self._limits = limits

    async def page(self, tx: Transaction, selection: Selection) -> Listing[Row]:
        """Read a page. Raises BadRequest for a numbered page that is too far from the first."""
        if selection.after is None and selection.before is not None:
            return await self._page_before(tx, selection.before, selection.per_page)
        size, skipped, span = selection.per_page, 0, self._within
        if selection.after is not None:
            older, _ = await self._source.position(tx, selection.after)
            span = intersect(span, (span[0], older))
        else:
            skipped = (selection.page - 1) * size
        limit = (self._limits.in_all_numbered or self._limits.in_all) if skipped else self._limits.in_all
        found = await self._first(tx, span, skipped + size + 1, limit, newest_first=True)
        # Without this, a page that the scan did not reach would look like the end of the list.
        if found.last is not None and skipped and len(found.rows) <= skipped:
            raise too_far()
        rows = found.rows[skipped:]
        shown, has_next = rows[:size], len(rows) > size or found.last is not None
        is_first = selection.after is None and selection.page == 1
        has_previous = bool(shown) and not is_first and await self._continues(tx, shown[0], newest_first=False)
        return Listing(tuple(shown), has_next, has_previous, resumes_after=_resume_id(found, rows, size))

    async def _page_before(self, tx: Transaction, before: str, size: int) -> Listing[Row]:
        _, newer = await self._source.position(tx, before)
        span = intersect(self._within, (newer, self._within[1]))
        found = await self._first(tx, span, size + 1, self._limits.in_all, newest_first=False)
        shown = found.rows[:size][::-1]
        has_previous = len(found.rows) > size or found.last is not None
        has_next = bool(shown) and await self._continues(tx, shown[-1], newest_first=True)
        return Listing(tuple(shown), has_next, has_previous, resumes_before=_resume_id(found, found.rows, size))

    async def _continues(self, tx: Transaction, row: Row, *, newest_first: bool) -> bool:
        """Return whether there is a match beyond a row, or the scan for one reached its limit."""
        limit = self._limits.in_all if self._limits.around is None else self._limits.around
        if not limit:
            return True
        span = _beyond(self._within, self._source.key_of(row), newest_first=newest_first)
        found = await self._first(tx, span, 1, limit, newest_first=newest_first)
        return bool(found.rows) or found.last is not None

    async def _first(self, tx: Transaction, span: Bounds, wanted: int, limit: int, *, newest_first: bool) -> ScanStep:
        rows: list[Row] = []
        # The first step is small, because the first rows often match; later ones are longer, for fewer round trips.
        count = min(wanted, self._limits.step) if self._limits.first is None else self._limits.first
        last: Any = None
        last_id = ""
        while limit > 0:
            step = await self._source.scan(tx, span, count, wanted - len(rows), newest_first=newest_first)
            rows += step.rows
            if len(rows) >= wanted or step.last is None:
                return ScanStep(rows[:wanted], None)
            last, last_id, limit = step.last, step.last_id, limit - count
            span, count = _beyond(span, last, newest_first=newest_first), self._limits.step
        return ScanStep(rows, last, last_id)


def _resume_id(found: ScanStep, rows: Sequence[Row], size: int) -> str | None:
    """Return the id at which the neighbour of a page continues that was cut short."""
    return None if found.last is None or len(rows) > size else found.last_id


def _beyond(span: Bounds, key: Any, *, newest_first: bool) -> Bounds:
    return (span[0], min(key, span[1])) if newest_first else (max(key, span[0]), span[1])
