"""JSON Schemas (2020-12) of clients: which are accepted, and how they are expanded.

References may only point into the same document, and must not be recursive. So the cost of a validation is known from
the document, and nothing is ever fetched.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote

import msgspec

from discue.domain.errors import Fault, below, escaped
from discue.domain.json_text import LARGEST_EXACT
from discue.domain.patterns import Patterns, validator_of
from discue.domain.schema_rules import CONSTANTS, MAX_LEVELS, MAX_RULES, is_number

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_CONSTANTS: Final = ("const", "enum")
_EXACT: Final = {"minimum": -LARGEST_EXACT, "maximum": LARGEST_EXACT}
_TINY: Final = 1e-15

# The validation library compares fractions exactly. A comparison takes a microsecond, and ten times as long for tiny
# numbers. The library compares with each member of an enumeration, unless all are texts. Clients choose both the values
# and their number. So `number_cost` limits the time, and `quick` returns schemas that take less time. The unit of costs
# is 40 ns for each byte of short numbers.
_BOUND_COST: Final = 2
_CONSTANT_COST: Final = 4
_TINY_CONSTANT_COST: Final = 48
_DIVISION_COST: Final = 8
_TINY_DIVISION_COST: Final = 128
_INTEGER_DIVISION_COST: Final = 4


def number_cost(schema: dict[str, Any]) -> int:
    """Return the cost of comparing a number with those of a schema, in the unit above."""
    bounds = sum(not _is_small_integer(schema[name]) for name in _BOUNDS if name in schema)
    constants = sum(_constant_cost(each) for name in _CONSTANTS for each in _constants(schema, name))
    return _BOUND_COST * bounds + constants + _division_cost(schema.get("multipleOf", 0))


def quick(schema: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the assertions of a schema without those that may take long, and schemas that stand for these."""
    kept, others = dict(schema), []
    if (step := kept.get("multipleOf", 1)) != int(step):
        # Dividing large numbers by a fraction takes long. All of them are integers, and count as multiples.
        others.append({"if": _EXACT, "then": {"multipleOf": kept.pop("multipleOf")}})
    for name in _CONSTANTS:
        if _takes_long(_constants(kept, name)):
            others.append(_one_of(name, kept.pop(name)))  # noqa: PERF401 - it removes what it has tested
    return kept, others


def _takes_long(constants: list[Any]) -> bool:
    """Return whether finding a value among constants takes longer than among texts."""
    return any(map(is_number, constants)) or (
        len(constants) > 1 and not all(isinstance(each, str) for each in constants)
    )


def _constant_cost(constant: Any) -> int:
    if _is_integer(constant):
        # See `_one_of`. An integer in an array or object is compared like other numbers.
        return 0
    return sum(_TINY_CONSTANT_COST if 0 < abs(each) < _TINY else _CONSTANT_COST for each in _numbers_in(constant))


def _division_cost(step: float) -> int:
    """Return the cost of `multipleOf`; 0 stands for none."""
    if step == int(step):
        return _INTEGER_DIVISION_COST if step else 0
    return _TINY_DIVISION_COST if step < _TINY else _DIVISION_COST


def _one_of(name: str, allowed: Any) -> dict[str, Any]:
    """Return a schema of the values of a `const` or `enum`, in which values are compared with those of their type.

    The library finds an integer among integers at once, but compares a fraction with each of them, and a text among
    texts only if there is nothing else. It compares with a single constant exactly, unlike with bounds.
    """
    integers: list[Any] = []
    texts: list[Any] = []
    others: list[Any] = []
    for each in _constants({name: allowed}, name):
        (integers if _is_integer(each) else texts if isinstance(each, str) else others).append(each)
    then = _enumeration(integers)
    if len(integers) == 1:
        then = {"minimum": integers[0], "maximum": integers[0]}
    otherwise = _enumeration(texts or others)
    if texts and others:
        otherwise = {"if": {"type": "string"}, "then": _enumeration(texts), "else": _enumeration(others)}
    return {CONSTANTS: {name: allowed}, "if": {"type": "integer", **_EXACT}, "then": then, "else": otherwise}


def _enumeration(values: list[Any]) -> Any:
    """Return a schema of values, each of which it has once: null could be among them thousands of times."""
    return {"enum": list({json.dumps(each): each for each in values}.values())} if values else False


def _constants(schema: dict[str, Any], name: str) -> list[Any]:
    """Return the values that `const` or `enum` allows; none without it."""
    if name not in schema:
        return []
    allowed: list[Any] = schema[name] if name == "enum" else [schema[name]]
    return allowed


def _numbers_in(value: Any) -> Iterator[float]:
    """Yield a number, or those in an array or object."""
    if is_number(value):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _numbers_in(each)


