"""A collector of OpenTelemetry: keeps the spans that it is sent, or behaves as badly as the test says."""

import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

PATIENCE_SECONDS = 20.0


class SeenSpan(NamedTuple):
    """A span as the collector got it. Ids are hexadecimal."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str | int]
    links: tuple[str, ...]
    """Span ids."""
    is_error: bool
    seconds: float
    resource: dict[str, str | int]


class Collector:
    """A collector at a URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        """The status of its responses."""
        self.spans: list[SeenSpan] = []
        self.requests = 0
        self._changed = threading.Condition()

    def take(self, content: bytes) -> int:
        """Keep the spans of a request, and return the status to answer with."""
        request = ExportTraceServiceRequest.FromString(content)
        with self._changed:
            self.requests += 1
            if self.status == 200:
                self.spans += _spans_of(request)
            self._changed.notify_all()
            return self.status

    @contextmanager
    def held(self) -> Iterator[None]:
        """Answer no request during the block."""
        with self._changed:
            yield

    def until(self, count: int) -> list[SeenSpan]:
        """Return the spans, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.spans) >= count, PATIENCE_SECONDS), self.spans
            return list(self.spans)

    def until_asked(self, requests: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.requests >= requests, PATIENCE_SECONDS), self.requests


def _spans_of(request: ExportTraceServiceRequest) -> Iterator[SeenSpan]:
    for of_resource in request.resource_spans:
        resource = _values(of_resource.resource.attributes)
        for scope in of_resource.scope_spans:
            for span in scope.spans:
                yield SeenSpan(
                    span.name,
                    Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    _values(span.attributes),
                    tuple(link.span_id.hex() for link in span.links),
                    span.status.code == Status.STATUS_CODE_ERROR,
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    resource,
                )


def _values(attributes: Any) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in attributes}


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """A collector on loopback, on a free port unless one is given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                content = zlib.decompress(content, wbits=31)
            self.send_response(collector.take(content))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the class calls it
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def hanging() -> Iterator[tuple[str, threading.Event]]:
    """A collector that takes connections and never responds; the event says that a request has come."""
    came = threading.Event()
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connections.append(connection)
                came.set()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", came
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                connection.close()
