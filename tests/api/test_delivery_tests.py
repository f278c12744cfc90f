"""`POST …/tests`, as clients see it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.support.problems import pointers, problem
from tests.support.served_api import Cast


class _Server(HTTPServer):
    received: list[tuple[dict[str, str], bytes]]


@contextmanager
def listening(host: str) -> Iterator[_Server]:
    """A listener that answers every request with 503 and a secret."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            server.received.append(({name.lower(): value for name, value in self.headers.items()}, content))
            self.send_response(503)
            self.send_header("x-internal", "build 17")
            self.end_headers()
            self.wfile.write(b"only for us")

        def log_message(self, *_: object) -> None:
            pass

    with _Server((host, 0), Handler) as server:
        server.received = []
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _listener(cast: Cast, url: str, **fields: object) -> str:
    queue = cast.queue()
    return f"/queues/{queue}/listeners/{cast.listener(queue, notify_url=url, **fields)}"


def test_the_answer_says_all_that_happened(cast: Cast) -> None:
    with listening("127.0.0.2") as server:
        path = _listener(cast, f"http://127.0.0.2:{server.server_port}/notify", headers={"authorization": "Bearer x"})
        shown = cast.alice.post(f"{path}/tests", json={"data": {"n": 1}}).json()["test"]
        [(headers, content)] = server.received
    assert (content, headers["discue-test"], headers["discue-attempt"]) == (b'{"n":1}', "true", "1")
    assert (shown["state"], shown["error"], shown["status"], shown["status_class"]) == ("failed", "status", 503, "5xx")
    assert shown["response"]["body"] == "only for us"
    assert {"name": "x-internal", "value": "build 17"} in shown["response"]["headers"]
    assert {"name": "authorization", "value": "[hidden]"} in shown["request"]["headers"]
    assert shown["connection"]["address"] == f"127.0.0.2:{server.server_port}"
    assert not shown["withheld"]
    assert shown["timings"]["total_ms"] >= 0


_WITH_ANY_DIGITS = {"message_id", "started_at", "request"}


def test_test_of_a_private_address_shows_only_the_outcome(cast: Cast) -> None:
    with listening("127.0.0.1") as server:
        path = _listener(cast, f"http://127.0.0.1:{server.server_port}/notify", status="disabled")
        answer = cast.alice.post(f"{path}/tests", json={})
        [(headers, content)] = server.received
    shown = answer.json()["test"]
    assert (content, headers["webhook-id"]) == (b'{"test":true}', shown["message_id"])
    assert shown.keys() == {"message_id", "started_at", "state", "error", "status_class", "withheld", "request"}
    outcome = (shown["state"], shown["error"], shown["status_class"], shown["withheld"])
    assert outcome == ("failed", "status", "5xx", True)
    assert "only for us" not in answer.text
    # Ids, times and ports may have any digits.
    assert "503" not in str([value for name, value in shown.items() if name not in _WITH_ANY_DIGITS])


def test_test_request_is_not_stored(cast: Cast) -> None:
    path = _listener(cast, "http://127.0.0.1:9/")
    before, counts = cast.alice.get(path).json(), cast.alice.get("/stats/messages").json()
    events = cast.alice.get("/events").json()["events"]
    message = cast.alice.post(f"{path}/tests", headers={"idempotency-key": "once"}).json()["test"]["message_id"]
    again = cast.alice.post(f"{path}/tests", headers={"idempotency-key": "once"})
    assert again.json()["test"]["message_id"] != message
    assert cast.alice.get(path).json() == before
    assert cast.alice.get("/stats/messages").json() == counts
    assert cast.alice.get("/events").json()["events"] == events
    assert cast.alice.get(f"{path}/attempts").json()["attempts"] == []
    assert cast.alice.get(f"{path.partition('/listeners')[0]}/messages/{message}").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"headers": {"webhook-id": "x"}}, 422, "/headers/webhook-id"),
        ({"headers": {"a": "1", "A": "2"}}, 422, "/headers"),
        ({"payload": 1}, 400, "/payload"),
    ],
)
def test_invalid_test_request_is_refused(cast: Cast, body: dict[str, object], status: int, pointer: str) -> None:
    answer = cast.alice.post(f"{_listener(cast, 'http://127.0.0.1:9/')}/tests", json=body)
    assert pointers(problem(answer, status)) == [pointer]


def test_more_than_ten_at_once_are_too_many(cast: Cast) -> None:
    path = _listener(cast, "http://127.0.0.1:9/")
    statuses = [cast.alice.post(f"{path}/tests").status_code for _ in range(30)]
    assert statuses[:10] == [200] * 10
    assert 429 in statuses
