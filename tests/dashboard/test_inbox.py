"""The page of the inbox, which `discue dev` has: what it received, and how it is told to answer."""

import re
from collections.abc import Iterator

import httpx
import pytest
from msgspec.structs import replace

from discue.cli.inbox import InboxEndpoint, delivery_of
from discue.crypto.signing import decode_secret, sign
from discue.dashboard.inbox import Inbox, ReceivedRequest
from tests.support.dashboard_shop import Shop
from tests.support.dashboards import SAME_ORIGIN, DashboardService


@pytest.fixture
def inbox(service: DashboardService) -> Iterator[Inbox]:
    yield service.inbox
    service.inbox.respond_with("accept", None)


def _receive(service: DashboardService, body: bytes = b"{}", **headers: str) -> ReceivedRequest:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return service.run(service.inbox.receive(pairs, body))


def _newest(service: DashboardService) -> str:
    """Return the newest request on the page."""
    page = service.browser().get("/inbox").text
    return page.partition('<details class="attempt" data-row')[2].partition("</details>")[0]


def _answer(service: DashboardService, action: str, times: str = "") -> httpx.Response:
    return service.browser().post("/inbox", data={"action": action, "times": times}, headers=SAME_ORIGIN)


def test_request_of_a_listener_is_shown_with_its_signature_attempt_and_message(
    service: DashboardService, shop: Shop, inbox: Inbox
) -> None:
    fields = {"alias": "inbox-page", "notify_url": "http://hooks.example.com:9006/x"}
    made = service.api().post(f"/queues/{shop.queue}/listeners", json=fields).json()
    listener, message, at = made["listener"]["id"], shop.messages[0], service.control.clock.now() // 1_000
    body = b'{"order": 4711}'
    headers = {
        "discue_queue": shop.queue,
        "discue_listener": listener,
        "discue_attempt": "3",
        "webhook_id": message,
        "webhook_timestamp": str(at),
        "webhook_signature": sign([decode_secret(made["listener"]["secret"])], message, at, body),
    }
    try:
        assert _receive(service, body, **headers).signature == "verified"
        first = _newest(service)
        assert _receive(service, b"forged", **headers).signature == "No signature matches."
        forged = _newest(service)
    finally:
        service.api().delete(f"/queues/{shop.queue}/listeners/{listener}")
    assert "Signature verified" in first
    assert "orders → inbox-page" in first
    assert "attempt 3" in first
    assert f"/queues/{shop.queue}/messages/{message}" in first
    assert "&#34;order&#34;: 4711" in first
    assert f'<span class="sub mono">{message} {{&#34;order&#34;: 4711}}</span>' in first
    assert "The signature is not valid: No signature matches." in forged


def test_request_without_a_listener_is_shown_as_text(service: DashboardService, inbox: Inbox) -> None:
    _receive(service, b"<script>alert(1)</script>", discue_queue="../../users", x_evil="<script>alert(2)</script>\xff")
    page = _newest(service)
    assert "not sent by a listener of this server" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;script&gt;alert(2)" in page
    assert "<script>alert" not in page
    assert "/users/messages" not in page


def test_row_shows_the_beginning_of_a_long_body_in_one_line(service: DashboardService, inbox: Inbox) -> None:
    _receive(service, b"first line\n" + b"x" * 200)
    assert f'<span class="sub mono"> first line {"x" * 49}…</span>' in _newest(service)


def test_repeated_headers_are_kept_and_large_bodies_take_no_memory_afterwards(
    service: DashboardService, inbox: Inbox
) -> None:
    sent = httpx.post(f"{service.url}/inbox", content=b"x" * 20_000, headers=[("x-part", "1"), ("x-part", "2")])
    assert sent.status_code == 200
    assert [value for name, value in inbox.received[0].headers if name == "x-part"] == ["1", "2"]
    assert isinstance(endpoint := service.worker.application, InboxEndpoint)
    assert endpoint._bodies.held == {}


