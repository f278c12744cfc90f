"""The responses that a route can give: which statuses, with which headers and which body."""

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from discue.api.negotiation import EVENTS, JSON, PROBLEM
from discue.api.openapi.examples import example_of
from discue.api.openapi.schemas import Schema, ref_to
from discue.api.problems import WWW_AUTHENTICATE, Place, Problem
from discue.api.route import Method, Route
from discue.domain import errors
from discue.domain.errors import DiscueError, Unavailable, reason_phrase

LinkTarget = dict[str, dict[str, Any]]

NOT_MODIFIED = 304

# A caller that is locked out is told so wherever it presents a key.
_ALWAYS = (400, 403, 406, 414, 429, 431, 500, 503)
_WITH_KEY = (401, 423)
_WITH_BODY = (408, 413, 415)
_CREATING = (409, 422)
_PRECONDITION_FAILED = 412
_NOT_FOUND = 404

_EVENTS: Mapping[str, Any] = {
    EVENTS: {
        "schema": {
            "type": "string",
            "description": "Events called `message`: the data of each is a message of the list.",
        },
        "example": 'event: message\ndata: {"id":"0VbuJFW500I0yWwoGXXf6","receipt":"0000000001l8lCq3JzX4bM"}\n\n',
    }
}
_LIMITS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_EVERYWHERE = ("X-Request-Id", *_LIMITS)
_ETAG = {"type": "string", "pattern": '^"[!#-~]+"$'}

HEADERS: LinkTarget = {
    "X-Request-Id": {
        "description": "The request's id: the client's own where it is 1 to 128 of `[A-Za-z0-9._-]`.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        "example": "5a1f0c9e-1",
    },
    "X-RateLimit-Limit": {
        "description": "Requests that can be made in a minute; 2147483647 where there is no limit.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0, "maximum": 2_147_483_647},
        "example": 60_000,
    },
    "X-RateLimit-Remaining": {
        "description": "Requests that are left in this window.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0, "maximum": 2_147_483_647},
        "example": 59_999,
    },
    "X-RateLimit-Reset": {
        "description": "When the window ends, in seconds since the epoch.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
        "example": 1_795_536_300,
    },
    "Link": {
        "description": "The pages beside this one: `next` and `prev` (RFC 8288), absent at the ends.",
        "schema": {"type": "string"},
        "example": '<https://discue.example.com/v1/queues?per_page=10&after=0VbuJFSo00H8Lq7zazFOL>; rel="next"',
    },
    "ETag": {
        "description": "What `If-Match` and `If-None-Match` compare.",
        "required": True,
        "schema": _ETAG,
        "example": '"kZ0dVJq0W4mDg0Ww.2yD0cQvKx3bN1f7A"',
    },
    "ETag-Of-Created": {
        "description": "What `If-Match` compares. Messages that are published have none before they are read.",
        "schema": _ETAG,
        "example": '"kZ0dVJq0W4mDg0Ww.2yD0cQvKx3bN1f7A"',
    },
    "Idempotency-Replayed": {
        "description": "`true` where an earlier request with this key had this answer.",
        "schema": {"type": "string", "const": "true"},
        "example": "true",
    },
    "WWW-Authenticate": {
        "description": "How to authenticate.",
        "required": True,
        "schema": {"type": "string"},
        "example": WWW_AUTHENTICATE,
    },
    "Retry-After": {
        "description": "Seconds to wait.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
        "example": 1,
    },
    "Retry-After-In-Flight": {
        "description": "Seconds to wait, where an earlier request with the same idempotency key is in flight.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 1,
    },
    "Retry-After-Lockout": {
        "description": "Seconds to wait, where the caller is locked out.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 60,
    },
}
"""By the name of their component: that of the header, with a word more where a header has a second meaning."""

_OF_STATUS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "WWW-Authenticate"},
    403: {"Retry-After": "Retry-After-Lockout"},
    409: {"Retry-After": "Retry-After-In-Flight"},
    429: {"Retry-After": "Retry-After"},
    503: {"Retry-After": "Retry-After"},
}


