"""Conditions made ready: functions that say of a value whether it fulfils them."""

import operator
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from discue.domain.filters.conditions import AllOf, AnyOf, AtPath, Condition, Not, OnMember
from discue.domain.filters.subject import MessageView
from discue.domain.schemas.patterns import matcher

Holds: TypeAlias = Callable[[Any], bool]

MISSING: Final = object()
"""What stands for a value that is not there. Of it nothing holds, but that it does not exist."""

_NUMBERS: Final = (int, float)
_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def closure_of(condition: Condition) -> Holds:
    """Whether a condition holds, of the value that it is about: of a subject, for the whole of a filter."""
    if isinstance(condition, AllOf):
        return _every([closure_of(part) for part in condition.parts])
    if isinstance(condition, AnyOf):
        parts = [closure_of(part) for part in condition.parts]
        return lambda value: any(holds(value) for holds in parts)
    if isinstance(condition, Not):
        inner = closure_of(condition.part)
        return lambda value: not inner(value)
    if isinstance(condition, AtPath):
        return _at(condition.steps, closure_of(condition.part))
    if isinstance(condition, OnMember):
        return _of(condition, closure_of(condition.part))
    return _MAKERS[condition.operator](condition.operand)


def value_at(value: Any, steps: Iterable[str]) -> Any:
    """What is found by going along the steps; MISSING where that leads nowhere."""
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and _is_index(step) and int(step) < len(value):
            value = value[int(step)]
        else:
            return MISSING
    return value


def value_of(condition: OnMember, subject: MessageView) -> Any:
    """The part of a message that a condition is about. Raises ValueError for data that cannot be looked into."""
    if condition.member == "data":
        return subject.data
    if condition.member == "headers":
        return subject.headers
    return MISSING if subject.key is None else subject.key


def _every(parts: list[Holds]) -> Holds:
    if len(parts) == 1:
        return parts[0]

    def holds(value: Any) -> bool:
        for part in parts:  # noqa: SIM110 - half as long as with all()
            if not part(value):
                return False
        return True

    return holds


def _of(condition: OnMember, inner: Holds) -> Holds:
    def holds(subject: MessageView) -> bool:
        try:
            value = value_of(condition, subject)
        except ValueError:
            return False
        return inner(value)

    return holds


def _at(steps: tuple[str, ...], inner: Holds) -> Holds:
    """One function for each step: most of them are a look-up in an object."""
    for step in reversed(steps):
        inner = _below(step, inner)
    return inner


def _below(step: str, inner: Holds) -> Holds:
    alone = (step,)
    return lambda value: inner(value.get(step, MISSING) if type(value) is dict else value_at(value, alone))


def _is_index(step: str) -> bool:
    return step.isascii() and step.isdigit() and len(step) < 10 and (step[0] != "0" or step == "0")


def _equals(operand: Any) -> Holds:
    # To Python, True is 1.
    if isinstance(operand, bool) or operand is None:
        return lambda value: value is operand
    if isinstance(operand, str):
        return lambda value: bool(value == operand)
    return lambda value: value == operand and not isinstance(value, bool)


def _one_of(operands: list[Any]) -> Holds:
    texts = frozenset(each for each in operands if isinstance(each, str))
    others = [_equals(each) for each in operands if not isinstance(each, str)]

    def holds(value: Any) -> bool:
        if isinstance(value, str):
            return value in texts
        return any(equal(value) for equal in others)

    return holds


def _ordered(name: str) -> Callable[[Any], Holds]:
    compare = _ORDERS[name]

    def make(operand: Any) -> Holds:
        if isinstance(operand, str):
            return lambda value: isinstance(value, str) and compare(value, operand)
        return lambda value: type(value) in _NUMBERS and compare(value, operand)

    return make


def _contains(operand: Any) -> Holds:
    equal = _equals(operand)

    def holds(value: Any) -> bool:
        if isinstance(value, list):
            return any(equal(each) for each in value)
        return isinstance(value, str) and isinstance(operand, str) and operand in value

    return holds


def _regex(pattern: str) -> Holds:
    matches = matcher(pattern)
    return lambda value: isinstance(value, str) and matches(value)


def _prefix(operand: str) -> Holds:
    return lambda value: isinstance(value, str) and value.startswith(operand)


def _suffix(operand: str) -> Holds:
    return lambda value: isinstance(value, str) and value.endswith(operand)


def _exists(operand: Any) -> Holds:
    return lambda value: (value is not MISSING) is operand


_MAKERS: Final[dict[str, Callable[[Any], Holds]]] = {
    "$eq": _equals,
    "$in": _one_of,
    **{name: _ordered(name) for name in _ORDERS},
    "$prefix": _prefix,
    "$suffix": _suffix,
    "$contains": _contains,
    "$regex": _regex,
    "$exists": _exists,
}
