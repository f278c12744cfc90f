import os
from collections import deque

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from discue.dispatch.lane.context import BodyBudget
from discue.dispatch.lane.cursor_state import CursorState, attempt_record
from discue.dispatch.lane.ordering import PUSH_STATES, Ordering, WaitingByKey
from discue.domain.attempts import Timings, Trace, decode_detail
from discue.domain.messages import Entry
from discue.domain.model import DeliveryOptions
from discue.domain.retry import Settlement
from discue.store.cursors import LaneRecord
from discue.store.delivery_rows import KeyRow
from discue.store.engine import DeliveryRow, MissedRange
from tests.dispatch.stage import badly, well
from tests.support.clocks import NOON

RECORD = LaneRecord(
    organization=1,
    listener=2,
    stream=0,
    queue=3,
    owner=9,
    token=4,
    version=7,
    position=10,
    ahead=None,
    acknowledged=5,
    missed=1,
    retrying=2,
    last_success_at=0,
    last_failure_at=0,
    head=20,
    listener_public_id="listener",
    queue_public_id="queue",
    notify_url="https://example.com/",
    status="enabled",
    secrets=b"[]",
    options=DeliveryOptions(),
    queue_retry=None,
    ordered=False,
    config_version=1,
)
RETRY = Settlement("retry", NOON + 5_000, False, "failed")
MISSED = Settlement("missed", 0, False, "no_retry")


def test_a_success_in_order_moves_the_position_and_costs_no_row() -> None:
    cursor = CursorState(RECORD)
    cursor.add_attempt(attempt_record(RECORD, 1, 11, 1, outcome=well()))
    cursor.acknowledge(11, NOON, has_row=False)
    taken = cursor.take()
    assert (taken.token, taken.version, taken.position, taken.ahead) == (4, 7, 11, None)
    assert (taken.acknowledged, taken.missed, taken.retrying, taken.last_success_at) == (6, 1, 2, NOON)
    assert (len(taken.attempts), taken.delivery_rows, taken.resolved, taken.missed_ranges) == (1, (), (), ())


def test_a_success_out_of_order_is_kept_ahead_of_the_position() -> None:
    cursor = CursorState(RECORD)
    cursor.acknowledge(13, NOON, has_row=False)
    assert (cursor.take().position, cursor.take().ahead) == (10, b"\x04")
    cursor.acknowledge(11, NOON, has_row=False)
    cursor.acknowledge(12, NOON, has_row=False)
    assert (cursor.take().position, cursor.take().ahead) == (13, None)


def test_a_first_failure_is_a_row_that_waits_and_the_cursor_goes_on() -> None:
    cursor = CursorState(RECORD)
    cursor.fail(11, 1, RETRY, NOON, has_row=False)
    taken = cursor.take()
    assert taken.delivery_rows == (DeliveryRow(11, "retry", 1, NOON + 5_000, "failed"),)
    assert (taken.position, taken.retrying, taken.missed, taken.last_failure_at) == (11, 3, 1, NOON)


def test_a_further_failure_changes_the_row_and_counts_nothing_again() -> None:
    cursor = CursorState(RECORD)
    cursor.fail(5, 2, RETRY, NOON, has_row=True)
    taken = cursor.take()
    assert taken.delivery_rows == (DeliveryRow(5, "retry", 2, NOON + 5_000, "failed"),)
    assert (taken.position, taken.retrying) == (10, 2)


def test_the_last_failure_is_missed_and_waits_no_more() -> None:
    cursor = CursorState(RECORD)
    cursor.fail(5, 12, MISSED, NOON, has_row=True)
    cursor.fail(11, 1, MISSED, NOON, has_row=False)
    taken = cursor.take()
    assert [(row.seq, row.state, row.due_at) for row in taken.delivery_rows] == [
        (5, "missed", NOON),
        (11, "missed", NOON),
    ]
    assert (taken.position, taken.retrying, taken.missed) == (11, 1, 3)


def test_a_retry_that_succeeds_takes_its_row_away() -> None:
    cursor = CursorState(RECORD)
    cursor.acknowledge(5, NOON, has_row=True)
    taken = cursor.take()
    assert (taken.resolved, taken.retrying, taken.acknowledged) == ((5,), 1, 6)


def test_a_row_that_was_never_stored_is_not_stored_when_it_is_resolved_first() -> None:
    cursor = CursorState(RECORD)
    cursor.detach(11, 1, NOON)
    assert (cursor.retrying, cursor.window.position) == (3, 11)
    cursor.acknowledge(11, NOON, has_row=True)
    taken = cursor.take()
    assert (taken.delivery_rows, taken.resolved, taken.retrying, taken.acknowledged) == ((), (11,), 2, 6)


