"""Checking a message against a schema: whether it fits, and if not, where, and what would be right there."""

from collections.abc import Callable, Hashable, Iterator, Sized
from itertools import islice
from typing import Any, Final, TypeAlias

import msgspec
from jsonschema_rs import Draft202012Validator, ValidationError

from discue.domain.errors import Fault
from discue.domain.json_pointer import below
from discue.domain.schemas.patterns import LINEAR

FAULTS: Final = 100
"""At most so many violations are named at once."""

_KEPT: Final = 64
_SHOWN: Final = 200

_decode: Final = msgspec.json.Decoder().decode
_text_of: Final = msgspec.json.Encoder().encode


Document: TypeAlias = dict[str, Any] | bool
"""A JSON Schema without references."""


class NotSupportedError(Exception):
    """The validator takes no such document."""


class SchemaValidator:
    """One schema, made ready: a document without references. Messages of more than `max_bytes` would take too long.

    The validator says whether a message fits. Why one does not is found by going through the document beside the value:
    the validator would name every violation at once, each with a copy of what is wrong.
    """

    __slots__ = ("_document", "_is_valid", "_known", "max_bytes")

    def __init__(self, document: Document, max_bytes: int) -> None:
        """Raises NotSupportedError."""
        try:
            self._is_valid = _validator(document).is_valid
        except (ValueError, RecursionError) as error:
            raise NotSupportedError from error
        self._document = document
        self._known: dict[Hashable, Draft202012Validator] = {}
        self.max_bytes = max_bytes

    def violations(self, body: bytes, pointer: str) -> tuple[Fault, ...]:
        """What is wrong with a message whose data stands at `pointer` of a request: nothing if it fits."""
        try:
            value = _decode(body)
            if self._is_valid(value):
                return ()
            faults = tuple(islice(self._faults(self._document, value, pointer), FAULTS))
        except (msgspec.DecodeError, UnicodeError):
            return (Fault(pointer, "must be JSON, with numbers in the range of double precision"),)
        except (ValueError, RecursionError):
            return (Fault(pointer, "is nested too deeply to be checked"),)
        return faults or (Fault(pointer, "does not fit the schema"),)

    def _faults(self, schema: Any, value: object, place: str) -> Iterator[Fault]:
        """Where a value does not fit; nothing where it does."""
        if isinstance(schema, bool):
            if not schema:
                yield Fault(place, "is not allowed")
            return
        yield from self._of_value(schema, value, place)
        if isinstance(value, dict):
            yield from self._of_members(schema, value, place)
        elif isinstance(value, list):
            yield from self._of_elements(schema, value, place)
        for inner in self._beside(schema, value):
            yield from self._faults(inner, value, place)

    def _of_value(self, schema: dict[str, Any], value: object, place: str) -> Iterator[Fault]:
        """By the keywords that say something of the value as a whole."""
        for name, limit in schema.items():
            if name in _CHECKS:
                fits, explain = _CHECKS[name]
                if not fits(limit, value):
                    yield Fault(place, explain(limit))
            elif name in _TOLD and not self._fits_part(schema, (name, *_WITH.get(name, ())), value):
                yield Fault(place, _TOLD[name](limit))
        if not _LEFT_OVER.isdisjoint(schema) and not self._fits(schema, value):
            yield Fault(place, "has more than what the schema knows, or what does not fit it")

    def _of_members(self, schema: dict[str, Any], value: dict[str, Any], place: str) -> Iterator[Fault]:
        for name in schema.get("required", ()):
            if name not in value:
                yield Fault(below(place, name), "is required")
        for name, each in value.items():
            # One by one, an object of many members takes long: the validator says which to go into.
            if "patternProperties" not in schema or not self._fits_part(schema, _OF_MEMBERS, {name: each}):
                yield from self._of_member(schema, name, each, below(place, name))

    def _of_member(self, schema: dict[str, Any], name: str, value: object, place: str) -> Iterator[Fault]:
        matched = schema.get("patternProperties", {})
        inner = [matched[pattern] for pattern in matched if self._matches(pattern, name)]
        if name in (props := schema.get("properties", {})):
            inner.append(props[name])
        for one in inner:
            yield from self._faults(one, value, place)
        if not inner and "additionalProperties" in schema:
            yield from self._of_additional(schema["additionalProperties"], value, place)

    def _of_additional(self, schema: Any, value: object, place: str) -> Iterator[Fault]:
        if schema is False:
            yield Fault(place, "is not a property that the schema knows")
        elif not self._fits(schema, value):
            yield from self._faults(schema, value, place)

    def _of_elements(self, schema: dict[str, Any], value: list[Any], place: str) -> Iterator[Fault]:
        first = schema.get("prefixItems", [])
        for index, (one, each) in enumerate(zip(first, value, strict=False)):
            yield from self._faults(one, each, below(place, index))
        items = schema.get("items", True)
        for index in range(len(first), len(value) if items is not True else 0):
            if not self._fits(items, value[index]):
                yield from self._faults(items, value[index], below(place, index))

    def _beside(self, schema: dict[str, Any], value: object) -> Iterator[Any]:
        """The schemas in it that are for the same value."""
        yield from schema.get("allOf", ())
        if "if" in schema:
            yield schema.get("then" if self._fits(schema["if"], value) else "else", True)
        if isinstance(value, dict):
            for name, inner in schema.get("dependentSchemas", {}).items():
                if name in value:
                    yield inner

    def _fits(self, schema: Any, value: object) -> bool:
        return schema if isinstance(schema, bool) else self._kept(id(schema), lambda: schema).is_valid(value)

    def _fits_part(self, schema: dict[str, Any], names: tuple[str, ...], value: object) -> bool:
        """By some of its keywords alone."""
        part = self._kept((id(schema), names), lambda: {name: schema[name] for name in names if name in schema})
        return part.is_valid(value)

    def _matches(self, pattern: str, name: str) -> bool:
        return self._kept(pattern, lambda: {"pattern": pattern}).is_valid(name)

    def _kept(self, key: Hashable, document: Callable[[], dict[str, Any]]) -> Draft202012Validator:
        """A validator of a part of the document, kept for a while. Ids serve as keys: the document stays as it is."""
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            known = self._known[key] = _validator(document())
        return known


