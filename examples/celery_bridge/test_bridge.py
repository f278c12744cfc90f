import httpx2
import pytest
from discue.testing import Kit
from discue_client import Delivery

from bridge import start_task
from tasks import app

ORDER = {"order": 17, "mail": "customer@example.com"}


@pytest.fixture(autouse=True)
def queue(discue: Kit) -> None:
    discue.queue("orders")
    discue.client.listeners.update("orders", "celery", mode="pull")


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> list[httpx2.Request]:
    """The requests to the mail provider. Tasks run where they are started, without a broker."""
    sent: list[httpx2.Request] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200)

    monkeypatch.setattr(httpx2, "post", httpx2.Client(transport=httpx2.MockTransport(respond)).post)
    monkeypatch.setenv("MAIL_URL", "https://mail.example.com/send")
    monkeypatch.setenv("MAIL_KEY", "secret")
    monkeypatch.setattr(app.conf, "task_always_eager", True)
    return sent


def handle_one_message(discue: Kit) -> None:
    consumer = discue.client.consume("orders", listener="celery", concurrency=1)

    def start_and_stop(delivery: Delivery) -> None:
        consumer.stop()
        start_task(delivery)

    consumer.run(start_and_stop)


def state_of(discue: Kit, message_id: str) -> tuple[str, int]:
    """Return the state of a message, and how many attempts count."""
    (delivery,) = discue.client.messages.deliveries("orders", message_id)
    return delivery.state, delivery.attempts


def test_message_starts_a_task_under_its_id(discue: Kit, mails: list[httpx2.Request]) -> None:
    message = discue.publish("orders", ORDER)
    handle_one_message(discue)

    assert [mail.headers["Idempotency-Key"] for mail in mails] == [message.id]
    assert state_of(discue, message.id) == ("acknowledged", 1)


def test_message_waits_while_the_broker_is_away(discue: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.conf, "broker_url", "amqp://127.0.0.1:1")
    monkeypatch.setattr(app.conf, "broker_transport_options", {"max_retries": 1, "interval_start": 0})
    message = discue.publish("orders", ORDER)
    handle_one_message(discue)

    assert state_of(discue, message.id) == ("pending", 0)
