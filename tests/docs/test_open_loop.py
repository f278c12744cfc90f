"""The benchmark process that publishes and receives: its counts and times are the basis of the results."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from benchmarks.child import Child, python


class _Service(ThreadingHTTPServer):
    """A service that accepts messages and delivers each one `times` times."""

    request_queue_size = 128

    def __init__(self, listener: int, times: int, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.listener = listener
        self.times = times
        self.status = status
        self.published: list[tuple[str, int]] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        service = cast("_Service", self.server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = body.get("messages", [body])
        service.published.append((self.path, len(messages)))
        self.send_response(service.status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        for _ in range(service.times):
            _deliver(service.listener, messages[0]["data"])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name where it is from
        """Discard the log line."""


def _deliver(port: int, data: object) -> None:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", "/", json.dumps(data))
        assert connection.getresponse().read() == b""


@contextmanager
def _service(listener: int, times: int = 1, status: int = 200) -> Iterator[_Service]:
    with _Service(listener, times, status) as service:
        serving = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield service
        service.shutdown()
        serving.join()


@pytest.fixture
def ends() -> Iterator[tuple[Child, int]]:
    core = min(os.sched_getaffinity(0))
    with Child([core], "open loop", python("benchmarks.open_loop")) as child:
        yield child, int(child.hear()["port"])


def _run(ends: Child, services: list[_Service], **more: object) -> dict[str, Any]:
    wish = {"ports": [one.server_port for one in services], "paths": ["/a", "/b"], "key": "k", "rate": 40}
    ends.tell({**wish, "seconds": 0.5, "warm_seconds": 0, **more})
    return ends.hear()


def test_every_queue_is_published_to_through_every_worker(ends: tuple[Child, int]) -> None:
    child, port = ends
    with ExitStack() as opened:
        services = [opened.enter_context(_service(port)) for _ in range(2)]
        seen = _run(child, services)

    assert [{path for path, _ in service.published} for service in services] == [{"/a", "/b"}] * 2
    assert seen["published"] == seen["received"] == sum(len(service.published) for service in services) == 20
    assert (seen["refused"], seen["repeated"]) == (0, 0)


def test_duplicates_are_counted_and_timed_by_the_first_receipt(ends: tuple[Child, int]) -> None:
    child, port = ends
    with _service(port, times=2) as service:
        seen = _run(child, [service], answer_ms=100)

    assert seen["received"] == 20
    # The last messages may come for the second time after all have come once.
    assert 10 <= seen["repeated"] <= 20
    assert 0 < seen["wakes"]["p50"] < 100


def test_rejected_messages_are_not_expected(ends: tuple[Child, int]) -> None:
    child, port = ends
    with _service(port, times=0, status=503) as service:
        seen = _run(child, [service])

    assert (seen["published"], seen["refused"], seen["received"]) == (0, 20, 0)
    assert seen["receipts"] is None
