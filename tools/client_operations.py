"""Reads the OpenAPI document as methods of resources, for the generators of clients."""

import re
from collections.abc import Iterable
from functools import reduce
from typing import Any, Final, NamedTuple

Json = Any

_SKIPPED: Final = re.compile(
    r"^(/|/openapi\.json|/docs.*|/api_clients.*|/organizations/\{organization_id\}/portal_sessions.*"
    r"|/queues/\{queue_id\}/listeners/\{listener_id\}/missed)$"
)
"""Pages, the older name of organizations, what `missed.list` can do, and sessions of other organizations' portals."""
_NAMES: Final = {
    "get_health_live": ("service", "live"),
    "get_health_ready": ("service", "ready"),
    "create_queue_listener_filter_test": ("listeners", "test_filter"),
    "create_queue_listener_test": ("listeners", "test"),
    "create_queue_listener_transform_test": ("listeners", "test_transform"),
    "list_queue_listener_messages": ("listeners", "pull"),
    "create_queue_listener_acknowledgement": ("listeners", "settle"),
    "create_queue_message_batch": ("messages", "create_batch"),
    "create_topic_message": ("topics", "publish"),
    "create_topic_message_batch": ("topics", "publish_batch"),
    "list_queue_message_deliveries": ("messages", "deliveries"),
    "list_queue_message_attempts": ("messages", "attempts"),
    "get_queue_message_attempt": ("messages", "attempt"),
    "list_queue_listener_attempts": ("listeners", "attempts"),
    "get_queue_listener_attempt": ("listeners", "attempt"),
    "change_domain_verification": ("domains", "verify"),
    "create_invitation": ("users", "accept_invitation"),
    "get_stats_message": ("stats", "messages"),
    "list_missed_groups": ("missed", "groups"),
    "get_limits": ("stats", "limits"),
    "get_event_types_openapi_json": ("event_types", "openapi"),
}
"""Operations that are not named after the last segment of their path and their verb."""
_REPEATABLE: Final = re.compile("create_queue_listener_(?:filter_test|transform_test|acknowledgement)")
"""Operations without an idempotency key that may be sent twice."""
_METHODS: Final = {"post": "create", "put": "update", "delete": "delete"}
LIST_OPTIONS: Final = frozenset({"page", "per_page", "after", "before", "name", "limit", "startAfter", "startAfterId"})
"""Parameters of lists that the clients use themselves, and synonyms."""
NOT_SET: Final = ("Read-only", "A synonym of")
"""Beginnings of the descriptions of fields that requests need not set."""


class Operation(NamedTuple):
    """A method of a resource."""

    resource: str
    name: str
    verb: str
    path: str
    text: str
    parameters: list[str]
    queries: dict[str, Json]
    """Schemas of the parameters in the query."""
    fields: dict[str, Json]
    """Schemas of the fields that a request can set."""
    required: list[str]
    """Names of the fields that a request must set."""
    body: str
    """Name of the schema of the request's body, "" without one."""
    response: str
    """Name of the schema of the response."""
    is_repeatable: bool
    """Whether the request may be sent twice although it has no idempotency key."""
    is_publish: bool
    """Whether it has the signature of `client.publish`: the data, and the other fields as options."""


def operations(document: Json) -> list[Operation]:
    """Return the operations by resource. Two have the same name if a resource in the path is optional."""
    found = [
        _operation(document, path, verb, spec)
        for path, verbs in document["paths"].items()
        if not _SKIPPED.match(path)
        for verb, spec in verbs.items()
        # `PUT` on a collection is the older way to create.
        if (verb == "get" or verb in _METHODS) and not spec["operationId"].startswith("put_")
    ]
    return sorted(found, key=lambda operation: operation.resource)


def methods(found: Iterable[Operation]) -> dict[str, list[list[Operation]]]:
    """Return the methods of each resource: the operations of one name, those with a shorter path first."""
    resources: dict[str, dict[str, list[Operation]]] = {}
    for operation in found:
        resources.setdefault(operation.resource, {}).setdefault(operation.name, []).append(operation)
    return {
        resource: [sorted(each, key=lambda one: one.path.count("{")) for each in by_name.values()]
        for resource, by_name in resources.items()
    }


def _operation(document: Json, path: str, verb: str, spec: Json) -> Operation:
    plain = [part for part in path.split("/") if part and not part.startswith("{")]
    method = _METHODS.get(verb) or ("get" if path.endswith("}") else "list")
    identity = spec["operationId"]
    resource, name = _NAMES.get(identity, (plain[-1].replace("-", "_"), method))
    parameters = [_resolved(document, each) for each in spec.get("parameters", ())]
    reference = _schema(spec["requestBody"]) if "requestBody" in spec else {}
    body = _resolved(document, reference)
    return Operation(
        resource,
        name,
        verb,
        path,
        f"{spec['summary']}. {spec.get('description', '')}".strip(),
        [each["name"] for each in parameters],
        {each["name"]: each["schema"] for each in parameters if each["in"] == "query" and each["name"] != "pretty"},
        {
            field: schema
            for field, schema in body.get("properties", {}).items()
            if not schema.get("description", "").startswith(NOT_SET)
        },
        body.get("required", []),
        class_name(reference) if reference else "",
        class_name(_schema(spec["responses"]["200"])),
        verb != "post" or _REPEATABLE.fullmatch(identity) is not None,
        identity == "create_topic_message",
    )


def _schema(content: Json) -> Json:
    schema = content["content"]["application/json"]["schema"]
    return schema["anyOf"][0] if "anyOf" in schema else schema


def _resolved(document: Json, node: Json) -> Json:
    """Return the object, or the one that it refers to."""
    parts = node["$ref"].split("/")[1:] if "$ref" in node else []
    return reduce(lambda found, part: found[part], parts, document) if parts else node


def class_name(reference: Json) -> str:
    """Return the name of the class for the schema that is referred to."""
    return str(reference["$ref"]).rpartition("/")[2].removesuffix("View")
