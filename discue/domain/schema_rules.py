"""The rule language: an object that maps each property to a rule. It is translated to JSON Schema."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from discue.domain.errors import Fault, below
from discue.domain.patterns import Patterns, without_delimiters
from discue.domain.suggestions import alternatives

CONSTANTS: Final = "x-constants"
"""Keyword of a schema that stands for a `const` or `enum`: this one, as a schema."""

MAX_RULES: Final = 1_000
MAX_LEVELS: Final = 32

_FIELDS: Final = {
    "object": frozenset({"type", "required", "props", "strict"}),
    "array": frozenset({"type", "required", "items"}),
    "string": frozenset({"type", "required", "pattern", "enum", "min", "max"}),
    "number": frozenset({"type", "required", "min", "max"}),
}
_BOUNDS: Final = {
    "string": (("min", "minLength"), ("max", "maxLength")),
    "number": (("min", "minimum"), ("max", "maximum")),
}
_MAX_LENGTH: Final = 2**53


def check_rules(rules: object, pointer: str, patterns: Patterns) -> Iterator[Fault]:
    """Yield a fault for each invalid place."""
    checker = _Checker(patterns)
    yield from checker.check_map(rules, pointer, 1)
    if checker.rules > MAX_RULES:
        yield Fault(pointer, f"has more than {MAX_RULES} rules")


def rules_to_json_schema(rules: dict[str, Any], patterns: Patterns | None = None) -> dict[str, Any]:
    """Return the JSON Schema that is equivalent to valid rules.

    With the `patterns` that have checked them, it counts the text that they match.
    """
    return _object_schema(rules, patterns, strict=True)


class _Checker:
    """Checks the rules of one schema and stops at the limits."""

    def __init__(self, patterns: Patterns) -> None:
        self.rules = 0
        """Number of rules that were visited."""
        self._patterns = patterns

    def check_map(self, rules: object, pointer: str, level: int) -> Iterator[Fault]:
        if not isinstance(rules, dict):
            yield Fault(pointer, "must be an object with a rule for each property")
        elif not rules:
            yield Fault(pointer, "must have at least one property")
        else:
            for name, rule in rules.items():
                yield from self._check_rule(rule, below(pointer, name), level)

    def _check_rule(self, rule: object, pointer: str, level: int) -> Iterator[Fault]:
        self.rules += 1
        if self.rules > MAX_RULES:
            return
        if level > MAX_LEVELS:
            yield Fault(pointer, f"is nested too deeply; at most {MAX_LEVELS} levels are allowed")
        elif not isinstance(rule, dict):
            yield Fault(pointer, "must be a rule: an object with a type")
        elif not isinstance(kind := rule.get("type"), str) or kind not in _FIELDS:
            yield Fault(below(pointer, "type"), "must be object, array, string or number")
        else:
            yield from self._check_fields(kind, rule, pointer, level)

    def _check_fields(self, kind: str, rule: dict[str, Any], pointer: str, level: int) -> Iterator[Fault]:
        for name in rule:
            if name not in _FIELDS[kind]:
                yield Fault(
                    below(pointer, name),
                    f"is not a known field of a rule for {_WITH_ARTICLE[kind]}{alternatives(name, _FIELDS[kind])}",
                )
        for name in ("required", "strict"):
            if name in _FIELDS[kind] and not isinstance(rule.get(name, True), bool):
                yield Fault(below(pointer, name), "must be true or false")
        if kind == "object":
            yield from self.check_map(rule.get("props"), below(pointer, "props"), level + 1)
        elif kind == "array":
            yield from self._check_rule(rule.get("items"), below(pointer, "items"), level + 1)
        elif kind == "string":
            yield from _check_bounds(rule, pointer, _is_length, f"an integer from 0 to {_MAX_LENGTH}")
            yield from self._check_pattern(rule.get("pattern", ""), below(pointer, "pattern"))
            yield from _check_enum(rule.get("enum", [""]), below(pointer, "enum"))
        else:
            yield from _check_bounds(rule, pointer, is_number, "a number")

    def _check_pattern(self, pattern: object, pointer: str) -> Iterator[Fault]:
        if not isinstance(pattern, str):
            yield Fault(pointer, "must be a string")
        elif (fault := self._patterns.delimited_fault(pattern)) is not None:
            yield Fault(pointer, fault)


_WITH_ARTICLE: Final = {"object": "an object", "array": "an array", "string": "a string", "number": "a number"}


def _check_enum(words: object, pointer: str) -> Iterator[Fault]:
    if not isinstance(words, list) or not words:
        yield Fault(pointer, "must be a list of at least one string")
    else:
        for index, word in enumerate(words):
            if not isinstance(word, str):
                yield Fault(below(pointer, index), "must be a string")


def _check_bounds(
    rule: dict[str, Any], pointer: str, is_bound: Callable[[object], bool], expected: str
) -> Iterator[Fault]:
    invalid_names = [name for name in ("min", "max") if name in rule and not is_bound(rule[name])]
    for name in invalid_names:
        yield Fault(below(pointer, name), f"must be {expected}")
    if not invalid_names and "min" in rule and "max" in rule and rule["min"] > rule["max"]:
        yield Fault(below(pointer, "min"), "must not be greater than max")


def _is_length(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_LENGTH


def is_number(value: object) -> bool:
    """Return whether a decoded value is a number. In Python, bool is a subclass of int."""
    return type(value) is int or type(value) is float


def _object_schema(props: dict[str, Any], patterns: Patterns | None, *, strict: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _rule_schema(rule, patterns) for name, rule in props.items()},
        "required": [name for name, rule in props.items() if rule.get("required", True)],
    }
    if strict:
        schema["additionalProperties"] = False
    return schema


def _rule_schema(rule: dict[str, Any], patterns: Patterns | None) -> dict[str, Any]:
    kind = rule["type"]
    others = []
    if kind == "object":
        schema = _object_schema(rule["props"], patterns, strict=rule.get("strict", True))
    elif kind == "array":
        schema = {"type": "array", "items": _rule_schema(rule["items"], patterns)}
    else:
        schema = {"type": kind} | {keyword: rule[name] for name, keyword in _BOUNDS[kind] if name in rule}
        if "pattern" in rule:
            pattern = without_delimiters(rule["pattern"])
            if patterns is None:
                schema["pattern"] = pattern
            else:
                others.append(patterns.counted([pattern], {"pattern": pattern}))
        if "enum" in rule:
            schema["enum"] = list(dict.fromkeys(rule["enum"]))
    if not rule.get("required", True):
        # Null as well. Every other keyword applies only to the original type, except `enum`.
        schema["type"] = [kind, "null"]
        if "enum" in schema:
            # Not with null among the texts: a text would be compared with each of them.
            texts = schema.pop("enum")
            allowed = {"enum": [*texts, None]}
            others.append({CONSTANTS: allowed, "if": {"type": "string"}, "then": {"enum": texts}})
    return {**schema, "allOf": others} if others else schema
