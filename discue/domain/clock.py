"""Where time comes from: always handed in, so that tests can move it."""

import time
from typing import Final, Protocol

LAST_INSTANT: Final = 253_402_300_799_999
"""The last millisecond of the year 9999, in milliseconds since the Unix epoch: what a client sends is no later."""


class Clock(Protocol):
    """Two readings of time. They are never mixed: one is for records, the other for measuring."""

    def now(self) -> int:
        """Wall-clock time, milliseconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
