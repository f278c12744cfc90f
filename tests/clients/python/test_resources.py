"""Resources of a real service, by both halves of the client."""

import dataclasses
import gc
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

import discue_client
from discue_client import AsyncDiscue, Discue, NotFound, Unauthorized, ValidationFailed
from discue_client._sync.resources import Resources
from discue_client.models import Message, Queue
from tests.support.postgres.processes import until
from tests.support.served_api import Cast
from tools import client_operations, python_client
from tools.openapi_shape import DOCUMENT, load


@dataclasses.dataclass
class Order:
    id: int


async def test_async_client_creates_reads_changes_and_deletes(async_client: AsyncDiscue) -> None:
    made = await async_client.queues.create(alias="orders/eu", retention=60)
    changed = await async_client.queues.update("orders/eu", retention=None, ordered=False)
    found = await async_client.queues.get(made.id)
    await async_client.queues.delete("orders/eu")

    assert isinstance(made, Queue)
    assert (made.alias, made.retention) == ("orders/eu", 60)
    assert (changed.retention, found) == (None, changed)
    with pytest.raises(NotFound) as caught:
        await async_client.queues.get(made.id)
    assert (caught.value.status, caught.value.code) == (404, "not_found")
    assert caught.value.request_id


def test_sync_client_creates_reads_changes_and_deletes(client: Discue) -> None:
    made = client.queues.create(alias="orders/eu", retention=60)
    changed = client.queues.update("orders/eu", retention=None, ordered=False)
    found = client.queues.get(made.id)
    client.queues.delete("orders/eu")

    assert (made.alias, made.retention) == ("orders/eu", 60)
    assert (changed.retention, found) == (None, changed)
    with pytest.raises(NotFound):
        client.queues.get(made.id)


async def test_publish_by_name_stores_every_field(async_client: AsyncDiscue) -> None:
    await async_client.queues.create(alias="orders", ordered=True)
    before = time.time() * 1000

    sent = await async_client.publish(
        "orders",
        Order(17),
        type="order.paid",
        key="customer-9",
        delay=3_600.2,
        expires_in=7_200,
        headers={"x-shop": "north"},
        alias="o-17",
    )
    found = await async_client.messages.get("orders", sent.id)

    assert isinstance(sent, Message)
    assert found.data == {"id": 17}
    assert (found.type, found.key, found.alias) == ("order.paid", "customer-9", "o-17")
    assert found.headers == {"x-shop": "north"}
    assert (found.deliver_at or 0) >= before + 3_600_200
    assert (found.expires_at or 0) >= before + 7_199_999


async def test_topic_is_published_to_like_a_queue(async_client: AsyncDiscue) -> None:
    await async_client.queues.create(alias="paid", ordered=True)
    await async_client.topics.create(alias="shop")
    channel = await async_client.channels.create("shop", queue_id="paid", pattern="orders.*.paid")

    sent = await async_client.topics.publish(
        "shop", Order(17), type="orders.eu.paid", key="customer-9", expires_in=60, idempotency_key="k"
    )
    again = await async_client.topics.publish(
        "shop", b"\x00\xff", type="orders.eu.paid", delay=timedelta(minutes=1), headers={"x-shop": "1"}
    )
    ignored = await async_client.topics.publish("shop", "text")

    stored = await async_client.messages.get("paid", sent.id)
    assert (sent.queues, ignored.queues) == ((channel.queue_id,), ())
    assert (stored.data, stored.key, stored.type) == ({"id": 17}, "customer-9", "orders.eu.paid")
    assert stored.expires_at is not None
    assert stored.expires_at - stored.created_at == pytest.approx(60_000, abs=5_000)
    later = await async_client.messages.get("paid", again.id)
    assert (later.data_base64, later.headers) == ("AP8=", {"x-shop": "1"})


def test_sync_publish_to_a_topic_with_the_same_idempotency_key_publishes_once(client: Discue) -> None:
    client.queues.create(alias="paid")
    client.topics.create(alias="shop")
    client.channels.create("shop", queue_id="paid")
    first, second = (client.topics.publish("shop", {"order": 1}, idempotency_key="k") for _ in range(2))

    assert first == second
    assert [each.id for each in client.messages.list("paid")] == [first.id]


def test_erasure_leaves_messages_with_other_keys(client: Discue) -> None:
    client.queues.create(alias="orders")
    for key in ("customer-7", "customer-8"):
        client.publish("orders", "x", key=key)

    erasure = client.erasures.create("orders", key="customer-7")

    assert (erasure.state, erasure.erased, erasure.delivered) == ("done", 1, ())
    assert [each.key for each in client.messages.list("orders")] == ["customer-8"]
    assert list(client.erasures.list("orders")) == [client.erasures.get("orders", erasure.id)]


def test_text_and_values_are_published_as_they_are(client: Discue) -> None:
    client.queues.create(alias="orders")
    sent = ["plain", None, [1, "ä"], 1.5]

    assert [client.messages.get("orders", client.publish("orders", data).id).data for data in sent] == sent


def test_bytes_are_published_as_they_are(client: Discue) -> None:
    client.queues.create(alias="orders")

    message = client.publish("orders", b"\x00\xff", content_type="application/x-order")
    found = client.messages.get("orders", message.id)

    assert (found.data_base64, found.content_type) == ("AP8=", "application/x-order")


