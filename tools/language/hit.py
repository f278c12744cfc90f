"""A place that breaks a rule."""

from typing import NamedTuple


class Hit(NamedTuple):
    """A place that breaks a rule, and what to write instead."""

    path: str
    """Relative to the root of the repository, with `/`."""
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"
