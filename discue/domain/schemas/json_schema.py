"""JSON Schema (2020-12) as clients write it: which documents are taken, and the form in which they are used.

A document refers to nothing but its own parts, and to none that lead back to themselves: so the work of a check is
known from the document, and nothing is ever fetched.
"""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from jsonschema_rs import Draft202012Validator

from discue.domain.errors import Fault
from discue.domain.json_pointer import below, escaped
from discue.domain.schemas.patterns import Patterns
from discue.domain.schemas.rules import LEVELS, RULES
from discue.domain.schemas.violations import Document

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

LARGEST_FORM_BYTES: Final = 262_144
"""What a document may grow to where the same part is referred to many times."""

_DIALECTS: Final = frozenset({DIALECT, f"{DIALECT}#"})
_META: Final = Draft202012Validator({"$ref": DIALECT}, offline=True)
_FAULTS: Final = 100
_NESTED: Final = 3 * LEVELS
_ANCHORS: Final = ("$anchor", "$dynamicAnchor")
_REFERENCES: Final = ("$ref", "$dynamicRef")
_ASIDE: Final = ("$defs", "definitions")

_STEPS_DOWN: Final = frozenset({"additionalProperties", "items", "prefixItems", "properties"})
"""What leads to values that nothing beside it leads to."""

