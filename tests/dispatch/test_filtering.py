"""Messages that a listener's filter does not let through: nothing is sent, and nothing is left of them."""

import json
from typing import Any

from discue.domain.messages import MessageOptions
from discue.domain.model import CursorCounts, DeliveryOptions, Listener, Queue
from discue.domain.rate import RateLimit
from discue.domain.window import SPAN
from tests.dispatch.stage import DAY_MS, Stage, badly, well


def wanting(condition: dict[str, Any], **more: Any) -> DeliveryOptions:
    return DeliveryOptions(filter=json.dumps(condition), **more)


PAID = wanting({"data": {"state": "paid"}})


async def running(stage: Stage, options: DeliveryOptions) -> tuple[Queue, Listener]:
    queue = await stage.queue(await stage.organization())
    await stage.start()
    return queue, await stage.listener(queue, options)


async def publish(stage: Stage, queue: Queue, *states: str) -> list[str]:
    """A message for each state; their ids."""
    ids = []
    for state in states:
        ids += await stage.publish(queue, body=json.dumps({"state": state}).encode())
    return ids


async def rows_left(stage: Stage) -> int:
    [(count,)] = await stage.rows(
        "SELECT (SELECT count(*) FROM exception) + (SELECT count(*) FROM attempt) + (SELECT count(*) FROM missed_range)"
    )
    return int(count)


def numbers(counts: CursorCounts) -> tuple[int, int, int]:
    return counts.acknowledged, counts.missed, counts.pending


async def test_what_is_not_wanted_is_passed_over_and_counted_as_nothing(stage: Stage) -> None:
    queue, listener = await running(stage, PAID)
    await publish(stage, queue, "open", "open", "closed")
    assert stage.courier.sent == []
    counts = await stage.counts(listener)
    assert (numbers(counts), counts.position, counts.head) == ((0, 0, 0), 3, 3)
    assert await rows_left(stage) == 0


async def test_what_is_wanted_is_sent_in_its_order_among_the_rest(stage: Stage) -> None:
    queue, listener = await running(stage, PAID)
    ids = await publish(stage, queue, "open", "paid", "open", "paid", "open")
    assert stage.courier.ids() == [ids[1], ids[3]]
    await stage.end(stage.courier.under_way[1], well())
    assert numbers(await stage.counts(listener)) == (1, 0, 1)
    await stage.end(stage.courier.under_way[0], well())
    counts = await stage.counts(listener)
    assert (numbers(counts), counts.position) == ((2, 0, 0), 5)


async def test_each_listener_of_a_queue_has_its_own(stage: Stage) -> None:
    queue, _ = await running(stage, PAID)
    everything = await stage.listener(queue)
    other = await stage.listener(queue, wanting({"data": {"state": {"$not": "paid"}}}))
    [first, second] = await publish(stage, queue, "paid", "open")
    sent = {(each.message_id, each.listener_id) for each in stage.courier.under_way}
    assert {(first, everything.public_id), (second, everything.public_id), (second, other.public_id)} < sent
    assert len(sent) == 4


async def test_headers_and_keys_are_looked_at_in_what_is_read_from_the_log_too(stage: Stage) -> None:
    queue, listener = await running(stage, wanting({"headers": {"x-shop": "north"}, "key": {"$prefix": "c-"}}))
    listener = await stage.configure(listener, status="disabled")
    await stage.publish_with(queue, MessageOptions(headers=(("X-Shop", "south"),), key="c-1"))
    wanted = await stage.publish_with(queue, MessageOptions(headers=(("X-Shop", "north"),), key="c-1"))
    await stage.publish_with(queue, MessageOptions(headers=(("X-Shop", "north"),)))
    await stage.configure(listener, status="enabled")
    assert stage.courier.ids() == [wanted]
    await stage.end(stage.courier.under_way[0], well())
    assert numbers(await stage.counts(listener)) == (1, 0, 0)


async def test_a_change_counts_for_what_was_not_begun_and_for_nothing_else(stage: Stage) -> None:
    queue, listener = await running(stage, wanting({"data": {"state": "paid"}}, max_in_flight=1))
    ids = await publish(stage, queue, "open", "paid", "paid", "open")
    assert stage.courier.ids() == [ids[1]]
    await stage.configure(listener, options=wanting({"data": {"state": "open"}}, max_in_flight=1))
    await stage.end(stage.courier.under_way[0], badly())
    assert stage.courier.ids() == [ids[3]]
    await stage.end(stage.courier.under_way[0], well())
    await stage.advance(6_000)
    assert stage.courier.ids() == [ids[1]], "what waits for another attempt is sent, whatever the filter is now"
    await stage.end(stage.courier.under_way[0], well())
    assert numbers(await stage.counts(listener)) == (2, 0, 0)


