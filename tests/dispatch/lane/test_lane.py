"""A lane: the messages that it sends, the records that it keeps, and no loss on the way."""

import asyncio
import os
from pathlib import Path

import apsw
import msgspec
import pytest

from discue.dispatch.lane.breaker import PAUSE_MS, RETRYING_LIMIT
from discue.dispatch.lane.context import Tuning, memory_of
from discue.domain.attempts import decode_detail
from discue.domain.errors import StoreUnavailable
from discue.domain.model import DeliveryOptions, Listener, Queue
from discue.domain.window import SPAN
from discue.store.engine import MissedRange
from tests.dispatch.stage import DAY_MS, LIMITS, Reports, Stage, badly, well, with_trace
from tests.support.databases import on_sqlite_only

pytestmark = on_sqlite_only

IN_FLIGHT = LIMITS.listener_max_in_flight


async def test_a_caught_up_lane_delivers_from_memory(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, listener = await stage.running()
    pages = 0
    read_page = stage.store.page

    async def counted(organization: int, queue: int, after: int, rows: int, *, max_bytes: int) -> object:
        nonlocal pages
        pages += 1
        return await read_page(organization, queue, after, rows, max_bytes=max_bytes)

    monkeypatch.setattr(stage.store, "page", counted)
    published = [await stage.publish(queue) for _ in range(3)]
    assert stage.courier.ids() == [ids[0] for ids in published]
    assert pages == 0
    await stage.end(stage.courier.in_flight[::], well())
    await stage.assert_counts(listener, acknowledged=3, pending=0, position=3, last_success_at=stage.clock.now())


async def _flushed_after(stage: Stage, milliseconds: int, *listeners: Listener) -> list[int]:
    """Let time pass, and return how many acknowledgements of each listener are stored then."""
    stage.clock.advance(milliseconds)
    stage.dispatcher.timers.wake_due()
    await stage.quiet(flushes=False)
    return [(await stage.counts(listener)).acknowledged for listener in listeners]


async def test_successes_of_lanes_that_are_caught_up_are_stored_together_after_10_ms(stage: Stage) -> None:
    queue, first = await stage.running()
    second = await stage.listener(queue)
    await stage.publish(queue)
    one, other = stage.courier.in_flight
    one.end(well())
    assert await _flushed_after(stage, 4, first, second) == [0, 0]
    other.end(well())
    assert await _flushed_after(stage, 5, first, second) == [0, 0]
    assert await _flushed_after(stage, 1, first, second) == [1, 1]


async def test_clock_that_is_set_back_does_not_delay_a_success(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue)
    stage.courier.end_all(well())
    assert await _flushed_after(stage, 0, listener) == [0]
    stage.clock.set_by(-DAY_MS)
    assert await _flushed_after(stage, 0, listener) == [1]


async def test_success_is_stored_at_once_when_a_quarter_of_the_slots_is_unstored(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, IN_FLIGHT)
    quarter = -(-IN_FLIGHT // 4)
    for sent in stage.courier.in_flight[: quarter - 1]:
        sent.end(well())
    assert await _flushed_after(stage, 0, listener) == [0]
    stage.courier.in_flight[0].end(well())
    assert await _flushed_after(stage, 0, listener) == [quarter]


async def test_success_is_stored_at_once_while_messages_wait(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, IN_FLIGHT + 2)
    stage.courier.in_flight[0].end(well())
    assert await _flushed_after(stage, 0, listener) == [1]


async def test_failure_is_stored_at_once(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue)
    stage.courier.end_all(badly())
    await stage.quiet(flushes=False)
    assert (await stage.counts(listener)).retrying == 1


async def test_a_lane_behind_pages_the_log_in_order(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await stage.publish(queue, 1_000)
    while stage.courier.in_flight:
        await stage.end(stage.courier.in_flight[0], well())
    assert [sent.message_id for sent in stage.courier.sent] == ids
    assert (await stage.counts(listener)).pending == 0


async def test_restart_repeats_exactly_the_unsettled_messages(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await stage.publish(queue, 10)
    for index in (8, 3, 1, 0, 6):
        await stage.end(next(sent for sent in stage.courier.in_flight if sent.message_id == ids[index]), well())
    await stage.start()
    assert stage.courier.ids() == [ids[index] for index in (2, 4, 5, 7, 9)]
    await stage.end(stage.courier.in_flight[::], well())
    await stage.assert_counts(listener, acknowledged=10, position=10, settled_ahead=0, pending=0)


async def test_failed_delivery_is_retried_when_due_and_not_before(stage: Stage) -> None:
    queue, listener = await stage.running()
    [message] = await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], badly())
    [(due_at,)] = await stage.rows("SELECT due_at FROM delivery WHERE state = 'retry'")
    assert 5_000 <= due_at - stage.clock.now() <= 6_000
    assert (await stage.counts(listener)).retrying == 1
    await stage.advance(due_at - stage.clock.now() - 1)
    assert stage.courier.in_flight == []
    await stage.advance(1)
    [sent] = stage.courier.in_flight
    assert (sent.message_id, sent.number) == (message, 2)
    await stage.end(sent, well())
    await stage.assert_counts(listener, acknowledged=1, retrying=0, pending=0)
    assert await stage.delivery_rows(listener) == []


async def test_attempt_details_are_kept_with_the_time_of_the_next_attempt(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 3)
    for sent, outcome in zip(stage.courier.in_flight[::], (badly(), badly(no_retry=True), well()), strict=True):
        await stage.end(sent, with_trace(outcome))
    [(due_at,)] = await stage.rows("SELECT due_at FROM delivery WHERE state = 'retry'")
    kept = await stage.rows(
        "SELECT a.seq, d.listener, d.content FROM attempt a JOIN attempt_detail d ON d.id = a.id ORDER BY a.seq"
    )
    assert [(seq, owner, decode_detail(content).next_attempt_at) for seq, owner, content in kept] == [
        (1, listener.id, due_at),
        (2, listener.id, 0),
        (3, listener.id, 0),
    ]


async def test_attempt_without_a_trace_has_a_record_and_no_detail(stage: Stage) -> None:
    queue, _ = await stage.running()
    await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], badly())
    counted = "SELECT (SELECT count(*) FROM attempt), (SELECT count(*) FROM attempt_detail)"
    assert await stage.rows(counted) == [(1, 0)]


