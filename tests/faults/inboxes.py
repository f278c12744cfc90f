"""An application with an inbox that is killed at times. Each message has one effect at each of its listeners."""

import sqlite3
from collections import Counter

from discue_client import inbox
from discue_client.inbox.table import create_statements
from tests.faults.history import History
from tests.faults.receiver import HANG_UP, Delivered

_FATES = ("before the commit", "after the commit", "with the mark")
_KILLS = 2
"""Maximum number of requests with one message during which the application is killed."""


class Application:
    """The application. Its database keeps what was committed when it is killed, and rolls the rest back."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._requests = Counter[tuple[str, str]]()
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        for statement in (*create_statements("sqlite"), "CREATE TABLE effects (listener text, message text)"):
            self._database.execute(statement)

    def handle(self, delivered: Delivered, *, is_gentle: bool) -> int:
        """Return the status to respond with."""
        listener, message = key = (delivered.path, delivered.message)
        # Deterministic, so that each run of a seed has the same fates.
        number = self._requests[key] + sum(message.encode())
        self._requests[key] += 1
        fate = _FATES[number % len(_FATES)] if self._requests[key] <= _KILLS and not is_gentle else ""
        try:
            self._transact(listener, message, fate)
        except _Killed:
            return HANG_UP
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            count = "SELECT count(*) FROM effects WHERE listener = ? AND message = ?"
            ((self._history.effects[f"{listener} {message}"],),) = self._database.execute(count, key).fetchall()
        return 200

    def _transact(self, listener: str, message: str, fate: str) -> None:
        self._database.execute("BEGIN")
        with inbox.once(self._database, message, consumer=listener) as first:
            if fate == "with the mark":
                raise _Killed
            if first:
                self._database.execute("INSERT INTO effects VALUES (?, ?)", (listener, message))
        if fate == "before the commit":
            raise _Killed
        self._database.execute("COMMIT")
        if fate == "after the commit":
            raise _Killed


class _Killed(Exception):
    """The application ends here."""