async def test_without_a_filter_everything_is_sent_again(stage: Stage) -> None:
    queue, listener = await running(stage, PAID)
    await publish(stage, queue, "open")
    await stage.configure(listener, options=DeliveryOptions())
    ids = await publish(stage, queue, "open")
    assert stage.courier.ids() == ids


async def test_of_a_backlog_that_nobody_wants_nothing_stays_however_long_it_is(stage: Stage) -> None:
    queue, listener = await running(stage, PAID)
    listener = await stage.configure(listener, status="disabled")
    await stage.append(queue, SPAN + 300, body=b'{"state":"open"}')
    [wanted] = await publish(stage, queue, "paid")
    await stage.configure(listener, status="enabled")
    assert stage.courier.ids() == [wanted]
    assert numbers(await stage.counts(listener)) == (0, 0, 1)
    assert await rows_left(stage) == 0


async def test_a_hanging_request_and_what_is_passed_over_behind_it_survive_a_crash(stage: Stage) -> None:
    queue, listener = await running(stage, PAID)
    ids = await publish(stage, queue, "paid", "open", "open")
    counts = await stage.counts(listener)
    assert (numbers(counts), counts.position) == ((0, 0, 1), 0)
    await stage.start()
    assert stage.courier.ids() == ids[:1]
    await stage.end(stage.courier.under_way[0], well())
    assert numbers(await stage.counts(listener)) == (1, 0, 0)


async def test_what_nobody_wanted_is_not_missed_when_it_gets_too_old(stage: Stage) -> None:
    queue, listener = await running(stage, wanting({"data": {"state": "paid"}}, max_in_flight=1))
    await publish(stage, queue, "paid", "open", "paid")
    stage.clock.advance(31 * DAY_MS)
    await stage.end(stage.courier.under_way[0], well())
    assert numbers(await stage.counts(listener)) == (1, 1, 0)


async def test_what_is_passed_over_uses_nothing_of_a_rate_limit(stage: Stage) -> None:
    queue, _ = await running(stage, wanting({"data": {"state": "paid"}}, rate_limit=RateLimit(1, 1)))
    ids = await publish(stage, queue, "open", "open", "paid")
    assert stage.courier.ids() == ids[2:]


async def test_in_an_ordered_queue_what_waited_behind_its_key_is_asked_about_in_its_turn(stage: Stage) -> None:
    queue = await stage.queue(await stage.organization(), ordered=True)
    await stage.start()
    listener = await stage.listener(queue, wanting({"headers": {"x-shop": "north"}}))
    first, _, third, _, fifth = [
        await stage.publish_with(queue, MessageOptions(headers=(("X-Shop", shop),), key="a"))
        for shop in ("north", "south", "north", "south", "north")
    ]
    await stage.end(stage.courier.under_way[0], badly())
    assert [row[0] for row in await stage.rows("SELECT blocked FROM exception")] == [4]
    await stage.advance(6_000)
    for expected in (first, third, fifth):
        assert stage.courier.ids() == [expected]
        await stage.end(stage.courier.under_way[0], well())
        await stage.advance(1)
    assert stage.courier.under_way == []
    counts = await stage.counts(listener)
    assert (numbers(counts), counts.position) == ((3, 0, 0), 5)
    assert await stage.rows("SELECT * FROM exception") == []


async def test_in_an_ordered_queue_what_waits_in_memory_is_passed_over_in_its_turn(stage: Stage) -> None:
    queue = await stage.queue(await stage.organization(), ordered=True)
    await stage.start()
    listener = await stage.listener(queue, wanting({"headers": {"x-shop": "north"}}))
    ids = [
        await stage.publish_with(queue, MessageOptions(headers=(("X-Shop", shop),), key="a"))
        for shop in ("south", "north", "south", "north")
    ]
    for expected in (ids[1], ids[3]):
        assert stage.courier.ids() == [expected]
        await stage.end(stage.courier.under_way[0], well())
    assert numbers(await stage.counts(listener)) == (2, 0, 0)


async def test_what_expires_behind_its_key_lets_the_next_one_go(stage: Stage) -> None:
    queue = await stage.queue(await stage.organization(), ordered=True)
    await stage.start()
    listener = await stage.listener(queue)
    options = MessageOptions(key="a")
    first = await stage.publish_with(queue, options)
    await stage.publish_with(queue, options, stage.clock.now() + 1_000)
    third = await stage.publish_with(queue, options)
    await stage.advance(2_000)
    assert stage.courier.ids() == [first]
    await stage.end(stage.courier.under_way[0], well())
    assert stage.courier.ids() == [third]
    await stage.end(stage.courier.under_way[0], well())
    assert numbers(await stage.counts(listener)) == (2, 1, 0)
