"""The service, its health, and the OpenAPI document."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from discue import __version__
from discue.api.openapi.rendered import BuiltOnce, RenderedDocument
from discue.api.pagination import ALIASES
from discue.api.resource import LinkTarget, links_of
from discue.api.route import GET, Call, RawResponse, Route
from discue.api.structs import ApiResponse, doc
from discue.domain.errors import Unavailable
from discue.domain.reservations import DOCUMENT, FEW_ROWS
from discue.http.negotiation import accepts_gzip

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
BASE: Final = "https://base.invalid"
"""Stands for the URL of the service in rendered documents. No service is under `.invalid` (RFC 2606)."""


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


def openapi_route(document: Callable[..., dict[str, Any]]) -> Route:
    """Return the route to the document. `document` makes it, with `aliases` or without, when it is first asked for."""

    def rendered(*, aliases: bool) -> RenderedDocument:
        return RenderedDocument(msgspec.json.encode(document(aliases=aliases)), (BASE.encode(),))

    whole, once = BuiltOnce(lambda: rendered(aliases=True)), BuiltOnce(lambda: rendered(aliases=False))

    async def openapi(call: Call) -> RawResponse:
        """Get this document. OpenAPI 3.1."""
        found = await (once if call.given["aliases"] == "false" else whole).get()
        # The URL, as it is within a string of JSON.
        return filled(call, found, (msgspec.json.encode(call.base)[1:-1],))

    return Route(GET, "/openapi.json", openapi, None, response=OpenApiDocument, query=(ALIASES,), reads=DOCUMENT)


def filled(call: Call, document: RenderedDocument, values: Sequence[bytes], *varies: str) -> RawResponse:
    """Return a document with values in its slots, compressed if the client accepts that."""
    call.response_headers.append(("vary", ", ".join(("accept-encoding", *varies))))
    # Clients that ask for indented text read or compare it.
    if "pretty=" in call.scope.query_string or not accepts_gzip(call.headers.get("accept-encoding", "")):
        return RawResponse(document.plain(values))
    call.response_headers.append(("content-encoding", "gzip"))
    return RawResponse(document.gzipped(values))


ROUTES = (
    Route(GET, "/", root, None, reads=FEW_ROWS),
    Route(GET, "/health/live", live, None, reads=FEW_ROWS),
    Route(GET, "/health/ready", ready, None, codes=("not_ready", "not_stored"), reads=FEW_ROWS),
)
