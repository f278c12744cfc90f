"""Reading a filter: from its text to conditions, or to every place in it that is wrong."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, get_args

from discue.domain.errors import Fault, Unprocessable
from discue.domain.filters.conditions import AllOf, AnyOf, AtPath, Comparison, Condition, Member, Not, OnMember
from discue.domain.json_pointer import below
from discue.domain.schemas.patterns import small_refusal
from discue.domain.schemas.text import decoded

BYTES: Final = 8_192
DEPTH: Final = 8
TESTS: Final = 100
PATTERNS: Final = 10

SCALARS: Final = ("$eq", "$contains")
ORDERED: Final = ("$gt", "$gte", "$lt", "$lte")
TEXTS: Final = ("$prefix", "$suffix", "$regex")
OPERATORS: Final = (*SCALARS, "$in", *ORDERED, *TEXTS, "$exists")
JOINING: Final = ("$and", "$or", "$not")
MEMBERS: Final[tuple[Member, ...]] = get_args(Member)

_Path = Callable[[str], tuple[str, ...] | None]
"""The steps that a name stands for; None where it stands for none."""

_NOTHING: Final = AllOf(())


def read_filter(text: bytes, pointer: str) -> Condition:
    """The conditions of a filter whose text, known to be JSON, stands at `pointer`.

    Raises Unprocessable with a place for each mistake.
    """
    if len(text) > BYTES:
        raise _unacceptable([Fault(pointer, f"has {len(text)} bytes; at most {BYTES} are allowed")])
    reader = _Reader()
    condition = reader.clause(decoded(text, pointer), pointer, 1)
    if reader.faults:
        raise _unacceptable(reader.faults)
    return condition


class _Reader:
    """What was found so far in one filter."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._tests = 0
        self._patterns = 0

    def clause(self, value: Any, pointer: str, depth: int) -> Condition:
        """A condition on a message."""
        parts = []
        for name, inner in self._members(value, pointer, depth):
            place = below(pointer, name)
            if name in JOINING:
                parts.append(self._joined(name, inner, place, partial(self.clause, depth=depth + 1)))
            elif name in MEMBERS:
                parts.append(self._member(name, inner, place, depth + 1))
            else:
                self._refuse(place, f"is not one of {', '.join((*MEMBERS, *JOINING))}")
        return AllOf(tuple(parts))

    def _member(self, name: Any, value: Any, pointer: str, depth: int) -> Condition:
        if name == "key":
            return OnMember(pointer, name, self._condition(value, pointer, depth, _no_path))
        if not isinstance(value, dict):
            self._refuse(pointer, "must be an object with conditions")
            return _NOTHING
        return OnMember(pointer, name, self._condition(value, pointer, depth, _header if name == "headers" else _path))

    def _condition(self, value: Any, pointer: str, depth: int, path: _Path) -> Condition:
        """A condition on a value: a scalar, a list of them, or an object of operators and of names below the value."""
        if isinstance(value, list):
            return self._test("$in", value, pointer)
        if not isinstance(value, dict):
            return self._test("$eq", value, pointer)
        inner_path = _no_path if path is _header else path

        parts = []
        for name, inner in self._members(value, pointer, depth):
            place = below(pointer, name)
            if name in JOINING:
                parts.append(self._joined(name, inner, place, partial(self._condition, depth=depth + 1, path=path)))
            elif name[:1] == "$":
                parts.append(self._test(name, inner, place))
            elif steps := path(name):
                parts.append(AtPath(steps, self._condition(inner, place, depth + 1, inner_path)))
            else:
                self._refuse(place, _NO_NAME if path is _no_path else _NO_PATH)
        return AllOf(tuple(parts))

    def _members(self, value: Any, pointer: str, depth: int) -> Iterator[tuple[str, Any]]:
        if not isinstance(value, dict):
            self._refuse(pointer, "must be an object with conditions")
        elif not value:
            self._refuse(pointer, "must have a condition")
        elif depth > DEPTH:
            self._refuse(pointer, f"is nested too deeply: there may be {DEPTH} levels")
        else:
            yield from value.items()

    def _joined(self, name: str, value: Any, pointer: str, inner: Callable[[Any, str], Condition]) -> Condition:
        if name == "$not":
            return Not(inner(value, pointer))
        if not isinstance(value, list) or not value:
            self._refuse(pointer, "must be a list of conditions, with one at least")
            return _NOTHING
        parts = tuple(inner(each, below(pointer, index)) for index, each in enumerate(value))
        return AllOf(parts) if name == "$and" else AnyOf(parts)

    def _test(self, operator: str, operand: Any, pointer: str) -> Condition:
        self._tests += 1
        if self._tests == TESTS + 1:
            self._refuse(pointer, f"is one too many: there may be {TESTS} conditions")
        if rule := self._refusal(operator, operand):
            self._refuse(pointer, rule)
        return Comparison(pointer, operator, operand)

    def _refusal(self, operator: str, operand: Any) -> str | None:
        """What is wrong with an operator and its operand."""
        if operator not in OPERATORS:
            return f"is not an operator; those are {', '.join((*OPERATORS, *JOINING))}"
        if operator == "$regex" and isinstance(operand, str):
            return self._refusal_of_pattern(operand)
        fits, rule = _OPERANDS[operator]
        return None if fits(operand) else rule

    def _refusal_of_pattern(self, pattern: str) -> str | None:
        self._patterns += 1
        if self._patterns > PATTERNS:
            return f"is one too many: there may be {PATTERNS} patterns"
        return small_refusal(pattern)

    def _refuse(self, pointer: str, rule: str) -> None:
        if len(self.faults) < TESTS:
            self.faults.append(Fault(pointer, rule))


def _path(name: str) -> tuple[str, ...] | None:
    """`a.b.0`, or a JSON pointer, which can name whatever there is."""
    if name[:1] != "/":
        steps = tuple(name.split("."))
        return steps if all(steps) else None
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in name[1:].split("/"))


def _header(name: str) -> tuple[str, ...] | None:
    return (name.lower(),) if name else None


def _no_path(_name: str) -> tuple[str, ...] | None:
    return None


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _is_list_of_scalars(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_scalar, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _has_an_order(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _unacceptable(faults: list[Fault]) -> Unprocessable:
    return Unprocessable(f"The filter at {faults[0].pointer} {faults[0].detail}.", faults=tuple(faults))


_NO_NAME: Final = "is not an operator: there is nothing below a text"
_NO_PATH: Final = "has an empty step: write it as a JSON pointer, such as /a//b"
_OPERANDS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    **dict.fromkeys(SCALARS, (_is_scalar, "must be a string, a number, true, false or null")),
    **dict.fromkeys(ORDERED, (_has_an_order, "must be a number or a string")),
    **dict.fromkeys(TEXTS, (_is_text, "must be a string")),
    "$in": (_is_list_of_scalars, "must be a list of strings, numbers, true, false or null, with one at least"),
    "$exists": (_is_truth, "must be true or false"),
}
