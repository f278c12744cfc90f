"""The service, its health, and the documentation of the API."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from discue import __version__
from discue.api.guides.layout import HTML_TYPE, SECURITY_HEADERS, SLOTS, page, prose, relative, text, values_of
from discue.api.guides.library import OPERATIONS, Library, documentation_folder
from discue.api.guides.results import missing_document, missing_values, search_document, search_values, words_of
from discue.api.guides.search import Searches, SearchIndex
from discue.api.openapi.document import document_of
from discue.api.openapi.page import openapi_page, operation_entries
from discue.api.openapi.rendered import BuiltOnce, RenderedDocument
from discue.api.pagination import ALIASES, Parameter, read_parameters
from discue.api.resource import LinkTarget, links_of
from discue.api.route import GET, Call, RawResponse, Route
from discue.api.structs import ERROR_CODE, ApiResponse, doc
from discue.domain.error_codes import REASONS, Reason
from discue.domain.errors import NotFound, Overloaded, Unavailable, reason_phrase
from discue.domain.reservations import DOCUMENT, FEW_ROWS
from discue.domain.suggestions import suggestion

_COLLECTIONS: Final = (
    "api_clients",
    "organizations",
    "users",
    "api_keys",
    "queues",
    "listeners",
    "messages",
    "topics",
    "domains",
    "events",
    "limits",
)
_BASE: Final = "https://base.invalid"
"""Stands for the URL of the service in rendered documents. No service is under `.invalid` (RFC 2606)."""

_ERRORS: Final = "docs/reference/errors"
"""The path of the page about errors, which every page about one of them belongs to."""

_LIBRARY: Final = Library(documentation_folder())

MissingPage: TypeAlias = Callable[[Call, str], Awaitable[RawResponse]]

_QUERY: Final = Parameter("q", "Words to search for. The first 8 count.", {"type": "string"}, "retry schedule")


class ServiceResponse(ApiResponse, kw_only=True, frozen=True):
    """The service."""

    name: Annotated[str, doc("The name of the software.", "discue", const="discue")]
    version: Annotated[str, doc("The version of the software.", "0.1.0")]


class HealthResponse(ApiResponse, kw_only=True, frozen=True):
    """The health of the service."""

    status: Annotated[
        str,
        doc(
            "The health of the service. `damaged`: ready, but see `detail`.", "ready", enum=["live", "ready", "damaged"]
        ),
    ]
    damaged: Annotated[
        int | UnsetType,
        doc(
            "Number of queues with data that cannot be read, plus 1 for damaged data that belongs to no single queue.",
            1,
            minimum=1,
        ),
    ] = UNSET
    detail: Annotated[str | UnsetType, doc("The problem and its remedy.", "A part of the database is damaged.")] = UNSET


class ErrorCodeView(msgspec.Struct, frozen=True):
    """An error code."""

    code: Annotated[str, doc("The code.", "not_found", pattern=ERROR_CODE)]
    title: Annotated[str, doc("The reason phrase of the status.", "Not Found")]
    status: Annotated[int, doc("The status of responses with this code.", 404, minimum=400, maximum=599)]
    meaning: Annotated[str, doc("The meaning of the code.", "The resource does not exist.")]
    remedy: Annotated[str, doc("Advice.", "Check the URL.")]


class ErrorCodeResponse(ApiResponse, kw_only=True, frozen=True):
    error: Annotated[ErrorCodeView, doc("The code.")]


class OpenApiDocument(msgspec.Struct, frozen=True):
    """This document."""

    openapi: Annotated[str, doc("The version of OpenAPI.", "3.1.0")]
    info: Annotated[dict[str, object], doc("The API.", {"title": "discue", "version": "0.1.0"})]
    servers: Annotated[list[object], doc("The servers.", [{"url": "https://discue.example.com/v1"}])]
    tags: Annotated[list[object], doc("The groups of operations.", [])]
    paths: Annotated[dict[str, object], doc("The operations.", {})]
    components: Annotated[dict[str, object], doc("The shared components.", {})]


async def root(call: Call) -> ServiceResponse:
    """Get the service."""
    paths = {path: path for path in _COLLECTIONS}
    paths |= {"live": "health/live", "ready": "health/ready", "openapi": "openapi.json", "docs": "docs"}
    targets = [LinkTarget(name, path, f"{call.base}/{path}") for name, path in paths.items()]
    return ServiceResponse(name="discue", version=__version__, links=links_of(call.url, targets))


async def live(call: Call) -> HealthResponse:
    """Check that the process is alive."""
    return HealthResponse(status="live", links=call.links())


async def ready(call: Call) -> HealthResponse:
    """Check that requests are served.

    503 while the service starts or drains, or the database is not writable. If a part of the database is damaged, the
    response is 200 with the status `damaged`, because other queues are served.
    """
    obstacle = call.services.readiness.obstacle
    if obstacle is not None:
        raise Unavailable(obstacle, code="not_ready")
    if warning := call.services.readiness.warning:
        damaged = call.services.readiness.damaged
        return HealthResponse(status="damaged", damaged=damaged, detail=warning, links=call.links())
    return HealthResponse(status="ready", links=call.links())


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


def documentation_of(described: Iterable[Route]) -> Documentation:
    """Return the documentation, which describes these routes and its own."""
    table = tuple(described)

    # The document includes the routes that return it, so it is made when it is first asked for.
    def document(*, aliases: bool) -> dict[str, Any]:
        return document_of((*table, *routes), _BASE, aliases=aliases)

    def rendered(content: bytes) -> RenderedDocument:
        return RenderedDocument(content, (_BASE.encode(), *SLOTS))

    def operations_page() -> RenderedDocument:
        once = document(aliases=False)
        contents = _LIBRARY.contents_for(OPERATIONS, operation_entries(once))
        return rendered(openapi_page(once, relative("openapi.json", OPERATIONS), contents))

    whole_json = BuiltOnce(lambda: rendered(msgspec.json.encode(document(aliases=True))))
    once_json = BuiltOnce(lambda: rendered(msgspec.json.encode(document(aliases=False))))
    operations_html = BuiltOnce(operations_page)
    searches = Searches(lambda: SearchIndex(_LIBRARY.search_entries()))
    results_html = BuiltOnce(lambda: search_document(_LIBRARY.contents))
    missing_html = BuiltOnce(lambda: missing_document(_LIBRARY.contents))

    async def openapi(call: Call) -> RawResponse:
        """Get this document. OpenAPI 3.1."""
        given = read_parameters(call.query, call.parameters)
        openapi_json = once_json if given.get("aliases") == "false" else whole_json
        return _filled(call, await openapi_json.get(), (_in_json(call.base),))

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
        Route(GET, "/openapi.json", openapi, None, response=OpenApiDocument, query=(ALIASES,), reads=DOCUMENT),
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


def _in_json(value: str) -> bytes:
    """Return a text as it is within a string of JSON."""
    return msgspec.json.encode(value)[1:-1]


def _shown(call: Call, document: RenderedDocument, *values: bytes, varies: Sequence[str] = ("cookie",)) -> RawResponse:
    """Return a page, in the theme of the browser. `values` are for slots that only this page has."""
    call.response_headers.extend(SECURITY_HEADERS)
    # The dashboard has no version in its path, so that the relative link to it leads nowhere from a path with one.
    has_dashboard = call.services.has_dashboard and call.base == call.root
    return _filled(call, document, (*values, *values_of(call.theme, has_dashboard=has_dashboard)), *varies)


def _filled(call: Call, document: RenderedDocument, values: Sequence[bytes], *varies: str) -> RawResponse:
    """Return a document with values in its slots, compressed if the client accepts that."""
    call.response_headers.append(("vary", ", ".join(("accept-encoding", *varies))))
    if not call.accepts_gzip:
        return RawResponse(document.plain(values))
    call.response_headers.append(("content-encoding", "gzip"))
    return RawResponse(document.gzipped(values))


ROUTES = (
    Route(GET, "/", root, None, reads=FEW_ROWS),
    Route(GET, "/health/live", live, None, reads=FEW_ROWS),
    Route(GET, "/health/ready", ready, None, codes=("not_ready", "not_stored"), reads=FEW_ROWS),
)
