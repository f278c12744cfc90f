"""The rule language: a map of property name to rule, and the JSON Schema that says the same."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from discue.domain.errors import Fault
from discue.domain.json_pointer import below
from discue.domain.schemas.patterns import Patterns, without_delimiters

RULES: Final = 1_000
LEVELS: Final = 32

_FIELDS: Final = {
    "object": frozenset({"type", "required", "props", "strict"}),
    "array": frozenset({"type", "required", "items"}),
    "string": frozenset({"type", "required", "pattern", "enum", "min", "max"}),
    "number": frozenset({"type", "required", "min", "max"}),
}
_LONGEST: Final = 2**53


def faults_of_rules(rules: object, pointer: str) -> Iterator[Fault]:
    """Every place that is wrong."""
    walk = _Walk()
    yield from walk.through_map(rules, pointer, 1)
    if walk.rules > RULES:
        yield Fault(pointer, f"has more than {RULES} rules")


def json_schema_of_rules(rules: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema that takes what the rules take, for rules in which nothing is wrong."""
    return _object_of(rules, strict=True)


class _Walk:
    """One way through all rules, at most as far as the limits. `rules` are those seen."""

    def __init__(self) -> None:
        self.rules = 0
        self._patterns = Patterns()

    def through_map(self, rules: object, place: str, level: int) -> Iterator[Fault]:
        if not isinstance(rules, dict):
            yield Fault(place, "must be an object that gives each property a rule")
        elif not rules:
            yield Fault(place, "must have at least one property")
        else:
            for name, rule in rules.items():
                yield from self._through(rule, below(place, name), level)

    def _through(self, rule: object, place: str, level: int) -> Iterator[Fault]:
        self.rules += 1
        if self.rules > RULES:
            return
        if level > LEVELS:
            yield Fault(place, f"is nested too deeply: {LEVELS} levels are allowed")
        elif not isinstance(rule, dict):
            yield Fault(place, "must be a rule: an object with a type")
        elif not isinstance(kind := rule.get("type"), str) or kind not in _FIELDS:
            yield Fault(below(place, "type"), "must be object, array, string or number")
        else:
            yield from self._through_fields(kind, rule, place, level)

    def _through_fields(self, kind: str, rule: dict[str, Any], place: str, level: int) -> Iterator[Fault]:
        for name in rule:
            if name not in _FIELDS[kind]:
                yield Fault(below(place, name), f"is not a known field of a rule for {_WITH_ARTICLE[kind]}")
        for name in ("required", "strict"):
            if name in _FIELDS[kind] and not isinstance(rule.get(name, True), bool):
                yield Fault(below(place, name), "must be true or false")
        if kind == "object":
            yield from self.through_map(rule.get("props"), below(place, "props"), level + 1)
        elif kind == "array":
            yield from self._through(rule.get("items"), below(place, "items"), level + 1)
        elif kind == "string":
            yield from _faults_of_bounds(rule, place, _is_length, f"a whole number from 0 to {_LONGEST}")
            yield from self._faults_of_pattern(rule.get("pattern", ""), below(place, "pattern"))
            yield from _faults_of_enum(rule.get("enum", [""]), below(place, "enum"))
        else:
            yield from _faults_of_bounds(rule, place, _is_number, "a number")

    def _faults_of_pattern(self, pattern: object, place: str) -> Iterator[Fault]:
        if not isinstance(pattern, str):
            yield Fault(place, "must be a string")
        elif (refused := self._patterns.refusal_of_delimited(pattern)) is not None:
            yield Fault(place, refused)


_WITH_ARTICLE: Final = {"object": "an object", "array": "an array", "string": "a string", "number": "a number"}


def _faults_of_enum(words: object, place: str) -> Iterator[Fault]:
    if not isinstance(words, list) or not words:
        yield Fault(place, "must be a list of at least one string")
    else:
        for index, word in enumerate(words):
            if not isinstance(word, str):
                yield Fault(below(place, index), "must be a string")


def _faults_of_bounds(
    rule: dict[str, Any], place: str, is_bound: Callable[[object], bool], wanted: str
) -> Iterator[Fault]:
    bad = [name for name in ("min", "max") if name in rule and not is_bound(rule[name])]
    for name in bad:
        yield Fault(below(place, name), f"must be {wanted}")
    if not bad and "min" in rule and "max" in rule and rule["min"] > rule["max"]:
        yield Fault(below(place, "min"), "must not be above max")


def _is_length(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LONGEST


def _is_number(value: object) -> bool:
    return type(value) is int or type(value) is float


def _object_of(props: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _schema_of(rule) for name, rule in props.items()},
        "required": [name for name, rule in props.items() if rule.get("required", True)],
    }
    if strict:
        schema["additionalProperties"] = False
    return schema


def _schema_of(rule: dict[str, Any]) -> dict[str, Any]:
    kind = rule["type"]
    if kind == "object":
        schema = _object_of(rule["props"], strict=rule.get("strict", True))
    elif kind == "array":
        schema = {"type": "array", "items": _schema_of(rule["items"])}
    else:
        schema = {"type": kind, **(_of_string(rule) if kind == "string" else _of_number(rule))}
    return schema if rule.get("required", True) else _or_null(schema)


def _of_string(rule: dict[str, Any]) -> dict[str, Any]:
    schema = {ours: rule[name] for name, ours in (("min", "minLength"), ("max", "maxLength")) if name in rule}
    if "pattern" in rule:
        schema["pattern"] = without_delimiters(rule["pattern"])
    if "enum" in rule:
        schema["enum"] = list(dict.fromkeys(rule["enum"]))
    return schema


def _of_number(rule: dict[str, Any]) -> dict[str, Any]:
    return {ours: rule[name] for name, ours in (("min", "minimum"), ("max", "maximum")) if name in rule}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Every other keyword is for the one type alone, and says nothing of null."""
    schema["type"] = [schema["type"], "null"]
    if "enum" in schema:
        schema["enum"].append(None)
    return schema
