"""Parser of filters: from the text to a tree of conditions, or to a fault for each invalid place."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from discue.domain.errors import Fault, Unprocessable, below, invalid, unescaped
from discue.domain.json_text import decode_strictly
from discue.domain.patterns import MAX_MATCHED, SMALL_KIB, compiled_kib, unsupported
from discue.domain.schema_rules import is_number

MessageMember = Literal["data", "headers", "key"]


class Comparison(msgspec.Struct, frozen=True):
    """Compares a value with an operand."""

    pointer: str
    """JSON pointer in the filter."""
    operator: str
    operand: Any
    """A Regex for `$regex`; else the value in the filter."""


class Regex(msgspec.Struct):
    """A regular expression, which matches texts of limited length."""

    pattern: str
    kib: int
    longest: int = 0
    """Characters; longer texts do not match. The patterns of the filter share `MAX_MATCHED`."""


class AllOf(msgspec.Struct, frozen=True):
    """Holds if all parts hold."""

    parts: "tuple[Condition, ...]"


class AnyOf(msgspec.Struct, frozen=True):
    """Holds if at least one part holds."""

    parts: "tuple[Condition, ...]"


class Not(msgspec.Struct, frozen=True):
    """Holds if its part does not hold."""

    part: "Condition"


class AtPath(msgspec.Struct, frozen=True):
    """Applies a condition to the value at a path of member names and indexes."""

    steps: tuple[str, ...]
    part: "Condition"


class OnMember(msgspec.Struct, frozen=True):
    """Applies a condition to one member of a message. Conditions on data that is not JSON never hold."""

    pointer: str
    """JSON pointer in the filter."""
    member: MessageMember
    part: "Condition"


Condition: TypeAlias = Comparison | AllOf | AnyOf | Not | AtPath | OnMember


# The parser

MAX_BYTES: Final = 8_192
MAX_DEPTH: Final = 8
MAX_CONDITIONS: Final = 100
MAX_PATTERNS: Final = 10

SCALAR_OPERATORS: Final = ("$eq", "$contains")
ORDER_OPERATORS: Final = ("$gt", "$gte", "$lt", "$lte")
TEXT_OPERATORS: Final = ("$prefix", "$suffix", "$regex")
OPERATORS: Final = (*SCALAR_OPERATORS, "$in", *ORDER_OPERATORS, *TEXT_OPERATORS, "$exists")
COMBINATORS: Final = ("$and", "$or", "$not")
MEMBERS: Final[tuple[MessageMember, ...]] = get_args(MessageMember)

_Path = Callable[[str], tuple[str, ...] | None]
"""Converts a member name to the steps of a path; None if it is not one."""

_EMPTY: Final = AllOf(())


def parse_filter(text: bytes, pointer: str) -> Condition:
    """Parse a filter whose text, which is valid JSON, is at `pointer` of the request.

    Raises Unprocessable with a fault for each invalid place.
    """
    if len(text) > MAX_BYTES:
        raise invalid(pointer, f"has {len(text)} bytes; at most {MAX_BYTES} are allowed", code="invalid_filter")
    parser = _Parser()
    condition = parser.clause(decode_strictly(text, pointer, code="invalid_filter"), pointer, 1)
    if parser.faults:
        first = parser.faults[0]
        detail = f"Invalid filter: {first.pointer} {first.detail}."
        raise Unprocessable(detail, code="invalid_filter", faults=tuple(parser.faults))
    for regex in parser.patterns:
        regex.longest = MAX_MATCHED // sum(each.kib for each in parser.patterns)
    return condition


def check_filter(text: object) -> Condition | None:
    """Parse the filter of a request; None unless it has one. Raises what `parse_filter` raises."""
    return parse_filter(text.encode(), "/filter") if isinstance(text, str) else None


class _Parser:
    """The state of parsing one filter."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._comparisons = 0
        self.patterns: list[Regex] = []

    def clause(self, value: Any, pointer: str, depth: int) -> Condition:
        """Parse a condition on a message."""
        parts = []
        for name, inner in self._members(value, pointer, depth):
            inner_pointer = below(pointer, name)
            if name in COMBINATORS:
                parts.append(self._combinator(name, inner, inner_pointer, partial(self.clause, depth=depth + 1)))
            elif name in MEMBERS:
                parts.append(self._member(name, inner, inner_pointer, depth + 1))
            else:
                self._fault(inner_pointer, f"is not one of {', '.join((*MEMBERS, *COMBINATORS))}")
        return AllOf(tuple(parts))

    def _member(self, name: Any, value: Any, pointer: str, depth: int) -> Condition:
        if name == "key":
            return OnMember(pointer, name, self._condition(value, pointer, depth, _no_path))
        if not isinstance(value, dict):
            self._fault(pointer, "must be an object with conditions")
            return _EMPTY
        return OnMember(
            pointer, name, self._condition(value, pointer, depth, _header_path if name == "headers" else _data_path)
        )

    def _condition(self, value: Any, pointer: str, depth: int, path: _Path) -> Condition:
        """Parse a condition on a value: a scalar, a list of scalars, or an object of operators and member names."""
        if isinstance(value, list):
            return self._comparison("$in", value, pointer)
        if not isinstance(value, dict):
            return self._comparison("$eq", value, pointer)
        # Headers are flat: below a header name there are only operators.
        inner_path = _no_path if path is _header_path else path

        parts = []
        for name, inner in self._members(value, pointer, depth):
            inner_pointer = below(pointer, name)
            if name in COMBINATORS:
                parts.append(
                    self._combinator(name, inner, inner_pointer, partial(self._condition, depth=depth + 1, path=path))
                )
            elif name[:1] == "$":
                parts.append(self._comparison(name, inner, inner_pointer))
            elif steps := path(name):
                parts.append(AtPath(steps, self._condition(inner, inner_pointer, depth + 1, inner_path)))
            else:
                self._fault(inner_pointer, _NO_PATH_ALLOWED if path is _no_path else _EMPTY_STEP)
        return AllOf(tuple(parts))

    def _members(self, value: Any, pointer: str, depth: int) -> Iterator[tuple[str, Any]]:
        if not isinstance(value, dict):
            self._fault(pointer, "must be an object with conditions")
        elif not value:
            self._fault(pointer, "must have at least one condition")
        elif depth > MAX_DEPTH:
            self._fault(pointer, f"is nested too deeply; at most {MAX_DEPTH} levels are allowed")
        else:
            yield from value.items()

    def _combinator(self, name: str, value: Any, pointer: str, inner: Callable[[Any, str], Condition]) -> Condition:
        if name == "$not":
            return Not(inner(value, pointer))
        if not isinstance(value, list) or not value:
            self._fault(pointer, "must be a list of at least one condition")
            return _EMPTY
        parts = tuple(inner(each, below(pointer, index)) for index, each in enumerate(value))
        return AllOf(parts) if name == "$and" else AnyOf(parts)

    def _comparison(self, operator: str, operand: Any, pointer: str) -> Condition:
        self._comparisons += 1
        # Reported once, at the first condition beyond the limit.
        if self._comparisons == MAX_CONDITIONS + 1:
            self._fault(pointer, f"exceeds the limit of {MAX_CONDITIONS} conditions")
        if operator == "$regex" and isinstance(operand, str):
            operand = self._regex(operand, pointer)
        elif rule := _operand_fault(operator, operand):
            self._fault(pointer, rule)
        return Comparison(pointer, operator, operand)

    def _regex(self, pattern: str, pointer: str) -> Regex:
        kib = None
        if len(self.patterns) == MAX_PATTERNS:
            self._fault(pointer, f"exceeds the limit of {MAX_PATTERNS} patterns")
        elif (kib := compiled_kib(pattern, SMALL_KIB)) is None:
            self._fault(pointer, unsupported(SMALL_KIB))
        regex = Regex(pattern, kib or 0)
        self.patterns.append(regex)
        return regex

    def _fault(self, pointer: str, rule: str) -> None:
        if len(self.faults) < MAX_CONDITIONS:
            self.faults.append(Fault(pointer, rule))