async def test_attempt_details_are_stored_before_a_handover(stage: Stage) -> None:
    queue, _ = await stage.running()
    await stage.publish(queue, IN_FLIGHT)
    for sent in stage.courier.in_flight[::]:
        sent.end(with_trace(badly(), os.urandom(16_384)))
    await stage.dispatcher.hand_over(tuple(stage.dispatcher.lanes.cursors))
    await stage.quiet()
    assert await stage.rows("SELECT count(*) FROM attempt_detail") == [(IN_FLIGHT,)]
    assert await stage.rows("SELECT owner FROM cursor") == [(None,)]


async def test_delivery_is_missed_after_twelve_failed_attempts(stage: Stage) -> None:
    queue, listener = await stage.running()
    [message] = await stage.publish(queue)
    for number in range(1, 13):
        [sent] = stage.courier.in_flight
        assert sent.number == number
        await stage.end(sent, badly())
        await stage.advance(2 * DAY_MS)
    assert stage.courier.in_flight == []
    await stage.assert_counts(listener, missed=1, retrying=0, pending=0, acknowledged=0)
    assert await stage.missed(listener) == [message]
    assert await stage.delivery_rows(listener) == [(1, "missed", 12)]
    numbers = await stage.rows("SELECT number, status FROM attempt ORDER BY id")
    assert numbers == [(number, 500) for number in range(1, 13)]


async def test_retry_scheduled_while_due_retries_are_read_is_sent_when_due(stage: Stage) -> None:
    """The failure is not stored yet when the lane looks for what is due next: it must look again."""
    queue, listener = await stage.running()
    await stage.publish(queue, 2)
    await stage.end(stage.courier.in_flight[0], badly())
    stage.clock.advance(6_000)
    # The second fails at the very moment at which the first is due.
    stage.courier.in_flight[0].end(badly())
    stage.dispatcher.timers.wake_due()
    await stage.quiet()
    await stage.end(stage.courier.in_flight[0], well())
    await stage.advance(6_000)
    [sent] = stage.courier.in_flight
    await stage.end(sent, well())
    assert (await stage.counts(listener)).acknowledged == 2


