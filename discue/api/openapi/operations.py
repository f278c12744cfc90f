"""The operations of the OpenAPI document, one for each method of each route."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from discue.api.negotiation import JSON
from discue.api.openapi.components import event_content
from discue.api.openapi.responses import responses_of, shows_one
from discue.api.openapi.schemas import Schema, ref_to
from discue.api.pagination import PRETTY, Parameter
from discue.api.route import Method, Route
from discue.api.structs import EXAMPLE_IDS, PUBLIC_ID, SCHEMA_ID

_ETAGS = r'^(?:\*|(?:W/)?"[!#-~]*"(?:, ?(?:W/)?"[!#-~]*")*)$'
_STATUS = {"type": "integer", "minimum": 100, "maximum": 599}
_VERBS: Mapping[Method, str] = {"GET": "get", "POST": "create", "PUT": "change", "DELETE": "delete"}
_UNCOUNTABLE = frozenset({"status", "stats", "verification", "batch", "limits"})

HEADER_PARAMETERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {
        "description": "Returned in the response if it is 1 to 128 characters of `[A-Za-z0-9._-]`, else replaced.",
        "schema": {"type": "string"},
        "example": "order-17-created",
    },
    "Idempotency-Key": {
        "description": "Repeating the request with the same key within 24 hours returns the first response.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "example": "9f1c7a52-order-17",
    },
    "If-Match": {
        "description": "Responds with 412 unless the resource has one of these entity tags.",
        "schema": {"type": "string", "pattern": _ETAGS},
        "example": "*",
    },
    "If-None-Match": {
        "description": "Responds with 304 if the resource has one of these entity tags.",
        "schema": {"type": "string", "pattern": _ETAGS},
        "example": '"1b2f3c"',
    },
}


def parameter_components(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the parameters that several operations share. Ids have their name in the path."""
    ids = sorted({name for route in routes for name in names_in(route.path)})
    headers = {name: {"name": name, "in": "header", **rest} for name, rest in HEADER_PARAMETERS.items()}
    return {**{name: _id_parameter(name) for name in ids}, **headers, "pretty": _query_parameter(PRETTY)}


def names_in(path: str) -> list[str]:
    """Return the names in braces."""
    return re.findall(r"\{(\w+)\}", path)


def _id_parameter(name: str) -> dict[str, Any]:
    place = {"name": name, "in": "path", "required": True}
    if name == "status":
        return {**place, "description": "The status of an error.", "schema": _STATUS, "example": 404}
    pattern = SCHEMA_ID if name == "schema_id" else PUBLIC_ID
    return {
        **place,
        "description": f"The id of the {name.removesuffix('_id').replace('_', ' ').replace('api', 'API')}.",
        "schema": {"type": "string", "pattern": pattern},
        "example": EXAMPLE_IDS.get(name, EXAMPLE_IDS["queue_id"]),
    }


def _query_parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "schema": dict(parameter.schema),
        "example": parameter.example,
    }


def operation_id(method: Method, route: Route) -> str:
    """Return a name such as `list_queue_listeners`, `create_queue`, `put_queue` (also creates) or `change_queue`."""
    steps = [step for step in route.path.split("/")[1:] if step]
    words = [singular(step) for step in steps if not step.startswith("{")] or ["service"]
    verb = "put" if route.creates and method == "PUT" else _VERBS[method]
    if method == "GET" and route.query and steps and not steps[-1].startswith("{"):
        verb, words[-1] = "list", steps[-1]
    return "_".join([verb, *words]).replace(".", "_").replace("-", "_")


def singular(word: str) -> str:
    """Return the singular of a path step."""
    if word in _UNCOUNTABLE or not word.endswith("s"):
        return word
    return word.removesuffix("s")


def tag_of(route: Route) -> str:
    """Return the group of the operation."""
    if route.needs is None:
        return "users" if route.path == "/invitations" else "service"
    if "/secrets" in route.path:
        return "secrets"
    if route.path.endswith("/tests"):
        return "tests"
    return {"api_clients": "organizations"}.get(route.needs.resource, route.needs.resource)


def operation_of(
    method: Method, route: Route, routes: Iterable[Route], components: Mapping[str, Schema]
) -> dict[str, Any]:
    """Return the operation object."""
    operation: dict[str, Any] = {
        "operationId": operation_id(method, route),
        "tags": [tag_of(route)],
        "summary": route.summary,
        "description": route.description,
        "parameters": _parameters(method, route),
        "requestBody": _request_body(route, components),
        "responses": responses_of(method, route, components),
        **_protection(route),
    }
    links = _links(route, list(routes)) if route.creates else {}
    if links:
        operation["responses"]["200"]["links"] = links
    return {name: value for name, value in operation.items() if value not in ("", None)}


def _protection(route: Route) -> dict[str, Any]:
    if route.needs is None:
        return {"security": []}
    return {
        "security": [{"ApiKey": []}],
        "x-required-scope": {"resource": route.needs.resource, "access": route.needs.access},
    }


def _parameters(method: Method, route: Route) -> list[dict[str, Any]]:
    shared = names_in(route.path)
    if route.media_type == JSON:
        shared.append("pretty")
    shared.append("X-Request-Id")
    if route.creates:
        shared.append("Idempotency-Key")
    if route.changes:
        shared.append("If-Match")
    if method == "GET" and shows_one(route):
        shared.append("If-None-Match")
    own = [_query_parameter(parameter) for parameter in route.query]
    return own + [{"$ref": f"#/components/parameters/{name}"} for name in shared]


def body_name(route: Route) -> str:
    """Return the name of the component for the body."""
    name = route.request.__name__
    return f"New{name.removesuffix('Body')}" if route.required else name


def _request_body(route: Route, components: Mapping[str, Schema]) -> dict[str, Any] | None:
    if not route.takes_body:
        return None
    content: dict[str, Any] = {"schema": ref_to(body_name(route))}
    if route.example is not None:
        content["example"] = dict(route.example)
    required = not {"required", "oneOf"}.isdisjoint(components[body_name(route)])
    events = {} if route.events is None else event_content(route.events)
    return {"required": required, "content": {JSON: content, **events}}


def _links(route: Route, routes: list[Route]) -> dict[str, Any]:
    """Return links from a created resource to its operations and those on its collections."""
    step = f"{route.path}/"
    found: dict[str, Any] = {}
    for other in routes:
        known = names_in(route.path)
        fresh = [name for name in names_in(other.path) if name not in known]
        if not other.path.startswith(f"{step}{{") or len(fresh) != 1:
            continue
        place = f"$response.body#/{singular(route.path.rpartition('/')[2])}/id"
        values = {**{name: f"$request.path.{name}" for name in known}, fresh[0]: place}
        for method in other.methods:
            name = operation_id(method, other)
            found[name] = {"operationId": name, "parameters": values}
    return found
