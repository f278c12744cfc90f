"""Message filters of listeners, channels and replays, compiled to functions."""

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from discue.domain.event_types import parse_pattern
from discue.domain.filter_parser import AllOf, AnyOf, AtPath, Condition, Not, OnMember, Regex, parse_filter
from discue.domain.json_text import decode_value
from discue.domain.message_data import is_json
from discue.domain.messages import Entry, MessageOptions, decode_options, message_headers, type_of
from discue.domain.patterns import matcher

_CACHED_BODIES: Final = 128
_CACHED_BYTES: Final = 4_096
_CACHED_FILTERS: Final = 1_000
_CACHED_FINDERS: Final = 4_096
_CACHED_TYPES: Final = 32
_SHORT_LIST: Final = 16
_SHORT_TEXT: Final = 1_000
_LONG_PART: Final = 200
_META: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")

MISSING: Final = object()
"""Stands for a value that does not exist. The only condition that holds for it is `$exists: false`."""


class FilterableMessage:
    """A message, decoded on demand and at most once."""

    __slots__ = ("_data", "_entry", "_headers", "_options")

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._data: Any = MISSING
        self._headers: dict[str, str] | None = None
        self._options: MessageOptions | None = None

    @property
    def data(self) -> Any:
        """The decoded data. Raises ValueError if it is not JSON, nested too deeply, or has numbers out of range."""
        if self._data is MISSING:
            body = self._entry.body
            if not is_json(self._entry.codec):
                raise ValueError("the data is not JSON")
            try:
                self._data = _decoded(body) if len(body) <= _CACHED_BYTES else decode_value(body)
            except (msgspec.DecodeError, RecursionError) as error:
                raise ValueError("the data cannot be decoded") from error
        return self._data

    @property
    def headers(self) -> dict[str, str]:
        """Headers by lower-case name."""
        if self._headers is None:
            # Header names are case-insensitive; the parser lowers those of the filter.
            self._headers = {name.lower(): value for name, value in message_headers(self._read_options())}
        return self._headers

    @property
    def key(self) -> str | None:
        return self._read_options().key

    def _read_options(self) -> MessageOptions:
        if self._options is None:
            self._options = decode_options(self._entry.extra)
        return self._options


@lru_cache(_CACHED_BODIES)
def _decoded(body: bytes) -> Any:
    """Decode with a cache: lanes filter the same messages one after another. Do not modify the result."""
    return decode_value(body)


Predicate: TypeAlias = Callable[[Any], bool]

_NUMBERS: Final = (int, float)
_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def predicate_of(condition: Condition) -> Predicate:
    """Return a function that evaluates a condition. The value of a whole filter is a FilterableMessage."""
    if isinstance(condition, AllOf):
        return _all_of([predicate_of(part) for part in condition.parts])
    if isinstance(condition, AnyOf):
        parts = [predicate_of(part) for part in condition.parts]
        return lambda value: any(holds(value) for holds in parts)
    if isinstance(condition, Not):
        inner = predicate_of(condition.part)
        return lambda value: not inner(value)
    if isinstance(condition, AtPath):
        inner = predicate_of(condition.part)
        # One function per step: most of them are a single lookup in an object.
        for step in reversed(condition.steps):
            inner = _at_step(step, inner)
        return inner
    if isinstance(condition, OnMember):
        return _on_member(condition, predicate_of(condition.part))
    return _FACTORIES[condition.operator](condition.operand)


def value_at(value: Any, steps: Iterable[str]) -> Any:
    """Return the value at a path, MISSING if there is none."""
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and _is_index(step) and int(step) < len(value):
            value = value[int(step)]
        else:
            return MISSING
    return value


def member_of(condition: OnMember, message: FilterableMessage) -> Any:
    """Return the member of a message that a condition applies to. Raises ValueError for data that is not JSON."""
    if condition.member == "data":
        return message.data
    if condition.member == "headers":
        return message.headers
    return MISSING if message.key is None else message.key


def _all_of(parts: list[Predicate]) -> Predicate:
    if len(parts) == 1:
        return parts[0]

    def holds(value: Any) -> bool:
        for part in parts:  # noqa: SIM110 - takes half the time of all()
            if not part(value):
                return False
        return True

    return holds


def _on_member(condition: OnMember, inner: Predicate) -> Predicate:
    def holds(message: FilterableMessage) -> bool:
        try:
            value = member_of(condition, message)
        except ValueError:
            return False
        return inner(value)

    return holds


def _at_step(step: str, inner: Predicate) -> Predicate:
    alone = (step,)
    return lambda value: inner(value.get(step, MISSING) if type(value) is dict else value_at(value, alone))


def _is_index(step: str) -> bool:
    return step.isascii() and step.isdigit() and len(step) < 10 and (step[0] != "0" or step == "0")


def _equals(operand: Any) -> Predicate:
    # In Python, True == 1.
    if isinstance(operand, bool) or operand is None:
        return lambda value: value is operand
    if isinstance(operand, str):
        return lambda value: bool(value == operand)
    return lambda value: value == operand and not isinstance(value, bool)


def _one_of(operands: list[Any]) -> Predicate:
    # Long lists are usually strings. The other types are compared one by one, because True == 1.
    texts = frozenset(each for each in operands if isinstance(each, str))
    others = [_equals(each) for each in operands if not isinstance(each, str)]

    def holds(value: Any) -> bool:
        if isinstance(value, str):
            return value in texts
        return any(equal(value) for equal in others)

    return holds


def _order(name: str) -> Callable[[Any], Predicate]:
    compare = _COMPARISONS[name]

    def make(operand: Any) -> Predicate:
        if isinstance(operand, str):
            return lambda value: isinstance(value, str) and compare(value, operand)
        return lambda value: type(value) in _NUMBERS and compare(value, operand)

    return make


