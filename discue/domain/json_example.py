"""Examples of JSON Schemas: small values that are valid for the schemas people write for messages."""

from __future__ import annotations

from typing import Any, Final

_MOST_LEVELS: Final = 32
_FORMATS: Final = {
    "date-time": "2026-07-01T12:00:00Z",
    "date": "2026-07-01",
    "time": "12:00:00Z",
    "email": "somebody@example.com",
    "uri": "https://example.com/",
    "uuid": "0197c2d1-6f00-7000-8000-000000000000",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


class NoExample(Exception):
    """The schema has a rule that this module does not follow. The text names it."""


def example_of(schema: Any) -> Any:
    """Return a value that is valid. Raises NoExample."""
    return _Example(schema).of(schema, 0)


class _Example:
    def __init__(self, root: Any) -> None:
        self._root = root

    def of(self, schema: Any, level: int) -> Any:
        if schema is True:
            return {}
        if not isinstance(schema, dict) or level > _MOST_LEVELS:
            raise NoExample("no value is valid" if schema is False else "it refers to itself")
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("examples", "enum"):
            if schema.get(key):
                return schema[key][0]
        if "$ref" in schema:
            return self.of(self._referred(schema["$ref"]), level + 1)
        for key in ("oneOf", "anyOf"):
            if schema.get(key):
                schema = _merged({name: value for name, value in schema.items() if name != key}, schema[key][0])
        for part in schema.get("allOf", ()):
            schema = _merged(schema, self._referred(part["$ref"]) if "$ref" in part else part)
        return self._by_type(schema, level)

    def _by_type(self, schema: dict[str, Any], level: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "array" if "items" in schema else None)
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "null")
        match kind:
            case "object" | None:
                return self._object(schema, level)
            case "array":
                return [self.of(schema.get("items", True), level + 1)] * max(schema.get("minItems", 1), 1)
            case "string":
                return _string(schema)
            case "integer" | "number":
                return _number(schema, is_integer=kind == "integer")
            case "boolean":
                return True
            case _:
                return None

    def _object(self, schema: dict[str, Any], level: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        missing = [each for each in schema.get("required", ()) if each not in properties]
        found = {name: self.of(each, level + 1) for name, each in properties.items()}
        return {**found, **dict.fromkeys(missing, "example")}

    def _referred(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise NoExample(f"it refers to {reference}")
        found = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            try:
                found = found[step.replace("~1", "/").replace("~0", "~")]
            except (KeyError, TypeError):
                raise NoExample(f"it refers to {reference}") from None
        return found


def _merged(one: dict[str, Any], other: Any) -> dict[str, Any]:
    if not isinstance(other, dict):
        return one
    properties = {**one.get("properties", {}), **other.get("properties", {})}
    required = [*one.get("required", ()), *other.get("required", ())]
    return {**one, **other, **({"properties": properties} if properties else {}), "required": required}


def _string(schema: dict[str, Any]) -> str:
    if "pattern" in schema:
        raise NoExample("it has a pattern; give the schema an example for it")
    text: str = _FORMATS.get(schema.get("format", ""), "example")
    text = text.ljust(schema.get("minLength", 0), "x")
    return text[: schema.get("maxLength", len(text))]


def _number(schema: dict[str, Any], *, is_integer: bool) -> int | float:
    step = schema.get("multipleOf", 1)
    low = schema.get(
        "minimum", schema.get("exclusiveMinimum", schema.get("maximum", schema.get("exclusiveMaximum", 1)))
    )
    value = -(-low // step) * step
    if value == schema.get("exclusiveMinimum"):
        value += step
    if value > schema.get("maximum", value) or value == schema.get("exclusiveMaximum"):
        value = value - step if "minimum" not in schema else (low + schema.get("maximum", low)) / 2
    return int(value) if is_integer or value == int(value) else value