def test_consecutive_messages_missed_for_one_reason_are_one_range() -> None:
    cursor = CursorState(RECORD)
    for seq in (11, 12, 13, 15):
        cursor.miss_range(seq, seq, "too_old", NOON)
    cursor.miss_range(16, 19, "expired", NOON)
    taken = cursor.take()
    assert taken.missed_ranges == (
        MissedRange(11, 13, "too_old", NOON),
        MissedRange(15, 15, "too_old", NOON),
        MissedRange(16, 19, "expired", NOON),
    )
    assert (taken.missed, taken.position) == (9, 13)


def test_deleted_messages_are_stepped_over_and_counted_nowhere() -> None:
    cursor = CursorState(RECORD)
    cursor.skip(11, 14)
    taken = cursor.take()
    assert (taken.position, taken.acknowledged, taken.missed, taken.retrying) == (14, 5, 1, 2)
    cursor.drop_row(5)
    assert (cursor.retrying, cursor.take().resolved) == (1, (5,))


def test_a_retry_that_is_too_old_is_missed() -> None:
    cursor = CursorState(RECORD)
    cursor.miss_retry(5, 3, "too_old", NOON)
    taken = cursor.take()
    assert taken.delivery_rows == (DeliveryRow(5, "missed", 3, NOON, "too_old"),)
    assert (taken.retrying, taken.missed) == (1, 2)


def test_changes_are_taken_once_with_rising_versions() -> None:
    cursor = CursorState(RECORD)
    cursor.add_attempt(attempt_record(RECORD, 1, 11, 1, outcome=badly()))
    cursor.fail(11, 1, RETRY, NOON, has_row=False)
    assert (cursor.dirty, cursor.unflushed) == (True, 1)
    first = cursor.take()
    cursor.on_stored()
    assert (cursor.dirty, cursor.unflushed) == (False, 0)
    second = cursor.take()
    assert (first.version, second.version) == (7, 8)
    assert (second.attempts, second.delivery_rows, second.resolved) == ((), (), ())
    assert (second.position, second.retrying) == (first.position, first.retrying)


def test_attempt_record_has_the_outcome() -> None:
    outcome = msgspec.structs.replace(badly(429), duration_ms=35)
    attempt = attempt_record(RECORD, 99, 11, 2, outcome=outcome)
    assert (attempt.id, attempt.organization, attempt.listener, attempt.queue) == (99, 1, 2, 3)
    assert (attempt.seq, attempt.number, attempt.status, attempt.error, attempt.duration_ms) == (
        11,
        2,
        429,
        "status",
        35,
    )


def _trace(size: int) -> Trace:
    return Trace(b"POST / HTTP/1.1\r\n\r\n", (), os.urandom(size), size, "", False, Timings(None, None, None, None, 1))


def test_attempt_detail_is_stored_with_its_record() -> None:
    cursor = CursorState(RECORD)
    cursor.add_attempt(attempt_record(RECORD, 8, 11, 1, outcome=badly()), _trace(10), RETRY.due_at)
    cursor.fail(11, 1, RETRY, NOON, has_row=False)
    taken = cursor.take()
    assert [attempt.id for attempt in taken.attempts] == [8]
    [(attempt, content)] = taken.details
    assert (attempt, decode_detail(content).next_attempt_at) == (8, NOON + 5_000)
    cursor.on_stored()
    assert (cursor.dirty, cursor.unflushed) == (False, 0)
    assert cursor.take().details == ()


@given(st.lists(st.integers(0, 100_000), max_size=40))
def test_many_details_are_stored_in_parts_and_keep_their_slots(sizes: list[int]) -> None:
    cursor = CursorState(RECORD)
    for number, size in enumerate(sizes):
        cursor.add_attempt(attempt_record(RECORD, number, 11 + number, 1, outcome=badly()), _trace(size))
    taken = [cursor.take()]
    while cursor.dirty:
        cursor.on_stored()
        assert cursor.unflushed == len(sizes) - sum(len(each.details) for each in taken)
        taken.append(cursor.take())
    cursor.on_stored()
    assert cursor.unflushed == 0
    assert [attempt.id for attempt in taken[0].attempts] == list(range(len(sizes)))
    assert [attempt for each in taken for attempt, _ in each.details] == list(range(len(sizes)))
    assert all(each.bytes <= 1 << 19 or len(each.details) == 1 for each in taken)
    assert cursor.fits_one_flush


def test_key_of_a_deleted_message_is_released_once() -> None:
    cursor = CursorState(msgspec.structs.replace(RECORD, missed=1))
    waiting = WaitingByKey(deque[Entry](), BodyBudget(0))
    cursor.ordering = Ordering(cursor.window, waiting, is_known=True, blocks=True)
    row = KeyRow(5, "missed", 1, 0, "failed", 7, 0, None)
    cursor.ordering.add_rows([row], PUSH_STATES, complete=True)
    cursor.release_key(row)
    # The row is read again before its removal is stored.
    cursor.release_key(row)
    assert (cursor.missed, cursor.take().resolved) == (0, (5,))
