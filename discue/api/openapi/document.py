"""The OpenAPI document, derived from the table of routes and the structs of their bodies."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from discue import __version__
from discue.api.openapi.responses import HEADERS, Problem, error_codes_of, problem_components, responses_of, shows_one
from discue.api.openapi.schemas import (
    CLOUDEVENT_COMPONENTS,
    FILTER_COMPONENTS,
    RULE_COMPONENTS,
    Schema,
    components_of,
    event_content,
    ref_to,
    with_formats,
    with_required,
)
from discue.api.pagination import ALIASES, PRETTY, Parameter
from discue.api.route import NAMED, Method, Route
from discue.api.structs import ERROR_CODE, EXAMPLE_IDS, PAGE_NAME, PUBLIC_ID, SCHEMA_ID
from discue.domain import event_types
from discue.domain.aliases import ALIAS_CHARACTERS, ORGANIZATION_ALIAS_CHARACTERS
from discue.http.negotiation import JSON

_DESCRIPTION = """\
Asynchronous messaging over HTTP: each message published to a queue is sent to every listener of the queue, signed, \
until the listener acknowledges it.

- The prefix `/v1` is optional: `/v1/queues` and `/queues` are the same.
- Requests and responses are JSON. Every success is a 200. `POST` and `PUT` on a collection create. `PUT` on a \
resource changes the fields that it names; `null` resets a field.
- `HEAD` works for every `GET`. Other methods get a 405 with `Allow`.
- Unknown fields of a body get a 400; so do unknown query parameters. Read-only fields may be sent back.
- `alias` and `name` are synonyms.
- Paths take the id of a resource or its alias, with `/` as `%2F`; an id wins over an equal alias. Responses use ids. \
`PUT` on an alias that names no resource creates it, unless the request has `If-Match`.
"""

_TAGS = {
    "organizations": "Tenants: every resource belongs to one. `/api_clients` and `/organizations` are the same.",
    "portal": "Pages on which customers manage their own listeners.",
    "users": "Members of the organization.",
    "api_keys": "Credentials of clients, with their scopes.",
    "domains": "Host names that the organization has proved to control.",
    "queues": "Logs of messages. Each message is sent to every listener.",
    "schemas": "Schemas that the messages of a queue must match.",
    "topics": "Messages published to a topic are copied to queues through channels.",
    "channels": "Connections from a topic to queues.",
    "sources": "Endpoints that receive the webhooks of other services.",
    "event_types": "The catalogue of event types that an organization offers to its customers.",
    "listeners": "HTTP endpoints that receive the messages of a queue.",
    "secrets": "Secrets that requests to a listener are signed with.",
    "messages": "Published messages, and their deliveries.",
    "stats": "Numbers of usage events.",
    "events": "Events of the organization: its audit log, messages and attempts.",
    "service": "Operations that need no API key.",
}

_SECURITY = {
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-KEY",
        "description": "An API key: `dsk_`, its id, its secret. `x-required-scope` is the scope that is needed.",
    }
}

_ETAGS = r'^(?:\*|(?:W/)?"[!#-~]*"(?:, ?(?:W/)?"[!#-~]*")*)$'
_VERBS: Mapping[Method, str] = {"GET": "get", "POST": "create", "PUT": "change", "DELETE": "delete"}
_OTHER_COLLECTIONS: Mapping[str, str] = {"api_clients": "organizations"}
"""Collections with a second name, by that name."""

_PAGE_STEPS: Mapping[str, tuple[str, str]] = {
    "{page}": ("The name of a page of the documentation.", "pulling"),
    "{part}": ("The name of a part of the documentation.", "reference"),
}
"""Steps of paths in braces that name no resource, with a description and an example."""

_LONGEST_NAMES: Mapping[str, int] = {
    "organization_id": ORGANIZATION_ALIAS_CHARACTERS,
    "event_type_id": event_types.MAX_CHARACTERS,
}
"""The length of the names that stand for ids in paths, if they are longer than an alias."""

_UNCOUNTABLE = frozenset({"status", "stats", "verification", "batch", "limits", "portal"})

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


def document_of(routes: Iterable[Route], server: str, *, aliases: bool = True) -> dict[str, Any]:
    """Return the document. `server` is the base URL of the paths.

    Without `aliases`, it has each operation once: generators would make several functions of an operation that has
    several methods or paths.
    """
    table = tuple(routes) if aliases else tuple(_without_aliases(routes))
    schemas = _schemas(table)
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        for method in route.methods:
            paths.setdefault(route.path, {})[method.lower()] = _operation(method, route, table, schemas=schemas)
    used = {_tag_of(route) for route in table}
    tags = [*(name for name in _TAGS if name in used), *sorted(used - _TAGS.keys())]
    ids = sorted({name for route in table for name in _names_in(route.path)})
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "discue",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "tags": [{"name": name, "description": _TAGS.get(name, "")} for name in tags],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": problem_components(),
            "parameters": {
                **{name: _id_parameter(name) for name in ids},
                **{name: {"name": name, "in": "header", **rest} for name, rest in HEADER_PARAMETERS.items()},
                "pretty": _query_parameter(PRETTY),
            },
            "headers": {name: dict(header) for name, header in HEADERS.items()},
            "securitySchemes": _SECURITY,
        },
    }
    return {**document, **{part: with_formats(document[part]) for part in ("paths", "components")}}


def _original_of(method: Method, route: Route) -> tuple[Method, str] | None:
    """Return the method and path of the operation that this one is another name for; None if it has its own."""
    original: Method = "POST" if method == "PUT" and "POST" in route.methods else method
    collection = route.path.split("/")[1]
    path = route.path.replace(collection, _OTHER_COLLECTIONS.get(collection, collection), 1)
    return None if (original, path) == (method, route.path) else (original, path)


def _without_aliases(routes: Iterable[Route]) -> Iterator[Route]:
    for route in routes:
        methods = tuple(method for method in route.methods if _original_of(method, route) is None)
        if methods:
            yield replace(route, methods=methods)


def _marks(method: Method, route: Route, routes: Sequence[Route]) -> dict[str, Any]:
    """Return how the document marks an alias. Generators know `deprecated`, and can leave such operations out."""
    original = _original_of(method, route)
    if original is None:
        return {}
    verb, path = original
    named = next(_operation_id(verb, other) for other in routes if other.path == path and verb in other.methods)
    return {"deprecated": True, "x-alias-of": named}


def _schemas(table: Sequence[Route]) -> dict[str, Schema]:
    responses = [route.response_type for route in table if route.has_json]
    requests = [route.request for route in table if route.takes_body]
    schemas = components_of([*responses, *requests, Problem]) | RULE_COMPONENTS | FILTER_COMPONENTS
    if any(route.events for route in table):
        schemas |= CLOUDEVENT_COMPONENTS
    for route in table:
        if route.required:
            schema = schemas[route.request.__name__]
            schemas[_body_name(route)] = with_required(
                schema, route.required, route.required_unless, route.required_either
            )
    return dict(sorted(schemas.items()))


def _names_in(path: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", path)


def _id_parameter(name: str) -> dict[str, Any]:
    place = {"name": name, "in": "path", "required": True}
    if name == "code":
        schema = {"type": "string", "pattern": ERROR_CODE}
        return {**place, "description": "The code of an error.", "schema": schema, "example": "not_found"}
    if f"{{{name}}}" in _PAGE_STEPS:
        words, example = _PAGE_STEPS[f"{{{name}}}"]
        return {**place, "description": words, "schema": {"type": "string", "pattern": PAGE_NAME}, "example": example}
    pattern, words = SCHEMA_ID if name == "schema_id" else PUBLIC_ID, "The id"
    if f"{{{name}}}" in NAMED:
        longest = _LONGEST_NAMES.get(name, ALIAS_CHARACTERS)
        pattern, words = f"^[A-Za-z0-9._/-]{{1,{longest}}}$", "The id or the alias"
    return {
        **place,
        "description": f"{words} of the {name.removesuffix('_id').replace('_', ' ').replace('api', 'API')}.",
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


def _operation_id(method: Method, route: Route) -> str:
    """Return a name such as `list_queue_listeners`, `create_queue`, `put_queue` (also creates) or `change_queue`."""
    steps = [step for step in route.path.split("/")[1:] if step]
    words = [_singular(step.strip("{}")) for step in steps if not step.startswith("{") or step in _PAGE_STEPS]
    words = words or ["service"]
    verb = "put" if route.creates and method == "PUT" else _VERBS[method]
    if method == "GET" and route.query not in ((), (ALIASES,)) and steps and not steps[-1].startswith("{"):
        verb, words[-1] = "list", steps[-1]
    return "_".join([verb, *words]).replace(".", "_").replace("-", "_")


def _singular(word: str) -> str:
    if word in _UNCOUNTABLE:
        return word
    return f"{word[:-3]}y" if word.endswith("ies") else word.removesuffix("s")


def _tag_of(route: Route) -> str:
    if route.needs is None:
        return "users" if route.path == "/invitations" else "service"
    if "/secrets" in route.path:
        return "secrets"
    if route.path.endswith("/tests"):
        return "tests"
    for resource in ("event_types", "sources"):
        if route.path.startswith(f"/{resource}"):
            return resource
    return {"api_clients": "organizations"}.get(route.needs.resource, route.needs.resource)


def _operation(
    method: Method, route: Route, routes: Sequence[Route], *, schemas: Mapping[str, Schema]
) -> dict[str, Any]:
    protection: dict[str, Any] = {"security": []}
    if route.needs is not None:
        scope = {"resource": route.needs.resource, "access": route.needs.access}
        scope |= {"reads": route.needs.reads} if route.needs.reads else {}
        protection = {"security": [{"ApiKey": []}], "x-required-scope": scope}
    maker = _maker_of(method, route, routes)
    operation: dict[str, Any] = {
        "operationId": _operation_id(method, route),
        "tags": [_tag_of(route)],
        "summary": route.summary,
        "description": route.description,
        "parameters": _parameters(method, route),
        "requestBody": _request_body(route, schemas),
        "responses": responses_of(method, route, schemas, maker),
        "x-error-codes": error_codes_of(method, route, maker),
        **protection,
        **_marks(method, route, routes),
    }
    links = _links(route, routes) if route.creates else {}
    if links:
        operation["responses"]["200"]["links"] = links
    return {name: value for name, value in operation.items() if value not in ("", None)}


def _maker_of(method: Method, route: Route, routes: Sequence[Route]) -> Route | None:
    """Return the route that creates what the method on this one names, if no resource has that name."""
    collection, _, step = route.path.rpartition("/")
    if method != "PUT" or step not in NAMED:
        return None
    return next((other for other in routes if other.path == collection and other.creates), None)


def _parameters(method: Method, route: Route) -> list[dict[str, Any]]:
    shared = _names_in(route.path)
    if route.has_json:
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


def _body_name(route: Route) -> str:
    # A body that one route needs more fields of than another has a component of its own.
    name = route.request.__name__
    return f"New{name.removesuffix('Body')}" if route.required else name


def _request_body(route: Route, schemas: Mapping[str, Schema]) -> dict[str, Any] | None:
    if not route.takes_body:
        return None
    content = {"schema": ref_to(_body_name(route)), "example": dict(route.request_example)}
    required = not {"required", "if"}.isdisjoint(schemas[_body_name(route)])
    events = {} if route.events is None else event_content(route.events)
    return {"required": required, "content": {JSON: content, **events}}


def _links(route: Route, routes: Sequence[Route]) -> dict[str, Any]:
    """Return links from a created resource to its operations and those on its collections."""
    known = _names_in(route.path)
    found: dict[str, Any] = {}
    for other in routes:
        fresh = [name for name in _names_in(other.path) if name not in known]
        if not other.path.startswith(f"{route.path}/{{") or len(fresh) != 1:
            continue
        # A resource is in the response under the singular of its collection, as in `queue.id`.
        place = f"$response.body#/{_singular(route.path.rpartition('/')[2])}/id"
        values = {**{name: f"$request.path.{name}" for name in known}, fresh[0]: place}
        for method in other.methods:
            name = _operation_id(method, other)
            found[name] = {"operationId": name, "parameters": values}
    return found