def test_same_idempotency_key_publishes_once(client: Discue) -> None:
    client.queues.create(alias="orders")

    first, second = (client.publish("orders", "x", idempotency_key="order-17") for _ in range(2))

    assert first == second
    assert len(list(client.messages.list("orders"))) == 1


async def test_lists_span_pages_and_stop_at_their_limit(async_client: AsyncDiscue) -> None:
    await async_client.queues.create(alias="orders")
    await async_client.messages.create_batch("orders", messages=[{"data": str(number)} for number in range(230)])
    messages = async_client.messages

    ids = [message.id async for message in messages.list("orders")]
    some = [message.id async for message in messages.list("orders", limit=120)]
    sizes = [len(page) async for page in messages.list("orders").pages()]
    first = await messages.list("orders").first()

    assert len(set(ids)) == 230
    assert some == ids[:120]
    assert sizes == [100, 100, 30]
    assert first is not None
    assert first.id == ids[0]


def test_sync_lists_span_pages_and_filters_apply(client: Discue) -> None:
    client.queues.create(alias="orders")
    client.queues.create(alias="refunds")
    client.messages.create_batch("orders", messages=[{"data": "1", "key": "a"}, {"data": "2", "key": "b"}])
    client.publish("refunds", "3", key="a")

    assert len(list(client.messages.list())) == 3
    assert len(list(client.messages.list("orders"))) == 2
    assert [message.key for message in client.messages.list(key="b")] == ["b"]
    assert client.messages.list("refunds", key="b").first() is None


def test_pages_never_send_the_key_to_the_host_of_a_link(cast: Cast) -> None:
    cast.service.client(cast.alice.headers["x-api-key"])
    with Discue(cast.service.url.replace("127.0.0.1", "localhost"), cast.alice.headers["x-api-key"]) as client:
        client.queues.create(alias="orders")
        client.messages.create_batch("orders", messages=[{"data": str(number)} for number in range(101)])

        assert len(list(client.messages.list("orders"))) == 101


async def test_violations_of_a_schema_come_as_pointers(async_client: AsyncDiscue) -> None:
    await async_client.queues.create(alias="orders", schema={"count": {"type": "number", "min": 1}})

    with pytest.raises(ValidationFailed) as caught:
        await async_client.publish("orders", {"count": 0})

    assert caught.value.pointers == ("/data/count",)


def test_response_with_more_than_one_object_is_returned_whole(client: Discue) -> None:
    made = client.users.create(email="ada@example.com", role="viewer")

    assert made.invitation is not None
    assert client.users.get(made.user.id) == made.user


def test_with_options_shares_connections(cast: Cast) -> None:
    with Discue(cast.service.url, cast.alice.headers["x-api-key"]) as client:
        quick = client.with_options(timeout=5, attempts=1)
        quick.queues.create(alias="orders")

        assert client.queues.get("orders").alias == "orders"
    with pytest.raises(RuntimeError, match="closed"):
        quick.queues.get("orders")


def test_forgotten_client_closes_its_connections_without_a_warning(
    cast: Cast, recwarn: pytest.WarningsRecorder
) -> None:
    before = open_sockets()
    client = Discue(cast.service.url, cast.alice.headers["x-api-key"])
    client.queues.create(alias="orders")
    assert open_sockets() > before

    del client
    gc.collect()

    # The client's event loop and the server each close their side on a thread of their own.
    until(lambda: open_sockets() <= before, "both sides of the connection are closed")
    assert list(recwarn) == []


def open_sockets() -> int:
    """Return the number of sockets of this process, in which the service runs as well."""
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return sum(os.readlink(link).startswith("socket:") for link in links if link.is_symlink())  # noqa: PTH115


def test_unknown_key_is_unauthorized_and_never_shown(cast: Cast) -> None:
    with Discue(cast.service.url, "dsk_" + "0" * 64) as client, pytest.raises(Unauthorized) as caught:
        client.queues.list().first()

    assert "dsk_" not in str(caught.value) + repr(client)


def test_client_of_httpx_can_be_given_and_stays_open(cast: Cast) -> None:
    with Discue(cast.service.url, cast.alice.headers["x-api-key"], http_client=cast.nobody) as client:
        client.queues.create(alias="orders")

    assert not cast.nobody.is_closed


def test_every_operation_of_the_document_has_a_method_once() -> None:
    operations = client_operations.operations(load(DOCUMENT))
    names = {(operation.resource, operation.name) for operation in operations}
    resources = Resources.__init__.__code__.co_names

    assert len(operations) > 60
    assert {resource for resource, _ in names} <= set(resources)
    module = Path(discue_client._sync.resources.__file__).read_text()
    methods = module.count("    def ") - 2 * module.count("\nclass ") + module.count("\nclass ")
    assert methods == len(names)


def test_halves_have_the_same_methods() -> None:
    texts = [(python_client.PACKAGE / half / "resources.py").read_text() for half in ("_async", "_sync")]

    assert texts[0].count("    def ") + texts[0].count("    async def ") == texts[1].count("    def ")
    assert "await" not in texts[1]
    assert "async" not in texts[1].lower().replace("_async/resources.py", "")
