"""Examples of responses, put together from those of their fields."""

from collections.abc import Mapping
from typing import Any

_BY_TYPE: Mapping[str, Any] = {"string": "text", "integer": 0, "number": 0, "boolean": False, "null": None}


def example_of(schema: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]]) -> Any:
    """A value that fits the schema: its own example, or one made of its parts' examples."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    return _composed(schema, components)


def _composed(schema: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]]) -> Any:
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return example_of(schema[union][0], components)
    kind = schema.get("type")
    if kind == "array":
        return [example_of(schema["items"], components)] if isinstance(schema.get("items"), Mapping) else []
    if kind == "object":
        return _object(schema, components)
    return _BY_TYPE.get(kind or "")


def _object(schema: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    properties = schema.get("properties", {})
    return {name: example_of(of_field, components) for name, of_field in properties.items()}
