"""Due times by the database's clock, although the wall clock of one of two workers is ten minutes ahead or behind."""

from typing import Any, Final

import pytest

from discue.domain.clock import SystemClock
from tests.faults.client import Client
from tests.faults.receiver import Receiver
from tests.server.test_worker import running

TEN_MINUTES_MS: Final = 600_000
DELAY_MS: Final = 1_000
MARGIN_MS: Final = 100_000
"""More than a request takes on the busiest machine, and less than the clock is wrong."""
pytestmark = pytest.mark.parametrize("engine_name", ["postgres"])
wrong_clocks = pytest.mark.parametrize("error_ms", [TEN_MINUTES_MS, -TEN_MINUTES_MS], ids=["ahead", "behind"])


class WrongClock(SystemClock):
    """The clocks of a machine whose wall clock is wrong."""

    def __init__(self, error_ms: int) -> None:
        self._error_ms = error_ms

    def now(self) -> int:
        return super().now() + self._error_ms


@wrong_clocks
async def test_delayed_messages_of_a_worker_with_a_wrong_clock_come_on_time(database: str, error_ms: int) -> None:
    async with (
        Receiver() as receiver,
        running(database, role="dispatch") as right,
        running(database, WrongClock(error_ms), role="api") as wrong,
    ):
        client = Client(wrong)
        queue = await client.queue()
        await client.listener(queue, receiver.url("listener"))
        topic = await client.create("/topics", {"alias": "orders"})
        await client.create(f"/topics/{topic['id']}/channels", {"queue_id": queue})
        delayed: dict[str, Any] = {"data": "hello", "delay": DELAY_MS // 1_000}
        before = right.installation.clock.now()
        one = await client.create(f"/queues/{queue}/messages", delayed)
        batch = await client.create(f"/queues/{queue}/messages/batch", {"messages": [delayed, delayed]})
        routed = await client.create(f"/topics/{topic['id']}/messages", delayed)
        sent = [one["id"], *(each["id"] for each in batch), routed["id"]]
        due = [(await client.get(f"/queues/{queue}/messages/{each}"))["message"]["deliver_at"] for each in sent]
        after = right.installation.clock.now()
        await receiver.until(lambda: sorted(receiver.messages("listener")) == sorted(sent))
        arrived = right.installation.clock.now()
        client.close()
    # The two workers read the database's clock at different times, each with an error of half a round trip.
    assert max(due) <= arrived <= max(due) + MARGIN_MS
    assert before + DELAY_MS <= arrived <= after + DELAY_MS + MARGIN_MS


@wrong_clocks
async def test_worker_with_a_wrong_clock_delivers_on_time(database: str, error_ms: int) -> None:
    """It is the leader, and the owner of all cursors."""
    async with (
        Receiver() as receiver,
        running(database, WrongClock(error_ms), role="dispatch"),
        running(database, role="api") as right,
    ):
        client = Client(right)
        queue = await client.queue(receiver.url("listener"))
        before = right.installation.clock.now()
        sent = await client.create(f"/queues/{queue}/messages", {"data": "hello", "deliver_at": before + DELAY_MS})
        kept = {"data": "hello", "expires_at": before + TEN_MINUTES_MS // 2}
        unexpired = await client.create(f"/queues/{queue}/messages", kept)
        await receiver.until(lambda: receiver.messages("listener") == [unexpired["id"], sent["id"]])
        arrived = right.installation.clock.now()
        client.close()
    assert before + DELAY_MS <= arrived <= before + DELAY_MS + MARGIN_MS


@wrong_clocks
async def test_times_in_requests_are_checked_by_the_clock_of_the_database(database: str, error_ms: int) -> None:
    minute, half = 60_000, TEN_MINUTES_MS // 2
    wrong_clock = WrongClock(error_ms)
    async with running(database, role="dispatch") as right, running(database, wrong_clock, role="api") as wrong:
        client = Client(wrong)
        queue = await client.queue()

        async def status_of(**fields: int) -> int:
            return (await client.ask("POST", f"/queues/{queue}/messages", {"data": "hello", **fields})).status

        now, year = right.installation.clock.now(), 31_536_000_000
        expiries = [await status_of(expires_at=now + offset) for offset in (half, -half)]
        due_times = [await status_of(deliver_at=now + year + offset) for offset in (-half, half)]
        cron = {"cron": "* * * * *", "data": "hello"}
        schedule = await client.create(f"/queues/{queue}/schedules", cron)
        after = right.installation.clock.now()
        client.close()
    assert expiries == due_times == [200, 422]
    assert now < schedule["next_runs"][0] <= after + minute
