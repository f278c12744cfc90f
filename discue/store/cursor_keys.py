"""Many cursors in one statement, each by its key; and those that nobody owns on purpose."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from discue.store.engine import CursorKey

_LARGEST_RUN: Final = 256
_KEY: Final = "(CAST(${} AS BIGINT), CAST(${} AS BIGINT), CAST(${} AS BIGINT))"
_LISTENER: Final = "(CAST(${} AS BIGINT), CAST(${} AS BIGINT))"


def runs(keys: Sequence[CursorKey]) -> Iterator[Sequence[CursorKey]]:
    """The keys in their order, in runs whose lengths are powers of two: a handful of statements serve any number."""
    ordered = sorted(keys)
    start = 0
    while remaining := len(ordered) - start:
        length = min(1 << (remaining.bit_length() - 1), _LARGEST_RUN)
        yield ordered[start : start + length]
        start += length


@cache
def among(count: int, first: int) -> str:
    """The condition that a row is one of so many cursors, whose keys are the parameters from `$first` on."""
    keys = ", ".join(_KEY.format(number, number + 1, number + 2) for number in range(first, first + 3 * count, 3))
    return f"(organization, listener, stream) IN (VALUES {keys})"


@cache
def among_listeners(count: int, first: int) -> str:
    """The condition that a row is of one of so many listeners, each given by organization and row id."""
    keys = ", ".join(_LISTENER.format(number, number + 1) for number in range(first, first + 2 * count, 2))
    return f"(organization, listener) IN (VALUES {keys})"


def flat(keys: Sequence[CursorKey]) -> list[int]:
    """The parameters that `among` asks for."""
    return [part for key in keys for part in key]
