"""A worker that may reach listeners only through an HTTP proxy."""

import asyncio
import logging

import pytest

from tests.faults.client import Client
from tests.faults.receiver import Receiver
from tests.server.test_worker import running
from tests.support.forward_proxy import CREDENTIALS, PASSWORD, ForwardProxy, proxy_at
from tests.support.ports import free_port


async def test_messages_wait_for_the_proxy_and_arrive_at_the_first_attempt(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    port = free_port()
    async with (
        Receiver() as receiver,
        running(database, allow_private_targets=False, egress_proxy=proxy_at(port)) as worker,
    ):
        client = Client(worker)
        # Only the proxy can resolve this host.
        queue = await client.queue(f"http://listener.example:{receiver.port}/hook")
        published = [await client.publish(queue, "hello") for _ in range(3)]
        async with asyncio.timeout(20):
            [event] = await client.until_shown("/queues/system%2Fevents/messages?data=true", bool)
            [delivery] = await client.until_shown(
                f"/queues/{queue}/messages/{published[0]}/deliveries",
                lambda shown: shown[0]["waits_for"].startswith("The egress proxy has failed. Retry at "),
            )
        assert (event["type"], event["data"]["type"]) == ("egress_proxy.failing", "egress_proxy.failing")
        assert (delivery["state"], delivery["attempts"]) == ("pending", 0)
        assert worker.installation.store.measures.proxy_failures > 0
        assert receiver.delivered == []

        async with ForwardProxy(port=port) as proxy:
            async with asyncio.timeout(20):
                await receiver.until(lambda: sorted(receiver.messages("hook")) == sorted(published))
                for message in published:
                    await client.until_shown(
                        f"/queues/{queue}/messages/{message}/deliveries",
                        lambda shown: (shown[0]["state"], shown[0]["attempts"]) == ("acknowledged", 1),
                    )
            assert {each.headers["proxy-authorization"] for each in proxy.requests} == {CREDENTIALS}
            # Probes of the liveness URL, too.
            async with asyncio.timeout(20):
                await client.until_shown("/queues", lambda _: any(line.startswith("GET ") for line in proxy.lines))
        attempts = [await client.get(f"/queues/{queue}/messages/{message}/attempts") for message in published]
        assert all(len(each["attempts"]) == 1 for each in attempts)
        client.close()
    assert "attempt" in caplog.text
    assert PASSWORD not in caplog.text
    assert CREDENTIALS.split()[1] not in caplog.text
