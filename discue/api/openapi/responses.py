"""The responses of a route in the OpenAPI document: statuses, headers and bodies."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from discue.api.openapi.schemas import Schema, direct_structs_of, example_of, ref_to
from discue.api.route import Method, Route
from discue.api.structs import ERROR_CODE, ResourceBody, doc
from discue.domain.errors import REASONS, reason_phrase
from discue.http.negotiation import EVENTS, JSON, PROBLEM, WWW_AUTHENTICATE

_NOT_MODIFIED = 304

# locked_out everywhere: a key that the route does not need can be locked out at the client's address, too.
_ALWAYS = (
    "unknown_parameter",
    "invalid_header",
    "locked_out",
    "not_acceptable",
    "uri_too_long",
    "rate_limited",
    "headers_too_large",
    "internal_error",
    "not_ready",
    "not_stored",
    "store_damaged",
    "overloaded",
)
_WITH_KEY = ("key_missing", "key_unknown", "key_disabled", "key_expired", "scope_missing", "organization_suspended")
_WITH_BODY = (
    "invalid_json",
    "duplicate_field",
    "unknown_field",
    "missing_field",
    "wrong_type",
    "request_timeout",
    "body_too_large",
    "unsupported_media_type",
)
_CREATING = ("request_in_flight", "idempotency_key_reused", "invalid_value")
_PUBLISHING = ("quota_exceeded", "message_too_large", "unknown_type", "schema_violation", "conflicting_fields")

_EVENTS: Mapping[str, Any] = {
    EVENTS: {
        "schema": {
            "type": "string",
            "description": "Events called `message`, each with one message of the list as data.",
        },
        "example": 'event: message\ndata: {"id":"0VbuJFW500I0yWwoGXXf6","receipt":"0000000001l8lCq3JzX4bM"}\n\n',
    }
}
_EVERYWHERE = ("X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_ETAG = {"type": "string", "pattern": '^"[!#-~]+"$'}

_ETAG_EXAMPLE = '"kZ0dVJq0W4mDg0Ww.2yD0cQvKx3bN1f7A"'
_SECONDS = {"type": "integer", "minimum": 0}
_REQUESTS = {**_SECONDS, "maximum": 2_147_483_647}


class ErrorView(msgspec.Struct, frozen=True):
    """A value of a request that is wrong."""

    pointer: Annotated[str, doc("A JSON pointer (RFC 6901) into the body, or `?` and a parameter's name.", "/alias")]
    detail: Annotated[str, doc("The rule that the value breaks.", "is taken")]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every response with an error."""

    type: Annotated[str, doc("A page about this code.", "https://discue.example.com/docs/errors/not_found")]
    code: Annotated[str, doc("The exact reason, for programs.", "not_found", pattern=ERROR_CODE)]
    title: Annotated[str, doc("The status in words.", "Not Found")]
    status: Annotated[int, doc("The status of the response.", 404, minimum=400, maximum=599)]
    request_id: Annotated[
        str, doc("The id of the request, as in `X-Request-Id`.", "5a1f0c9e-1", pattern="^[A-Za-z0-9._-]{1,128}$")
    ]
    detail: Annotated[str, doc("The error, and what to do.", 'Queue "orders" not found.')] = ""
    errors: Annotated[tuple[ErrorView, ...], doc("The values that are wrong.", [])] = ()


def _header(description: str, schema: Schema, example: object, *, required: bool = False) -> dict[str, Any]:
    always = {"required": True} if required else {}
    return {"description": description, **always, "schema": schema, "example": example}


HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": _header(
        "The id of the request: the client's own if it is 1 to 128 characters of `[A-Za-z0-9._-]`.",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        "5a1f0c9e-1",
        required=True,
    ),
    "X-RateLimit-Limit": _header(
        "Requests allowed per minute; 2147483647: unlimited.", _REQUESTS, 60_000, required=True
    ),
    "X-RateLimit-Remaining": _header("Requests left in this window.", _REQUESTS, 59_999, required=True),
    "X-RateLimit-Reset": _header(
        "When the window ends, in seconds since the epoch.", _SECONDS, 1_795_536_300, required=True
    ),
    "Link": _header(
        "The neighbouring pages: `next` and `prev` (RFC 8288).",
        {"type": "string"},
        '<https://discue.example.com/v1/queues?per_page=10&after=0VbuJFSo00H8Lq7zazFOL>; rel="next"',
    ),
    "ETag": _header("The entity tag for `If-Match` and `If-None-Match`.", _ETAG, _ETAG_EXAMPLE, required=True),
    "ETag-Of-Created": _header(
        "The entity tag for `If-Match`. The response to a publish has none.", _ETAG, _ETAG_EXAMPLE
    ),
    "Idempotency-Replayed": _header(
        "`true` if this is the response to an earlier request with the same key.",
        {"type": "string", "const": "true"},
        "true",
    ),
    "WWW-Authenticate": _header("How to authenticate.", {"type": "string"}, WWW_AUTHENTICATE, required=True),
    "Retry-After": _header("Seconds to wait.", _SECONDS, 1, required=True),
    "Retry-After-In-Flight": _header(
        "Seconds to wait, if an earlier request with the same idempotency key is in flight.", _SECONDS, 1
    ),
    "Retry-After-Lockout": _header("Seconds to wait if the key is locked out at the client's address.", _SECONDS, 60),
}
"""By the name of their component: the header's, with a suffix for its other meanings."""