def shows_one(route: Route) -> bool:
    """Whether the answer is a single resource at its own address, or a new one: then it has an ETag."""
    if not route.creates and not route.path.endswith("}"):
        return False
    if "id" in route.response.__struct_fields__:
        return True
    infos = [field.type for field in msgspec.inspect.type_info(route.response).fields]  # type: ignore[attr-defined]
    return any("id" in info.cls.__struct_fields__ for info in infos if isinstance(info, msgspec.inspect.StructType))


def is_list(route: Route) -> bool:
    return any(parameter.name == "per_page" for parameter in route.query)


def statuses_of(method: Method, route: Route) -> list[int]:
    """Every status but 200 that the route can answer this method with."""
    found = {*_ALWAYS, *route.statuses}
    if route.needs is not None:
        found.update(_WITH_KEY)
    if "{" in route.path:
        found.add(_NOT_FOUND)
    if route.takes_body:
        found.update(_WITH_BODY)
    if route.creates:
        found.update(_CREATING)
    if route.changes:
        found.add(_PRECONDITION_FAILED)
    if method == "GET" and shows_one(route):
        found.add(NOT_MODIFIED)
    return sorted(found)


def problem_kinds() -> dict[int, type[DiscueError]]:
    """The error that stands for each status."""
    found: dict[int, type[DiscueError]] = {}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, DiscueError):
            found.setdefault(kind.status, kind)
    return found


PROBLEM_TYPES = (Problem, Place)


def component_name(status: int) -> str:
    return reason_phrase(status).replace(" ", "")


def problem_components() -> LinkTarget:
    """The responses that are not a 200, each once."""
    components = {component_name(status): _problem(status, kind) for status, kind in problem_kinds().items()}
    components[component_name(NOT_MODIFIED)] = {
        "description": "What the client has is current.",
        "headers": {**_header_refs(_EVERYWHERE), "ETag": _header_ref("ETag")},
    }
    return dict(sorted(components.items()))


def _problem(status: int, kind: type[DiscueError]) -> dict[str, Any]:
    example = {
        "type": f"https://discue.example.com/docs/errors/{status}",
        "title": reason_phrase(status),
        "status": status,
        "request_id": "5a1f0c9e-1",
        "detail": inspect.getdoc(kind),
    }
    content = {"schema": ref_to("Problem"), "example": example}
    special = {name: _header_ref(component) for name, component in _OF_STATUS.get(status, {}).items()}
    return {
        "description": f"{reason_phrase(status)}. {inspect.getdoc(Unavailable if status == 503 else kind)}",
        "headers": {**_header_refs(_EVERYWHERE), **special},
        "content": {JSON: content, PROBLEM: content},
    }


def responses_of(method: Method, route: Route, components: Mapping[str, Schema]) -> dict[str, Any]:
    """The responses of one operation by status."""
    found: dict[str, Any] = {"200": _success(method, route, components)}
    for status in statuses_of(method, route):
        found[str(status)] = {"$ref": f"#/components/responses/{component_name(status)}"}
    return found


def _success(method: Method, route: Route, components: Mapping[str, Schema]) -> dict[str, Any]:
    headers = _header_refs(_EVERYWHERE)
    if is_list(route):
        headers["Link"] = _header_ref("Link")
    if route.creates:
        headers["Idempotency-Replayed"] = _header_ref("Idempotency-Replayed")
    if shows_one(route):
        headers["ETag"] = _header_ref("ETag-Of-Created" if route.creates else "ETag")
    return {
        "description": "Done." if method != "GET" else "What was asked for.",
        "headers": headers,
        "content": {route.media_type: _content(route, components), **(_EVENTS if route.streams else {})},
    }


def _content(route: Route, components: Mapping[str, Schema]) -> dict[str, Any]:
    if route.media_type != JSON:
        return {"schema": {"type": "string"}}
    schema = ref_to(route.response.__name__)
    return {"schema": schema, "example": example_of(schema, components)}


def _header_refs(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: _header_ref(name) for name in names}


def _header_ref(component: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{component}"}
