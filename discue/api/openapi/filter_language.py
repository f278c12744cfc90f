"""The language of filters as JSON Schema, for the OpenAPI document."""

from typing import Any, Final

from discue.api.openapi.types import PLACE
from discue.domain.filters.parser import (
    MAX_BYTES,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_PATTERNS,
    ORDER_OPERATORS,
    SCALAR_OPERATORS,
    TEXT_OPERATORS,
)

_FILTER: Final = {"$ref": f"{PLACE}MessageFilter"}
_CONDITION: Final = {"$ref": f"{PLACE}FilterCondition"}
_SCALAR: Final = {"type": ["string", "number", "boolean", "null"]}
_ORDERED: Final = {"type": ["number", "string"]}
_TEXT: Final = {"type": "string"}
_SCALARS: Final = {"type": "array", "minItems": 1, "items": _SCALAR}
_OBJECT: Final = {"allOf": [_CONDITION, {"type": "object"}]}


def _several(inner: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": inner}


COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "MessageFilter": {
        "type": "object",
        "description": "Conditions that must all hold: at most "
        f"{MAX_CONDITIONS}, {MAX_DEPTH} levels, {MAX_BYTES:,} bytes.",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {
            "data": {**_OBJECT, "description": "What must hold for the data: paths, and a condition for each."},
            "headers": {**_OBJECT, "description": "What must hold for headers, by their names."},
            "key": {**_CONDITION, "description": "What must hold for the key."},
            "$and": {**_several(_FILTER), "description": "Filters that must all hold."},
            "$or": {**_several(_FILTER), "description": "Filters of which one must hold."},
            "$not": {**_FILTER, "description": "A filter that must not hold."},
        },
    },
    "FilterCondition": {
        "description": (
            "A value to be equal to, a list of them of which it must be one, or an object: operators, and below paths "
            f"more conditions. There may be {MAX_PATTERNS} `$regex`."
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
                    **dict.fromkeys(TEXT_OPERATORS, _TEXT),
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