_OF_STATUS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "WWW-Authenticate"},
    403: {"Retry-After": "Retry-After-Lockout"},
    409: {"Retry-After": "Retry-After-In-Flight"},
    429: {"Retry-After": "Retry-After"},
    503: {"Retry-After": "Retry-After"},
}


def shows_one(route: Route) -> bool:
    """Whether the response is a single resource, which has an ETag."""
    if not route.creates and not route.path.endswith("}"):
        return False
    return any(
        "id" in kind.__struct_fields__ for kind in (route.response_type, *direct_structs_of(route.response_type))
    )


def _codes(method: Method, route: Route) -> set[str]:
    """Return the code of every error that the route can respond to a method with."""
    found = {*_ALWAYS, *route.codes}
    if route.query:
        found.add("invalid_parameter")
    if route.needs is not None:
        found.update(_WITH_KEY)
    if "{" in route.path:
        found.update(("not_found", "no_route"))
    if route.takes_body:
        found.update(_WITH_BODY)
    if issubclass(route.request, ResourceBody) and route.request.handles:
        found.add("conflicting_fields")
    if route.creates:
        found.update(_CREATING)
    if route.publishes:
        found.update(_PUBLISHING)
    if route.changes:
        found.add("precondition_failed")
        if route.takes_body:
            found.add("invalid_value")
    # Pulling leases messages.
    if method != "GET" or route.streams:
        found.add("outcome_unknown")
    return found


def error_codes_of(method: Method, route: Route, maker: Route | None = None) -> dict[str, list[str]]:
    """Return the codes of the errors of an operation by status, for programs.

    `maker` is the route that creates what the request names, if no resource has that name.
    """
    codes = _codes(method, route) | (set() if maker is None else _codes("PUT", maker))
    found: dict[str, list[str]] = {}
    for code, reason in REASONS.items():
        if code in codes:
            found.setdefault(str(reason.status), []).append(code)
    return found


def _component(status: int) -> str:
    return reason_phrase(status).replace(" ", "")


def problem_components() -> dict[str, dict[str, Any]]:
    """Return the responses that are not a 200, one for each status."""
    codes: dict[int, list[str]] = {}
    for code, reason in REASONS.items():
        codes.setdefault(reason.status, []).append(code)
    components = {_component(status): _problem(status, each) for status, each in codes.items()}
    components[_component(_NOT_MODIFIED)] = {
        "description": "The client's copy is current.",
        "headers": {**_header_refs(_EVERYWHERE), "ETag": _header_ref("ETag")},
    }
    return dict(sorted(components.items()))


def _problem(status: int, codes: Sequence[str]) -> dict[str, Any]:
    example = {
        "type": f"https://discue.example.com/docs/errors/{codes[0]}",
        "code": codes[0],
        "title": reason_phrase(status),
        "status": status,
        "request_id": "5a1f0c9e-1",
        "detail": f"{REASONS[codes[0]].meaning} {REASONS[codes[0]].remedy}",
    }
    content = {"schema": ref_to("Problem"), "example": example}
    special = {name: _header_ref(component) for name, component in _OF_STATUS.get(status, {}).items()}
    return {
        "description": f"{reason_phrase(status)}. " + " ".join(f"`{code}`: {REASONS[code].meaning}" for code in codes),
        "headers": {**_header_refs(_EVERYWHERE), **special},
        "content": {JSON: content, PROBLEM: content},
    }


def responses_of(
    method: Method, route: Route, components: Mapping[str, Schema], maker: Route | None = None
) -> dict[str, Any]:
    """Return the responses of an operation by status.

    `maker` is the route that creates what the request names, if no resource has that name.
    """
    found: dict[str, Any] = {"200": _success(route, components, maker)}
    statuses = {int(status) for status in error_codes_of(method, route, maker)}
    if method == "GET" and shows_one(route):
        statuses.add(_NOT_MODIFIED)
    for status in sorted(statuses):
        found[str(status)] = {"$ref": f"#/components/responses/{_component(status)}"}
    return found


def _success(route: Route, components: Mapping[str, Schema], maker: Route | None) -> dict[str, Any]:
    content: dict[str, Any] = {} if route.media_type == JSON else {route.media_type: {"schema": {"type": "string"}}}
    if route.has_json:
        schema = ref_to(route.response_type.__name__)
        content[JSON] = {"schema": schema, "example": example_of(schema, components)}
        if maker is not None and maker.response_type is not route.response_type:
            content[JSON]["schema"] = {"anyOf": [schema, ref_to(maker.response_type.__name__)]}
    headers = _header_refs(_EVERYWHERE)
    if any(parameter.name == "per_page" for parameter in route.query):
        headers["Link"] = _header_ref("Link")
    if route.creates or maker is not None:
        headers["Idempotency-Replayed"] = _header_ref("Idempotency-Replayed")
    if shows_one(route):
        headers["ETag"] = _header_ref("ETag-Of-Created" if route.creates else "ETag")
    return {
        "description": "Success.",
        "headers": headers,
        "content": {**content, **(_EVENTS if route.streams else {})},
    }


def _header_refs(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: _header_ref(name) for name in names}


def _header_ref(component: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{component}"}
