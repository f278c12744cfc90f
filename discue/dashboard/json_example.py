"""Examples of JSON Schemas: small values that are valid for the schemas people write for messages.

The author of a schema may not be the one whose memory and time an example takes. So its size is limited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from discue.domain.errors import unescaped
from discue.domain.schema_rules import CONSTANTS, rules_to_json_schema

if TYPE_CHECKING:
    from discue.domain.model import SchemaLanguage
    from discue.domain.schemas import Clock, SchemaValidator

MOST_CHARACTERS: Final = 50_000
"""The largest size of an example, as JSON without spaces."""

_MOST_VALUES: Final = 1_000
_MOST_ITEMS: Final = 10
_LONGEST_STRING: Final = 1_000
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


_encode: Callable[[object], bytes] = msgspec.json.Encoder().encode


class NoExample(Exception):
    """The schema has a rule that this module does not follow. The text names it."""


def example_of(schema: Any) -> Any:
    """Return a value that is valid, and has at most `MOST_CHARACTERS`. Raises NoExample."""
    try:
        return _Example(schema).of(schema, 0)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A reference may lead to a value that was not checked to be a schema. A number may be too large for a float.
        raise NoExample("it has a rule that cannot be followed") from error


def accepted_example(schema: str, language: SchemaLanguage, checker: SchemaValidator, clock: Clock) -> bytes:
    """Return JSON that a queue with this stored schema accepts. `checker` is the compiled schema. Raises NoExample.

    `clock` returns seconds.
    """
    decoded = msgspec.json.decode(schema)
    body = _encode(example_of(rules_to_json_schema(decoded) if language == "rules" else decoded))
    if len(body) > checker.max_bytes or checker.violations(body, "", clock):
        raise NoExample("it has a rule that examples do not follow")
    return body


_LISTS: Final = ("allOf", "type")
"""Keywords with a list of which each element is looked at."""


class _Example:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._values_left = _MOST_VALUES
        self._characters_left = MOST_CHARACTERS

    def of(self, schema: Any, level: int) -> Any:
        if schema is True:
            return self._leaf({})
        if not isinstance(schema, dict) or level > _MOST_LEVELS:
            raise NoExample("no value is valid" if schema is False else "it refers to itself")
        # Looking at it takes time, even where nothing of it is in the example: a reference may repeat it many times.
        self._spend(len(schema) + sum(len(schema[key]) for key in _LISTS if isinstance(schema.get(key), list)))
        for key in ("const", "default"):
            if key in schema:
                return self._leaf(schema[key])
        for key in ("examples", "enum"):
            if schema.get(key):
                return self._leaf(schema[key][0])
        if "$ref" in schema:
            return self.of(self._referred(schema["$ref"]), level + 1)
        for key in ("oneOf", "anyOf"):
            if schema.get(key):
                rest = {name: value for name, value in schema.items() if name != key}
                schema = self._merged(rest, schema[key][0])
        for part in schema.get("allOf", ()):
            is_reference = isinstance(part, dict) and "$ref" in part
            schema = self._merged(schema, self._referred(part["$ref"]) if is_reference else part)
        if allowed := schema.get(CONSTANTS, {}).get("enum"):
            # JSON Schema has this form for an optional rule with constants.
            return self._leaf(allowed[0])
        return self._by_type(schema, level)

    def _by_type(self, schema: dict[str, Any], level: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "array" if "items" in schema else None)
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "null")
        match kind:
            case "object" | None:
                return self._object(schema, level)
            case "array":
                return self._array(schema, level)
            case "string":
                return self._leaf(_string(schema))
            case "integer" | "number":
                return self._leaf(_number(schema, is_integer=kind == "integer"))
            case "boolean":
                return self._leaf(True)
            case _:
                return self._leaf(None)

    def _array(self, schema: dict[str, Any], level: int) -> list[Any]:
        count = max(schema.get("minItems", 1), 1)
        if count > _MOST_ITEMS:
            raise NoExample(f"an array is too large: it has {count} items or more")
        self._spend(len("[],"), values=1)
        # Each item is made, not repeated, so that each counts.
        return [self.of(schema.get("items", True), level + 1) for _ in range(int(count))]

    def _object(self, schema: dict[str, Any], level: int) -> dict[str, Any]:
        self._spend(len("{},"), values=1)
        properties = schema.get("properties", {})
        found = {self._name(name): self.of(each, level + 1) for name, each in properties.items()}
        missing = (each for each in schema.get("required", ()) if each not in properties)
        return {**found, **{self._name(name): self._leaf("example") for name in missing}}

    def _name(self, name: str) -> str:
        self._spend(len(_encode(name)) + len(":"))
        return name

    def _leaf(self, value: Any) -> Any:
        """Return a value that has been made, or that the schema has; it counts as one, with all its characters."""
        self._spend(len(_encode(value)) + len(","), values=1)
        return value

    def _spend(self, characters: int, *, values: int = 0) -> None:
        self._characters_left -= characters
        self._values_left -= values
        if self._characters_left < 0 or self._values_left < 0:
            raise NoExample("its values are too large")

    def _merged(self, one: dict[str, Any], other: Any) -> dict[str, Any]:
        if not isinstance(other, dict):
            return one
        properties = {**one.get("properties", {}), **other.get("properties", {})}
        required = [*one.get("required", ()), *other.get("required", ())]
        merged = {**one, **other, **({"properties": properties} if properties else {}), "required": required}
        # Nothing of it is in the example yet, but references can make a short schema merge a long part many times.
        self._spend(len(merged) + len(properties) + len(required))
        return merged

    def _referred(self, reference: str) -> Any:
        self._spend(len(reference))
        if not reference.startswith("#"):
            raise NoExample(f"it refers to {reference}")
        found = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            try:
                found = found[unescaped(step)]
            except (KeyError, TypeError):
                raise NoExample(f"it refers to {reference}") from None
        return found


def _string(schema: dict[str, Any]) -> str:
    if "pattern" in schema:
        raise NoExample("it has a pattern; give the schema an example for it")
    shortest = schema.get("minLength", 0)
    if shortest > _LONGEST_STRING:
        raise NoExample(f"a string is too large: it has {shortest} characters or more")
    text: str = _FORMATS.get(schema.get("format", ""), "example")
    text = text.ljust(int(shortest), "x")
    return text[: int(schema.get("maxLength", len(text)))]


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
