"""Numbers and enumerations in JSON Schemas: how long comparing with them takes, and equivalent schemas that take less.

The validation library compares fractions exactly. That takes a microsecond for each pair of numbers, and ten times as
long for tiny ones. It compares with each member of an enumeration, unless all are texts. A client chooses both values,
and how many there are.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from discue.domain.json_values import LARGEST_EXACT
from discue.domain.schema_rules import CONSTANTS, is_number

_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_CONSTANTS: Final = ("const", "enum")
_EXACT: Final = {"minimum": -LARGEST_EXACT, "maximum": LARGEST_EXACT}
_TINY: Final = 1e-15

# In units of 40 ns for each byte of short numbers.
_BOUND_COST: Final = 2
_CONSTANT_COST: Final = 4
_TINY_CONSTANT_COST: Final = 48
_DIVISION_COST: Final = 8
_TINY_DIVISION_COST: Final = 128
_INTEGER_DIVISION_COST: Final = 4


def number_cost(schema: dict[str, Any]) -> int:
    """Return how long comparing a number with those of a schema takes: two for each ordinary one."""
    bounds = sum(not _is_small_integer(schema[name]) for name in _BOUNDS if name in schema)
    constants = sum(_constant_cost(each) for name in _CONSTANTS for each in _constants(schema, name))
    return _BOUND_COST * bounds + constants + _division_cost(schema.get("multipleOf", 0))


def integer_constants(schema: dict[str, Any]) -> int:
    """Return how many of `const` and `enum` a schema has that are checked by several others: those with integers."""
    return sum(any(map(_is_integer, _constants(schema, name))) for name in _CONSTANTS)


def quick(schema: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the assertions of a schema without those that may take long, and schemas that stand for these."""
    kept, others = dict(schema), []
    if (step := kept.get("multipleOf", 1)) != int(step):
        others.append(_multiple_of_fraction(kept.pop("multipleOf")))
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


def _multiple_of_fraction(step: float) -> dict[str, Any]:
    """Return a schema of the multiples of a fraction.

    Dividing large numbers by it takes long. All of them are integers, and count as multiples.
    """
    return {"if": _EXACT, "then": {"multipleOf": step}}


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
