"""Reservations of reads: what a request or a job is bounded by, and when an organization may begin one more."""

from typing import Final, NamedTuple, TypeAlias

LARGE_BYTES: Final = 16_384
"""Requests with larger bodies take turns. So do batches of any size."""

ROW_BYTES: Final = 2_048
"""The bytes that take about as long to read and to show as the rest of a row."""

SMALL_READ_BYTES: Final = 16_384
"""A reservation up to this size never waits: a request takes as much memory without it."""

_SEARCHED_ROWS: Final = 64
"""A search takes about as long to read as this many rows, whatever it finds."""

_ROWS_AT_ONCE: Final = 512
"""The rows that an organization may read at once, unless a single reservation has more."""

_PARTS: Final = 4
"""A single reservation counts as at most this part of the memory, so that there is room for one of any size."""

_BURST_SECONDS: Final = 0.1
"""The time that an organization may use beyond its share, after it has used less."""

_LONGEST_DEBT_SECONDS: Final = 1.0
_TOLERANCE_SECONDS: Final = 0.001
"""A timer may fire a little early."""

_MOST_SHARES: Final = 4
"""The time is divided into at most this many shares: an organization gets at least one of them."""

EVICTED_SECONDS: Final = _LONGEST_DEBT_SECONDS * _MOST_SHARES
"""After this time without a reservation, an account is as good as a new one."""


JOBS: Final = -1
"""The account of work that belongs to no organization."""


class ReadBound(NamedTuple):
    """An upper bound of what is read, and of what is held in memory because of it."""

    rows: int
    """How many small rows take as long to read. 0 for rows that are found by their keys: these wait for no turn."""
    bytes: int

    @classmethod
    def of_data(cls, size: int, copies: int = 1) -> "ReadBound":
        """Return the bound for data of a size that is read once, and held in some copies."""
        return cls(1 + size // ROW_BYTES, size * copies)

    @property
    def is_small(self) -> bool:
        """Whether a reservation never waits."""
        return not self.rows and self.bytes <= SMALL_READ_BYTES


class PageBound(NamedTuple):
    """The bound of a page of a list, which may take a search."""

    row_bytes: int
    """The largest size of a row in the response."""

    def of(self, rows: int) -> ReadBound:
        """Return the bound of a page with so many rows."""
        return ReadBound(_SEARCHED_ROWS, rows * self.row_bytes)


class Publishes(NamedTuple):
    """Declares a request that the queue of commits admits: it reserves only the time in which it is decoded."""


Reads: TypeAlias = ReadBound | PageBound | Publishes
"""The reservation that a route declares: it is made before the handler runs."""

NOTHING: Final = ReadBound(0, 0)
FEW_ROWS: Final = ReadBound(0, SMALL_READ_BYTES)
"""A few rows that are found by their keys, none of which is large."""
RESOURCE: Final = ReadBound(0, 131_072)
"""A resource with its options, such as a schema or a filter."""
LARGE_RESOURCE: Final = ReadBound(0, 524_288)
"""A resource with data, every character of which may be escaped."""
MESSAGE: Final = ReadBound(0, SMALL_READ_BYTES)
"""A message: its row first. The handler reserves the size of its data, which the row shows, before it reads that."""
PAGE: Final = PageBound(82_000)
"""A page of resources with their options."""
EVENTS: Final = ReadBound(_SEARCHED_ROWS, 2_097_152)
"""Up to 1,000 events."""
HTML_PAGE: Final = ReadBound(_SEARCHED_ROWS, 262_144)
"""A page for browsers: of resources, or of one of them with its latest events."""
DOCUMENT: Final = ReadBound(0, 1_048_576)
"""A document that is in memory: only the response takes more."""
STREAM: Final = ReadBound(0, 0)
"""Messages that are pulled: nothing while the request waits for them. The response reserves its size."""
STEP: Final = ReadBound(0, 2_097_152)
"""A step of a job that moves messages, at most 1 MiB, and what it makes of them."""
PUBLISHES: Final = Publishes()


class ReadingAccount:
    """The reservations of an organization, and the time that it may still use.

    The time is wall time: an organization uses it from the grant of a reservation until the end of its read.
    Reservations that overlap use their time once.
    """

    __slots__ = ("counted_at", "credit", "held", "reading", "rows")

    def __init__(self, now: float) -> None:
        self.held = 0
        """Reserved bytes."""
        self.reading = 0
        """The number of reservations whose read has not ended."""
        self.rows = 0
        """The rows of these."""
        self.credit = _BURST_SECONDS
        """The time that it may use, in seconds; negative while it has used too much."""
        self.counted_at = now

    def count_time(self, now: float, share: float) -> None:
        """Add the time since the last count to the credit, or subtract it."""
        passed = now - self.counted_at
        self.counted_at = now
        used = passed if self.reading else 0.0
        self.credit = max(-_LONGEST_DEBT_SECONDS, min(_BURST_SECONDS, self.credit + passed * share - used))

    def rest_seconds(self, share: float) -> float:
        """Return how long the organization must rest: it has used more than its share of the time."""
        return 0.0 if self.credit > -_TOLERANCE_SECONDS else -self.credit / share

    def may_read(self, rows: int) -> bool:
        """Return whether the organization reads so little at the moment that it may read this many rows as well."""
        return not self.reading or self.rows + rows <= _ROWS_AT_ONCE


def may_hold(cap: int, held: int, account: ReadingAccount, size: int) -> bool:
    """Return whether an organization may hold more bytes, of which all organizations hold at most `cap`.

    A dynamic threshold, as in `concurrency.may_send`: an organization may hold at most as much as is free. An
    organization that holds nothing may take all of it.
    """
    free = cap - held
    return size <= free if not account.held else account.held + size <= free


def counted_size(cap: int, size: int) -> int:
    """Return the bytes that a reservation counts as: one that is larger than a part of the memory is possible."""
    return min(size, cap // _PARTS)


def share_of_time(others: int) -> float:
    """Return an organization's share of the time, while others are active."""
    return 1 / min(_MOST_SHARES, others + 1)