def _validator(document: Document) -> Draft202012Validator:
    try:
        return Draft202012Validator(document, pattern_options=LINEAR, offline=True)
    except ValidationError as error:
        raise ValueError(error.message) from None


def _is(kind: str, value: object) -> bool:
    if kind in {"integer", "number"}:
        is_number = _is_number(value)
        return is_number and (kind == "number" or value == int(value))  # type: ignore[call-overload]
    return type(value) is _TYPES[kind]


def _is_number(value: object) -> bool:
    return type(value) is int or type(value) is float


def _about_numbers(fits: Callable[[Any, Any], bool]) -> Callable[[Any, object], bool]:
    return lambda limit, value: not _is_number(value) or fits(limit, value)


def _about(kind: type, fits: Callable[[Any, Any], bool]) -> Callable[[Any, object], bool]:
    return lambda limit, value: type(value) is not kind or fits(limit, value)


def _is_long(least: int, value: Sized) -> bool:
    return len(value) >= least


def _is_short(most: int, value: Sized) -> bool:
    return len(value) <= most


def _names(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def _shown(value: object) -> str:
    text = _text_of(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


_TYPES: Final = {"array": list, "boolean": bool, "null": type(None), "object": dict, "string": str}
_ARTICLES: Final = {
    "array": "an array",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}

_CHECKS: Final[dict[str, tuple[Callable[[Any, object], bool], Callable[[Any], str]]]] = {
    "type": (
        lambda types, value: any(_is(each, value) for each in _names(types)),
        lambda types: f"must be {' or '.join(_ARTICLES[each] for each in _names(types))}",
    ),
    "minimum": (_about_numbers(lambda least, value: value >= least), lambda least: f"must be at least {least}"),
    "maximum": (_about_numbers(lambda most, value: value <= most), lambda most: f"must be at most {most}"),
    "exclusiveMinimum": (_about_numbers(lambda least, value: value > least), lambda least: f"must be above {least}"),
    "exclusiveMaximum": (_about_numbers(lambda most, value: value < most), lambda most: f"must be below {most}"),
    "minLength": (_about(str, _is_long), lambda least: f"must have a length of {least} at least"),
    "maxLength": (_about(str, _is_short), lambda most: f"must have a length of {most} at most"),
    "minItems": (_about(list, _is_long), lambda least: f"must have {least} elements at least"),
    "maxItems": (_about(list, _is_short), lambda most: f"must have {most} elements at most"),
}
"""What is told here as well as by a validator, and in words that are of use."""


def _unexplained(name: str) -> Callable[[Any], str]:
    return lambda _: f"does not fit what the schema says in {name}"


_TOLD: Final[dict[str, Callable[[Any], str]]] = {
    **{
        name: _unexplained(name)
        for name in (
            "anyOf",
            "contains",
            "dependentRequired",
            "maxProperties",
            "minProperties",
            "multipleOf",
            "not",
            "oneOf",
            "propertyNames",
        )
    },
    "const": lambda value: f"must be {_shown(value)}",
    "enum": lambda values: f"must be one of {_shown(values)}",
    "pattern": lambda pattern: f"must match {pattern[:_SHOWN]}",
    "uniqueItems": lambda _: "must not have an element twice",
}
"""What a validator of that keyword alone tells."""

_WITH: Final = {"contains": ("minContains", "maxContains")}
_OF_MEMBERS: Final = ("properties", "patternProperties", "additionalProperties")
_LEFT_OVER: Final = frozenset({"unevaluatedItems", "unevaluatedProperties"})
