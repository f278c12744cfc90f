import os
from collections import deque
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discue.dispatch.delivery_rules import SKIP
from discue.dispatch.lane.context import BodyBudget
from discue.dispatch.lane.cursor_state import CursorState, attempt_record
from discue.dispatch.lane.ordering import Ordering, WaitingByKey
from discue.dispatch.lane.states import DeliveryState
from discue.dispatch.lane.store_checks import PUSH_STATES
from discue.domain.attempts import Outcome
from discue.domain.causes import MOST_CAUSES, cause_of, plain
from discue.domain.messages import Entry
from discue.domain.model import DeliveryOptions
from discue.domain.retry import Settlement
from discue.store.cursors import LaneRecord
from discue.store.delivery_rows import KeyRow
from discue.store.engine import DeliveryRow, MissedRange
from tests.dispatch.stage import badly
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
FAILED = Outcome(500, "status", "", 1, excerpt=b"no")
CAUSE = cause_of("no_retry", FAILED)
MISSED = Settlement("missed", 0, False, "no_retry")


def _retry(seq: int, attempts: int) -> DeliveryRow:
    return DeliveryRow(seq, "retry", attempts, RETRY.due_at, RETRY.reason)


UNCHANGED = {
    "causes": (),
    "position": 10,
    "ahead": None,
    "acknowledged": 5,
    "missed": 1,
    "retrying": 2,
    "last_success_at": 0,
    "last_failure_at": 0,
    "delivery_rows": (),
    "resolved": (),
    "missed_ranges": (),
}


def _retry_in_flight(cursor: CursorState) -> None:
    cursor.claim(5)
    cursor.enter(5, DeliveryState.IN_FLIGHT_AGAIN)


def _acknowledge(cursor: CursorState, seq: int) -> None:
    cursor.enter(seq, DeliveryState.IN_FLIGHT)
    cursor.acknowledge(seq, NOON)


def _acknowledge_retry(cursor: CursorState) -> None:
    _retry_in_flight(cursor)
    cursor.acknowledge(5, NOON)


def _fail(cursor: CursorState) -> None:
    cursor.enter(11, DeliveryState.IN_FLIGHT)
    cursor.fail(11, 1, RETRY, NOON, outcome=FAILED)


def _fail_again(cursor: CursorState) -> None:
    _retry_in_flight(cursor)
    cursor.fail(5, 2, RETRY, NOON, outcome=FAILED)


def _drop_due(cursor: CursorState) -> None:
    cursor.claim(5)
    cursor.settle_due(5, 3, SKIP, NOON, is_there=False)


def _miss_due(cursor: CursorState) -> None:
    cursor.claim(5)
    cursor.settle_due(5, 3, "too_old", NOON, is_there=True)


def _fail_for_good(cursor: CursorState) -> None:
    _retry_in_flight(cursor)
    cursor.fail(5, 12, MISSED, NOON, outcome=FAILED)
    cursor.enter(11, DeliveryState.IN_FLIGHT)
    cursor.fail(11, 1, MISSED, NOON, outcome=FAILED)


def _detach_and_acknowledge(cursor: CursorState) -> None:
    cursor.enter(11, DeliveryState.IN_FLIGHT)
    cursor.detach(11, 1, NOON)
    assert (cursor.retrying, cursor.window.position) == (3, 11)
    cursor.acknowledge(11, NOON)