_ONE: Final = frozenset(
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
_LIST: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED: Final = frozenset({"dependentSchemas", "patternProperties", "properties"})
_LOOKS_AGAIN: Final = frozenset({"unevaluatedItems", "unevaluatedProperties"})
_PLAIN: Final = frozenset(
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


class Weight(msgspec.Struct, frozen=True):
    """What checking against a schema takes, wherever its references lead.

    `rules` and `levels` are those that a check can go through, `repeated` of the rules those that may look at a value
    which another one looks at, too. `bytes` is about the length of its form without references.
    """

    rules: int = 1
    levels: int = 1
    repeated: int = 0
    bytes: int = 0


class _Part(msgspec.Struct, frozen=True):
    """A schema directly inside another one, under a keyword of that. `place` is its pointer in the document."""

    keyword: str
    place: str
    schema: Any


class JsonSchema:
    """One document. Of what `faults` finds nothing wrong with, there is a `form` and a `weight`."""

    def __init__(self, document: object, pointer: str) -> None:
        self._document = document
        self._pointer = pointer
        self._places: dict[str, Any] = {}
        self._anchors: dict[str, str] = {}
        self._weights: dict[str, Weight] = {}
        self._open: set[str] = set()
        self._forms: dict[str, Any] = {}
        self._patterns = Patterns()

    @property
    def weight(self) -> Weight:
        return self._weights[""]

    @property
    def form(self) -> Document:
        """A document that takes the same values, without references, and with nothing that says nothing of a value."""
        form: Document = self._form("")
        return form

    def faults(self) -> Iterator[Fault]:
        """Every place that is wrong. What is wrong in its form hides the rest."""
        if not isinstance(self._document, dict | bool):
            yield Fault(self._pointer, "must be a JSON Schema: an object, true or false")
        elif _nesting(self._document) > _NESTED:
            yield Fault(self._pointer, f"is nested too deeply: {LEVELS} levels are allowed")
        else:
            wrong = list(islice(self._faults_of_form(), _FAULTS)) or list(self._faults_of_parts())
            yield from wrong or self._faults_of_weight()

    def _faults_of_form(self) -> Iterator[Fault]:
        for error in _META.iter_errors(self._document):
            place = self._pointer
            for step in error.instance_path:
                place = below(place, step)
            yield Fault(place, f"is not what JSON Schema has there ({error.kind.name})")

    def _faults_of_parts(self) -> Iterator[Fault]:
        yield from self._collect("", self._document, 1)
        if len(self._places) > RULES:
            yield Fault(self._pointer, f"has more than {RULES} rules")
            return
        for place, schema in self._places.items():
            if isinstance(schema, dict):
                yield from self._faults_at(place, schema)

    def _faults_of_weight(self) -> Iterator[Fault]:
        try:
            weight = self._weigh("")
        except _LeadsBackError as back:
            yield Fault(f"{self._pointer}{back.place}", "leads back to itself, which is not supported")
            return
        if weight.rules > RULES:
            yield Fault(self._pointer, f"has more than {RULES} rules, those counted that references lead to")
        elif weight.levels > LEVELS:
            yield Fault(self._pointer, f"has more than {LEVELS} levels, those counted that references lead to")
        elif weight.bytes > LARGEST_FORM_BYTES:
            yield Fault(self._pointer, f"has more than {LARGEST_FORM_BYTES} bytes where its references lead")

    def _collect(self, place: str, schema: object, level: int) -> Iterator[Fault]:
        if len(self._places) > RULES:
            return
        if level > LEVELS:
            yield Fault(f"{self._pointer}{place}", f"is nested too deeply: {LEVELS} levels are allowed")
            return
        self._places[place] = schema
        if isinstance(schema, dict):
            self._anchors.update((schema[name], place) for name in _ANCHORS if name in schema)
            for part in (*_parts(schema, place), *_parts_aside(schema, place)):
                yield from self._collect(part.place, part.schema, level + 1)

    def _faults_at(self, place: str, schema: dict[str, Any]) -> Iterator[Fault]:
        pointer = f"{self._pointer}{place}"
        if schema.get("$schema", DIALECT) not in _DIALECTS:
            yield Fault(f"{pointer}/$schema", f"must be {DIALECT}")
        if place and "$id" in schema:
            yield Fault(f"{pointer}/$id", "is not supported inside a schema")
        for name in _REFERENCES:
            if name in schema and self._target(schema[name]) is None:
                yield Fault(f"{pointer}/{name}", "must lead to a schema within this one: nothing is fetched")
        if "pattern" in schema and (refused := self._patterns.refusal(schema["pattern"])) is not None:
            yield Fault(f"{pointer}/pattern", refused)
        for pattern in schema.get("patternProperties", ()):
            if (refused := self._patterns.refusal(pattern)) is not None:
                yield Fault(below(f"{pointer}/patternProperties", pattern), refused)

    def _target(self, reference: str) -> str | None:
        """The place that a reference leads to; None for what is no schema of this document."""
        if not reference.startswith("#"):
            return None
        fragment = unquote(reference[1:])
        place = self._anchors.get(fragment) if fragment and fragment[0] != "/" else fragment
        return place if place in self._places else None

    def _led(self, schema: dict[str, Any]) -> list[str]:
        """The places that its references lead to."""
        return [self._target(schema[name]) or "" for name in _REFERENCES if name in schema]

    def _weigh(self, place: str) -> Weight:
        """Raises _LeadsBackError. Each place is weighed once, so this takes no longer than reading the document."""
        if place not in self._weights:
            if place in self._open:
                raise _LeadsBackError(place)
            self._open.add(place)
            schema = self._places[place]
            self._weights[place] = self._sum(place, schema) if isinstance(schema, dict) else Weight()
            self._open.remove(place)
        return self._weights[place]

    def _sum(self, place: str, schema: dict[str, Any]) -> Weight:
        inner = [(part.keyword, self._weigh(part.place)) for part in _parts(schema, place)]
        led = [self._weigh(target) for target in self._led(schema)]
        every = [*(weight for _, weight in inner), *led]
        # What is left over is known only after the rules beside it were gone through once more.
        again = 1 if _LOOKS_AGAIN.isdisjoint(schema) else 3
        alone = [weight.repeated if keyword in _STEPS_DOWN else weight.rules for keyword, weight in inner]
        own = {name: value for name, value in schema.items() if name in _PLAIN}
        stands_in = len(led) == 1 and not own and not inner
        return Weight(
            rules=again * (1 + sum(weight.rules for weight in every)),
            levels=max([1, *(1 + weight.levels for _, weight in inner), *(weight.levels for weight in led)]),
            repeated=led[0].repeated if stands_in else again * (sum(alone) + sum(weight.rules for weight in led)),
            bytes=len(json.dumps(own)) + 20 * len(every) + sum(weight.bytes for weight in every),
        )

    def _form(self, place: str) -> Any:
        if place not in self._forms:
            schema = self._places[place]
            self._forms[place] = self._formed(place, schema) if isinstance(schema, dict) else schema
        return self._forms[place]

    def _formed(self, place: str, schema: dict[str, Any]) -> dict[str, Any]:
        form: dict[str, Any] = {name: value for name, value in schema.items() if name in _PLAIN}
        for name, value in schema.items():
            if name in _ONE:
                form[name] = self._form(f"{place}/{name}")
            elif name in _LIST:
                form[name] = [self._form(f"{place}/{name}/{index}") for index in range(len(value))]
            elif name in _NAMED:
                form[name] = {key: self._form(f"{place}/{name}/{escaped(key)}") for key in value}
        led = [self._form(target) for target in self._led(schema)]
        return {**form, "allOf": [*form.get("allOf", ()), *led]} if led else form


class _LeadsBackError(Exception):
    def __init__(self, place: str) -> None:
        self.place = place
        super().__init__(place)


def _nesting(value: object) -> int:
    """How deep arrays and objects are nested."""
    level, inner = 0, [value]
    while inner := [each for one in inner for each in _elements(one)]:
        level += 1
    return level


def _elements(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _parts(schema: dict[str, Any], place: str) -> Iterator[_Part]:
    """The schemas directly inside that a check goes through."""
    for name, value in schema.items():
        if name in _ONE:
            yield _Part(name, f"{place}/{name}", value)
        elif name in _LIST:
            for index, each in enumerate(value):
                yield _Part(name, f"{place}/{name}/{index}", each)
        elif name in _NAMED:
            yield from _named_parts(schema, place, name)


def _parts_aside(schema: dict[str, Any], place: str) -> Iterator[_Part]:
    """Those that only references lead to."""
    for name in _ASIDE:
        yield from _named_parts(schema, place, name)


def _named_parts(schema: dict[str, Any], place: str, name: str) -> Iterator[_Part]:
    for key, each in schema.get(name, {}).items():
        yield _Part(name, f"{place}/{name}/{escaped(key)}", each)
