"""Schemas of queues, in the rule language or as JSON Schema (2020-12), and the validation of messages."""

import re
from collections.abc import Callable, Hashable, Iterator, Sized
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from discue.domain.errors import Fault, Unprocessable, below
from discue.domain.json_schema import Cost, Document, JsonSchema
from discue.domain.json_text import canonical_json, decode_for_schema, decode_strictly
from discue.domain.model import SchemaLanguage
from discue.domain.patterns import MAX_MATCHED, MatchedText, Patterns, TooMuchText, validator_of
from discue.domain.schema_rules import CONSTANTS, check_rules, is_number, rules_to_json_schema

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

MAX_FAULTS: Final = 100
"""Maximum faults or violations in one error."""

FIELDS: Final[dict[SchemaLanguage, str]] = {"rules": "schema", "json_schema": "json_schema"}
"""Field of a queue that contains a schema of each language."""

_MAX_CHECKED_BYTES: Final = 33_554_432
"""Limit of the message size times the number of subschemas that may check the same value again."""
_MAX_EXTREMES: Final = 4_000
"""Limit of the numbers with large exponents times the comparisons of the same number: about 60 ms."""
_EXTREME: Final = re.compile(rb"[\[,:\s]-?[0-9][0-9.]*[eE][-+]?0*(?:[2-9][0-9]|[1-9][0-9]{2})")
_EXTREME_BYTES: Final = len(",1e20")
"""The length of the shortest match: a short message cannot have too many."""
_MAX_COMPARED_BYTES: Final = 1_048_576
"""Limit of the message size times the cost of comparing the same number: about 40 ms."""
_UNLIMITED: Final = 2**53
_EXPLAINED_SECONDS: Final = 0.02
_CACHED: Final = 64
_MAX_SHOWN: Final = 200
_TITLE_CHARACTERS: Final = 128
_TOO_MUCH_TEXT: Final = (
    f"has too much text for the patterns of the schema: its characters, each multiplied by the compiled size of its "
    f"pattern in KiB, exceed {MAX_MATCHED}; send shorter texts, or simplify the patterns"
)

Clock: TypeAlias = Callable[[], float]
_IsLate: TypeAlias = Callable[[], bool]

_to_json: Final = msgspec.json.Encoder().encode