def _is_integer(constant: Any) -> bool:
    """Return whether a constant is an integer that a fraction represents exactly."""
    return is_number(constant) and _is_small_integer(constant)


def _is_small_integer(number: float) -> bool:
    return number == int(number) and abs(number) <= LARGEST_EXACT


Document: TypeAlias = dict[str, Any] | bool
"""A JSON Schema without references."""

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

MAX_EXPANDED_BYTES: Final = 262_144
"""Limit of the size after references are expanded."""

_DIALECTS: Final = frozenset({DIALECT, f"{DIALECT}#"})
_MAX_FAULTS: Final = 100
_MAX_NESTING: Final = 3 * MAX_LEVELS
_ANCHORS: Final = ("$anchor", "$dynamicAnchor")
_REFERENCES: Final = ("$ref", "$dynamicRef")
_DEFINITIONS: Final = ("$defs", "definitions")
"""Keywords whose subschemas are only used through references."""

_CHILD_KEYWORDS: Final = frozenset({"additionalProperties", "items", "prefixItems", "properties"})
"""Keywords whose subschemas apply to child values that no sibling keyword checks."""

_MEMBERS: Final[tuple[str, ...]] = ("properties", "patternProperties", "additionalProperties")
"""Keywords that need each other."""

_SINGLE_SUBSCHEMA: Final = frozenset(
    {
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_TYPE_RULE: Final = "must be array, boolean, integer, null, number, object or string, or a list of these"
_SUBSCHEMA_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED_SUBSCHEMAS: Final = frozenset({"dependentSchemas", "patternProperties", "properties"})
_UNEVALUATED: Final = frozenset({"unevaluatedItems", "unevaluatedProperties"})
_ASSERTIONS: Final = frozenset(
    {
        "const",
        "dependentRequired",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maxContains",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minContains",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "pattern",
        "required",
        "type",
        "uniqueItems",
    }
)

# Subschemas whose check takes as long as comparing a value with one object or array of an enumeration, as looking for
# it among integers, and as looking for one property that requires others.
_COMPARISON_RULES: Final = 16
_INTEGER_RULES: Final = 8
_DEPENDENCY_RULES: Final = 2


class Cost(msgspec.Struct, frozen=True):
    """The cost of validating against a schema, references included."""

    rules: int = 1
    """Subschemas that a validation can visit."""
    levels: int = 1
    """Depth of nested subschemas."""
    repeated: int = 0
    """Subschemas among `rules` that may check a value which another one checks too."""
    kib: int = 0
    """Compiled size of the patterns that may be matched with the same text."""
    comparisons: int = 0
    """Comparisons of the same number: see `number_cost`."""
    lookups: int = 0
    """Subschemas that take as long to check as looking for the same value among integers, or for its properties."""
    bytes: int = 0
    """Approximate size of the expanded schema."""

    @property
    def in_place(self) -> int:
        """Subschemas that may check a value which the schema around this one checks too."""
        return max(self.rules, self.repeated)


class _Subschema(msgspec.Struct, frozen=True):
    """A schema directly inside another one."""

    keyword: str
    """The keyword that contains it."""
    place: str
    """JSON pointer in the document."""
    schema: Any


class JsonSchema:
    """A document. `expanded` and `cost` are available if `faults` finds none."""

    def __init__(self, document: object, pointer: str, patterns: Patterns) -> None:
        self._document = document
        self._pointer = pointer
        self._schemas: dict[str, Any] = {}
        self._anchors: dict[str, str] = {}
        self._costs: dict[str, Cost] = {}
        self._in_progress: set[str] = set()
        self._expanded: dict[str, Any] = {}
        self._patterns = patterns

    @property
    def cost(self) -> Cost:
        return self._costs[""]

    @property
    def expanded(self) -> Document:
        """An equivalent document without references and annotations."""
        expanded: Document = self._expand("")
        return expanded

    def faults(self) -> Iterator[Fault]:
        """Yield a fault for each invalid place. Violations of the meta-schema hide all others."""
        if not isinstance(self._document, dict | bool):
            yield Fault(self._pointer, "must be a JSON Schema: an object, true or false")
        elif _nesting_depth(self._document) > _MAX_NESTING:
            yield Fault(self._pointer, f"is nested too deeply; at most {MAX_LEVELS} levels are allowed")
        else:
            checks = (self._check_meta_schema, self._check_subschemas, self._check_cost)
            found = (list(islice(check(), _MAX_FAULTS)) for check in checks)
            yield from next(filter(None, found), ())

    def _check_meta_schema(self) -> Iterator[Fault]:
        for error in _meta_schema().iter_errors(self._document):
            place = self._pointer
            for step in error.instance_path:
                place = below(place, step)
            # The only keyword with alternatives in the meta-schema is `type`.
            rule = _TYPE_RULE if error.kind.name == "anyOf" else f"is not valid JSON Schema ({error.kind.name})"
            yield Fault(place, rule)

    def _check_subschemas(self) -> Iterator[Fault]:
        yield from self._collect("", self._document, 1)
        if len(self._schemas) > MAX_RULES:
            yield Fault(self._pointer, f"has more than {MAX_RULES} rules")
            return
        for place, schema in self._schemas.items():
            if isinstance(schema, dict):
                yield from self._check_keywords(place, schema)

    def _check_cost(self) -> Iterator[Fault]:
        try:
            cost = self._cost_of("")
        except _RecursiveReference as error:
            yield Fault(f"{self._pointer}{error}", "is recursive, which is not supported")
            return
        if cost.rules > MAX_RULES:
            yield Fault(self._pointer, f"has more than {MAX_RULES} rules, references included")
        elif cost.levels > MAX_LEVELS:
            yield Fault(self._pointer, f"has more than {MAX_LEVELS} levels, references included")
        elif cost.bytes > MAX_EXPANDED_BYTES:
            yield Fault(self._pointer, f"has more than {MAX_EXPANDED_BYTES} bytes, references included")

    def _collect(self, place: str, schema: object, level: int) -> Iterator[Fault]:
        if len(self._schemas) > MAX_RULES:
            return
        if level > MAX_LEVELS:
            yield Fault(f"{self._pointer}{place}", f"is nested too deeply; at most {MAX_LEVELS} levels are allowed")
            return
        self._schemas[place] = schema
        if isinstance(schema, dict):
            self._anchors.update((schema[name], place) for name in _ANCHORS if name in schema)
            # References may reach definitions, so they must be valid too.
            definitions = (part for name in _DEFINITIONS for part in _named_subschemas(schema, place, name))
            for part in (*_subschemas(schema, place), *definitions):
                yield from self._collect(part.place, part.schema, level + 1)

    def _check_keywords(self, place: str, schema: dict[str, Any]) -> Iterator[Fault]:
        pointer = f"{self._pointer}{place}"
        if schema.get("$schema", DIALECT) not in _DIALECTS:
            yield Fault(f"{pointer}/$schema", f"must be {DIALECT}")
        if place and "$id" in schema:
            yield Fault(f"{pointer}/$id", "is not supported inside a schema")
        for name in _REFERENCES:
            if name in schema and self._target(schema[name]) is None:
                yield Fault(f"{pointer}/{name}", "must point to a schema in this document; nothing is fetched")
        if "pattern" in schema and (rule := self._patterns.fault(schema["pattern"])) is not None:
            yield Fault(f"{pointer}/pattern", rule)
        for pattern in schema.get("patternProperties", ()):
            if (rule := self._patterns.fault(pattern)) is not None:
                yield Fault(below(f"{pointer}/patternProperties", pattern), rule)

    def _target(self, reference: str) -> str | None:
        """Return the place that a reference points to; None if it is not a schema of this document."""
        if not reference.startswith("#"):
            return None
        fragment = unquote(reference[1:])
        place = self._anchors.get(fragment) if fragment and fragment[0] != "/" else fragment
        return place if place in self._schemas else None

    def _targets(self, schema: dict[str, Any]) -> list[str]:
        return [self._target(schema[name]) or "" for name in _REFERENCES if name in schema]

    def _cost_of(self, place: str) -> Cost:
        """Return the cost of the schema at a place. Raises _RecursiveReference.

        Costs are memoized, so this takes linear time even if references fan out exponentially.
        """
        if place not in self._costs:
            if place in self._in_progress:
                raise _RecursiveReference(place)
            self._in_progress.add(place)
            schema = self._schemas[place]
            self._costs[place] = self._compute_cost(place, schema) if isinstance(schema, dict) else Cost()
            self._in_progress.remove(place)
        return self._costs[place]

    def _compute_cost(self, place: str, schema: dict[str, Any]) -> Cost:
        inner = [(part.keyword, self._cost_of(part.place)) for part in _subschemas(schema, place)]
        targets = [self._cost_of(target) for target in self._targets(schema)]
        every = [*(cost for _, cost in inner), *targets]
        # To know what is unevaluated, its sibling keywords are evaluated again.
        again = 1 if _UNEVALUATED.isdisjoint(schema) else 3
        compared = _COMPARISON_RULES * sum(isinstance(each, dict | list) for each in schema.get("enum", ()))
        alone = [cost.repeated if keyword in _CHILD_KEYWORDS else cost.in_place for keyword, cost in inner]
        own = {name: value for name, value in schema.items() if name in _ASSERTIONS}
        stands_in = len(targets) == 1 and not own and not inner
        return Cost(
            rules=again * (1 + sum(cost.rules for cost in every)),
            levels=max([1, *(1 + cost.levels for _, cost in inner), *(cost.levels for cost in targets)]),
            kib=again * _of_one_value(self._kib(schema), inner, targets, attrgetter("kib")),
            comparisons=again * _of_one_value(number_cost(schema), inner, targets, attrgetter("comparisons")),
            lookups=again * _of_one_value(_own_lookups(schema), inner, targets, attrgetter("lookups")),
            repeated=targets[0].repeated
            if stands_in
            else again * (compared + sum(alone) + sum(cost.in_place for cost in targets)),
            bytes=len(json.dumps(own)) + 20 * len(every) + sum(cost.bytes for cost in every),
        )

    def _kib(self, schema: dict[str, Any]) -> int:
        own = [schema["pattern"]] if "pattern" in schema else []
        return sum(map(self._patterns.kib, (*own, *schema.get("patternProperties", ()))))

    def _expand(self, place: str) -> Any:
        if place not in self._expanded:
            schema = self._schemas[place]
            # Shared by all references to the place: copies could multiply with each of them.
            self._expanded[place] = self._expand_object(place, schema) if isinstance(schema, dict) else schema
        return self._expanded[place]

    def _expand_object(self, place: str, schema: dict[str, Any]) -> dict[str, Any]:
        expanded, others = quick({name: value for name, value in schema.items() if name in _ASSERTIONS})
        for name, value in schema.items():
            if name in _SINGLE_SUBSCHEMA:
                expanded[name] = self._expand(f"{place}/{name}")
            elif name in _SUBSCHEMA_LISTS:
                expanded[name] = [self._expand(f"{place}/{name}/{index}") for index in range(len(value))]
            elif name in _NAMED_SUBSCHEMAS:
                expanded[name] = {key: self._expand(f"{place}/{name}/{escaped(key)}") for key in value}
        if "pattern" in expanded:
            pattern = expanded.pop("pattern")
            others.append(self._patterns.counted([pattern], {"pattern": pattern}))
        if expanded.get("patternProperties"):
            members = {name: expanded.pop(name) for name in _MEMBERS if name in expanded}
            others.append(self._patterns.counted(members["patternProperties"], members, are_of_names=True))
        # A reference is a further schema for the same value, which is what allOf means.
        targets = [*(self._expand(target) for target in self._targets(schema)), *others]
        return {**expanded, "allOf": [*expanded.get("allOf", ()), *targets]} if targets else expanded


@cache
def _meta_schema() -> "Draft202012Validator":
    """Return the validator of JSON Schemas. It takes 4 MB, and 3 ms to make."""
    return validator_of({"$ref": DIALECT})


def _own_lookups(schema: dict[str, Any]) -> int:
    # Constants with integers are checked by several schemas.
    constants = sum(any(map(_is_integer, _constants(schema, name))) for name in _CONSTANTS)
    return _INTEGER_RULES * constants + _DEPENDENCY_RULES * len(schema.get("dependentRequired", ()))


def _of_one_value(own: int, inner: list[tuple[str, Cost]], targets: list[Cost], cost_of: Callable[[Cost], int]) -> int:
    """Return what checking one value costs. Only children have values of their own."""
    children = [cost_of(cost) for keyword, cost in inner if keyword in _CHILD_KEYWORDS]
    others = [cost_of(cost) for keyword, cost in inner if keyword not in _CHILD_KEYWORDS]
    return own + max(children, default=0) + sum(others) + sum(map(cost_of, targets))


class _RecursiveReference(Exception):
    """A reference is recursive. The argument is its place."""


def _nesting_depth(value: object) -> int:
    # By levels, not recursively: a deep document would exhaust the stack.
    level, inner = 0, [value]
    while inner := [
        each
        for one in inner
        if isinstance(one, dict | list)
        for each in (one.values() if isinstance(one, dict) else one)
    ]:
        level += 1
    return level


def _subschemas(schema: dict[str, Any], place: str) -> Iterator[_Subschema]:
    """Yield the direct subschemas that a validation visits."""
    for name, value in schema.items():
        if name in _SINGLE_SUBSCHEMA:
            yield _Subschema(name, f"{place}/{name}", value)
        elif name in _SUBSCHEMA_LISTS:
            for index, each in enumerate(value):
                yield _Subschema(name, f"{place}/{name}/{index}", each)
        elif name in _NAMED_SUBSCHEMAS:
            yield from _named_subschemas(schema, place, name)


def _named_subschemas(schema: dict[str, Any], place: str, name: str) -> Iterator[_Subschema]:
    for key, each in schema.get(name, {}).items():
        yield _Subschema(name, f"{place}/{name}/{escaped(key)}", each)
