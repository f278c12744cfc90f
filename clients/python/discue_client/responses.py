"""Exceptions by which a handler says how a delivery ended. A normal return acknowledges the message."""

from __future__ import annotations


class Response(Exception):
    """Base of the exceptions by which a handler responds. They are no errors."""


class Retry(Response):
    """Deliver the message again: after so many seconds, or as the listener's retry policy says."""

    def __init__(self, after: float | None = None) -> None:
        if after is not None and after < 0:
            raise ValueError("after must not be negative")
        super().__init__(after)
        self.after = after


class Reject(Response):
    """The message could not be processed: count a failed attempt. The retry policy decides what follows."""
