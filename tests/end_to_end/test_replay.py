"""A replay goes on where it was when its process is killed, and live messages do not wait for it."""

from pathlib import Path

import pytest

from tests.faults.product import Product
from tests.faults.receiver import Receiver
from tests.support.databases import ENOUGH

_MESSAGES = 60
_IN_FLIGHT = 4


@pytest.mark.parametrize("engine_name", ENOUGH)
async def test_killed_process_continues_a_replay_and_repeats_requests_in_flight(tmp_path: Path, database: str) -> None:
    product = Product(tmp_path, database=database, lease_seconds=2)
    async with Receiver() as receiver, product:
        operator = product.client()
        queue = await operator.queue()
        batch = {"messages": [{"data": f"{number}"} for number in range(_MESSAGES)]}
        ids = [message["id"] for message in await operator.create(f"/queues/{queue}/messages/batch", batch)]
        url = receiver.url("late")
        fields = {"notify_url": url, "liveness_url": url, "max_in_flight": _IN_FLIGHT}
        listener = await operator.create(f"/queues/{queue}/listeners", fields)
        place = f"/queues/{queue}/listeners/{listener['id']}/replays"
        replay = await operator.create(place, {"from_message": ids[10], "pace": 100})
        await receiver.until(lambda: len(receiver.delivered) >= 20)
        await product.kill()
        await product.start()

        live = await operator.publish(queue, "live")
        shown = await operator.until_shown(f"{place}/{replay['id']}", lambda shown: shown["state"] == "done")
        await receiver.until(lambda: live in receiver.messages("late"))
        replayed = [each.message for each in receiver.delivered if "discue-replay" in each.headers]
        assert {each.headers.get("discue-replay", replay["id"]) for each in receiver.delivered} == {replay["id"]}
        assert set(replayed) == set(ids[10:])
        assert len(replayed) <= _MESSAGES - 10 + _IN_FLIGHT
        assert shown["counts"] == {
            "selected": _MESSAGES - 10,
            "delivered": _MESSAGES - 10,
            "failed": 0,
            "expired": 0,
            "filtered": 0,
            "retrying": 0,
            "remaining": 0,
        }
        assert receiver.messages("late").count(live) == 1
