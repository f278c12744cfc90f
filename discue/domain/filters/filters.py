"""Message filters of listeners, channels and replays."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from discue.domain.filters.conditions import AllOf, AnyOf, AtPath, Condition, Not, OnMember
from discue.domain.filters.evaluation import FilterableMessage, member_of, predicate_of, value_at
from discue.domain.filters.parser import parse_filter
from discue.domain.messages import Entry

_CACHED: Final = 1_000


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
        """Return whether a message matches the filter."""
        return self._matches(FilterableMessage(entry.body, entry.extra, is_json=entry.is_json))

    def explain(self, entry: Entry) -> list[ConditionResult]:
        """Return the result of each condition, in order; if the data is not JSON, one for all conditions on it."""
        return list(_results(self._condition, FilterableMessage(entry.body, entry.extra, is_json=entry.is_json)))


@lru_cache(_CACHED)
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