def _miss_ranges(cursor: CursorState) -> None:
    for seq in (11, 12, 13, 15):
        cursor.miss_range(seq, seq, "too_old", NOON)
    cursor.miss_range(16, 19, "expired", NOON)


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        pytest.param(
            lambda cursor: _acknowledge(cursor, 11),
            {"position": 11, "acknowledged": 6, "last_success_at": NOON},
            id="success in order costs no row",
        ),
        pytest.param(
            lambda cursor: _acknowledge(cursor, 13),
            {"ahead": b"\x04", "acknowledged": 6, "last_success_at": NOON},
            id="success out of order is ahead of the position",
        ),
        pytest.param(
            _acknowledge_retry,
            {"resolved": (5,), "retrying": 1, "acknowledged": 6, "last_success_at": NOON},
            id="success of a retry removes its row",
        ),
        pytest.param(
            _fail,
            {"delivery_rows": (_retry(11, 1),), "position": 11, "retrying": 3, "last_failure_at": NOON},
            id="first failure is a row that the cursor passes",
        ),
        pytest.param(
            _fail_again,
            {"delivery_rows": (_retry(5, 2),), "last_failure_at": NOON},
            id="further failure changes the row only",
        ),
        pytest.param(
            _fail_for_good,
            {
                "delivery_rows": (
                    DeliveryRow(5, "missed", 12, NOON, "no_retry", cause=CAUSE.id),
                    DeliveryRow(11, "missed", 1, NOON, "no_retry", cause=CAUSE.id),
                ),
                "causes": (CAUSE,),
                "position": 11,
                "retrying": 1,
                "missed": 3,
                "last_failure_at": NOON,
            },
            id="last failure is missed",
        ),
        pytest.param(
            _detach_and_acknowledge,
            {"resolved": (11,), "position": 11, "acknowledged": 6, "last_success_at": NOON},
            id="row that is resolved before it is stored is not stored",
        ),
        pytest.param(
            _miss_ranges,
            {
                "missed_ranges": (
                    MissedRange(11, 13, "too_old", NOON),
                    MissedRange(15, 15, "too_old", NOON),
                    MissedRange(16, 19, "expired", NOON),
                ),
                "missed": 9,
                "position": 13,
                "ahead": b"\x3e",
            },
            id="consecutive messages missed for one reason are one range",
        ),
        pytest.param(lambda cursor: cursor.skip(11, 14), {"position": 14}, id="deleted messages are counted nowhere"),
        pytest.param(_drop_due, {"resolved": (5,), "retrying": 1}, id="deleted retry has no row"),
        pytest.param(
            _miss_due,
            {
                "delivery_rows": (DeliveryRow(5, "missed", 3, NOON, "too_old", cause=plain("too_old").id),),
                "retrying": 1,
                "missed": 2,
            },
            id="retry that is too old is missed",
        ),
    ],
)
def test_change_of_a_cursor_is_stored(change: Callable[[CursorState], None], changed: dict[str, object]) -> None:
    cursor = CursorState(RECORD)
    change(cursor)
    taken = cursor.take()
    assert (taken.token, taken.version) == (4, 7)
    assert {name: getattr(taken, name) for name in UNCHANGED} == {**UNCHANGED, **changed}


def test_changes_are_taken_once_with_rising_versions() -> None:
    cursor = CursorState(RECORD)
    cursor.add_attempt(attempt_record(RECORD, 1, 11, 1, outcome=badly()))
    _fail(cursor)
    assert (cursor.dirty, cursor.unflushed) == (True, 1)
    first = cursor.take()
    cursor.on_stored(first)
    assert (cursor.dirty, cursor.unflushed) == (False, 0)
    second = cursor.take()
    assert (first.version, second.version) == (7, 8)
    assert (second.attempts, second.delivery_rows, second.resolved) == ((), (), ())
    assert (second.position, second.retrying) == (first.position, first.retrying)


@given(st.lists(st.integers(1, 100_000), max_size=40))
def test_many_details_are_stored_in_parts_and_keep_their_slots(sizes: list[int]) -> None:
    cursor = CursorState(RECORD)
    for number, size in enumerate(sizes):
        cursor.add_attempt(attempt_record(RECORD, number, 11 + number, 1, outcome=badly()), os.urandom(size))
    taken = [cursor.take()]
    while cursor.dirty:
        cursor.on_stored(taken[-1])
        assert cursor.unflushed == len(sizes) - sum(len(each.details) for each in taken)
        taken.append(cursor.take())
    cursor.on_stored(taken[-1])
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


def test_stored_state_that_has_not_changed_is_dropped_from_memory() -> None:
    cursor = CursorState(RECORD)
    _fail(cursor)
    _retry_in_flight(cursor)
    cursor.enter(12, DeliveryState.IN_FLIGHT)
    first = cursor.take()
    cursor.acknowledge(5, NOON)
    cursor.on_stored(first)
    assert cursor.states == {5: DeliveryState.ACKNOWLEDGED, 12: DeliveryState.IN_FLIGHT}
    assert cursor.claimed == [5]

    cursor.on_stored(cursor.take())
    assert cursor.states == {12: DeliveryState.IN_FLIGHT}


def test_delivery_refuses_a_transition_outside_the_table() -> None:
    cursor = CursorState(RECORD)
    with pytest.raises(ValueError, match="no transition"):
        cursor.acknowledge(11, NOON)


def test_listener_that_answers_differently_each_time_has_a_bounded_number_of_causes() -> None:
    cursor = CursorState(RECORD)
    for seq in range(11, 11 + MOST_CAUSES + 20):
        cursor.enter(seq, DeliveryState.IN_FLIGHT)
        cursor.fail(seq, 1, MISSED, NOON, outcome=Outcome(500, "status", "", 1, excerpt=b"x" * (seq - 10)))
    settle = cursor.take()
    assert len(settle.causes) == MOST_CAUSES
    assert {row.cause for row in settle.delivery_rows[-20:]} == {plain("no_retry").id}
    assert cursor.take().causes == ()
