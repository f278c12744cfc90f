"""Messages that a listener's filter rejects: they are not sent, and leave nothing."""

import json
from typing import Any

import pytest

from discue.domain import filters
from discue.domain.messages import MessageOptions
from discue.domain.model import CursorCounts, DeliveryOptions, Queue
from discue.domain.rate import RateLimit
from discue.domain.window import SPAN
from tests.dispatch.stage import DAY_MS, Stage, badly, well


def wanting(condition: dict[str, Any], **more: Any) -> DeliveryOptions:
    return DeliveryOptions(filter=json.dumps(condition), **more)


PAID = wanting({"data": {"state": "paid"}})


async def publish(stage: Stage, queue: Queue, *states: str) -> list[str]:
    """A message for each state; their ids."""
    ids = []
    for state in states:
        ids += await stage.publish(queue, body=json.dumps({"state": state}).encode())
    return ids


async def rows_left(stage: Stage) -> int:
    [(count,)] = await stage.rows(
        "SELECT (SELECT count(*) FROM delivery) + (SELECT count(*) FROM attempt) + (SELECT count(*) FROM missed_range)"
    )
    return int(count)


def numbers(counts: CursorCounts) -> tuple[int, int, int]:
    return counts.acknowledged, counts.missed, counts.pending


async def test_accepted_messages_are_sent_in_order(stage: Stage) -> None:
    queue, listener = await stage.running(PAID)
    ids = await publish(stage, queue, "open", "paid", "open", "paid", "open")
    assert stage.courier.ids() == [ids[1], ids[3]]
    await stage.end(stage.courier.in_flight[1], well())
    assert numbers(await stage.counts(listener)) == (1, 0, 1)
    await stage.end(stage.courier.in_flight[0], well())
    counts = await stage.counts(listener)
    assert (numbers(counts), counts.position) == ((2, 0, 0), 5)


async def test_filter_sees_headers_and_keys_of_messages_read_from_the_log(stage: Stage) -> None:
    queue, listener = await stage.running(wanting({"headers": {"x-shop": "north"}, "key": {"$prefix": "c-"}}))
    listener = await stage.configure(listener, status="disabled")
    await stage.publish_with(queue, MessageOptions(headers=(("X-Shop", "south"),), key="c-1"))
    wanted = await stage.publish_with(queue, MessageOptions(headers=(("X-Shop", "north"),), key="c-1"))
    await stage.publish_with(queue, MessageOptions(headers=(("X-Shop", "north"),)))
    await stage.configure(listener, status="enabled")
    await stage.acknowledge_in_turn(wanted)
    assert numbers(await stage.counts(listener)) == (1, 0, 0)


async def test_types_are_matched_before_the_filter_and_without_the_data(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, listener = await stage.running(wanting({"data": {"n": 1}}, types=("order.*",)))
    decoded: list[bytes] = []

    def decode(body: bytes) -> object:
        decoded.append(body)
        return json.loads(body)

    monkeypatch.setattr(filters, "_decoded", decode)
    for event_type in ("invoice.paid", "order.eu.paid", None):
        await stage.publish_with(queue, MessageOptions(type=event_type))
    assert decoded == []
    await stage.publish_with(queue, MessageOptions(type="order.paid"))
    assert len(decoded) == 1
    assert stage.courier.in_flight == []
    counts = await stage.counts(listener)
    assert (numbers(counts), counts.position) == ((0, 0, 0), 4)
    assert await rows_left(stage) == 0


async def test_message_of_another_type_is_never_missed(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(types=("order.paid",)))
    listener = await stage.configure(listener, status="disabled")
    await stage.append(queue, 3, body=b"1")
    old = await stage.publish_with(queue, MessageOptions(type="order.paid"))
    stage.clock.advance(31 * DAY_MS)
    await stage.miss_too_old()
    assert (await stage.counts(listener)).missed == 1
    assert await stage.missed(listener) == [old]


async def test_changed_filter_applies_to_messages_without_an_attempt_only(stage: Stage) -> None:
    queue, listener = await stage.running(wanting({"data": {"state": "paid"}}, max_in_flight=1))
    ids = await publish(stage, queue, "open", "paid", "paid", "open")
    assert stage.courier.ids() == [ids[1]]
    await stage.configure(listener, options=wanting({"data": {"state": "open"}}, max_in_flight=1))
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.acknowledge_in_turn(ids[3])
    await stage.advance(6_000)
    assert stage.courier.ids() == [ids[1]], "what waits for another attempt is sent, whatever the filter is now"
    await stage.end(stage.courier.in_flight[0], well())
    assert numbers(await stage.counts(listener)) == (2, 0, 0)


async def test_rejected_backlog_of_any_length_leaves_nothing(stage: Stage) -> None:
    queue, listener = await stage.running(PAID)
    listener = await stage.configure(listener, status="disabled")
    await stage.append(queue, SPAN + 300, body=b'{"state":"open"}')
    [wanted] = await publish(stage, queue, "paid")
    await stage.configure(listener, status="enabled")
    assert stage.courier.ids() == [wanted]
    assert numbers(await stage.counts(listener)) == (0, 0, 1)
    assert await rows_left(stage) == 0


async def test_hanging_request_and_skipped_messages_behind_it_survive_a_crash(stage: Stage) -> None:
    queue, listener = await stage.running(PAID)
    ids = await publish(stage, queue, "paid", "open", "open")
    counts = await stage.counts(listener)
    assert (numbers(counts), counts.position) == ((0, 0, 1), 0)
    await stage.start()
    assert stage.courier.ids() == ids[:1]
    await stage.end(stage.courier.in_flight[0], well())
    assert numbers(await stage.counts(listener)) == (1, 0, 0)


async def test_skipped_message_uses_no_token_of_the_rate_limit(stage: Stage) -> None:
    queue, _ = await stage.running(wanting({"data": {"state": "paid"}}, rate_limit=RateLimit(1, 1)))
    ids = await publish(stage, queue, "open", "open", "paid")
    assert stage.courier.ids() == ids[2:]


async def test_filter_is_asked_about_a_blocked_message_in_its_turn(stage: Stage) -> None:
    queue, listener = await stage.running(wanting({"headers": {"x-shop": "north"}}), ordered=True)
    first, _, third, _, fifth = [
        await stage.publish_with(queue, MessageOptions(headers=(("X-Shop", shop),), key="a"))
        for shop in ("north", "south", "north", "south", "north")
    ]
    await stage.end(stage.courier.in_flight[0], badly())
    assert [row[0] for row in await stage.rows("SELECT blocked FROM delivery")] == [4]
    await stage.advance(6_000)
    for expected in (first, third, fifth):
        await stage.acknowledge_in_turn(expected)
        await stage.advance(1)
    assert stage.courier.in_flight == []
    counts = await stage.counts(listener)
    assert (numbers(counts), counts.position) == ((3, 0, 0), 5)
    assert await stage.rows("SELECT * FROM delivery") == []


async def test_rejected_message_that_waits_in_memory_is_skipped_in_its_turn(stage: Stage) -> None:
    queue, listener = await stage.running(wanting({"headers": {"x-shop": "north"}}), ordered=True)
    ids = [
        await stage.publish_with(queue, MessageOptions(headers=(("X-Shop", shop),), key="a"))
        for shop in ("south", "north", "south", "north")
    ]
    await stage.acknowledge_in_turn(ids[1], ids[3])
    assert numbers(await stage.counts(listener)) == (2, 0, 0)
