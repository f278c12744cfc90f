"""Reads the OpenAPI document as methods of resources, for the generator of the Python client."""

import re
from typing import Any, Final, NamedTuple

Json = Any

COMPONENT: Final = "#/components/schemas/"
"""Prefix of references to schemas."""
_PARAMETER: Final = "#/components/parameters/"
READ_ONLY: Final = "Read-only"
"""Beginning of the description of a field that requests cannot set."""
_SYNONYM: Final = "A synonym of"

_SKIPPED: Final = re.compile(
    r"^(/|/openapi\.json|/docs.*|/api_clients.*|/queues/\{queue_id\}/listeners/\{listener_id\}/missed)$"
)
"""Pages, the older name of organizations, and what `missed.list` can do."""
_NAMES: Final = {
    "get_health_live": ("service", "live"),
    "get_health_ready": ("service", "ready"),
    "create_queue_listener_filter_test": ("listeners", "test_filter"),
    "create_queue_listener_test": ("listeners", "test"),
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
    "get_limits": ("stats", "limits"),
}
"""Operations that are not named after the last segment of their path and their verb."""
REPEATABLE: Final = frozenset({"create_queue_listener_filter_test", "create_queue_listener_acknowledgement"})
"""Operations without an idempotency key that may be sent twice."""
_METHODS: Final = {"post": "create", "put": "update", "delete": "delete"}


class Operation(NamedTuple):
    """A method of a resource."""

    resource: str
    name: str
    verb: str
    path: str
    spec: Json


def operations(document: Json) -> list[Operation]:
    """Return the operations, one for each method: of two with the same name, the first has the optional parent."""
    found = [
        Operation(*_name(path, verb, spec), verb, path, spec)
        for path, verbs in document["paths"].items()
        if not _SKIPPED.match(path)
        for verb, spec in verbs.items()
        # `PUT` on a collection is the older way to create.
        if verb in ("get", "post", "put", "delete") and not spec["operationId"].startswith("put_")
    ]
    return sorted(found, key=lambda operation: operation.resource)


def _name(path: str, verb: str, spec: Json) -> tuple[str, str]:
    if (special := _NAMES.get(spec["operationId"])) is not None:
        return special
    plain = [part for part in path.split("/") if part and not part.startswith("{")]
    method = _METHODS.get(verb) or ("get" if path.endswith("}") else "list")
    return plain[-1].replace("-", "_"), method


def response(operation: Operation) -> str | None:
    """Return the name of the schema of the response, or None for a deletion."""
    schema = operation.spec["responses"]["200"]["content"]["application/json"]["schema"]
    reference = (schema["anyOf"][0] if "anyOf" in schema else schema)["$ref"].removeprefix(COMPONENT)
    return None if reference == "DeletedResponse" else str(reference)


def body_fields(schemas: Json, spec: Json) -> list[tuple[str, Json]]:
    """Return the fields of the body that a request can set, once each."""
    content = spec.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return []
    body = schemas[content["schema"]["$ref"].removeprefix(COMPONENT)]
    return [
        (name, field)
        for name, field in body["properties"].items()
        if not field.get("description", "").startswith((READ_ONLY, _SYNONYM))
    ]


def query_parameters(document: Json, spec: Json) -> list[Json]:
    """Return the parameters in the query, without those for people."""
    resolved = [
        document["components"]["parameters"][each["$ref"].removeprefix(_PARAMETER)] if "$ref" in each else each
        for each in spec.get("parameters", ())
    ]
    return [each for each in resolved if each["in"] == "query" and each["name"] != "pretty"]
