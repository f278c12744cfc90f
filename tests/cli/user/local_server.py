"""A developer's server: it records requests, and can be scripted, stopped and started again."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from tests.cli.commands import PATIENCE_SECONDS


class Received(NamedTuple):
    """A request, and the status that it was answered with."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


Respond = Callable[[str, bytes], tuple[int, bytes]]
"""Returns status and body of the response to the message with this id and body."""


def accept(_: str, __: bytes) -> tuple[int, bytes]:
    return 204, b""


class Held:
    """Responses that wait until they are released. Then, and to later requests, it responds with the status."""

    def __init__(self, status: int = 204) -> None:
        self._status = status
        self._released = threading.Event()

    def __call__(self, _: str, __: bytes) -> tuple[int, bytes]:
        assert self._released.wait(2 * PATIENCE_SECONDS)
        return self._status, b""

    def release(self) -> None:
        self._released.set()


class LocalServer:
    """Records each request and the status that it was answered with."""

    def __init__(
        self, respond: Respond = accept, port: int = 0, raw: bytes | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """`raw` is a whole response that is sent to each request instead."""
        self.arrived: list[str] = []
        """The ids of messages whose request has come, answered or not."""
        self.received: list[Received] = []
        self.respond = respond
        self._headers: dict[str, dict[str, str]] = {}
        self._changed = threading.Condition()
        local = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # The head and the body of a response in one packet: the client does not acknowledge half of one at once.
            wbufsize = -1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                local._note_arrival(headers)
                if raw is not None:
                    self.wfile.write(raw)
                    self.wfile.flush()
                    self.close_connection = True
                    return
                status, content = local.respond(headers["webhook-id"], body)
                local._add(Received(self.path, headers, body, status))
                self.send_response(status)
                if status != 204:
                    self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        # A connection that a killed process has left must not keep the test.
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}/hook"

    @property
    def accepted(self) -> list[str]:
        """The ids of messages that were answered with success, in order."""
        return [each.id for each in self.received if each.status < 300]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_SECONDS), self.received

    def headers_of(self, message_id: str) -> dict[str, str]:
        """Return the headers of the last request with this message."""
        return self._headers[message_id]

    def _note_arrival(self, headers: dict[str, str]) -> None:
        with self._changed:
            self.arrived.append(headers["webhook-id"])
            self._headers[headers["webhook-id"]] = headers
            self._changed.notify_all()

    def _add(self, received: Received) -> None:
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()

    @contextmanager
    def serving(self) -> Iterator["LocalServer"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@contextmanager
def local_server(
    respond: Respond = accept, port: int = 0, raw: bytes | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[LocalServer]:
    with LocalServer(respond, port, raw, tls).serving() as server:
        yield server