class SchemaValidator:
    """A compiled schema. Messages of more than `max_bytes` must not be validated, because it would take too long.

    The validation library only decides whether a message matches. To explain why it does not, this class walks through
    schema and value itself: the library would list every violation, each with a copy of the value.
    """

    __slots__ = ("_counting", "_document", "_is_valid", "_kib", "_matched", "_max_extremes", "_validators", "max_bytes")

    def __init__(self, document: Document, max_bytes: int, max_extremes: int = _MAX_EXTREMES, *, kib: int) -> None:
        """`document` must have no references. `max_extremes` limits the numbers with large exponents in a message.

        `kib` is the compiled size of the patterns that may be matched with the same text. Raises ValueError or
        RecursionError if the document is not supported.
        """
        self._max_extremes = max_extremes
        self._is_valid = validator_of(document).is_valid
        self._kib = kib
        self._matched = MatchedText()
        self._counting: Draft202012Validator | None = None
        self._document = document
        self._validators: dict[Hashable, Draft202012Validator] = {}
        self.max_bytes = max_bytes

    def violations(self, body: bytes, pointer: str, clock: Clock) -> tuple[Fault, ...]:
        """Return the violations of a message whose data is at `pointer` of the request; none if it is valid.

        `clock` returns seconds. A message that takes more than 20 ms to check and
        to explain is only said to be invalid.
        """
        try:
            most = self._max_extremes
            if len(body) > _EXTREME_BYTES * most and len(_EXTREME.findall(body)) > most:
                # Comparing them exactly takes 15 microseconds each.
                return (Fault(pointer, f"has more than {most} numbers with exponents of 20 and more"),)
            until = clock() + _EXPLAINED_SECONDS
            value = decode_for_schema(body)
            # Counting takes longer, so it is left to messages that may have too much text.
            is_valid = self._is_valid if len(body) * self._kib <= MAX_MATCHED else self._counting_validator().is_valid
            if is_valid(value):
                return ()
            faults = tuple(islice(self._faults(self._document, value, pointer, lambda: clock() > until), MAX_FAULTS))
        except (msgspec.DecodeError, UnicodeError):
            return (Fault(pointer, "must be JSON, with numbers in the range of double precision"),)
        except TooMuchText:
            return (Fault(pointer, _TOO_MUCH_TEXT),)
        except (ValueError, RecursionError):
            return (Fault(pointer, "is nested too deeply to be checked"),)
        return faults or (Fault(pointer, "does not match the schema"),)

    def _counting_validator(self) -> "Draft202012Validator":
        """Return a validator that counts the text of the next message, and raises TooMuchText."""
        if self._counting is None:
            self._counting = validator_of(self._document, matched=self._matched)
        self._matched.begin()
        return self._counting

    def _faults(self, schema: Any, value: object, pointer: str, is_late: _IsLate) -> Iterator[Fault]:
        """Yield the violations of a value, until `is_late`."""
        if is_late():
            return
        if isinstance(schema, bool):
            if not schema:
                yield Fault(pointer, "is not allowed")
            return
        if CONSTANTS in schema:
            # The branches have some of the constants only.
            if not self._fits(schema, value):
                yield from (Fault(pointer, _EXPLANATIONS[name](limit)) for name, limit in schema[CONSTANTS].items())
            return
        yield from self._value_faults(schema, value, pointer)
        if isinstance(value, dict):
            yield from self._member_faults(schema, value, pointer, is_late)
        elif isinstance(value, list):
            yield from self._element_faults(schema, value, pointer, is_late)
        for inner in self._in_place_subschemas(schema, value):
            yield from self._faults(inner, value, pointer, is_late)

    def _value_faults(self, schema: dict[str, Any], value: object, pointer: str) -> Iterator[Fault]:
        """Yield violations of keywords about the value as a whole."""
        for name, limit in schema.items():
            if name in _CHECKS:
                fits, explain = _CHECKS[name]
                if not fits(limit, value):
                    yield Fault(pointer, explain(limit))
            elif name in _EXPLANATIONS and not self._fits_part(schema, (name, *_RELATED.get(name, ())), value):
                yield Fault(pointer, _EXPLANATIONS[name](limit))
        if not _UNEVALUATED.isdisjoint(schema) and not self._fits(schema, value):
            yield Fault(pointer, "has members or elements that the schema does not allow")

    def _member_faults(
        self, schema: dict[str, Any], value: dict[str, Any], pointer: str, is_late: _IsLate
    ) -> Iterator[Fault]:
        for name in schema.get("required", ()):
            if name not in value:
                yield Fault(below(pointer, name), "is required")
        for name, each in value.items():
            if is_late():
                return
            # Walking into every member of a large object is slow: let the validator decide which ones.
            if "patternProperties" not in schema or not self._fits_part(schema, _PROPERTY_KEYWORDS, {name: each}):
                yield from self._one_member_faults(schema, name, each, below(pointer, name), is_late=is_late)

    def _one_member_faults(
        self, schema: dict[str, Any], name: str, value: object, pointer: str, *, is_late: _IsLate
    ) -> Iterator[Fault]:
        matched = schema.get("patternProperties", {})
        inner = [matched[pattern] for pattern in matched if not is_late() and self._matches(pattern, name)]
        if name in (props := schema.get("properties", {})):
            inner.append(props[name])
        for one in inner:
            yield from self._faults(one, value, pointer, is_late)
        if not inner and "additionalProperties" in schema:
            additional = schema["additionalProperties"]
            if additional is False:
                yield Fault(pointer, "is not a property of the schema")
            elif not self._fits(additional, value):
                yield from self._faults(additional, value, pointer, is_late)

    def _element_faults(
        self, schema: dict[str, Any], value: list[Any], pointer: str, is_late: _IsLate
    ) -> Iterator[Fault]:
        first = schema.get("prefixItems", [])
        for index, (one, each) in enumerate(zip(first, value, strict=False)):
            yield from self._faults(one, each, below(pointer, index), is_late)
        items = schema.get("items", True)
        for index in range(len(first), len(value) if items is not True else 0):
            if is_late():
                return
            if not self._fits(items, value[index]):
                yield from self._faults(items, value[index], below(pointer, index), is_late)

    def _in_place_subschemas(self, schema: dict[str, Any], value: object) -> Iterator[Any]:
        """Yield the subschemas that apply to the same value."""
        yield from schema.get("allOf", ())
        if "if" in schema:
            yield schema.get("then" if self._fits(schema["if"], value) else "else", True)
        if isinstance(value, dict):
            for name, inner in schema.get("dependentSchemas", {}).items():
                if name in value:
                    yield inner

    def _fits(self, schema: Any, value: object) -> bool:
        return (
            schema if isinstance(schema, bool) else self._cached_validator(id(schema), lambda: schema).is_valid(value)
        )

    def _fits_part(self, schema: dict[str, Any], names: tuple[str, ...], value: object) -> bool:
        part = self._cached_validator(
            (id(schema), names), lambda: {name: schema[name] for name in names if name in schema}
        )
        return part.is_valid(value)

    def _matches(self, pattern: str, name: str) -> bool:
        return self._cached_validator(pattern, lambda: {"pattern": pattern}).is_valid(name)

    def _cached_validator(self, key: Hashable, document: Callable[[], dict[str, Any]]) -> "Draft202012Validator":
        """Return a validator of a part of the document. Keys may contain object ids: the document is never modified."""
        validator = self._validators.get(key)
        if validator is None:
            # Dropped together: the parts that matter come back with the next invalid message.
            if len(self._validators) >= _CACHED:
                self._validators.clear()
            validator = self._validators[key] = validator_of(document())
        return validator


def _is(kind: str, value: object) -> bool:
    if kind in {"integer", "number"}:
        return is_number(value) and (kind == "number" or value == int(value))  # type: ignore[call-overload]
    return type(value) is _TYPES[kind]


def _for_numbers(fits: Callable[[Any, Any], bool]) -> Callable[[Any, object], bool]:
    return lambda limit, value: not is_number(value) or fits(limit, value)


