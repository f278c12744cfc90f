"""The checker finds each broken promise about filters in a doctored history."""

import pytest

from tests.faults.checker import check_history
from tests.faults.history import Bounds, Counts, History, Log, Published, Registered, ReplayCounts, Replayed
from tests.faults.test_history import NOON, SECRET, Doctor, a_receipt, assert_found, change


def a_filtered_history() -> History:
    """Return a history with two sorts of messages, one for each of two listeners, and a publish of unknown outcome."""
    history = History(Bounds(most_unrecorded=1, timeout_seconds=5), epoch=NOON - 100.0)
    bodies = ('{"sort": "a"}', '{"sort": "b"}', '{"sort": "a", "more": 1}')
    history.publishes = [Published("q", bodies, sent=10, answered=11, ids=("m1", "m2", "m3"), answered_at=111.0)]
    history.listeners = {
        "picky": Registered("q", 1, 2, "p", SECRET, sort="a"),
        "other": Registered("q", 3, 4, "o", SECRET, sort="b"),
    }
    history.receipts = [
        a_receipt("m1", bodies[0], 20, name="picky"),
        a_receipt("m2", bodies[1], 20, name="other"),
        a_receipt("m3", bodies[2], 20, name="picky"),
    ]
    history.replays = [Replayed("picky", "m1", "m3", sent=33, answered=34, id="r1")]
    for message, body in (("m1", bodies[0]), ("m3", bodies[2])):
        history.receipts.append(a_receipt(message, body, 35, name="picky", replay="r1"))
    history.replay_counts = {"r1": ReplayCounts("done", 2, 0, 0)}
    history.logs = {"q": Log(head=4, ids=("m1", "m2", "m3", "unknown"))}
    history.counts = {
        "picky": Counts(acknowledged=2, pending=0, missed=0, start_seq=0),
        "other": Counts(acknowledged=1, pending=0, missed=0, start_seq=0),
    }
    return history


def test_a_filtered_history_without_faults_is_found_without() -> None:
    assert check_history(a_filtered_history()).broken == []


BROKEN: dict[str, tuple[Doctor, str]] = {
    "lets through what is filtered": (
        lambda h: h.receipts.append(a_receipt("m2", '{"sort": "b"}', 21, name="picky")),
        "picky got m2, which its filter does not let through",
    ),
    "passes over what is wanted": (lambda h: h.receipts.pop(2), "picky never got m3"),
    "counts what it passed over": (
        lambda h: change(h.counts["other"], missed=2),
        "the counts of other do not add up to the log",
    ),
    "counts no more than one": (
        lambda h: change(h.counts["picky"], acknowledged=1),
        "the counts of picky do not add up to the log",
    ),
    "leaves what is wanted out of a replay": (lambda h: h.receipts.pop(), "picky never got m3 of its replay r1"),
    "counts in a replay what it passed over": (
        lambda h: h.replay_counts.update(r1=ReplayCounts("done", 2, 1, 0)),
        "the counts of the replay r1 do not add up to its 2 messages",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_to_who_filters_is_found(name: str) -> None:
    assert_found(a_filtered_history(), *BROKEN[name])
