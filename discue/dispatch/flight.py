"""A request under way."""

from typing import Protocol

from discue.model import Entry, Outcome


class LeftBehind(Protocol):
    """Who hears what becomes of a request when its lane does not: `handed_over.Parting`."""

    def ended(self, flight: "Flight", outcome: Outcome) -> None: ...


class Flight:
    """`excepted` when its delivery stands apart from the cursor, as an exception.

    `parting` is set when its lane has given it away.
    """

    __slots__ = ("config_version", "excepted", "is_retry", "message_id", "number", "parting", "seq")

    def __init__(self, entry: Entry, number: int, config_version: int, *, is_retry: bool) -> None:
        self.seq = entry.seq
        self.message_id = entry.id
        self.number = number
        self.config_version = config_version
        self.is_retry = is_retry
        self.excepted = is_retry
        self.parting: LeftBehind | None = None
