"""What describes the API to its users: the OpenAPI document, the page that shows it, and a page for each error."""

from collections.abc import Iterable
from functools import lru_cache

from discue.api import wire
from discue.api.documentation_links import ADVICE, answered
from discue.api.openapi.document import document_bytes, document_of
from discue.api.openapi.page import openapi_page
from discue.api.page import SECURITY_HEADERS, page, prose, text
from discue.api.route import Call, RawResponse, Route
from discue.domain.errors import DiscueError, NotFound, reason_phrase

_HTML = "text/html"
_REMEMBERED = 16
"""Addresses under which the service is known: each has documents of its own."""


def routes_of(described: Iterable[Route]) -> tuple[Route, ...]:
    """The routes that describe these, and themselves."""
    table = tuple(described)

    @lru_cache(_REMEMBERED)
    def document(server: str) -> bytes:
        return document_bytes((*table, *routes), server)

    @lru_cache(_REMEMBERED)
    def whole_page(server: str) -> bytes:
        return openapi_page(document_of((*table, *routes), server), f"{server}/openapi.json")

    async def openapi(call: Call) -> RawResponse:
        return RawResponse(document(call.base))

    async def docs(call: Call) -> RawResponse:
        call.headers.extend(SECURITY_HEADERS)
        return RawResponse(whole_page(call.base))

    routes = (
        Route(
            methods=("GET",),
            path="/openapi.json",
            handler=openapi,
            response=wire.OpenApiDocument,
            needs=None,
            summary="Get this document",
            description="OpenAPI 3.1.",
        ),
        Route(
            methods=("GET",),
            path="/docs",
            handler=docs,
            response=wire.OpenApiDocument,
            needs=None,
            media_type=_HTML,
            summary="Read this document as a page",
        ),
        _ERROR_PAGE,
    )
    return routes


async def error(call: Call) -> RawResponse:
    """Raises NotFound for a status that the API never answers with."""
    kinds = _kinds().get(int(call.ids[0]))
    if kinds is None:
        raise NotFound
    call.headers.extend(SECURITY_HEADERS)
    return RawResponse(_error_page(kinds, f"{call.base}/docs"))


_ERROR_PAGE = Route(
    methods=("GET",),
    path="/docs/errors/{status}",
    handler=error,
    response=wire.OpenApiDocument,
    needs=None,
    media_type=_HTML,
    summary="Read about an error",
    description="Where `type` of every error leads.",
)


def _kinds() -> dict[int, list[type[DiscueError]]]:
    found: dict[int, list[type[DiscueError]]] = {}
    for kind in answered():
        found.setdefault(kind.status, []).append(kind)
    return found


def _error_page(kinds: list[type[DiscueError]], docs_url: str) -> bytes:
    status = kinds[0].status
    title = f"{status} {reason_phrase(status)}"
    parts = "".join(
        f"<h2>{prose((kind.__doc__ or '').strip())}</h2><p>{prose(ADVICE[kind.__name__])}</p>" for kind in kinds
    )
    more = (
        "<p>The response says more: <code>detail</code> in a sentence, <code>errors</code> place by place. Its "
        "<code>request_id</code> leads to what the service's log knows of the request.</p>"
    )
    return page(
        title,
        f'<main class="narrow"><h1>{text(title)}</h1>{parts}{more}<p><a href="{text(docs_url)}">The API</a></p></main>',
    )
