"""A receiver with an inbox that kills itself: `… -m tests.faults.inbox_lives DATABASE PORT POINT OCCURRENCE [BUG]`.

It verifies each request and stores an effect for its message. It kills itself with SIGKILL at the given occurrence of
the point. Some requests get a 500 after their commit, so that they are sent again.
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, Final

import psycopg

from discue_client import Webhook, inbox
from tests.clients.python.outbox.databases import connect
from tests.faults.outbox_lives import Death

POINTS: Final = ("before_mark", "after_mark", "after_effect", "before_commit", "after_commit", "after_response")
MARKS_APART: Final = "marks_apart"
"""A bug: the mark is committed separately from the effect."""
_REFUSED_EVERY: Final = 7
_LOCK_WAIT_SECONDS: Final = 30


class Receiver(ThreadingHTTPServer):
    """A thread for each connection of the service, each with its own connection to the database."""

    request_queue_size = 128

    def __init__(self, database: str, port: int, death: Death, bug: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.webhook = Webhook()
        self.death = death
        self.bug = bug
        self.numbers = count(1)
        self._database = database
        self._own = threading.local()

    def connection(self) -> Any:
        """Return the connection of this thread. It commits where it is told to."""
        if not hasattr(self._own, "connection"):
            made = self._own.connection = connect(self._database)
            if not isinstance(made, psycopg.Connection):
                made.execute(f"PRAGMA busy_timeout = {_LOCK_WAIT_SECONDS * 1_000}")
        return self._own.connection

    def handle_message(self, body: bytes, headers: dict[str, str]) -> None:
        event = self.webhook.unwrap(body, headers)
        connection, reached = self.connection(), self.death.reached
        begin = "BEGIN" if isinstance(connection, psycopg.Connection) else "BEGIN IMMEDIATE"
        reached("before_mark")
        connection.execute(begin)
        with inbox.once(connection, event) as first:
            if self.bug != MARKS_APART:
                self._effect(connection, event.id, first=first)
        if self.bug == MARKS_APART:
            connection.execute("COMMIT")
            connection.execute(begin)
            self._effect(connection, event.id, first=first)
        reached("before_commit")
        connection.execute("COMMIT")
        reached("after_commit")

    def _effect(self, connection: Any, message: str, *, first: bool) -> None:
        self.death.reached("after_mark")
        if first:
            connection.execute(f"INSERT INTO effects VALUES ('{message}')")
        self.death.reached("after_effect")


class Handler(BaseHTTPRequestHandler):
    """A delivery."""

    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.handle_message(body, dict(self.headers.items()))
        is_refused = next(self.server.numbers) % _REFUSED_EVERY == 0
        self.send_response(500 if is_refused else 204)
        if is_refused:
            self.send_header("content-length", "0")
        self.end_headers()
        self.wfile.flush()
        self.server.death.reached("after_response")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    database, port, point, occurrence, *bug = sys.argv[1:]
    Receiver(database, int(port), Death(point, int(occurrence)), "".join(bug)).serve_forever()
