"""What a filter says of a message."""

import msgspec

from discue.api.wire.answer import Answer


class ConditionShown(msgspec.Struct, frozen=True):
    """`pointer` says which condition of the filter it is."""

    pointer: str
    holds: bool


class FilterTestShown(msgspec.Struct, kw_only=True, frozen=True):
    """Whether a filter lets a message through, and what each of its conditions says on its own."""

    matches: bool
    conditions: list[ConditionShown]


class FilterTest(Answer, kw_only=True, frozen=True):
    filter_test: FilterTestShown
