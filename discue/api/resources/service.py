"""The service, its health, and the documentation of the API."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec

from discue import __version__
from discue.api.openapi.document import document_of
from discue.api.openapi.page import HTML_TYPE, SECURITY_HEADERS, openapi_page, page, prose, text
from discue.api.openapi.rendered import RenderedDocument, RenderedOnce
from discue.api.pagination import ALIASES, read_parameters
from discue.api.problems import REMEDIES, client_errors
from discue.api.route import GET, Call, RawResponse, Route
from discue.api.structs import ApiResponse, LinkTarget, doc, links_of
from discue.domain.errors import NotFound, Unavailable, reason_phrase

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


class ServiceResponse(ApiResponse, kw_only=True, frozen=True):
    """The service."""

    name: Annotated[str, doc("The name of the software.", "discue", const="discue")]
    version: Annotated[str, doc("The version of the software.", "0.1.0")]


class HealthResponse(ApiResponse, kw_only=True, frozen=True):
    """The health of the service."""

    status: Annotated[str, doc("The health of the service.", "ready", enum=["live", "ready"])]


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
    """Check that requests are served. 503 while the service starts or drains, or the database is not writable."""
    obstacle = call.services.readiness.obstacle
    if obstacle is not None:
        raise Unavailable(obstacle)
    return HealthResponse(status="ready", links=call.links())


async def error(call: Call) -> RawResponse:
    """Read about an error. The `type` of every error leads here."""
    status = int(call.ids[0])
    kinds = [kind for kind in client_errors() if kind.status == status]
    if not kinds:
        raise NotFound(f"No error has the status {status}.")
    title = f"{status} {reason_phrase(status)}"
    parts = "".join(
        f"<h2>{prose((kind.__doc__ or '').strip())}</h2><p>{prose(REMEDIES[kind.__name__])}</p>" for kind in kinds
    )
    more = "<p>In the response, <code>detail</code> explains the error, and <code>errors</code> lists wrong values.</p>"
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        more += "<p>The service's log has details under the <code>request_id</code> of the response.</p>"
    back = f'<p><a href="{text(f"{call.base}/docs")}">The API</a></p>'
    call.headers.extend(SECURITY_HEADERS)
    return RawResponse(page(title, f'<main class="narrow"><h1>{text(title)}</h1>{parts}{more}{back}</main>'))


def documentation_of(described: Iterable[Route]) -> tuple[Route, ...]:
    """Return the routes of the documentation, which describes these routes and itself."""
    table = tuple(described)

    # The document includes the routes that return it, so it is made when it is first asked for.
    def document(*, aliases: bool) -> dict[str, Any]:
        return document_of((*table, *routes), _BASE, aliases=aliases)

    def rendered(*, aliases: bool) -> RenderedDocument:
        return RenderedDocument(msgspec.json.encode(document(aliases=aliases)).split(_BASE.encode()))

    whole_json = RenderedOnce(lambda: rendered(aliases=True))
    once_json = RenderedOnce(lambda: rendered(aliases=False))
    docs_html = RenderedOnce(
        lambda: RenderedDocument(openapi_page(document(aliases=False), f"{_BASE}/openapi.json").split(_BASE.encode()))
    )

    async def openapi(call: Call) -> RawResponse:
        """Get this document. OpenAPI 3.1."""
        given = read_parameters(call.query, call.parameters)
        openapi_json = once_json if given.get("aliases") == "false" else whole_json
        return _compressed(call, await openapi_json.get(), msgspec.json.encode(call.base)[1:-1])

    async def docs(call: Call) -> RawResponse:
        """Read this document as a page."""
        call.headers.extend(SECURITY_HEADERS)
        return _compressed(call, await docs_html.get(), text(call.base).encode())

    routes = (
        Route(GET, "/openapi.json", openapi, None, response=OpenApiDocument, query=(ALIASES,), compresses=True),
        Route(GET, "/docs", docs, None, media_type=HTML_TYPE, compresses=True),
        Route(GET, "/docs/errors/{status}", error, None, media_type=HTML_TYPE),
    )
    return routes


def _compressed(call: Call, document: RenderedDocument, base: bytes) -> RawResponse:
    """Return a document with the URL of the service in it, compressed if the client accepts that."""
    call.headers.append(("vary", "accept-encoding"))
    if not call.accepts_gzip:
        return RawResponse(document.plain(base))
    call.headers.append(("content-encoding", "gzip"))
    return RawResponse(document.gzipped(base))


ROUTES = (
    Route(GET, "/", root, None),
    Route(GET, "/health/live", live, None),
    Route(GET, "/health/ready", ready, None, statuses=(503,)),
)
