"""When a lane stops taking new messages: a listener that fails always must not turn its backlog into rows."""

RETRYING_LIMIT = 1_000
FAILURES_IN_A_ROW = 100
PAUSE_MS = 30_000


class Throttle:
    """Whether only one new message per pause may start, while the retries go on by their schedule.

    Both must hold: a thousand deliveries have rows, and the last hundred attempts all failed. Messages that are blocked
    behind a key have no rows, and do not count: one failing key with many behind it must not stop the other keys.
    One success ends it, and so does another endpoint. A pause begins with the last new message, not with the last
    failure, since retries fail all the time. It lasts `until` then, 0 when there is none.
    """

    __slots__ = ("_failures_in_a_row", "until")

    def __init__(self) -> None:
        self._failures_in_a_row = 0
        self.until = 0

    @property
    def only_fails(self) -> bool:
        """Whether the last hundred attempts all failed."""
        return self._failures_in_a_row >= FAILURES_IN_A_ROW

    def failed(self) -> None:
        self._failures_in_a_row += 1

    def end(self) -> None:
        self._failures_in_a_row = self.until = 0

    def allows(self, now: int, open_rows: int) -> bool:
        """Whether a new message may start now."""
        return now >= self.until or not self._holds(open_rows)

    def begun(self, now: int, open_rows: int) -> bool:
        """A new message has started. Whether a pause begins with that."""
        if not self._holds(open_rows):
            return False
        self.until = now + PAUSE_MS
        return True

    def _holds(self, open_rows: int) -> bool:
        return self.only_fails and open_rows >= RETRYING_LIMIT
