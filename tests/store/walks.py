"""Reading lists to their ends, as clients do who follow the links."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from discue.store.engine import Transaction
from discue.store.pagination import Listing, Selection
from discue.store.store import Store

Pages = Callable[[Transaction, Selection], Awaitable[Listing[Any]]]

_MOST_PAGES = 200


def ids_of(page: Listing[Any]) -> list[str]:
    """Return the ids in a page; those of deliveries are their listeners'."""
    names = ("public_id", "id", "listener_public_id")
    return [next(getattr(item, name) for name in names if hasattr(item, name)) for item in page.items]


async def forwards(store: Store, pages: Pages, selection: Selection) -> list[str]:
    """Every id, from the newest on, by `next`."""
    seen: list[str] = []
    for _ in range(_MOST_PAGES):
        page = await _page(store, pages, selection)
        seen += ids_of(page)
        if not page.has_next:
            return seen
        after = page.resumes_after or ids_of(page)[-1]
        selection = msgspec.structs.replace(selection, after=after)
    raise AssertionError("the list has no end")


async def backwards(store: Store, pages: Pages, selection: Selection, before: str) -> list[str]:
    """Every id that is newer than one, newest first, by `prev`."""
    seen: list[str] = []
    for _ in range(_MOST_PAGES):
        page = await _page(store, pages, msgspec.structs.replace(selection, before=before))
        seen = ids_of(page) + seen
        if not page.has_previous:
            return seen
        before = page.resumes_before or ids_of(page)[0]
    raise AssertionError("the list has no beginning")


async def numbered(store: Store, pages: Pages, selection: Selection) -> list[str]:
    """Every id, by the numbers of pages."""
    seen: list[str] = []
    for number in range(1, _MOST_PAGES):
        page = await _page(store, pages, msgspec.structs.replace(selection, page=number))
        assert page.has_previous == (number > 1 and bool(page.items))
        seen += ids_of(page)
        if not page.has_next:
            return seen
    raise AssertionError("the list has no end")


async def _page(store: Store, pages: Pages, selection: Selection) -> Listing[Any]:
    page = await store.read(lambda tx: pages(tx, selection))
    assert len(page.items) <= selection.per_page
    return page


async def check(store: Store, pages: Pages, selection: Selection, expected: list[str]) -> None:
    """Check that the list has exactly these items, newest first, in every way of reading it."""
    assert await forwards(store, pages, selection) == expected, selection
    assert await numbered(store, pages, selection) == expected, selection
    if expected:
        assert await backwards(store, pages, selection, expected[-1]) == expected[:-1], selection
