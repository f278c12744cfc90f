"""The routes of the documentation."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from discue.api.app import MissingPage
from discue.api.openapi.rendered import BuiltOnce, RenderedDocument
from discue.api.pagination import Parameter, read_parameters
from discue.api.resources.service import BASE, filled, openapi_route
from discue.api.route import GET, Call, RawResponse, Route
from discue.api.structs import ERROR_CODE, ApiResponse, doc
from discue.domain.errors import REASONS, NotFound, Overloaded, Reason, reason_phrase
from discue.domain.reservations import DOCUMENT
from discue.domain.suggestions import suggestion
from discue.guides.layout import HTML_TYPE, SECURITY_HEADERS, SLOTS, page, prose, relative, text, values_of
from discue.guides.library import OPERATIONS, Library, documentation_folder
from discue.guides.operations import openapi_page, operation_entries
from discue.guides.results import missing_document, missing_values, search_document, search_values, words_of
from discue.guides.search import Searches, SearchIndex

_ERRORS: Final = "docs/reference/errors"
"""The path of the page about errors, which every page about one of them belongs to."""

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
    if not call.prefers_json:
        return _shown(call, await _ERROR_PAGES[code].get(), varies=("cookie", "accept"))
    call.response_headers.append(("vary", "accept"))
    shown = ErrorCodeView(code, reason_phrase(reason.status), reason.status, reason.meaning, reason.remedy)
    return ErrorCodeResponse(error=shown, links=call.links())


class Documentation(NamedTuple):
    """The pages of the documentation."""

    routes: tuple[Route, ...]
    missing: MissingPage
    """Returns the page for a path below the documentation that leads to no page, from what is wrong."""


def documentation_of(document: Callable[..., dict[str, Any]]) -> Documentation:
    """Return the documentation. `document` makes the OpenAPI document, with `aliases` or without."""

    def operations_page() -> RenderedDocument:
        once = document(aliases=False)
        contents = _LIBRARY.contents_for(OPERATIONS, operation_entries(once))
        content = openapi_page(once, relative("openapi.json", OPERATIONS), contents)
        return RenderedDocument(content, (BASE.encode(), *SLOTS))

    operations_html = BuiltOnce(operations_page)
    searches = Searches(lambda: SearchIndex(_LIBRARY.search_entries()))
    results_html = BuiltOnce(lambda: search_document(_LIBRARY.contents))
    missing_html = BuiltOnce(lambda: missing_document(_LIBRARY.contents))

    async def operations(call: Call) -> RawResponse:
        """Read this document as a page. Each operation has a command for curl."""
        return _shown(call, await operations_html.get(), text(call.base).encode())

    async def search(call: Call) -> RawResponse:
        """Search the documentation. A page with the best sections, operations and errors."""
        query = read_parameters(call.query, call.parameters).get("q") or ""
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
        try:
            found = await searches.search(words_of(call.path))
        except Overloaded:
            # The page is as useful without similar ones.
            found = []
        return _shown(call, await missing_html.get(), *missing_values(call.path, detail, found))

    return Documentation(routes, missing)


def _shown(call: Call, document: RenderedDocument, *values: bytes, varies: Sequence[str] = ("cookie",)) -> RawResponse:
    """Return a page, in the theme of the browser. `values` are for slots that only this page has."""
    call.response_headers.extend(SECURITY_HEADERS)
    # The dashboard has no version in its path, so that the relative link to it leads nowhere from a path with one.
    has_dashboard = call.services.has_dashboard and call.base == call.root
    return filled(call, document, (*values, *values_of(call.theme, has_dashboard=has_dashboard)), *varies)