def _contains(operand: Any) -> Predicate:
    equal, scalar = _equals(operand), _scalar(operand)
    in_text: Callable[[str], bool] = _in_text(operand) if isinstance(operand, str) else lambda _: False

    def holds(value: Any) -> bool:
        if isinstance(value, list):
            return any(map(equal, value)) if len(value) <= _SHORT_LIST else scalar in _scalars_of(value)
        return isinstance(value, str) and in_text(value)

    return holds


def _in_text(part: str) -> Callable[[str], bool]:
    """Return a function that reports whether a text contains a part.

    Python takes up to 2 ms for a text of 250,000 characters, and the library of the patterns a tenth of that.
    """
    if len(part) > _LONG_PART:
        return lambda text: part in text
    return lambda text: part in text if len(text) <= _SHORT_TEXT else _finder(part)(text)


@lru_cache(_CACHED_FINDERS)
def _finder(part: str) -> Callable[[str], bool]:
    # Each takes 5 KiB, which is too much to keep for all filters.
    return matcher(_META.sub(r"\\\g<0>", part))


_PLAIN: Final = frozenset({str, int, float, type(None)})

_Lists: TypeAlias = dict[int, tuple[list[Any], frozenset[Any]]]

_lists: Final[ContextVar[_Lists]] = ContextVar("lists", default={})  # noqa: B039 - emptied after each message
"""The scalars of the long lists of the message that is being evaluated, by the list's identity.

A filter may ask a hundred times whether a list contains a value. Looking through 100,000 members takes milliseconds
each time.
"""


def _scalars_of(value: list[Any]) -> frozenset[Any]:
    lists = _lists.get()
    found = lists.get(id(value))
    if found is None or found[0] is not value:
        types = set(map(type, value))
        if types <= _PLAIN:
            scalars = frozenset(value)
        else:
            bools = {each for each in value if type(each) is bool}
            scalars = frozenset([each for each in value if type(each) in _PLAIN] + list(map(_scalar, bools)))
        found = lists[id(value)] = value, scalars
    return found[1]


def _scalar(value: Any) -> Any:
    """Return a value that equals only the same scalar: in Python, True == 1."""
    return (value,) if isinstance(value, bool) else value


def _regex(regex: Regex) -> Predicate:
    matches, longest = matcher(regex.pattern), regex.longest
    return lambda value: isinstance(value, str) and len(value) <= longest and matches(value)


_FACTORIES: Final[dict[str, Callable[[Any], Predicate]]] = {
    "$eq": _equals,
    "$in": _one_of,
    **{name: _order(name) for name in _COMPARISONS},
    "$prefix": lambda operand: lambda value: isinstance(value, str) and value.startswith(operand),
    "$suffix": lambda operand: lambda value: isinstance(value, str) and value.endswith(operand),
    "$contains": _contains,
    "$regex": _regex,
    "$exists": lambda operand: lambda value: (value is not MISSING) is operand,
}


class ConditionResult(NamedTuple):
    """The result of one condition of a filter."""

    pointer: str
    """JSON pointer of the condition in the filter."""
    holds: bool


class Filter:
    """A compiled filter."""

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        self._matches = predicate_of(condition)

    def accepts(self, entry: Entry) -> bool:
        try:
            return self._matches(FilterableMessage(entry))
        finally:
            _lists.get().clear()

    def explain(self, entry: Entry) -> tuple[bool, list[ConditionResult]]:
        """Return whether a message matches the filter, and the result of each condition, in order.

        If the data is not JSON, one result stands for all conditions on it.
        """
        message = FilterableMessage(entry)
        # This may run on a thread while filters accept messages on the event loop.
        token = _lists.set({})
        try:
            return self._matches(message), list(_results(self._condition, message))
        finally:
            _lists.reset(token)


class TypeFilter:
    """The types and patterns of a listener. A message without a type matches none."""

    def __init__(self, types: Sequence[str]) -> None:
        patterns = [parse_pattern(each) for each in types]
        # A queue has few types, so most messages need one lookup, whatever the number of patterns.
        self._matches = lru_cache(_CACHED_TYPES)(lambda given: any(each.matches(given) for each in patterns))

    def accepts(self, entry: Entry) -> bool:
        event_type = type_of(entry.extra)
        return event_type is not None and self._matches(event_type)


Criteria: TypeAlias = tuple[tuple[str, ...] | None, str | None]
"""The types and the text of the filter of a listener; None for all messages."""


def filters_of(criteria: Criteria) -> tuple[TypeFilter | Filter, ...]:
    """Return the filters that must all accept a message: types first, because they do not need its data."""
    types, text = criteria
    return (*([] if types is None else [TypeFilter(types)]), *([] if text is None else [compile_filter(text)]))


@lru_cache(_CACHED_FILTERS)
def compile_filter(text: str) -> Filter:
    """Return the filter of a text. Raises Unprocessable if it is invalid."""
    return Filter(parse_filter(text.encode(), "/filter"))


def _results(condition: Condition, value: Any) -> Iterator[ConditionResult]:
    if isinstance(condition, AllOf | AnyOf):
        for part in condition.parts:
            yield from _results(part, value)
    elif isinstance(condition, Not):
        yield from _results(condition.part, value)
    elif isinstance(condition, AtPath):
        yield from _results(condition.part, value_at(value, condition.steps))
    elif isinstance(condition, OnMember):
        try:
            part = member_of(condition, value)
        except ValueError:
            yield ConditionResult(condition.pointer, False)
        else:
            yield from _results(condition.part, part)
    else:
        yield ConditionResult(condition.pointer, predicate_of(condition)(value))