def test_next_requests_fail_as_often_as_asked(service: DashboardService, inbox: Inbox) -> None:
    assert _answer(service, "fail", "3").headers["location"].endswith("/inbox")
    assert [_receive(service).status for _ in range(2)] == [503, 503]
    assert "The next request gets 503." in service.browser().get("/inbox").text
    assert [_receive(service).status for _ in range(2)] == [503, 200]
    _answer(service, "fail")
    assert "Every request gets 503, until it is reset." in service.browser().get("/inbox").text
    assert [_receive(service).status for _ in range(4)] == [503] * 4
    _answer(service, "accept")
    assert _receive(service).status == 200


def test_failing_inbox_answers_503_with_its_reason(service: DashboardService, inbox: Inbox) -> None:
    _answer(service, "fail", "1")
    with service.api() as client:
        failed, accepted = client.post("/inbox", content=b"{}"), client.post("/inbox", content=b"{}")
        shown = client.get("/inbox").json()["received"]
    assert (failed.status_code, failed.json()["detail"]) == (503, "The inbox was asked to fail, on its page.")
    assert (accepted.status_code, accepted.content) == (200, b"{}")
    assert [each["status"] for each in shown[:2]] == [200, 503]
    assert delivery_of(inbox.received[1]).result == "not sent by a listener of this server, answered 503"


def test_slow_answer_is_sent_at_once_after_a_reset(service: DashboardService, inbox: Inbox) -> None:
    _answer(service, "slow", "1")
    slow = _receive(service)
    assert (slow.status, slow.delay_ms, _receive(service).delay_ms) == (200, 5_000, 0)
    waiting = service.thread.submit(inbox.until_due(replace(slow, delay_ms=60_000)))
    _answer(service, "accept")
    assert waiting.result(20) is None


@pytest.mark.parametrize(
    ("action", "times", "told"),
    [
        ("explode", "1", "must be one of accept, fail, slow"),
        ("fail", "0", "must be from 1 to 100"),
        ("fail", "many", "must be a number from 1 to 100"),
    ],
)
def test_invalid_answer_is_explained_and_changes_nothing(
    service: DashboardService, inbox: Inbox, action: str, times: str, told: str
) -> None:
    refused = _answer(service, action, times)
    assert refused.status_code == 422
    assert told in refused.text
    assert _receive(service).status == 200


def test_older_requests_have_pages_and_only_the_last_100_are_kept(service: DashboardService, inbox: Inbox) -> None:
    for number in range(101):
        _receive(service, str(number).encode())
    browser, path, seen = service.browser(), "", []
    while True:
        page = browser.get(f"/inbox{path}").text
        seen += re.findall(r'data-key="(\d+)"', page)
        older = re.search(r'rel="next" href="(\?below=\d+)"', page)
        if older is None:
            break
        path = older[1]
    assert seen == [str(each) for each in range(inbox.total, inbox.total - 100, -1)]
    assert "No older requests are kept" in browser.get("/inbox?below=1").text


def test_inbox_is_for_its_organization_and_its_answers_for_those_who_change_listeners(
    service: DashboardService, inbox: Inbox
) -> None:
    foreign, viewer = service.foreign_browser(), service.browser("viewer")
    assert foreign.post("/inbox", data={"action": "fail"}, headers=SAME_ORIGIN).status_code == 404
    assert "Inbox" not in foreign.get("").text
    assert viewer.post("/inbox", data={"action": "fail"}, headers=SAME_ORIGIN).status_code == 403
    assert "Answer 503" not in viewer.get("/inbox").text
    assert _receive(service).status == 200


def test_empty_inbox_shows_the_command_that_fills_it(service: DashboardService, inbox: Inbox) -> None:
    kept, inbox.received = inbox.received, type(inbox.received)()
    try:
        page = service.browser().get("/inbox").text
    finally:
        inbox.received = kept
    assert "Nothing was received since the start" in page
    assert inbox.example in page
