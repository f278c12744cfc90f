"""`POST …/tests`, as clients see it."""

from urllib.parse import urlsplit

from tests.support.receiver import Reply, receiving
from tests.support.served_api import Cast

INTERNAL = Reply(503, (("x-internal", "build 17"),), b"only for us")


def _listener(cast: Cast, url: str, **fields: object) -> str:
    queue = cast.queue()
    return f"/queues/{queue}/listeners/{cast.listener(queue, notify_url=url, **fields)}"


def test_the_answer_says_all_that_happened(cast: Cast) -> None:
    with receiving("127.0.0.2") as receiver:
        endpoint = receiver.endpoint(INTERNAL)
        path = _listener(cast, endpoint.url, headers={"authorization": "Bearer x"})
        shown = cast.alice.post(f"{path}/tests", json={"data": {"n": 1}}).json()["test"]
        [(_, headers, content)] = endpoint.received
    assert (content, headers["discue-test"], headers["discue-attempt"]) == (b'{"n":1}', "true", "1")
    assert (shown["state"], shown["error"], shown["status"], shown["status_class"]) == ("failed", "status", 503, "5xx")
    assert shown["response"]["body"] == "only for us"
    assert {"name": "x-internal", "value": "build 17"} in shown["response"]["headers"]
    assert {"name": "authorization", "value": "[hidden]"} in shown["request"]["headers"]
    assert shown["connection"]["address"] == urlsplit(endpoint.url).netloc
    assert not shown["withheld"]
    assert shown["timings"]["total_ms"] >= 0


_WITH_ANY_DIGITS = {"message_id", "started_at", "request"}


def test_test_of_a_private_address_shows_only_the_outcome(cast: Cast) -> None:
    with receiving("127.0.0.1") as receiver:
        endpoint = receiver.endpoint(INTERNAL)
        path = _listener(cast, endpoint.url, status="disabled")
        answer = cast.alice.post(f"{path}/tests", json={})
        [(_, headers, content)] = endpoint.received
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


def test_more_than_ten_at_once_are_too_many(cast: Cast) -> None:
    path = _listener(cast, "http://127.0.0.1:9/")
    statuses = [cast.alice.post(f"{path}/tests").status_code for _ in range(30)]
    assert statuses[:10] == [200] * 10
    assert 429 in statuses
