"""Listeners' endpoints: every request is kept, and gets the response that the test chooses."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import NamedTuple

PATIENCE_SECONDS = 60.0


class Received(NamedTuple):
    """A request as it came; the names of headers in lower case."""

    method: str
    headers: dict[str, str]
    content: bytes


class Reply(NamedTuple):
    """A response of the receiver."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes = b""


class Endpoint:
    """A URL of the receiver. It gives `replies` in turn and repeats the last one; probes succeed."""

    def __init__(self, url: str, changed: threading.Condition, replies: tuple[Reply, ...]) -> None:
        self.url = url
        self.received: list[Received] = []
        self.liveness_status = 200
        """The status that probes are answered with."""
        self.probes = 0
        self._replies = replies or (Reply(),)
        self._changed = changed

    def take(self, received: Received) -> Reply:
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()
            return self._replies[min(len(self.received), len(self._replies)) - 1]

    def take_probe(self) -> int:
        """Count a probe, and return the status to answer with."""
        with self._changed:
            self.probes += 1
            self._changed.notify_all()
            return self.liveness_status

    def until_probed(self, times: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.probes >= times, PATIENCE_SECONDS), self.probes

    def find(self, is_meant: Callable[[Received], bool], within_seconds: float) -> Received | None:
        """Return a request that is meant as soon as there is one; None if none comes within some time."""
        with self._changed:
            self._changed.wait_for(lambda: any(map(is_meant, self.received)), within_seconds)
            return next(filter(is_meant, self.received), None)

    def until(self, requests: int, within_seconds: float = PATIENCE_SECONDS) -> list[Received]:
        """The requests, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.received) >= requests, within_seconds), self.received
            return list(self.received)


class Receiver:
    """An HTTP server with as many endpoints as are asked for."""

    def __init__(self, server: ThreadingHTTPServer, endpoints: dict[str, Endpoint]) -> None:
        self._place = "http://{}:{}".format(*server.server_address[:2])
        self._endpoints = endpoints
        self._changed = threading.Condition()
        self._numbers = count(1)

    def endpoint(self, *replies: Reply) -> Endpoint:
        path = f"/endpoint-{next(self._numbers)}"
        self._endpoints[path] = Endpoint(self._place + path, self._changed, replies)
        return self._endpoints[path]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


@contextmanager
def receiving(host: str) -> Iterator[Receiver]:
    """A receiver at an address of this machine."""
    endpoints: dict[str, Endpoint] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:
                self.close_connection = True

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            endpoint = endpoints.get(self.path)
            received = Received(self.command, headers, self.rfile.read(length))
            reply = endpoint.take(received) if endpoint is not None else Reply(404)
            self.send_response(reply.status)
            for name, value in reply.headers:
                self.send_header(name, value)
            self.send_header("content-length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        def do_GET(self) -> None:
            endpoint = endpoints.get(self.path)
            self.send_response(200 if endpoint is None else endpoint.take_probe())
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with _Server((host, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield Receiver(server, endpoints)
        finally:
            server.shutdown()
