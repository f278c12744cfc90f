"""The OpenAPI document: it follows from the table of routes, the types of bodies, and the rules of their fields."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from discue import __version__
from discue.api.negotiation import JSON
from discue.api.openapi import event_form, filter_language
from discue.api.openapi.operations import body_name, operation_of, parameter_components, tag_of
from discue.api.openapi.responses import HEADERS, PROBLEM_TYPES, problem_components
from discue.api.openapi.rule_language import COMPONENTS
from discue.api.openapi.schemas import Schema, components_of, with_required
from discue.api.route import Route

Document = dict[str, Any]

_DESCRIPTION = """\
Asynchronous messaging over HTTP: a message that is published to a queue is sent to every listener of that queue, \
signed, until it was acknowledged.

- `/v1/queues` and `/queues` are the same, and so for every address.
- JSON in, JSON out. Success is 200, always. `POST` and `PUT` on a collection create; `PUT` on a resource changes the \
fields it names and leaves the others, and `null` clears.
- `HEAD` works wherever `GET` does; another method is a 405 with `Allow`.
- Unknown fields of a body are a 400, unknown parameters of a query are ignored. Fields that only responses have may \
be sent back.
- `alias` and `name` are synonyms.
"""

_TAGS = {
    "organizations": "The tenants: everything belongs to one. `/api_clients` and `/organizations` are the same.",
    "users": "Members of the organization.",
    "api_keys": "What lets clients in, and what they may do.",
    "domains": "Host names that were proved to be the organization's.",
    "queues": "Logs of messages. Each message goes to every listener.",
    "schemas": "What the messages of a queue must look like.",
    "topics": "What is published to them goes by channels into queues.",
    "channels": "Ways from a topic into queues.",
    "listeners": "HTTP endpoints that get the messages of a queue.",
    "secrets": "What deliveries to a listener are signed with.",
    "messages": "What is published.",
    "stats": "Counts.",
    "events": "What was done, within the past 24 hours.",
    "service": "What needs no key.",
}

_SECURITY = {
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-KEY",
        "description": "A key: `dsk_`, its id, its secret. The scope that an operation needs is in `x-required-scope`.",
    }
}


def document_of(routes: Iterable[Route], server: str) -> Document:
    """The document. `server` is the URL that the paths are below."""
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
    """The document as JSON."""
    return msgspec.json.encode(document_of(routes, server))


def _tags(table: Sequence[Route]) -> list[dict[str, str]]:
    used = {tag_of(route) for route in table}
    known = [*(name for name in _TAGS if name in used), *sorted(used - _TAGS.keys())]
    return [{"name": name, "description": _TAGS.get(name, "")} for name in known]


def _schemas(table: Sequence[Route]) -> dict[str, Schema]:
    answers = [route.response for route in table if route.media_type == JSON]
    requests = [route.request for route in table if route.takes_body]
    schemas = components_of([*answers, *requests, *PROBLEM_TYPES]) | COMPONENTS | filter_language.COMPONENTS
    if any(route.events for route in table):
        schemas |= event_form.COMPONENTS
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
