"""The rule language of schemas as JSON Schema, for the OpenAPI document."""

from collections.abc import Mapping
from typing import Any, Final

from discue.api.openapi.types import PLACE

_RULE: Final = {"$ref": f"{PLACE}SchemaRule"}
_LENGTH: Final = {"type": "integer", "minimum": 0, "maximum": 2**53}


def _rule(kind: str, fields: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["type", *required],
        "properties": {"type": {"const": kind}, "required": {"type": "boolean", "default": True}, **fields},
    }


COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "SchemaRules": {
        "type": "object",
        "description": "A rule for each property. Other properties are refused.",
        "minProperties": 1,
        "additionalProperties": _RULE,
    },
    "SchemaRule": {
        "description": "What a property must be like. At most 32 levels and 1,000 rules; `min` is not above `max`.",
        "anyOf": [
            _rule(
                "string",
                {
                    "pattern": {"type": "string"},
                    "enum": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                    "min": _LENGTH,
                    "max": _LENGTH,
                },
            ),
            _rule("number", {"min": {"type": "number"}, "max": {"type": "number"}}),
            _rule(
                "object",
                {"props": {"$ref": f"{PLACE}SchemaRules"}, "strict": {"type": "boolean", "default": True}},
                ("props",),
            ),
            _rule("array", {"items": _RULE}, ("items",)),
        ],
    },
}
