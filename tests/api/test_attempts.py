"""Deliveries and attempts as clients see them."""

import re
from typing import Any

import pytest

from discue.domain.attempts import HIDDEN, Timings, Trace
from tests.support.problems import pointers, problem
from tests.support.served_api import Cast

TRACE = Trace(
    request_head=b"POST /in HTTP/1.1\r\nhost: shop.example.com\r\nwebhook-signature: v1,AA\r\nX-Own: s3cr3t\r\n\r\n",
    response_headers=((b"retry-after", b"30"), (b"set-cookie", b"s3cr3t")),
    excerpt=b"down\xff",
    body_bytes=20_000,
    address="203.0.113.7:443",
    is_reused=False,
    timings=Timings(3, 8, 17, 5, 34),
)
UNCONNECTED = Trace(b"POST / HTTP/1.1\r\nhost: x\r\n\r\n", (), b"", 0, "", False, Timings(12, None, None, None, 12))


class Tried:
    """A message of alice's, tried for two listeners."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.queue = cast.queue()
        self.listeners = [cast.listener(self.queue) for _ in range(2)]
        self.message = cast.message(self.queue)
        self.of_message = f"/queues/{self.queue}/messages/{self.message}"
        self.of_listener = f"/queues/{self.queue}/listeners/{self.listeners[0]}"

    def attempt(self, listener: int = 0, detail: Trace | None = None, **fields: Any) -> str:
        return self.cast.attempt(self.listeners[listener], self.message, detail, **fields)

    def shown(self, path: str) -> dict[str, Any]:
        answer = self.cast.alice.get(path)
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    def ids(self, path: str) -> list[str]:
        return [each["id"] for each in self.shown(path)["attempts"]]


@pytest.fixture
def tried(cast: Cast) -> Tried:
    return Tried(cast)


def test_attempt_list_shows_the_records_and_links_to_each(tried: Tried) -> None:
    attempt = tried.attempt(detail=TRACE)
    for owner in (tried.of_message, tried.of_listener):
        content = tried.shown(f"{owner}/attempts")
        [shown] = content["attempts"]
        assert shown["created_at"] - shown["started_at"] == 34
        assert shown == {
            "id": attempt,
            "message_id": tried.message,
            "listener_id": tried.listeners[0],
            "number": 1,
            "state": "failed",
            "status": 503,
            "error": "status",
            "detail": "It failed.",
            "took_ms": 34,
            "withheld": False,
            "started_at": shown["started_at"],
            "created_at": shown["created_at"],
        }
        assert content["_links"][attempt]["href"].endswith(f"{owner}/attempts/{attempt}")


def test_attempt_shows_request_and_response_without_secrets(tried: Tried) -> None:
    attempt = tried.attempt(detail=TRACE)
    for owner in (tried.of_message, tried.of_listener):
        shown = tried.shown(f"{owner}/attempts/{attempt}")["attempt"]
        assert (shown["id"], shown["next_attempt_at"]) == (attempt, 1_795_536_285_000)
        assert shown["connection"] == {"address": "203.0.113.7:443", "reused": False}
        assert shown["timings"] == {
            "resolve_ms": 3,
            "connect_ms": 8,
            "tls_ms": 17,
            "first_byte_ms": 5,
            "total_ms": 34,
        }
        assert shown["request"]["headers"] == [
            {"name": "host", "value": "shop.example.com"},
            {"name": "webhook-signature", "value": "[hidden]"},
            {"name": "X-Own", "value": HIDDEN},
        ]
        assert shown["response"] == {
            "headers": [{"name": "retry-after", "value": "30"}, {"name": "set-cookie", "value": HIDDEN}],
            "body": "down\ufffd",
            "body_bytes": 20_000,
        }


def test_attempt_without_a_connection_has_neither_address_nor_response(tried: Tried) -> None:
    attempt = tried.attempt(detail=UNCONNECTED, status=0, error="refused_address")
    shown = tried.shown(f"{tried.of_message}/attempts/{attempt}")["attempt"]
    assert shown["timings"] == {"resolve_ms": 12, "total_ms": 12}
    assert {"connection", "response"}.isdisjoint(shown)


def test_attempt_without_details_shows_its_record(tried: Tried) -> None:
    attempt = tried.attempt(status=200, error="")
    shown = tried.shown(f"{tried.of_message}/attempts/{attempt}")["attempt"]
    assert (shown["state"], shown["status"]) == ("acknowledged", 200)
    assert {"connection", "response", "request", "timings", "next_attempt_at"}.isdisjoint(shown)


def test_lists_are_newest_first_in_pages_that_lead_on(tried: Tried) -> None:
    made = [tried.attempt(number=number) for number in range(1, 8)]
    for owner in (tried.of_message, tried.of_listener):
        first = tried.cast.alice.get(f"{owner}/attempts?per_page=3&state=failed")
        assert [each["id"] for each in first.json()["attempts"]] == made[:3:-1]
        following = first.json()["_links"]["next"]["href"]
        assert re.search(r"[?&]state=failed", following)
        assert f'<{following}>; rel="next"' in first.headers["link"]
        second = tried.cast.alice.get(following).json()
        assert [each["id"] for each in second["attempts"]] == made[3:0:-1]
        assert tried.ids(second["_links"]["prev"]["href"]) == made[:3:-1]
        assert tried.ids(f"{owner}/attempts?per_page=3&page=3") == made[:1]


def test_attempts_are_filtered_by_state_status_listener_and_time(tried: Tried) -> None:
    well = tried.attempt(status=204, error="")
    badly = tried.attempt(listener=1, status=503)
    never = tried.attempt(status=0, error="connect")
    path = f"{tried.of_message}/attempts"
    assert tried.ids(f"{path}?state=acknowledged") == [well]
    assert tried.ids(f"{path}?state=failed") == [never, badly]
    assert tried.ids(f"{path}?status=5xx") == tried.ids(f"{path}?status=503") == [badly]
    assert tried.ids(f"{path}?status=0") == [never]
    assert tried.ids(f"{path}?listener={tried.listeners[0]}") == [never, well]
    assert tried.ids(f"{tried.of_listener}/attempts?state=failed") == [never]
    at = tried.shown(f"{path}/{never}")["attempt"]["created_at"]
    assert tried.ids(f"{path}?created_after={at}") == []
    assert never not in tried.ids(f"{tried.of_listener}/attempts?created_before={at}")


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("state=pending", "state"),
        ("state=failed&state=failed", "state"),
        ("status=600x", "status"),
        ("status=20", "status"),
        ("status=5XX", "status"),
        ("status=", "status"),
        ("created_after=x", "created_after"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused_by_its_name(tried: Tried, query: str, parameter: str) -> None:
    for owner in (tried.of_message, tried.of_listener):
        answer = tried.cast.alice.get(f"{owner}/attempts?{query}")
        assert pointers(problem(answer, 400)) == [f"?{parameter}"]


def test_a_listener_of_another_queue_is_refused_as_a_filter(tried: Tried) -> None:
    other = tried.cast.listener(tried.cast.queue())
    for listener in (other, "0" * 21):
        answer = tried.cast.alice.get(f"{tried.of_message}/attempts?listener={listener}")
        assert pointers(problem(answer, 400)) == ["?listener"]


def test_attempts_of_deleted_resources_are_not_found(tried: Tried) -> None:
    attempt = tried.attempt(detail=TRACE)
    other = tried.attempt(listener=1)
    alice = tried.cast.alice
    alice.delete(f"/queues/{tried.queue}/listeners/{tried.listeners[0]}")
    assert [alice.get(f"{tried.of_listener}/attempts{rest}").status_code for rest in ("", f"/{attempt}")] == [404, 404]
    assert tried.ids(f"{tried.of_message}/attempts") == [other]
    assert alice.get(f"{tried.of_message}/attempts/{attempt}").status_code == 404
    alice.delete(tried.of_message)
    paths = [f"/attempts/{other}", "/attempts", "/deliveries"]
    assert [alice.get(tried.of_message + rest).status_code for rest in paths] == [404, 404, 404]


def test_an_attempt_is_found_below_its_own_message_and_listener_alone(tried: Tried) -> None:
    attempt = tried.attempt(listener=1)
    another = tried.cast.message(tried.queue)
    paths = (f"/messages/{another}", f"/listeners/{tried.listeners[0]}")
    for path in paths:
        assert tried.cast.alice.get(f"/queues/{tried.queue}{path}/attempts/{attempt}").status_code == 404
