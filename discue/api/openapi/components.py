"""Components of the OpenAPI document that no struct describes: message filters, schema rules and CloudEvents."""

from collections.abc import Mapping
from typing import Any, Final

from discue.api.decoding import CLOUDEVENT, CLOUDEVENTS_BATCH, EventFormat
from discue.api.delivery_options import KEY_CHARACTERS
from discue.api.openapi.schemas import ref_to
from discue.api.route import BATCH_MESSAGES
from discue.domain.filters.parser import (
    MAX_BYTES,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_PATTERNS,
    ORDER_OPERATORS,
    SCALAR_OPERATORS,
    TEXT_OPERATORS,
)

_NULL: Final = {"type": "null"}

_FILTER: Final = ref_to("MessageFilter")
_CONDITION: Final = ref_to("FilterCondition")
_SCALAR: Final = {"type": ["string", "number", "boolean", "null"]}
_ORDERED: Final = {"type": ["number", "string"]}
_STRING: Final = {"type": "string"}
_SCALARS: Final = {"type": "array", "minItems": 1, "items": _SCALAR}
_OBJECT: Final = {"allOf": [_CONDITION, {"type": "object"}]}


def _several(inner: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": inner}


FILTER_COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "MessageFilter": {
        "type": "object",
        "description": (
            f"Conditions that must all be met: at most {MAX_CONDITIONS}, {MAX_DEPTH} levels, {MAX_BYTES:,} bytes."
        ),
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {
            "data": {**_OBJECT, "description": "Conditions on the data, by path."},
            "headers": {**_OBJECT, "description": "Conditions on headers, by name."},
            "key": {**_CONDITION, "description": "A condition on the key."},
            "$and": {**_several(_FILTER), "description": "Filters that must all match."},
            "$or": {**_several(_FILTER), "description": "Filters of which at least one must match."},
            "$not": {**_FILTER, "description": "A filter that must not match."},
        },
    },
    "FilterCondition": {
        "description": (
            "A value to equal, a list of values to equal one of, or an object with operators, and conditions by path. "
            f"At most {MAX_PATTERNS} `$regex`."
        ),
        "anyOf": [
            _SCALAR,
            _SCALARS,
            {
                "type": "object",
                "minProperties": 1,
                "properties": {
                    **dict.fromkeys(SCALAR_OPERATORS, _SCALAR),
                    **dict.fromkeys(ORDER_OPERATORS, _ORDERED),
                    **dict.fromkeys(TEXT_OPERATORS, _STRING),
                    "$in": _SCALARS,
                    "$exists": {"type": "boolean"},
                    "$and": _several(_CONDITION),
                    "$or": _several(_CONDITION),
                    "$not": _CONDITION,
                },
                "patternProperties": {"^[^$]": _CONDITION},
                "additionalProperties": False,
            },
        ],
    },
}

_RULES: Final = ref_to("SchemaRules")
_RULE: Final = ref_to("SchemaRule")
_LENGTH: Final = {"type": "integer", "minimum": 0, "maximum": 2**53}


def _rule(kind: str, fields: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["type", *required],
        "properties": {"type": {"const": kind}, "required": {"type": "boolean", "default": True}, **fields},
    }


_TEXT_RULE: Final = {
    "pattern": {"type": "string"},
    "enum": {"type": "array", "minItems": 1, "items": {"type": "string"}},
    "min": _LENGTH,
    "max": _LENGTH,
}

RULE_COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "SchemaRules": {
        "type": "object",
        "description": "A rule for each property. Other properties are rejected.",
        "minProperties": 1,
        "additionalProperties": _RULE,
    },
    "SchemaRule": {
        "description": "The rule for a property. At most 32 levels and 1,000 rules; `min` must not exceed `max`.",
        "anyOf": [
            _rule("string", _TEXT_RULE),
            _rule("number", {"min": {"type": "number"}, "max": {"type": "number"}}),
            _rule("object", {"props": _RULES, "strict": {"type": "boolean", "default": True}}, ("props",)),
            _rule("array", {"items": _RULE}, ("items",)),
        ],
    },
}

_TEXT: Final = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"
_URI: Final = "^\\S+$"
_OPTIONAL: Final = {"anyOf": [{"type": "string", "pattern": _TEXT}, _NULL]}
_OPTIONAL_URI: Final = {"anyOf": [{"type": "string", "pattern": _URI}, _NULL]}
_KEY: Final = {"anyOf": [{"type": "string", "pattern": _TEXT, "maxLength": KEY_CHARACTERS.stop - 1}, _NULL]}
_EVENT_EXAMPLE: Final = {
    "specversion": "1.0",
    "id": "order-17-paid",
    "source": "https://shop.example.com",
    "type": "com.example.order.paid",
    "partitionkey": "customer-9",
    "data": {"order": 17},
}

CLOUDEVENT_COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "CloudEvent": {
        "type": "object",
        "description": "An event in the JSON format of CloudEvents 1.0. Other members are extension attributes: "
        "strings, integers or booleans.",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            "specversion": {"type": "string", "const": "1.0", "description": "The version of CloudEvents."},
            "id": {"type": "string", "pattern": _TEXT, "description": "The id of the event, chosen by its source."},
            "source": {"type": "string", "pattern": _URI, "description": "Where the event happened: a URI."},
            "type": {"type": "string", "pattern": _TEXT, "description": "The type of the event."},
            "subject": {**_OPTIONAL, "description": "The subject of the event."},
            "time": {**_OPTIONAL, "description": "When the event happened (RFC 3339)."},
            "datacontenttype": {**_OPTIONAL, "description": "The media type of `data`. Default: JSON."},
            "dataschema": {**_OPTIONAL_URI, "description": "The schema of `data`: a URI."},
            "partitionkey": {**_KEY, "description": "The `key` of the message."},
            "data": {"description": "Any value; a string unless `datacontenttype` is JSON."},
            "data_base64": {
                "anyOf": [{"type": "string"}, _NULL],
                "description": "The data in base64. It must be UTF-8.",
            },
        },
        "propertyNames": {"pattern": "^(?:[a-z0-9]{1,64}|data_base64)$"},
        "additionalProperties": {"type": ["string", "integer", "boolean", "null"]},
        "example": _EVENT_EXAMPLE,
    }
}


def event_content(accepted: EventFormat) -> Mapping[str, Any]:
    """Return the media types of a request that accepts events instead of its body."""
    event = ref_to("CloudEvent")
    if accepted == "one":
        return {CLOUDEVENT: {"schema": event, "example": _EVENT_EXAMPLE}}
    batch = {"type": "array", "minItems": 1, "maxItems": BATCH_MESSAGES, "items": event}
    return {CLOUDEVENTS_BATCH: {"schema": batch, "example": [_EVENT_EXAMPLE]}}
