"""The routes of the documentation, with the pages for search results and for unknown paths."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import quote_plus

import msgspec

from discue.api.app import MissingPage
from discue.api.openapi.rendered import BuiltOnce, RenderedDocument
from discue.api.pagination import Parameter
from discue.api.resources.service import BASE, filled, openapi_route
from discue.api.route import GET, Call, RawResponse, Route
from discue.api.structs import ERROR_CODE, ApiResponse, doc
from discue.domain.errors import REASONS, NotFound, Overloaded, Reason, reason_phrase
from discue.domain.reservations import DOCUMENT
from discue.domain.suggestions import suggestion
from discue.guides.layout import (
    ANYWHERE,
    HTML_TYPE,
    QUERY,
    ROOT,
    SEARCH,
    SECURITY_HEADERS,
    SLOTS,
    Group,
    base_of,
    page,
    prose,
    relative,
    text,
    values_of,
)
from discue.guides.library import OPERATIONS, Library, documentation_folder
from discue.guides.operations import openapi_page, operation_entries
from discue.guides.search import LONGEST_QUERY, Searches, SearchIndex, SearchResult
from discue.http.frame import theme_of
from discue.http.negotiation import prefers_json

_ERRORS: Final = "docs/reference/errors"
"""The path of the page about errors, which every page about one of them belongs to."""

_RESULTS: Final = "\0results\0"
_PROBLEM: Final = "\0problem\0"

_EXAMPLES: Final = ("verify signature", "missed messages", "rotate secret", "max_waiting_bytes", "POST /queues")
_SUGGESTIONS: Final = 5
_SHOWN_PATH: Final = 200
_WORD: Final = re.compile(r"[^\W_]+")

_LIBRARY: Final = Library(documentation_folder())

_QUERY: Final = Parameter("q", "Words to search for. The first 8 count.", {"type": "string"}, "retry schedule")


class ErrorCodeView(msgspec.Struct, frozen=True):
    """An error code."""

    code: Annotated[str, doc("The code.", "not_found", pattern=ERROR_CODE)]
    title: Annotated[str, doc("The reason phrase of the status.", "Not Found")]
    status: Annotated[int, doc("The status of responses with this code.", 404, minimum=400, maximum=599)]
    meaning: Annotated[str, doc("The meaning of the code.", "The resource does not exist.")]
    remedy: Annotated[str, doc("Advice.", "Check the URL.")]


class ErrorCodeResponse(ApiResponse, kw_only=True, frozen=True):
    error: Annotated[ErrorCodeView, doc("The code.")]


def _error_page(code: str, reason: Reason) -> RenderedDocument:
    words = f"<p>{prose(reason.meaning)}</p><h2>What to do</h2><p>{prose(reason.remedy)}</p>"
    more = "<p>In the response, <code>detail</code> explains the error, and <code>errors</code> lists wrong values.</p>"
    path = f"docs/errors/{code}"
    more += f'<p><a href="{relative(_ERRORS, path)}">All errors</a></p>'
    title = f"{reason.status} {reason_phrase(reason.status)}: {code}"
    content = f"<h1>{text(title)}</h1>{words}{more}"
    made = page(title, content, path=path, contents=_LIBRARY.contents_for(_ERRORS), within=_ERRORS)
    return RenderedDocument(made, SLOTS)


_ERROR_PAGES: Final = {code: BuiltOnce(partial(_error_page, code, reason)) for code, reason in REASONS.items()}


async def error(call: Call) -> RawResponse | ErrorCodeResponse:
    """Explain an error code. The `type` of every error links here. A page, or JSON for clients that prefer it."""
    code = call.ids[0]
    reason = REASONS.get(code)
    if reason is None:
        raise NotFound(f'There is no error code "{code}"{suggestion(code, REASONS) or "."}')
    if not prefers_json(call.accept):
        return _shown(call, await _ERROR_PAGES[code].get(), varies=("cookie", "accept"))
    call.response_headers.append(("vary", "accept"))
    shown = ErrorCodeView(code, reason_phrase(reason.status), reason.status, reason.meaning, reason.remedy)
    return ErrorCodeResponse(error=shown, links=call.links())


def _search_document(contents: Sequence[Group]) -> RenderedDocument:
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


def _missing_document(contents: Sequence[Group]) -> RenderedDocument:
    """Return the page for unknown paths, with slots for `_missing_values`."""
    start = f'<p><a href="{relative(ROOT, ANYWHERE)}">All pages of the documentation</a></p>'
    body = f'<p class="soft">404</p><h1>Page not found</h1><p>{_PROBLEM}</p>{start}{_RESULTS}'
    made = page("Page not found", body, path=ANYWHERE, contents=contents)
    return RenderedDocument(made, (ANYWHERE.encode(), _PROBLEM.encode(), _RESULTS.encode(), *SLOTS))


def _missing_values(path: str, detail: str, found: Sequence[SearchResult]) -> tuple[bytes, bytes, bytes]:
    """Return what the page shows for a path. `detail` says what is wrong; `found` are pages that it may mean."""
    base = base_of(path.removeprefix("/"))
    similar = f"<h2>Similar pages</h2>{_list(found[:_SUGGESTIONS], base)}" if found else ""
    return base.encode(), text(detail).encode(), similar.encode()


def _list(found: Iterable[SearchResult], base: str) -> str:
    items = []
    for entry, excerpt in found:
        page_title = "" if entry.page == entry.title else f" <em>{text(entry.page)}</em>"
        title = f"<strong>{text(entry.title)}</strong>{page_title}"
        items.append(f'<li><a href="{base}{text(entry.path)}">{title}<span>{excerpt}</span></a></li>')
    return f'<ol class="results">{"".join(items)}</ol>'


def documentation_of(document: Callable[..., dict[str, Any]]) -> tuple[tuple[Route, ...], MissingPage]:
    """Return the routes of the documentation, and the function that makes the page for unknown paths below it.

    `document` returns the OpenAPI document, with `aliases` or without.
    """

    def operations_page() -> RenderedDocument:
        once = document(aliases=False)
        contents = _LIBRARY.contents_for(OPERATIONS, operation_entries(once))
        content = openapi_page(once, relative("openapi.json", OPERATIONS), contents)
        return RenderedDocument(content, (BASE.encode(), *SLOTS))

    operations_html = BuiltOnce(operations_page)
    searches = Searches(lambda: SearchIndex(_LIBRARY.search_entries()))
    results_html = BuiltOnce(lambda: _search_document(_LIBRARY.contents))
    missing_html = BuiltOnce(lambda: _missing_document(_LIBRARY.contents))

    async def operations(call: Call) -> RawResponse:
        """Read this document as a page. Each operation has a command for curl."""
        return _shown(call, await operations_html.get(), text(call.base).encode())

    async def search(call: Call) -> RawResponse:
        """Search the documentation. A page with the best sections, operations and errors."""
        query = call.given["q"] or ""
        found = await searches.search(query) if query else []
        return _shown(call, await results_html.get(), *search_values(query, found))

    async def guide(call: Call) -> RawResponse:
        """Read a page of the documentation."""
        path = "/".join(("docs", *call.ids))
        found = _LIBRARY.pages.get(path)
        if found is None:
            raise NotFound(f"There is no page /{path}. /docs lists all pages.")
        return _shown(call, await found.get())

    async def start(call: Call) -> RawResponse:
        """Read the documentation. The start page, which lists all others."""
        return await guide(call)

    routes = (
        openapi_route(document),
        Route(GET, "/docs", start, None, media_type=HTML_TYPE, reads=DOCUMENT),
        Route(GET, "/docs/api", operations, None, media_type=HTML_TYPE, reads=DOCUMENT),
        Route(GET, "/docs/search", search, None, media_type=HTML_TYPE, query=(_QUERY,), reads=DOCUMENT),
        Route(GET, "/docs/{page}", guide, None, media_type=HTML_TYPE, reads=DOCUMENT),
        Route(GET, "/docs/{part}/{page}", guide, None, media_type=HTML_TYPE, reads=DOCUMENT),
        Route(
            GET,
            "/docs/errors/{code}",
            error,
            None,
            response=ErrorCodeResponse,
            media_type=HTML_TYPE,
            reads=DOCUMENT,
        ),
    )

    async def missing(call: Call, detail: str) -> RawResponse:
        """Return the page for a path that leads to no page. `detail` says what is wrong; similar pages are listed."""
        words = _WORD.findall(call.path.removeprefix(f"/{ROOT}")[:_SHOWN_PATH])
        try:
            found = await searches.search(" ".join(words))
        except Overloaded:
            # The page is as useful without similar ones.
            found = []
        return _shown(call, await missing_html.get(), *_missing_values(call.path, detail, found))

    return routes, missing


def _shown(call: Call, document: RenderedDocument, *values: bytes, varies: Sequence[str] = ("cookie",)) -> RawResponse:
    """Return a page, in the theme of the browser. `values` are for slots that only this page has."""
    call.response_headers.extend(SECURITY_HEADERS)
    # The dashboard has no version in its path, so that the relative link to it leads nowhere from a path with one.
    has_dashboard = call.services.has_dashboard and call.base == call.root
    return filled(call, document, (*values, *values_of(theme_of(call.headers), has_dashboard=has_dashboard)), *varies)
