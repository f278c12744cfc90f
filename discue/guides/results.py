"""The page with the results of a search, and the page for a path that leads to no page."""

import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote_plus

from discue.api.openapi.rendered import RenderedDocument
from discue.guides.layout import ANYWHERE, QUERY, ROOT, SEARCH, SLOTS, Group, base_of, page, relative, text
from discue.guides.search import LONGEST_QUERY, SearchResult

_RESULTS: Final = "\0results\0"
_PROBLEM: Final = "\0problem\0"

_EXAMPLES: Final = ("verify signature", "missed messages", "rotate secret", "max_waiting_bytes", "POST /queues")
_SUGGESTIONS: Final = 5
_SHOWN_PATH: Final = 200
_WORD: Final = re.compile(r"[^\W_]+")


def search_document(contents: Sequence[Group]) -> RenderedDocument:
    """Return the page of a search, with slots for `search_values`."""
    body = f'<h1>Search</h1><div id="results">{_RESULTS}</div>'
    made = page("Search", body, path=SEARCH, contents=contents)
    return RenderedDocument(made, (QUERY.encode(), _RESULTS.encode(), *SLOTS))


def search_values(query: str, found: Sequence[SearchResult]) -> tuple[bytes, bytes]:
    """Return what the page shows of a search: the query, and its results or how to search."""
    shown = query[:LONGEST_QUERY].strip()
    if found:
        count = "1 result" if len(found) == 1 else f"{len(found)} results"
        content = f'<p class="soft sr">{count}</p>{_list(found, base_of(SEARCH))}'
    elif shown:
        content = f'<p class="soft">Nothing found for “{text(shown)}”.</p>'
    else:
        links = (f'<a href="{relative(SEARCH, SEARCH)}?q={quote_plus(each)}">{text(each)}</a>' for each in _EXAMPLES)
        content = f"<p>Search for words, a setting, a route or the code of an error: {', '.join(links)}.</p>"
    return text(shown).encode(), content.encode()


def missing_document(contents: Sequence[Group]) -> RenderedDocument:
    """Return the page for a path that leads to no page, with slots for `missing_values`."""
    start = f'<p><a href="{relative(ROOT, ANYWHERE)}">All pages of the documentation</a></p>'
    body = f'<p class="soft">404</p><h1>Page not found</h1><p>{_PROBLEM}</p>{start}{_RESULTS}'
    made = page("Page not found", body, path=ANYWHERE, contents=contents)
    return RenderedDocument(made, (ANYWHERE.encode(), _PROBLEM.encode(), _RESULTS.encode(), *SLOTS))


def missing_values(path: str, detail: str, found: Sequence[SearchResult]) -> tuple[bytes, bytes, bytes]:
    """Return what the page shows for a path. `detail` says what is wrong; `found` are pages that it may mean."""
    base = base_of(path.removeprefix("/"))
    similar = f"<h2>Similar pages</h2>{_list(found[:_SUGGESTIONS], base)}" if found else ""
    return base.encode(), text(detail).encode(), similar.encode()


def words_of(path: str) -> str:
    """Return the words in the path of a page, to search for it."""
    return " ".join(_WORD.findall(path.removeprefix(f"/{ROOT}")[:_SHOWN_PATH]))


def _list(found: Iterable[SearchResult], base: str) -> str:
    items = []
    for entry, excerpt in found:
        page_title = "" if entry.page == entry.title else f" <em>{text(entry.page)}</em>"
        title = f"<strong>{text(entry.title)}</strong>{page_title}"
        items.append(f'<li><a href="{base}{text(entry.path)}">{title}<span>{excerpt}</span></a></li>')
    return f'<ol class="results">{"".join(items)}</ol>'
