"""Reservations of reads: the bound of each request or job, and the rules for when an organization may begin another."""

from typing import Final, NamedTuple, TypeAlias

from discue.domain.event_types import MAX_CATALOGUE_BYTES
from discue.domain.message_data import LONGEST_ESCAPE

LARGE_BYTES: Final = 16_384
"""Requests with a larger body wait for a turn, as do batches of any size."""

BYTES_A_PAGE: Final = 1_048_576
"""The largest size of the message data in a page of a list."""

ROW_BYTES: Final = 2_048
"""The number of bytes that take about as long to read and show as the rest of a row."""

SMALL_READ_BYTES: Final = 16_384
"""A reservation up to this size never waits for memory: a request needs that much anyway."""

_SEARCHED_ROWS: Final = 64
"""The number of rows that take about as long to read as a search, whatever the search finds."""

_ROWS_AT_ONCE: Final = 512
"""The number of rows that an organization may read at once. A single reservation may have more."""

_BURST_SECONDS: Final = 0.1
"""The largest credit, in seconds: time that an organization may use beyond its share after it has used less."""

_LONGEST_DEBT_SECONDS: Final = 1.0
_TOLERANCE_SECONDS: Final = 0.001
"""Timers may fire a little early."""

_MOST_SHARES: Final = 4
"""The time is divided into at most this many shares, of which an organization gets at least one."""

EVICTED_SECONDS: Final = _LONGEST_DEBT_SECONDS * _MOST_SHARES
"""After this time without a reservation, an account equals a new one."""


JOBS: Final = -1
"""The account of work that belongs to no organization."""


class ReadBound(NamedTuple):
    """An upper bound of a read and of the memory that it needs."""

    rows: int
    """How many small rows take as long to read. 0 for rows that are found by their keys: they need no turn."""
    bytes: int

    @classmethod
    def of_data(cls, size: int, shown: int = 0) -> "ReadBound":
        """Return the bound for data of a size, which takes `shown` bytes of the response."""
        return cls(1 + size // ROW_BYTES, size + shown)


class PageBound(NamedTuple):
    """The bound of a page of a list, which may need a search."""

    row_bytes: int
    """The largest size of a row in the response, without data."""
    data_bytes: int = 0
    """How much larger the page is with the data of its messages."""

    def of(self, rows: int, *, with_data: bool = False) -> ReadBound:
        """Return the bound of a page with a number of rows."""
        return ReadBound(_SEARCHED_ROWS, rows * self.row_bytes + self.data_bytes * with_data)


class Publishes(NamedTuple):
    """Declares a request that the queue of commits admits: it reserves only the time to decode its body."""


Reads: TypeAlias = ReadBound | PageBound | Publishes
"""The reservation that a route declares. It is made before the handler runs."""

NOTHING: Final = ReadBound(0, 0)
FEW_ROWS: Final = ReadBound(0, SMALL_READ_BYTES)
"""A few small rows that are found by their keys."""
RESOURCE: Final = ReadBound(0, 131_072)
"""A resource with its options, such as a schema or a filter."""
LARGE_RESOURCE: Final = ReadBound(0, 524_288)
"""A resource with data in which every character may be escaped."""
MESSAGE: Final = ReadBound(0, SMALL_READ_BYTES)
"""The row of a message. The row has the size of the data, which the handler reserves before it reads the data."""
PAGE: Final = PageBound(82_000)
"""A page of resources with their options."""
MESSAGES: Final = PageBound(82_000, BYTES_A_PAGE * (1 + LONGEST_ESCAPE))
"""A page of messages, on request with data in which every character may be escaped."""
TRANSFORM_TEST: Final = MESSAGES.of(1, with_data=True)
"""The newest messages of a queue, a page at a time, and a few results."""
CATALOGUE: Final = ReadBound.of_data(MAX_CATALOGUE_BYTES, 2 * MAX_CATALOGUE_BYTES)
"""All event types of an organization, in a document."""
GROUPS: Final = ReadBound(_ROWS_AT_ONCE, 262_144)
"""Groups of missed messages, which are counted by an index: an organization reads them once at a time."""
EVENTS: Final = ReadBound(_SEARCHED_ROWS, 2_097_152)
"""Up to 1,000 events."""
HTML_PAGE: Final = ReadBound(_SEARCHED_ROWS, 262_144)
"""A page for browsers: of resources, or of one of them with its latest events."""
DOCUMENT: Final = ReadBound(0, 2_621_440)
"""A document that is already in memory: only the response needs more, which may be indented."""
STREAM: Final = ReadBound(0, 0)
"""Pulled messages: nothing while the request waits for them. The response takes over the reservation of the round. A
stream holds what is unread."""
STEP: Final = ReadBound(0, 2_097_152)
"""A step of a job that moves up to 1 MiB of messages, with the results."""
PUBLISHES: Final = Publishes()


class ReadingAccount:
    """The reservations of an organization and the time that it may use.

    The time is wall time: an organization uses it from the grant of a reservation until the end of its read. The time
    of overlapping reservations counts once.
    """

    __slots__ = ("counted_at", "credit", "held", "reading", "rows")

    def __init__(self, now: float) -> None:
        self.held = 0
        """Reserved bytes."""
        self.reading = 0
        """The number of reservations whose read has not ended."""
        self.rows = 0
        """The rows of these reservations."""
        self.credit = _BURST_SECONDS
        """The time that it may use, in seconds. Negative after it has used too much."""
        self.counted_at = now

    def count_time(self, now: float, share: float) -> None:
        """Update the credit: add the share of the time since the last count, and subtract the time that was used."""
        passed = now - self.counted_at
        self.counted_at = now
        used = passed if self.reading else 0.0
        self.credit = max(-_LONGEST_DEBT_SECONDS, min(_BURST_SECONDS, self.credit + passed * share - used))

    def rest_seconds(self, share: float) -> float:
        """Return how long the organization must rest after it has used more than its share of the time."""
        return 0.0 if self.credit > -_TOLERANCE_SECONDS else -self.credit / share

    def may_read(self, rows: int) -> bool:
        """Return whether the organization may read this many more rows now."""
        return not self.reading or self.rows + rows <= _ROWS_AT_ONCE


def share_of_time(others: int) -> float:
    """Return an organization's share of the time while other organizations are active."""
    return 1 / min(_MOST_SHARES, others + 1)
