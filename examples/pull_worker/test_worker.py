import json

import httpx2
import pytest
from discue.testing import Kit
from discue_client import Delivery

from worker import handle

ORDER = {"order": 17, "customer": "customer-9", "cents": 1250}


class Provider:
    """A payment provider that responds with a status, or cannot be reached if that is 0."""

    def __init__(self) -> None:
        self.status = 200
        self.charges: dict[str, int] = {}

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if self.status == 0:
            raise httpx2.ConnectError("connection refused", request=request)
        if self.status == 200:
            self.charges[request.headers["Idempotency-Key"]] = json.loads(request.content)["cents"]
        return httpx2.Response(self.status)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture(autouse=True)
def queues(discue: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENTS_URL", "https://payments.example.com/charges")
    discue.queue("orders")
    discue.queue("payments")
    discue.client.listeners.update("orders", "payments", mode="pull")


def handle_one_message(discue: Kit, provider: Provider) -> None:
    with httpx2.Client(transport=httpx2.MockTransport(provider)) as http_client:
        consumer = discue.client.consume("orders", listener="payments", concurrency=1)

        def handle_and_stop(delivery: Delivery) -> None:
            consumer.stop()
            handle(discue.client, http_client, delivery)

        consumer.run(handle_and_stop)


def state_of(discue: Kit, message_id: str) -> tuple[str, int]:
    """Return the state of a message, and how many attempts count."""
    (delivery,) = discue.client.messages.deliveries("orders", message_id)
    return delivery.state, delivery.attempts


def test_customer_is_charged(discue: Kit, provider: Provider) -> None:
    message = discue.publish("orders", ORDER)
    handle_one_message(discue, provider)

    assert provider.charges == {message.id: 1250}
    assert state_of(discue, message.id) == ("acknowledged", 1)
    discue.assert_published("payments", {"order": 17, "state": "charged"}, count=1)


def test_order_that_comes_twice_is_charged_and_announced_once(discue: Kit, provider: Provider) -> None:
    message = discue.publish("orders", ORDER)
    handle_one_message(discue, provider)
    discue.client.redeliveries.create("orders", "payments", messages=[message.id])
    handle_one_message(discue, provider)

    assert provider.charges == {message.id: 1250}
    discue.assert_published("payments", count=1)


def test_declined_charge_is_announced(discue: Kit, provider: Provider) -> None:
    provider.status = 402
    message = discue.publish("orders", ORDER)
    handle_one_message(discue, provider)

    assert state_of(discue, message.id) == ("acknowledged", 1)
    discue.assert_published("payments", {"order": 17, "state": "declined"}, count=1)


@pytest.mark.parametrize("status", [0, 429, 503])
def test_order_waits_while_the_provider_is_away(status: int, discue: Kit, provider: Provider) -> None:
    provider.status = status
    message = discue.publish("orders", ORDER)
    handle_one_message(discue, provider)
    assert state_of(discue, message.id) == ("pending", 0)

    provider.status = 200
    discue.clock.advance("1m")
    handle_one_message(discue, provider)

    assert provider.charges == {message.id: 1250}
    assert state_of(discue, message.id) == ("acknowledged", 1)


def test_order_that_the_provider_refuses_is_rejected(discue: Kit, provider: Provider) -> None:
    provider.status = 400
    message = discue.publish("orders", ORDER)
    handle_one_message(discue, provider)

    assert state_of(discue, message.id) == ("retrying", 1)
    discue.assert_published("payments", count=0)
