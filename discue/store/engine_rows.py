"""Many rows in few statements."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from typing import TypeVar

T = TypeVar("T")

_LARGEST_CHUNK = 64


def chunks(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """The rows in runs whose lengths are powers of two, so that a handful of prepared statements serve any number.

    One execution for many rows also matters for a reason that is not SQLite's: each hands over the
    interpreter lock, and beside a busy event loop getting it back can take half a millisecond.
    """
    start = 0
    while remaining := len(rows) - start:
        length = min(1 << (remaining.bit_length() - 1), _LARGEST_CHUNK)
        yield rows[start : start + length]
        start += length


@cache
def value_rows(rows: int, columns: int) -> str:
    """`($1, $2), ($3, $4)` for two rows of two columns."""
    return ", ".join(
        "(" + ", ".join(f"${row * columns + column + 1}" for column in range(columns)) + ")" for row in range(rows)
    )


def statement(text: Callable[[str], str], columns: int) -> Callable[[int], str]:
    """A statement for any number of rows, each text made once: `text` puts the value_rows in their place."""

    @cache
    def of(rows: int) -> str:
        return text(value_rows(rows, columns))

    return of


@lru_cache(256)
def placeholders(first: int, count: int) -> str:
    """`$3, $4, $5` for an IN list."""
    return ", ".join(f"${number}" for number in range(first, first + count))
