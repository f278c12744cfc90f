"""From the first queue to a restart, over real HTTP, against a real process."""

import json
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.faults.client import Client
from tests.faults.product import Product
from tests.faults.receiver import Delivered, Receiver


async def secret_of(client: Client, queue: str, url: str, **fields: object) -> str:
    """The signing secret of a new listener."""
    made = await client.create(f"/queues/{queue}/listeners", {"notify_url": url, "liveness_url": url, **fields})
    return str(made["secret"])


def verified(delivered: Delivered, secret: str) -> object:
    """The content, when the signature is one by this secret."""
    return Webhook(secret).verify(delivered.body, delivered.headers)


def bodies(receiver: Receiver, name: str) -> set[str]:
    return {delivered.body.decode() for delivered in receiver.delivered if delivered.path == name}


async def test_every_listener_receives_every_message_signed(tmp_path: Path, database: str) -> None:
    contents = [json.dumps({"number": number}) for number in range(4)]
    async with Receiver() as receiver, Product(tmp_path, database=database) as product:
        operator = product.client()
        queue = await operator.queue()
        secrets = {name: await secret_of(operator, queue, receiver.url(name)) for name in ("first", "second")}
        message = await operator.publish(queue, contents[0])
        batch = {"messages": [{"data": data} for data in contents[1:]]}
        await operator.create(f"/queues/{queue}/messages/batch", batch)
        await receiver.until(lambda: len(receiver.delivered) == 2 * len(contents))

        for delivered in receiver.delivered:
            assert verified(delivered, secrets[delivered.path]) == json.loads(delivered.body)
            assert delivered.headers["discue-attempt"] == "1"
            assert delivered.headers["discue-queue"] == queue
        assert bodies(receiver, "first") == bodies(receiver, "second") == set(contents)
        with pytest.raises(WebhookVerificationError):
            verified(receiver.delivered[0], "whsec_" + "A" * 32)
        shown = await operator.until_shown(
            f"/queues/{queue}/messages/{message}",
            lambda shown: all(each["state"] == "acknowledged" for each in shown["deliveries"]),
        )
        assert {each["attempts"] for each in shown["deliveries"]} == {1}


async def test_failed_delivery_is_retried_and_a_restart_keeps_everything(tmp_path: Path, database: str) -> None:
    statuses = {"1": 500, "2": 200}

    async def respond(delivered: Delivered) -> int:
        return statuses[delivered.headers["discue-attempt"]]

    async with Receiver(respond) as receiver, Product(tmp_path, database=database) as product:
        operator = product.client()
        queue = await operator.queue()
        # Long enough that the restart comes first.
        secret = await secret_of(operator, queue, receiver.url("shaky"), retry={"schedule": [2], "jitter": 0.0})
        key = await operator.create("/api_keys", {"scopes": {"messages": {"access": "write"}}})
        fields = {"data": '{"hello": "world"}', "alias": "greeting"}
        message = (await operator.create(f"/queues/{queue}/messages", fields))["id"]
        place = f"/queues/{queue}/messages/{message}"
        await operator.until_shown(place, lambda shown: shown["deliveries"][0]["state"] == "retrying")
        queues, keys = await operator.get("/queues?per_page=100"), await operator.get("/api_keys?per_page=100")
        assert await product.stop() == 0
        await product.start()

        assert (await operator.get("/queues?per_page=100"))["queues"] == queues["queues"]
        assert [each["id"] for each in (await operator.get("/api_keys"))["api_keys"]] == [
            each["id"] for each in keys["api_keys"]
        ]
        later = await product.client(key["key"]).publish(queue, "later")
        await receiver.until(lambda: len(receiver.delivered) >= 4)
        shown = await operator.until_shown(place, lambda shown: shown["deliveries"][0]["state"] != "retrying")
        assert {name: shown[name] for name in fields} == fields
        assert [shown["deliveries"][0][name] for name in ("state", "attempts")] == ["acknowledged", 2]
        # Their waits differ by chance: only of each message it is promised which attempt comes first.
        numbers = [(delivered.message, delivered.headers["discue-attempt"]) for delivered in receiver.delivered]
        for each in (message, later):
            assert [number for sent, number in numbers if sent == each] == ["1", "2"]
        assert len(numbers) == 4
        attempts = [delivered for delivered in receiver.delivered if delivered.message == message]
        for delivered in attempts:
            assert verified(delivered, secret) == {"hello": "world"}
