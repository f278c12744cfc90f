"""How long commits take lately, and so how long whoever waits for one has to reckon with."""

from collections.abc import Callable

_SHARE = 0.5
"""How much the last commit counts beside those before it."""


class CommitTime:
    """Of commits one after another. `monotonic` is in seconds."""

    __slots__ = ("_began", "_monotonic", "_usual")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._usual = 0.0
        self._began: float | None = None

    def begin(self) -> None:
        """A commit begins."""
        self._began = self._monotonic()

    def end(self) -> None:
        """It has ended, well or not."""
        if self._began is not None:
            self._usual += (self._monotonic() - self._began - self._usual) * _SHARE
            self._began = None

    def seconds(self, commits: int) -> float:
        """Until so many commits have ended that have not begun. The one under way may take as long again as it has
        taken, and those after it no less."""
        each = self._usual if self._began is None else max(self._usual, self._monotonic() - self._began)
        return each * (commits + (self._began is not None))