async def test_410_disables_the_listener_and_its_messages_wait(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await stage.publish(queue, 3)
    await stage.end(stage.courier.in_flight[0], badly(410))
    stored = await stage.stored(listener)
    assert (stored.status, stored.disabled_by, stored.status_changed_at) == ("disabled", "gone", stored.updated_at)
    await stage.end(stage.courier.in_flight[::], well())
    later = await stage.publish(queue, 2)
    await stage.advance(DAY_MS)
    assert stage.courier.in_flight == []
    await stage.assert_counts(listener, pending=3, retrying=1, missed=0)
    await stage.configure(listener, status="enabled")
    assert sorted(stage.courier.ids()) == sorted([ids[0], *later])
    await stage.end(stage.courier.in_flight[::], well())
    assert (await stage.counts(listener)).acknowledged == 5


async def test_many_410_responses_disable_the_listener_once(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 20)
    stage.courier.end_all(badly(410))
    assert len(stage.dispatcher.tasks.running) == 1
    await stage.quiet()
    stored = await stage.stored(listener)
    assert (stored.status, stored.config_version) == ("disabled", listener.config_version + 1)
    assert await stage.rows("SELECT count(*) FROM feed WHERE kind = 'listener'") == [(1,)]
    told = await stage.rows("SELECT kind, client, ref, name FROM event")
    assert told == [("listener_updated", "", listener.public_id, listener.alias)]


async def test_410_to_a_request_of_an_earlier_configuration_disables_nothing(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue)
    [sent] = stage.courier.in_flight
    await stage.configure(listener, notify_url="https://example.com/other")
    await stage.end(sent, badly(410))
    assert (await stage.stored(listener)).status == "enabled"
    [again] = stage.courier.in_flight
    assert again.request.destination.target.path == "/other"


async def test_configuration_stored_before_the_disabling_stays_enabled(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue)
    [lane] = stage.lanes
    stage.courier.in_flight[0].end(badly(410))
    changed = await stage.store.read(lambda tx: tx.row("SELECT config_version FROM listener"))
    assert changed == (1,)
    # The operator was faster: this configuration is in the store and in the lane before the disabling runs.
    lane.configure(msgspec.structs.replace(lane.owned.endpoint, config_version=2, enabled=True), lane.record)
    await stage.store.write(lambda tx: tx.execute("UPDATE listener SET config_version = 2"))
    await stage.quiet()
    assert (await stage.stored(listener)).status == "enabled"


async def test_deleted_message_has_no_further_attempt_and_no_row(stage: Stage) -> None:
    queue, listener = await stage.running()
    [message] = await stage.publish(queue)
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.delete_message(queue, message)
    await stage.advance(6_000)
    assert stage.courier.in_flight == []
    assert await stage.delivery_rows(listener) == []
    await stage.assert_counts(listener, retrying=0, pending=0, missed=0, acknowledged=0)


@pytest.mark.parametrize("behind", [IN_FLIGHT, 300])
async def test_message_deleted_while_the_lane_holds_it_is_not_sent(stage: Stage, behind: int) -> None:
    """Both when it was handed over in memory, and when it was read from the log."""
    queue, _ = await stage.running()
    await stage.publish(queue, behind)
    waiting = await stage.publish(queue, 5)
    for message in waiting[1:4]:
        await stage.delete_message(queue, message)
    while stage.courier.in_flight:
        await stage.end(stage.courier.in_flight[0], well())
    sent = {sent.message_id for sent in stage.courier.sent}
    assert sent & set(waiting) == {waiting[0], waiting[4]}


async def test_retry_deleted_while_the_lane_holds_it_is_not_sent(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await stage.publish(queue, IN_FLIGHT + 20)
    await stage.end(stage.courier.in_flight[::], badly())
    await stage.end(stage.courier.in_flight[::], badly())
    await stage.advance(6_000)
    under_way = set(stage.courier.ids())
    [held, *_] = [message for message in ids if message not in under_way]
    await stage.delete_message(queue, held)
    while stage.courier.in_flight:
        await stage.end(stage.courier.in_flight[0], well())
    assert [sent.number for sent in stage.courier.sent if sent.message_id == held] == [1]
    await stage.assert_counts(listener, acknowledged=IN_FLIGHT + 19, retrying=0)


async def test_deleted_listener_receives_and_records_nothing(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue)
    await stage.delete_listener(listener)
    await stage.end(stage.courier.in_flight[0], badly())
    await stage.publish(queue)
    assert len(stage.dispatcher.lanes) == 0
    assert stage.courier.in_flight == []
    assert await stage.delivery_rows(listener) == []
    assert await stage.rows("SELECT count(*) FROM attempt") == [(0,)]


async def test_lane_reads_its_cursor_again_when_the_stored_version_differs(stage: Stage) -> None:
    """The response to a commit was lost: the store's state counts."""
    queue, listener = await stage.running()
    ids = await stage.publish(queue, 2)
    await stage.store.write(
        lambda tx: tx.execute("UPDATE cursor SET version = version + 1, position = 1, acknowledged = 1")
    )
    first, second = stage.courier.in_flight
    await stage.end(first, well())
    assert stage.courier.ids() == [ids[1], ids[1]]
    await stage.end(second, well())
    await stage.end(stage.courier.in_flight[0], well())
    await stage.assert_counts(listener, acknowledged=2, position=2, pending=0)


async def test_lane_keeps_outcomes_and_sends_nothing_new_while_the_store_cannot_write(
    stage: Stage, reports: Reports, tmp_path: Path
) -> None:
    queue, listener = await stage.running()
    ids = await stage.publish(queue, IN_FLIGHT + 5)
    other = apsw.Connection(str(tmp_path / "discue.db"))
    other.execute("BEGIN IMMEDIATE")
    stage.courier.in_flight[0].end(well())
    with pytest.raises(StoreUnavailable):
        await stage.append(queue)
    # The lane hears of the same failure, a moment later.
    await asyncio.sleep(0)
    assert reports.places == ["commit"]
    sent = len(stage.courier.sent)
    stage.courier.end_all(well())
    assert len(stage.courier.sent) == sent
    other.execute("ROLLBACK")
    await stage.quiet()
    assert stage.courier.ids() == ids[sent:]
    await stage.end(stage.courier.in_flight[::], well())
    assert (await stage.counts(listener)).acknowledged == len(ids)


async def test_hanging_request_stops_no_message_beyond_the_span(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await stage.publish(queue, 5_000)
    hanging = stage.courier.in_flight[0]
    while len(stage.courier.in_flight) > 1:
        await stage.end(stage.courier.in_flight[1:], well())
    assert len(stage.courier.sent) == 5_000
    assert await stage.delivery_rows(listener) == [(1, "sending", 1)]
    await stage.assert_counts(listener, acknowledged=4_999, position=5_000, pending=1, retrying=1)
    await stage.end(hanging, well())
    await stage.assert_counts(listener, acknowledged=5_000, pending=0, retrying=0)
    assert await stage.delivery_rows(listener) == []
    assert {sent.message_id for sent in stage.courier.sent} == set(ids)


async def _held_back(stage: Stage) -> tuple[Queue, Listener, list[str]]:
    """A listener that failed so often that its lane takes one new message a pause."""
    queue, listener = await stage.running()
    ids = await stage.publish(queue, RETRYING_LIMIT + 1_000)
    await stage.end_all(badly())
    return queue, listener, ids


async def test_throttle_bounds_the_rows_of_a_failing_listener(stage: Stage) -> None:
    _, listener, _ = await _held_back(stage)
    retrying = (await stage.counts(listener)).retrying
    assert RETRYING_LIMIT <= retrying <= RETRYING_LIMIT + IN_FLIGHT + 1
    first_attempts = len([sent for sent in stage.courier.sent if sent.number == 1])
    await stage.advance(PAUSE_MS)
    new = [sent for sent in stage.courier.sent[first_attempts:] if sent.number == 1]
    assert len(new) == 1
    assert [sent for sent in stage.courier.in_flight if sent.number == 2]


async def test_one_success_ends_the_throttle(stage: Stage) -> None:
    _, _, ids = await _held_back(stage)
    await stage.advance(6_000)
    retry = next(sent for sent in stage.courier.in_flight if sent.number == 2)
    await stage.end(retry, well())
    await stage.end_all(well())
    assert {sent.message_id for sent in stage.courier.sent if sent.number == 1} == set(ids)


async def test_full_limiter_does_not_use_up_the_turn_of_a_throttled_lane(stage: Stage) -> None:
    stage.limits = msgspec.structs.replace(LIMITS, max_in_flight=200)
    _, _, _ = await _held_back(stage)
    first_attempts = len([sent for sent in stage.courier.sent if sent.number == 1])
    # Nobody may send while others hold every place.
    stage.dispatcher.limiter.in_flight += 200
    await stage.advance(PAUSE_MS)
    assert stage.courier.in_flight == []
    stage.dispatcher.limiter.in_flight -= 200
    stage.dispatcher.limiter.pump_waiting()
    await stage.quiet()
    assert len([sent for sent in stage.courier.sent[first_attempts:] if sent.number == 1]) == 1


async def test_too_old_messages_are_one_missed_range(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.configure(listener, status="disabled")
    ids = await stage.publish(queue, 1_000)
    stage.clock.advance(30 * DAY_MS + 1)
    fresh = await stage.publish(queue, 2)
    await stage.miss_too_old()
    await stage.assert_counts(listener, missed=1_000, pending=2, position=1_000)
    assert await _missed_ranges(stage) == [MissedRange(1, 1_000, "too_old", stage.clock.now())]
    assert (await stage.missed(listener))[:2] == [ids[-1], ids[-2]]
    await stage.configure(listener, status="enabled")
    assert stage.courier.ids() == fresh


async def _missed_ranges(stage: Stage) -> list[MissedRange]:
    rows = await stage.rows("SELECT seq_from, seq_to, reason, missed_at FROM missed_range ORDER BY seq_from")
    return [MissedRange(*row) for row in rows]


async def test_too_old_messages_that_the_filter_rejects_are_not_missed(stage: Stage) -> None:
    queue, listener = await stage.running(DeliveryOptions(filter='{"data": {"kind": "wanted"}}'))
    await stage.configure(listener, status="disabled")
    await stage.publish(queue, 900, body=b'{"kind":"other"}')
    wanted = await stage.publish(queue, 2, body=b'{"kind":"wanted"}')
    await stage.publish(queue, 300, body=b'{"kind":"other"}')
    stage.clock.advance(30 * DAY_MS + 1)
    await stage.publish(queue, body=b'{"kind":"other"}')
    await stage.miss_too_old()
    await stage.assert_counts(listener, missed=2, pending=1, position=1_202)
    assert await stage.missed(listener) == wanted[::-1]


async def test_disabled_lane_misses_too_old_messages_that_it_held(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, IN_FLIGHT)
    waiting = await stage.publish(queue, 10)
    await stage.configure(listener, status="disabled")
    await stage.end(stage.courier.in_flight[::], well())
    stage.clock.advance(30 * DAY_MS + 1)
    await stage.miss_too_old()
    await stage.assert_counts(listener, acknowledged=IN_FLIGHT, missed=len(waiting), pending=0)


async def test_disabled_listener_misses_too_old_retries(stage: Stage) -> None:
    queue, listener = await stage.running()
    ids = await stage.publish(queue, 3)
    await stage.end(stage.courier.in_flight[:2], badly())
    await stage.end(stage.courier.in_flight[0], well())
    await stage.configure(listener, status="disabled")
    await stage.delete_message(queue, ids[0])
    stage.clock.advance(30 * DAY_MS + 1)
    await stage.miss_too_old()
    assert await stage.delivery_rows(listener) == [(2, "missed", 1)]
    await stage.assert_counts(listener, acknowledged=1, missed=1, retrying=0, pending=0)
    await stage.configure(listener, status="enabled")
    assert stage.courier.in_flight == []


async def test_enabled_listener_misses_old_messages_in_their_turn(stage: Stage) -> None:
    queue, listener = await stage.running()
    await stage.publish(queue, 500)
    stage.clock.advance(30 * DAY_MS + 1)
    await stage.end(stage.courier.in_flight[::], badly())
    await stage.assert_counts(listener, missed=450, retrying=50)
    assert len(await _missed_ranges(stage)) <= 10
    await stage.advance(6_000)
    assert stage.courier.in_flight == []
    await stage.assert_counts(listener, missed=500, retrying=0, pending=0)


_LANES, _MEMORY = 20, 100_000


async def _many_lanes(stage: Stage, count: int, body: bytes) -> tuple[list[str], int]:
    """Publish to many lanes with little memory. Returns the ids, and the memory that one message takes."""
    stage.limits = msgspec.structs.replace(LIMITS, listener_max_in_flight=1, tail_buffer_bytes=_MEMORY)
    queue = await stage.queue(await stage.organization())
    await stage.start()
    for _ in range(_LANES):
        await stage.listener(queue)
    ids = await stage.publish(queue, count, body=body)
    [entry, *_] = (await stage.store.page(queue.organization, queue.id, 0, 1, max_bytes=0)).entries
    return ids, memory_of(entry)


@pytest.mark.parametrize(("size", "page"), [(1, 60), (10_000, 0)])
async def test_messages_of_many_lanes_are_held_within_the_budget(stage: Stage, size: int, page: int) -> None:
    """Each lane may always hold one message more, else it could not go on.

    A page of small messages may be read while the memory for another one is not taken yet.
    """
    ids, memory = await _many_lanes(stage, 60, b"1" * size)
    assert memory > size + 200, "small messages take memory, too"
    budget = stage.dispatcher._context.budget
    highest = budget.held
    while stage.courier.in_flight:
        await stage.end(stage.courier.in_flight[::], well())
        highest = max(highest, budget.held)
    assert _MEMORY // 2 < highest <= _MEMORY + (_LANES + page) * memory
    assert budget.held == 0
    assert len(stage.courier.sent) == _LANES * len(ids)


async def test_retries_of_many_lanes_are_held_within_the_budget(stage: Stage) -> None:
    ids, memory = await _many_lanes(stage, 40, b"x" * 10_000)
    while stage.courier.in_flight:
        await stage.end(stage.courier.in_flight[::], badly())
    budget = stage.dispatcher._context.budget
    stage.courier.sent.clear()
    await stage.advance(60_000)
    assert stage.courier.in_flight
    highest = 0
    while stage.courier.in_flight:
        highest = max(highest, budget.held)
        await stage.end(stage.courier.in_flight[::], well())
    assert _MEMORY - memory < highest <= _MEMORY + _LANES * memory
    assert budget.held == 0
    assert len(stage.courier.sent) == _LANES * len(ids)


async def test_old_messages_beyond_the_span_of_a_hanging_request_are_missed(stage: Stage) -> None:
    """They were handed over in memory, one by one, so nothing has looked at the span before."""
    queue, listener = await stage.running()
    await stage.publish(queue)
    hanging = stage.courier.in_flight[0]
    for _ in range(SPAN // 50 - 1):
        await stage.publish(queue, 49)
        await stage.end(stage.courier.in_flight[1:], well())
    await stage.publish(queue, 49)
    waiting = await stage.publish(queue, 150)
    stage.clock.advance(30 * DAY_MS + 1)
    await stage.end(stage.courier.in_flight[1:], well())
    await stage.assert_counts(listener, missed=len(waiting), pending=1)
    await stage.end(hanging, well())
    assert (await stage.counts(listener)).pending == 0


async def test_retries_and_new_messages_take_turns_in_the_only_slot(stage: Stage) -> None:
    queue, _ = await stage.running(DeliveryOptions(max_in_flight=1))
    await stage.publish(queue, 4)
    for _ in range(4):
        await stage.end(stage.courier.in_flight[0], badly())
    await stage.publish(queue, 4)
    await stage.advance(10_000)
    numbers = []
    while stage.courier.in_flight:
        numbers.append(stage.courier.in_flight[0].number)
        await stage.end(stage.courier.in_flight[0], well())
    assert numbers == [1, 2, 1, 2, 1, 2, 1, 2]


async def test_throttle_does_not_hold_retries_back_in_the_only_slot(stage: Stage) -> None:
    stage.tuning = Tuning(throttle_rows=3, throttle_failures=3)
    queue, _ = await stage.running(DeliveryOptions(max_in_flight=1))
    await stage.publish(queue, 10)
    while stage.courier.in_flight:
        await stage.end(stage.courier.in_flight[0], badly())
    assert [sent.number for sent in stage.courier.sent] == [1, 1, 1, 1], "the throttle holds the rest back"
    await stage.advance(10_000)
    for _ in range(3):
        await stage.end(stage.courier.in_flight[0], badly())
    assert [sent.number for sent in stage.courier.sent[4:]] == [2, 2, 2, 2]
