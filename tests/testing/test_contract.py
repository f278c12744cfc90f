"""Facts that hold for a test whether the server runs in its process or in another one."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from discue.testing import Kit, NotSettled, Received, Reply
from discue_client import Discue, NotFound, Unavailable, Webhook

ORDER = {"order": 17}
RETRIES = (5, 35, 155)
"""Seconds after the first attempt at which the default policy makes the next three."""


def test_published_message_is_received_and_verified(kit: Kit) -> None:
    billing = kit.listener("orders", alias="billing")

    message = kit.publish("orders", ORDER, headers={"x-tenant": "acme"})
    kit.settled()

    (event,) = billing.received
    assert (event.id, event.data, event.attempt) == (message.id, ORDER, 1)
    assert event.headers["x-tenant"] == "acme"
    assert Webhook(billing.secret).unwrap(billing.requests[0].body, billing.requests[0].headers) == event


def test_settled_returns_where_nothing_was_published(kit: Kit) -> None:
    kit.settled()


def test_settled_message_is_acknowledged_in_the_api(kit: Kit) -> None:
    kit.listener("orders")
    message = kit.publish("orders", ORDER)

    kit.settled()

    assert [each.state for each in kit.client.messages.deliveries("orders", message.id)] == ["acknowledged"]


def test_retries_come_when_the_clock_reaches_them(kit: Kit) -> None:
    kit.clock.freeze()
    billing = kit.listener("orders")
    billing.respond(503, times=3)
    kit.publish("orders", ORDER)

    counts = []
    for seconds in (0, 3, 3, 27, 3, "2m"):
        kit.clock.advance(seconds)
        counts.append(len(billing.requests))

    assert counts == [1, 1, 2, 2, 3, 4]


def test_frozen_clock_moves_only_when_it_is_moved(kit: Kit) -> None:
    kit.clock.freeze()
    start = kit.clock.now_ms
    billing = kit.listener("orders")
    billing.respond(503, times=1)
    kit.publish("orders", ORDER)

    kit.clock.advance("4999ms")
    before = len(billing.requests)
    kit.clock.advance("1ms")

    assert (before, len(billing.requests), kit.clock.now_ms - start) == (1, 2, 5_000)
    assert [attempt.created_at - start for attempt in billing.attempts] == [0, 5_000]


def test_one_advance_makes_each_retry_at_its_own_time(kit: Kit) -> None:
    kit.clock.freeze()
    billing = kit.listener("orders")
    billing.respond(500, times=3)
    kit.publish("orders", ORDER)

    kit.clock.advance("1d")

    times = [attempt.created_at for attempt in billing.attempts]
    assert [(at - times[0]) / 1_000 for at in times] == [0, *RETRIES]
    assert [attempt.status for attempt in billing.attempts] == [500, 500, 500, 200]


def test_signature_is_valid_after_the_clock_was_moved(kit: Kit) -> None:
    billing = kit.listener("orders")
    kit.clock.advance("2d")

    kit.publish("orders", ORDER)
    kit.settled()

    assert [event.data for event in billing.received] == [ORDER]


def test_delayed_message_is_delivered_when_it_is_due(kit: Kit) -> None:
    billing = kit.listener("orders")
    kit.publish("orders", ORDER, delay=3_600)
    kit.settled()
    before = len(billing.requests)

    kit.clock.advance("1h")

    assert (before, len(billing.requests)) == (0, 1)


def test_schedule_runs_once_for_each_of_its_times(kit: Kit) -> None:
    reports = kit.listener("reports")
    kit.client.schedules.create("reports", cron="0 * * * *", data="hourly")

    kit.clock.advance("6h")

    assert [event.data for event in reports.received] == ["hourly"] * 6


def test_expired_message_is_not_delivered(kit: Kit) -> None:
    billing = kit.listener("orders")
    billing.respond(503)
    message = kit.publish("orders", ORDER, expires_in="20s")

    kit.clock.advance("1h")

    assert len(billing.requests) == 2
    (delivery,) = kit.client.messages.deliveries("orders", message.id)
    assert (delivery.state, delivery.missed_reason) == ("missed", "expired")


def test_lease_of_a_pulled_message_ends_with_the_clock(kit: Kit) -> None:
    kit.queue("orders")
    kit.client.listeners.create("orders", alias="worker", mode="pull", lease_seconds=30)
    kit.publish("orders", ORDER)

    def pull() -> list[int]:
        return [message.attempt for message in kit.client.listeners.pull("orders", "worker")]

    first, meanwhile = pull(), pull()
    kit.clock.advance("31s")

    assert (first, meanwhile, pull()) == ([1], [], [2])


def test_settled_waits_for_a_consumer_and_the_messages_that_it_publishes(kit: Kit) -> None:
    kit.queue("orders")
    kit.client.listeners.create("orders", alias="worker", mode="pull")
    invoices = kit.listener("invoices")
    consumer = kit.client.consume("orders", listener="worker")
    thread = threading.Thread(target=consumer.run, args=[lambda order: kit.publish("invoices", order.data)])
    thread.start()
    try:
        for number in range(3):
            kit.publish("orders", number)
        kit.settled()
        found = kit.client.listeners.get("orders", "worker").messages
    finally:
        consumer.stop()
        thread.join()

    assert (sorted(event.data for event in invoices.received), found.acknowledged_count) == ([0, 1, 2], 3)


def test_settled_says_which_message_no_consumer_has_settled(kit: Kit) -> None:
    kit.queue("orders")
    kit.client.listeners.create("orders", alias="worker", mode="pull")
    message = kit.publish("orders", ORDER)
    kit.settled(pulls=False)
    with pytest.raises(NotSettled) as unpulled:
        kit.settled(0)
    (pulled,) = kit.client.listeners.pull("orders", "worker")
    with pytest.raises(NotSettled, match=r"Leased to a consumer until"):
        kit.settled(0)

    kit.client.listeners.settle("orders", "worker", release=[pulled.receipt], delay=60)
    kit.settled()

    assert f'message {message.id} of queue "orders" to listener' in str(unpulled.value)
    assert str(unpulled.value).endswith(": Waits for a consumer to pull it.")


def test_messages_that_no_consumer_can_pull_do_not_count(kit: Kit) -> None:
    kit.queue("orders")
    create = partial(kit.client.listeners.create, "orders", mode="pull")
    create(alias="choosy", filter={"data": {"order": 18}})
    create(alias="idle", status="disabled")
    for _ in range(200):
        kit.publish("orders", ORDER)

    kit.settled()


def test_message_is_missed_when_its_attempts_are_used_up(kit: Kit) -> None:
    billing = kit.listener("orders", retry=[10, 20])
    billing.respond(500)
    message = kit.publish("orders", ORDER)

    kit.clock.advance("1m")

    assert len(billing.requests) == 3
    (delivery,) = kit.client.messages.deliveries("orders", message.id)
    assert (delivery.state, delivery.missed_reason) == ("missed", "attempts_used_up")


def test_old_message_is_deleted_after_its_retention(kit: Kit) -> None:
    kit.listener("orders")
    message = kit.publish("orders", ORDER)

    kit.clock.advance("8d")

    with pytest.raises(NotFound):
        kit.client.messages.get("orders", message.id)


def test_clock_moves_to_a_time_and_to_the_next_retry(kit: Kit) -> None:
    tomorrow = kit.clock.now.replace(microsecond=0) + timedelta(days=1)
    kit.clock.advance_to(tomorrow)
    arrived = kit.clock.now - tomorrow
    billing = kit.listener("orders", retry=[1_800])
    billing.respond(503, times=1)
    kit.publish("orders", "good")
    kit.publish("orders", ORDER)

    kit.clock.advance_to_next()

    assert timedelta() <= arrived < timedelta(seconds=20)
    assert sorted(attempt.status for attempt in billing.attempts) == [200, 200, 503]


@pytest.mark.parametrize("duration", ["-1h", -1, timedelta(seconds=-1)])
def test_clock_does_not_go_back(kit: Kit, duration: Any) -> None:
    with pytest.raises(ValueError, match="The clock cannot go back"):
        kit.clock.advance(duration)
    with pytest.raises(ValueError, match="The clock cannot go back: 2020-01-01"):
        kit.clock.advance_to(datetime(2020, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("duration", [1e300, "99999999d"])
def test_clock_goes_to_the_year_9000_at_most(kit: Kit, duration: float | str) -> None:
    with pytest.raises(ValueError, match="The clock cannot go beyond the year 9000"):
        kit.clock.advance(duration)
    kit.clock.advance("1h")


def _reset(kit: Kit) -> list[tuple[int, str]]:
    kit.listener("orders").reset(times=1)
    return _first_attempt(kit)


def _hang(kit: Kit) -> list[tuple[int, str]]:
    kit.listener("orders").hang(times=1)
    return _first_attempt(kit)


def _slow(kit: Kit) -> list[tuple[int, str]]:
    kit.listener("orders").slow(0.1, times=1)
    return _first_attempt(kit)


def _drip(kit: Kit) -> list[tuple[int, str]]:
    kit.listener("orders").drip(0.1, times=1)
    return _first_attempt(kit)


def _callback(kit: Kit) -> list[tuple[int, str]]:
    kit.listener("orders").callback(lambda received: Reply(200 if b"17" in received.body else 500))
    return _first_attempt(kit)


def _first_attempt(kit: Kit) -> list[tuple[int, str]]:
    kit.publish("orders", ORDER)
    kit.clock.advance("15s")
    return [(attempt.status, attempt.error) for attempt in kit.listeners[0].attempts]


@pytest.mark.parametrize(
    ("make", "attempts"),
    [
        (_reset, [(0, "reset"), (200, "")]),
        (_hang, [(0, "timeout")]),
        (_slow, [(200, "")]),
        (_drip, [(200, "")]),
        (_callback, [(200, "")]),
    ],
    ids=["reset", "hang", "slow", "drip", "callback"],
)
def test_listener_breaks_as_a_test_says(
    kit: Kit, make: Callable[[Kit], list[tuple[int, str]]], attempts: list[tuple[int, str]]
) -> None:
    assert make(kit) == attempts


def test_hanging_attempt_is_tried_again_in_its_turn(kit: Kit) -> None:
    billing = kit.listener("orders")
    billing.hang(times=1)
    kit.publish("orders", ORDER)

    kit.clock.advance("1h")

    assert [(attempt.status, attempt.error) for attempt in billing.attempts] == [(0, "timeout"), (200, "")]


def test_retry_after_lengthens_the_wait(kit: Kit) -> None:
    billing = kit.listener("orders")
    billing.retry_after(60, times=1)
    kit.publish("orders", ORDER)

    kit.clock.advance("50s")
    before = len(billing.requests)
    kit.clock.advance("10s")

    assert (before, len(billing.requests)) == (1, 2)


def test_gone_disables_the_listener(kit: Kit) -> None:
    billing = kit.listener("orders", alias="billing")
    billing.gone()
    kit.publish("orders", ORDER)

    kit.settled()

    found = kit.client.listeners.get("orders", "billing")
    assert (found.status, found.status_reason) == ("disabled", "It is disabled because it answered 410 Gone.")


def test_step_without_a_count_replaces_the_last_one(kit: Kit) -> None:
    billing = kit.listener("orders")
    billing.respond(500, times=1).respond(502)
    billing.respond(204)
    kit.publish("orders", ORDER)

    kit.clock.advance("1m")

    assert [attempt.status for attempt in billing.attempts] == [500, 204]


def test_kit_that_does_not_settle_says_what_waits_and_why(kit: Kit) -> None:
    kit.listener("orders", alias="billing").hang()
    message = kit.publish("orders", ORDER)

    with pytest.raises(NotSettled) as failure:
        kit.settled(0.1)

    assert str(failure.value) == (
        "After 0.1 s, discue has not settled:\n"
        f'  message {message.id} of queue "orders" to listener "billing": '
        "It hangs, as the test says, until the clock has moved by its timeout."
    )


def test_failed_assertion_shows_the_attempts(kit: Kit) -> None:
    billing = kit.listener("orders", alias="billing")
    billing.respond(503, times=1)
    message = kit.publish("orders", ORDER)
    kit.clock.advance("5s")

    with pytest.raises(AssertionError) as failure:
        billing.assert_received(1, data=ORDER)

    first, heading, *rows = str(failure.value).splitlines()
    assert first == 'listener "billing" of queue "orders": expected 1 request with data {\'order\': 17}, got 2.'
    assert heading.split() == ["message", "attempt", "ended", "at", "response", "took", "data"]
    assert [(row.split()[:2], "503 status" in row, row.endswith('{"order":17}')) for row in rows] == [
        ([message.id, "1"], True, True),
        ([message.id, "2"], False, True),
    ]


def test_assertions_tell_data_types_keys_and_order(kit: Kit) -> None:
    billing = kit.listener("orders")
    kit.publish("orders", {"n": 1, "x": 0}, key="a")
    kit.publish("orders", {"n": 2}, type="order.paid", key="b")
    kit.settled()

    billing.assert_received()
    billing.assert_received(2)
    billing.assert_received(1, data={"n": 2}, key="b")
    billing.assert_received(0, data={"n": 2}, key="a")
    billing.assert_received(1, type="order.paid")
    billing.assert_received(1, type=None, data={"n": 1, "x": 0})
    kit.assert_published("orders", {"n": 2}, type="order.paid", count=1)
    kit.assert_published("orders", {"n": 1}, count=1)
    kit.assert_published("orders", key="b")
    with pytest.raises(AssertionError, match=r"expected a message with \{'n': 3\}, got 0. It has:\n.*key='a'"):
        kit.assert_published("orders", {"n": 3})
    with pytest.raises(AssertionError, match=r"(?s)expected 1 message with type 'a' with key 'b', got 0.*type='order"):
        kit.assert_published("orders", type="a", key="b", count=1)
    with pytest.raises(AssertionError, match=r"expected 1 request with type 'order.sent', got 0"):
        billing.assert_received(1, type="order.sent")
    with pytest.raises(AssertionError, match=r"expected .* in this order, got"):
        billing.assert_received_in_order({"n": 2}, {"n": 1})


def test_ordered_messages_arrive_in_order(kit: Kit) -> None:
    kit.queue("orders", ordered=True)
    billing = kit.listener("orders")
    billing.respond(503, times=1)
    for number in range(3):
        kit.publish("orders", number, key="customer-9")

    kit.clock.advance("1m")

    billing.assert_received_in_order(0, 1, 2)


class Application:
    """An ASGI application that keeps what it gets."""

    def __init__(self, *statuses: int, body: bytes = b"ok") -> None:
        self.statuses = list(statuses)
        self.body = body
        self.got: list[tuple[str, str, bytes, dict[str, str]]] = []

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[..., Any]) -> None:
        event = await receive()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.got.append((scope["method"], scope["path"], event["body"], headers))
        status = self.statuses.pop(0) if self.statuses else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"retry-after", b"30")]})
        await send({"type": "http.response.body", "body": self.body})


def test_asgi_application_gets_signed_requests(kit: Kit) -> None:
    application = Application(503)
    orders = kit.deliver_to(application, "/hooks/orders", queue="orders")
    message = kit.publish("orders", ORDER)

    kit.clock.advance("20s")
    before = len(application.got)
    kit.clock.advance("10s")

    method, path, body, headers = application.got[-1]
    assert (before, len(application.got), method, path) == (1, 2, "POST", "/hooks/orders")
    assert (headers["host"], headers["discue-attempt"]) == ("testserver", "2")
    assert Webhook(orders.secret).unwrap(body, headers).id == message.id
    orders.assert_received(2, data=ORDER)


def test_wsgi_application_gets_signed_requests(kit: Kit) -> None:
    got = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        got.append((environ["PATH_INFO"], environ["wsgi.input"].read(), environ["HTTP_WEBHOOK_ID"]))
        start_response("204 No Content", [])
        return [b""]

    orders = kit.deliver_to(application, "/hooks", queue="orders")
    message = kit.publish("orders", ORDER)
    kit.settled()

    assert got == [("/hooks", b'{"order":17}', message.id)]
    orders.assert_received(1)


def test_secret_of_the_environment_signs_requests(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "whsec_" + "A" * 43 + "="
    monkeypatch.setenv("DISCUE_WEBHOOK_SECRET", secret)
    application = Application()

    kit.deliver_to(application, queue="orders")
    kit.publish("orders", ORDER)
    kit.settled()

    ((_, _, body, headers),) = application.got
    assert Webhook().unwrap(body, headers).data == ORDER


def test_application_that_raises_counts_as_500(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    async def application(*_: Any) -> None:
        raise LookupError("no such customer")

    orders = kit.deliver_to(application, queue="orders")
    kit.publish("orders", ORDER)
    kit.settled()

    assert [attempt.status for attempt in orders.attempts] == [500]
    assert [str(error) for error in orders.errors] == ["no such customer"]
    assert "POST /: the application raised LookupError: no such customer" in caplog.messages
    with pytest.raises(AssertionError) as failure:
        orders.assert_received(2)
    assert failure.value.__cause__ is orders.errors[0]
    assert failure.value.__notes__ == ["The listener raised LookupError: no such customer"]


def test_response_of_a_receiver_that_refuses_is_shown(kit: Kit) -> None:
    orders = kit.deliver_to(Application(422, body=b"order: expected an integer\nmore"), queue="orders")
    kit.publish("orders", ORDER)
    kit.settled()

    (attempt,) = orders.attempts
    assert attempt.response is not None
    assert (attempt.response.body, attempt.response.body_bytes) == ("order: expected an integer\nmore", 31)
    with pytest.raises(AssertionError, match="  422 status: order: expected an integer  "):
        orders.assert_acknowledged(1)


def test_assertion_before_the_first_attempt_says_what_to_call(kit: Kit) -> None:
    orders = kit.listener("orders")
    orders.hang()
    with pytest.raises(AssertionError, match=r"No attempt has ended\.$"):
        orders.assert_acknowledged(1)
    kit.publish("orders", ORDER)

    with pytest.raises(AssertionError, match=r"No attempt has ended: call `discue\.settled\(\)` first\."):
        orders.assert_acknowledged(1)


def test_callback_that_raises_counts_as_500(kit: Kit) -> None:
    def callback(_: Received) -> None:
        raise LookupError("no such customer")

    billing = kit.listener("orders")
    billing.callback(callback, times=1)
    kit.publish("orders", ORDER)
    kit.clock.advance("5s")

    assert [attempt.status for attempt in billing.attempts] == [500, 200]
    assert [str(error) for error in billing.errors] == ["no such customer"]


def test_path_without_a_slash_is_refused(kit: Kit) -> None:
    with pytest.raises(ValueError, match=r"The path must begin with a slash, not 'orders'."):
        kit.deliver_to(Application(), "orders", queue="orders")


def test_application_that_hangs_is_named(kit: Kit) -> None:
    async def application(*_: Any) -> None:
        await asyncio.Event().wait()

    kit.deliver_to(application, "/hooks", queue="orders", alias="handler")
    kit.publish("orders", ORDER)

    with pytest.raises(NotSettled, match=r'to listener "handler": The application has not responded to POST /hooks.'):
        kit.settled(0.1)


async def test_application_runs_on_the_loop_of_an_async_test(kit: Kit) -> None:
    loops = []

    class Noting(Application):
        async def __call__(self, *arguments: Any) -> None:
            loops.append(asyncio.get_running_loop())
            await super().__call__(*arguments)

    kit.deliver_to(Noting(503), queue="orders")
    kit.publish("orders", ORDER)
    await kit.settled()
    await kit.clock.advance("1h")

    assert loops == [asyncio.get_running_loop()] * 2


async def test_async_client_publishes(kit: Kit) -> None:
    billing = kit.listener("orders")
    async with kit.async_client() as client:
        await client.publish("orders", ORDER)
    await kit.settled()

    billing.assert_received(1, data=ORDER)


def test_service_is_unavailable_while_a_test_says_so(kit: Kit) -> None:
    billing = kit.listener("orders")
    billing.respond(503, times=1)
    kit.publish("orders", ORDER)
    client = kit.client.with_options(attempts=1)

    with kit.unavailable():
        with pytest.raises(Unavailable, match="not_ready"):
            client.publish("orders", ORDER)
        kit.clock.advance("5s")

    assert len(billing.requests) == 2
    kit.assert_published("orders", count=1)


def test_program_is_configured_by_the_environment(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in kit.environ.items():
        monkeypatch.setenv(name, value)
    kit.queue("orders")

    with Discue() as client:
        client.publish("orders", ORDER)

    kit.assert_published("orders", ORDER, count=1)


def test_each_kit_has_an_organization_of_its_own(kit: Kit) -> None:
    assert [queue.alias for queue in kit.client.queues.list()] == ["system/events"]
    kit.queue("orders")


def test_received_request_has_a_path_and_headers(kit: Kit) -> None:
    seen: list[Received] = []

    def note(received: Received) -> int:
        seen.append(received)
        return 201

    kit.listener("orders").callback(note)
    kit.publish("orders", "text")
    kit.settled()

    (received,) = seen
    assert (received.method, received.body, received.fields["discue-attempt"]) == ("POST", b"text", "1")
