"""Requests that the receivers of a test get, and their responses."""

from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class Received:
    """A request of the server, as it arrived."""

    method: str
    path: str
    """The path, percent-decoded."""
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)

    @cached_property
    def fields(self) -> dict[str, str]:
        """The headers by name in lower case."""
        return {name.lower(): value for name, value in self.headers}


@dataclass(frozen=True)
class Reply:
    """A response."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
