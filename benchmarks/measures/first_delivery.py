"""How long does the first message of a new listener take, compared with the next one?"""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue

import msgspec

from benchmarks.bench import Bench
from benchmarks.failure import BenchmarkFailed
from benchmarks.medians import median, quantile
from benchmarks.product import Product, Queue
from benchmarks.table import Row, at_most, seen

_LISTENERS = 40
_FIRST_MS = 10.0
_WITHIN_SECONDS = 10.0
_BODY = msgspec.json.encode({"data": {"order": 17}})


class _Arrivals(ThreadingHTTPServer):
    """Acknowledges every delivery, and notes when it came."""

    def __init__(self) -> None:
        self.came_at: SimpleQueue[float] = SimpleQueue()
        super().__init__(("127.0.0.1", 0), _Arriving)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class _Arriving(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Arrivals

    def do_POST(self) -> None:
        came_at = time.perf_counter()
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()
        self.server.came_at.put(came_at)

    def do_GET(self) -> None:
        """Answer a probe."""
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - its name in the base class
        """Log nothing."""


def measure(bench: Bench) -> list[Row]:
    rows: list[Row] = []
    for engine, made in (("SQLite", bench.product), ("PostgreSQL", bench.product_on_postgres)):
        with made("first-delivery") as product, _arrivals() as arrivals:
            times = [_two_messages(product, arrivals) for _ in range(_LISTENERS)]
        # The first ones find a process that has just started.
        first, second = ([each[place] for each in times[2:]] for place in (0, 1))
        name = f"request to receipt of a new listener's first message on {engine}"
        rows.append(seen(f"{name}, in a new process", f"{times[0][0]:.1f} ms"))
        rows.append(at_most(f"{name}, median", median(first), _FIRST_MS, " ms"))
        rows.append(
            seen("its longest, and the median of second messages", f"{_longest(first)}, {median(second):.1f} ms")
        )
    return rows


def _longest(values: list[float]) -> str:
    return f"{quantile(values, 1):.1f} ms"


def _two_messages(product: Product, arrivals: _Arrivals) -> tuple[float, float]:
    """Create a listener, publish at once, and again. Returns the milliseconds from each request to its receipt."""
    queue = product.queue()
    connection = http.client.HTTPConnection("127.0.0.1", product.port, timeout=_WITHIN_SECONDS)
    connection.connect()
    product.listener(queue, arrivals.url)
    try:
        return _publish(connection, product, queue, arrivals), _publish(connection, product, queue, arrivals)
    finally:
        connection.close()


def _publish(connection: http.client.HTTPConnection, product: Product, queue: Queue, arrivals: _Arrivals) -> float:
    began_at = time.perf_counter()
    connection.request("POST", queue.messages, _BODY, product.headers)
    response = connection.getresponse()
    response.read()
    if response.status != http.client.OK:
        raise BenchmarkFailed(f"a publish was answered with {response.status}")
    try:
        return (arrivals.came_at.get(timeout=_WITHIN_SECONDS) - began_at) * 1_000
    except Empty:
        raise BenchmarkFailed("a message did not arrive") from None


@contextmanager
def _arrivals() -> Iterator[_Arrivals]:
    with _Arrivals() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
