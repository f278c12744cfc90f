"""The drawing of a message's deliveries: to scale in time."""

from typing import Any

import msgspec

from discue.control.messages import AttemptDetails, MessageTimeline
from discue.dashboard.timeline import NARROWEST, Drawing, draw, stages_of
from discue.domain.attempts import AttemptDetail, StoredAttempt, Timings
from discue.domain.messages import StoredMessage
from discue.domain.model import Delivery, Queue
from discue.store.pagination import Listing

NOON = 1_795_521_600_000
MESSAGE = StoredMessage(1, 2, "q", 7, "m", "m", NOON, NOON, 0, b"{}")
QUEUE = Queue(1, 2, "q", "orders", None, None, 1, NOON, NOON)


def attempt(number: int, ended_at: int, duration_ms: int, error: str = "") -> AttemptDetails:
    return AttemptDetails(
        StoredAttempt(str(number), NOON + ended_at, "l", "m", number, 503 if error else 200, error, "", duration_ms),
        None,
    )


def drawn(delivery: Delivery, *attempts: AttemptDetails, now: int) -> Drawing:
    found = MessageTimeline(MESSAGE, QUEUE, Listing((delivery,), False, False), {"l": attempts}, {"l": "billing"})
    return draw(found, NOON + now)


def test_waiting_attempts_and_retries_are_drawn_in_proportion() -> None:
    delivery = Delivery("l", "acknowledged", 2, 200)
    drawing = drawn(delivery, attempt(1, 2_000, 1_000, "status"), attempt(2, 10_000, 2_000), now=99_000)

    [lane] = drawing.lanes
    assert [bar.kind for bar in lane.bars] == ["w-wait", "a-bad", "w-retry", "a-good"]
    second = lane.bars[0].width
    assert [round(bar.width / second, 1) for bar in lane.bars] == [1.0, 1.0, 6.0, 2.0]
    assert drawing.now_x is None
    assert lane.summary == "billing: acknowledged after 2 attempts."


def test_delivery_that_waits_is_drawn_up_to_now_with_its_next_attempt() -> None:
    delivery = Delivery("l", "retrying", 1, 503, next_attempt_at=NOON + 15_000, waits_for="Retry soon.")
    drawing = drawn(delivery, attempt(1, 100, 50, "status"), now=10_000)

    [lane] = drawing.lanes
    last = lane.bars[-1]
    assert (last.kind, last.text) == ("w-retry", "Retry soon.")
    assert drawing.now_x is not None
    assert abs(last.x + last.width - drawing.now_x) < NARROWEST
    assert lane.next_x is not None
    assert lane.next_x > drawing.now_x


def test_next_attempt_is_shown_unless_past_attempts_would_be_too_narrow() -> None:
    soon, later = (
        Delivery("l", "retrying", 4, 503, next_attempt_at=NOON + seconds * 1_000, waits_for="Retry.")
        for seconds in (2_555, 25_550)
    )
    shown = drawn(soon, attempt(4, 755_000, 50, "status"), now=756_000)
    assert shown.lanes[0].next_x is not None
    assert shown.now_x is not None
    assert shown.now_x > 20
    without = drawn(later, attempt(4, 755_000, 50, "status"), now=756_000)
    assert without.lanes[0].next_x is None
    assert without.now_x is not None
    assert without.now_x > 90


def test_short_attempt_in_a_long_time_is_still_visible_and_within_the_drawing() -> None:
    delivery = Delivery("l", "missed", 1, 503)
    drawing = drawn(delivery, attempt(1, 86_400_000, 3, "status"), now=86_400_000)

    bars = drawing.lanes[0].bars
    assert bars[-1].width == NARROWEST
    assert all(0 <= bar.x <= bar.x + bar.width <= 100 for bar in bars)


def test_attempt_that_clocks_put_before_its_message_is_drawn_at_the_start() -> None:
    drawing = drawn(Delivery("l", "acknowledged", 1, 200), attempt(1, -500, 900), now=5_000)

    assert [(bar.kind, bar.x) for bar in drawing.lanes[0].bars] == [("a-good", 0.0)]


def test_attempts_of_a_replay_are_named_and_counted_apart() -> None:
    replayed = attempt(1, 9_000, 500)
    replayed = msgspec.structs.replace(replayed, attempt=msgspec.structs.replace(replayed.attempt, replay_id="r"))
    [lane] = drawn(Delivery("l", "acknowledged", 1, 200), attempt(1, 1_000, 500), replayed, now=9_000).lanes

    assert lane.replayed == 1
    names = [bar.text.partition(":")[0] for bar in lane.bars if bar.kind == "a-good"]
    assert names == ["Attempt 1", "Attempt 1 of a replay"]


def test_withheld_duration_is_drawn_without_one() -> None:
    drawing = drawn(Delivery("l", "acknowledged", 1, 200), attempt(1, 500, -1), now=5_000)

    [shown] = drawing.lanes[0].attempts
    assert shown.started_at == NOON + 500
    assert [(stage.width, stage.text) for stage in shown.stages] == [(NARROWEST, "Not shown")]
    assert drawing.lanes[0].bars[1].text == "Attempt 1: acknowledged"


def test_lanes_that_people_look_for_come_first() -> None:
    states: Any = ("acknowledged", "filtered", "retrying", "missed", "pending")
    found = MessageTimeline(
        MESSAGE, QUEUE, Listing(tuple(Delivery(state, state, 0, 0) for state in states), False, False), {}, {}
    )

    shown = [lane.delivery.state for lane in draw(found, NOON).lanes]
    assert shown == ["missed", "retrying", "pending", "acknowledged", "filtered"]


def test_body_is_what_the_other_stages_leave_of_the_total() -> None:
    timings = Timings(3, 9, None, 40, 60)

    assert [(name, ms) for name, _, ms in stages_of(timings)] == [
        ("Resolve", 3),
        ("Connect", 9),
        ("First byte", 40),
        ("Body", 8),
    ]
    longer = msgspec.structs.replace(timings, total_ms=1)
    assert stages_of(longer)[-1][2] == 0


def test_time_without_a_response_is_not_called_a_body() -> None:
    assert stages_of(Timings(3, 9, None, None, 15_000))[-1] == ("No response", "s-whole", 14_988)
    assert [name for name, *_ in stages_of(Timings(3, 9, None, None, 12))] == ["Resolve", "Connect"]
    assert stages_of(Timings(None, None, None, None, 0)) == [("No response", "s-whole", 0)]


def test_stages_have_the_scale_of_the_longest_attempt() -> None:
    detail = AttemptDetail((), (), b"", 0, "", False, Timings(None, None, None, 40, 50), 0)
    slow = attempt(1, 1_000, 100, "status")
    fast = AttemptDetails(attempt(2, 2_000, 50).attempt, detail)
    drawing = drawn(Delivery("l", "acknowledged", 2, 200), slow, fast, now=3_000)

    assert [[stage.width for stage in each.stages] for each in drawing.lanes[0].attempts] == [[100.0], [40.0, 10.0]]
    assert drawing.opened is None
