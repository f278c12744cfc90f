"""CloudEvents in requests, as JSON Schema for the OpenAPI document."""

from collections.abc import Mapping
from typing import Any, Final

from discue.api.event_bodies import BATCH, STRUCTURED, Takes
from discue.api.openapi.types import PLACE

_TEXT: Final = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"
_URI: Final = "^\\S+$"
_NULL: Final = {"type": "null"}
_OPTIONAL: Final = {"anyOf": [{"type": "string", "pattern": _TEXT}, _NULL]}
_OPTIONAL_URI: Final = {"anyOf": [{"type": "string", "pattern": _URI}, _NULL]}
_KEY: Final = {"anyOf": [{"type": "string", "pattern": _TEXT, "maxLength": 255}, _NULL]}
_BASE64: Final = {"anyOf": [{"type": "string"}, _NULL]}
_EVENT: Final = {"$ref": f"{PLACE}CloudEvent"}
_EXAMPLE: Final = {
    "specversion": "1.0",
    "id": "order-17-paid",
    "source": "https://shop.example.com",
    "type": "com.example.order.paid",
    "partitionkey": "customer-9",
    "data": {"order": 17},
}

COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "CloudEvent": {
        "type": "object",
        "description": "An event in the JSON format of CloudEvents 1.0. Other members are extensions: strings, whole "
        "numbers, true or false.",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            "specversion": {"type": "string", "const": "1.0", "description": "The version of CloudEvents."},
            "id": {"type": "string", "pattern": _TEXT, "description": "The event's id, chosen by its source."},
            "source": {"type": "string", "pattern": _URI, "description": "Where it happened: a URI."},
            "type": {"type": "string", "pattern": _TEXT, "description": "What happened."},
            "subject": {**_OPTIONAL, "description": "What it happened to."},
            "time": {**_OPTIONAL, "description": "When it happened, as RFC 3339 has it."},
            "datacontenttype": {**_OPTIONAL, "description": "What `data` is; JSON without one."},
            "dataschema": {**_OPTIONAL_URI, "description": "What `data` follows: a URI."},
            "partitionkey": {**_KEY, "description": "The message's `key`."},
            "data": {"description": "Any value; a string where `datacontenttype` is not JSON."},
            "data_base64": {**_BASE64, "description": "The same in base64. It must be UTF-8."},
        },
        "propertyNames": {"pattern": "^(?:[a-z0-9]{1,64}|data_base64)$"},
        "additionalProperties": {"type": ["string", "integer", "boolean", "null"]},
        "example": _EXAMPLE,
    }
}


def content_of(takes: Takes) -> Mapping[str, Any]:
    """The media types of a request that takes events in place of its body, as OpenAPI has them."""
    if takes == "one":
        return {STRUCTURED: {"schema": _EVENT, "example": _EXAMPLE}}
    batch = {"type": "array", "minItems": 1, "maxItems": 1_000, "items": _EVENT}
    return {BATCH: {"schema": batch, "example": [_EXAMPLE]}}
