"""A listener's filter: whether it takes a message, and why."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from discue.domain.filters.closures import closure_of, value_at, value_of
from discue.domain.filters.conditions import AllOf, AnyOf, AtPath, Condition, Not, OnMember
from discue.domain.filters.reading import read_filter
from discue.domain.filters.subject import MessageView
from discue.domain.model import Entry

_KEPT: Final = 1_000


class ConditionResult(NamedTuple):
    """Whether one condition of a filter holds. `pointer` says where in the filter it stands."""

    pointer: str
    holds: bool


class Filter:
    """The conditions that a message must fulfil."""

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        self._holds = closure_of(condition)

    def takes(self, entry: Entry) -> bool:
        return self._holds(MessageView(entry.body, entry.extra, is_json=entry.is_json))

    def answers(self, entry: Entry) -> list[ConditionResult]:
        """For each condition on its own, in their order. For data that is not JSON, one for all that are about it."""
        return list(_answers(self._condition, MessageView(entry.body, entry.extra, is_json=entry.is_json)))


@lru_cache(_KEPT)
def compile_filter(text: str) -> Filter:
    """From the text of a filter that was found acceptable. Raises Unprocessable for any other."""
    return Filter(read_filter(text.encode(), "/filter"))


def _answers(condition: Condition, value: Any) -> Iterator[ConditionResult]:
    if isinstance(condition, AllOf | AnyOf):
        for part in condition.parts:
            yield from _answers(part, value)
    elif isinstance(condition, Not):
        yield from _answers(condition.part, value)
    elif isinstance(condition, AtPath):
        yield from _answers(condition.part, value_at(value, condition.steps))
    elif isinstance(condition, OnMember):
        try:
            part = value_of(condition, value)
        except ValueError:
            yield ConditionResult(condition.pointer, False)
        else:
            yield from _answers(condition.part, part)
    else:
        yield ConditionResult(condition.pointer, closure_of(condition)(value))