def _operand_fault(operator: str, operand: Any) -> str | None:
    """Return the rule that an operator or its operand breaks, None if valid."""
    if operator not in OPERATORS:
        return f"is not an operator; use one of {', '.join((*OPERATORS, *COMBINATORS))}"
    fits, rule = _OPERANDS[operator]
    return None if fits(operand) else rule


def _data_path(name: str) -> tuple[str, ...] | None:
    """Parse `a.b.0`, or a JSON pointer, which can express every path."""
    if name[:1] != "/":
        steps = tuple(name.split("."))
        return steps if all(steps) else None
    return tuple(unescaped(step) for step in name[1:].split("/"))


def _header_path(name: str) -> tuple[str, ...] | None:
    return (name.lower(),) if name else None


def _no_path(_name: str) -> tuple[str, ...] | None:
    return None


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, dict | list)


_NO_PATH_ALLOWED: Final = "is not an operator, and a text has no members"
_EMPTY_STEP: Final = "has an empty step; write it as a JSON pointer, such as /a//b"
_OPERANDS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    **dict.fromkeys(SCALAR_OPERATORS, (_is_scalar, "must be a string, a number, true, false or null")),
    **dict.fromkeys(
        ORDER_OPERATORS, (lambda value: isinstance(value, str) or is_number(value), "must be a number or a string")
    ),
    **dict.fromkeys(TEXT_OPERATORS, (lambda value: isinstance(value, str), "must be a string")),
    "$in": (
        lambda value: isinstance(value, list) and bool(value) and all(map(_is_scalar, value)),
        "must be a list of at least one string, number, true, false or null",
    ),
    "$exists": (lambda value: isinstance(value, bool), "must be true or false"),
}