def _for_type(kind: type, fits: Callable[[Any, Any], bool]) -> Callable[[Any, object], bool]:
    return lambda limit, value: type(value) is not kind or fits(limit, value)


def _is_long(least: int, value: Sized) -> bool:
    return len(value) >= least


def _is_short(most: int, value: Sized) -> bool:
    return len(value) <= most


def _names(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def _shown(value: object) -> str:
    text = _to_json(value).decode()
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


_TYPES: Final = {"array": list, "boolean": bool, "null": type(None), "object": dict, "string": str}
_ARTICLES: Final = {
    "array": "an array",
    "boolean": "true or false",
    "integer": "an integer",
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
    "minimum": (_for_numbers(lambda least, value: value >= least), lambda least: f"must be at least {least}"),
    "maximum": (_for_numbers(lambda most, value: value <= most), lambda most: f"must be at most {most}"),
    "exclusiveMinimum": (
        _for_numbers(lambda least, value: value > least),
        lambda least: f"must be greater than {least}",
    ),
    "exclusiveMaximum": (_for_numbers(lambda most, value: value < most), lambda most: f"must be less than {most}"),
    "minLength": (_for_type(str, _is_long), lambda least: f"must have at least {least} characters"),
    "maxLength": (_for_type(str, _is_short), lambda most: f"must have at most {most} characters"),
    "minItems": (_for_type(list, _is_long), lambda least: f"must have at least {least} elements"),
    "maxItems": (_for_type(list, _is_short), lambda most: f"must have at most {most} elements"),
}
"""Keywords that are checked here, with a specific explanation."""


def _generic(name: str) -> Callable[[Any], str]:
    return lambda _: f"does not match the {name} of the schema"


_EXPLANATIONS: Final[dict[str, Callable[[Any], str]]] = {
    **{
        name: _generic(name)
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
    "pattern": lambda pattern: f"must match {pattern[:_MAX_SHOWN]}",
    "uniqueItems": lambda _: "must not have equal elements",
}
"""Keywords that the validation library checks, with an explanation."""

_RELATED: Final = {"contains": ("minContains", "maxContains")}
_PROPERTY_KEYWORDS: Final = ("properties", "patternProperties", "additionalProperties")
_UNEVALUATED: Final = frozenset({"unevaluatedItems", "unevaluatedProperties"})


class Schema(msgspec.Struct, frozen=True):
    """A valid schema."""

    text: str
    """The text that the client sent."""
    language: SchemaLanguage
    id: str
    """SHA-256 of its canonical form."""
    title: str
    """The beginning of the `title` of a JSON Schema; "" without one."""


def parse_schema(text: bytes, language: SchemaLanguage) -> Schema:
    """Parse the schema of a queue. `text` must be valid JSON.

    Takes up to 0.3 s. Raises Unprocessable with a fault for each invalid place (at most 100).
    """
    value = decode_strictly(text, f"/{FIELDS[language]}", code="invalid_schema")
    _compile(value, language)
    title = value.get("title") if language == "json_schema" and isinstance(value, dict) else None
    shown = title[:_TITLE_CHARACTERS].strip() if isinstance(title, str) else ""
    return Schema(text.decode(), language, sha256(canonical_json(value).encode()).hexdigest(), shown)


def compile_schema(text: str, language: SchemaLanguage) -> SchemaValidator:
    """Return the validator of a valid schema. Compiling costs about as much as 100 validations, so cache the result."""
    value = decode_strictly(text.encode(), f"/{FIELDS[language]}", code="invalid_schema")
    return _compile(value, language)


def _compile(value: Any, language: SchemaLanguage) -> SchemaValidator:
    pointer, patterns = f"/{FIELDS[language]}", Patterns()
    schema = JsonSchema(value, pointer, patterns)
    found = check_rules(value, pointer, patterns) if language == "rules" else schema.faults()
    faults = tuple(islice(found, MAX_FAULTS))
    if not faults:
        try:
            if language == "rules":
                # Each value is checked by one rule.
                document = rules_to_json_schema(value, patterns)
                return SchemaValidator(document, _MAX_COMPARED_BYTES, kib=patterns.largest)
            cost = schema.cost
            return SchemaValidator(schema.expanded, _max_bytes(cost), _max_extremes(cost), kib=cost.kib)
        except (ValueError, RecursionError):
            faults = (Fault(pointer, "is not a supported schema"),)
    raise Unprocessable(
        f"Invalid schema: {faults[0].pointer} {faults[0].detail}.", code="invalid_schema", faults=faults
    )


def _max_extremes(cost: Cost) -> int:
    # Most rules take a sixteenth of the time that those take which compare numbers exactly.
    return _MAX_EXTREMES // (1 + cost.comparisons + cost.repeated // 16)


def _max_bytes(cost: Cost) -> int:
    checks = cost.repeated + cost.lookups
    checked = _MAX_CHECKED_BYTES // checks if checks else _UNLIMITED
    return min(checked, _MAX_COMPARED_BYTES // cost.comparisons if cost.comparisons else _UNLIMITED)
