"""The OpenAPI document, derived from the table of routes and the structs of their bodies."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from discue import __version__
from discue.api.negotiation import JSON
from discue.api.openapi.components import CLOUDEVENT_COMPONENTS, FILTER_COMPONENTS, RULE_COMPONENTS
from discue.api.openapi.operations import body_name, operation_of, parameter_components, tag_of
from discue.api.openapi.responses import HEADERS, problem_components
from discue.api.openapi.schemas import Schema, components_of, with_required
from discue.api.problems import Problem
from discue.api.route import Route

Document = dict[str, Any]

_DESCRIPTION = """\
Asynchronous messaging over HTTP: each message published to a queue is sent to every listener of the queue, signed, \
until the listener acknowledges it.

- The prefix `/v1` is optional: `/v1/queues` and `/queues` are the same.
- Requests and responses are JSON. Every success is a 200. `POST` and `PUT` on a collection create. `PUT` on a \
resource changes the fields that it names; `null` resets a field.
- `HEAD` works for every `GET`. Other methods get a 405 with `Allow`.
- Unknown fields of a body get a 400; unknown query parameters are ignored. Read-only fields may be sent back.
- `alias` and `name` are synonyms.
"""

_TAGS = {
    "organizations": "Tenants: every resource belongs to one. `/api_clients` and `/organizations` are the same.",
    "users": "Members of the organization.",
    "api_keys": "Credentials of clients, with their scopes.",
    "domains": "Host names that the organization has proved to control.",
    "queues": "Logs of messages. Each message is sent to every listener.",
    "schemas": "Schemas that the messages of a queue must match.",
    "topics": "Messages published to a topic are copied to queues through channels.",
    "channels": "Connections from a topic to queues.",
    "listeners": "HTTP endpoints that receive the messages of a queue.",
    "secrets": "Secrets that requests to a listener are signed with.",
    "messages": "Published messages, and their deliveries.",
    "stats": "Numbers of usage events.",
    "events": "Usage events of the past 24 hours.",
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


def document_of(routes: Iterable[Route], server: str) -> Document:
    """Return the document. `server` is the base URL of the paths."""
    table = tuple(routes)
    schemas = _schemas(table)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "discue",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "tags": _tags(table),
        "paths": _paths(table, schemas),
        "components": {
            "schemas": schemas,
            "responses": problem_components(),
            "parameters": parameter_components(table),
            "headers": {name: dict(header) for name, header in HEADERS.items()},
            "securitySchemes": _SECURITY,
        },
    }


def document_bytes(routes: Iterable[Route], server: str) -> bytes:
    """Return the document as JSON."""
    return msgspec.json.encode(document_of(routes, server))


def _tags(table: Sequence[Route]) -> list[dict[str, str]]:
    used = {tag_of(route) for route in table}
    known = [*(name for name in _TAGS if name in used), *sorted(used - _TAGS.keys())]
    return [{"name": name, "description": _TAGS.get(name, "")} for name in known]


def _schemas(table: Sequence[Route]) -> dict[str, Schema]:
    responses = [route.response_type for route in table if route.media_type == JSON]
    requests = [route.request for route in table if route.takes_body]
    schemas = components_of([*responses, *requests, Problem]) | RULE_COMPONENTS | FILTER_COMPONENTS
    if any(route.events for route in table):
        schemas |= CLOUDEVENT_COMPONENTS
    for route in table:
        if route.required:
            schema = schemas[route.request.__name__]
            schemas[body_name(route)] = with_required(schema, route.required, route.required_unless)
    return dict(sorted(schemas.items()))


def _paths(table: Sequence[Route], schemas: dict[str, Schema]) -> dict[str, dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        for method in route.methods:
            paths.setdefault(route.path, {})[method.lower()] = operation_of(method, route, table, schemas)
    return paths
