"""How many bytes of messages the lanes of a worker may hold in memory while they wait to be sent."""


class BodyBudget:
    """A count with a limit. What does not fit is read again from the log when its turn comes."""

    __slots__ = ("_limit", "held")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    @property
    def left(self) -> int:
        return max(0, self._limit - self.held)

    def take(self, size: int) -> bool:
        if self.held + size > self._limit:
            return False
        self.held += size
        return True

    def force(self, size: int) -> None:
        """Take it all the same: for the page that a lane needs to go on, which is bounded by itself."""
        self.held += size

    def give_back(self, size: int) -> None:
        self.held -= size
