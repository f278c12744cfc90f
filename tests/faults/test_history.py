"""The checker finds each broken promise in a doctored history, and none in a sound one."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from tests.faults.checker import check_history
from tests.faults.history import (
    Bounds,
    Counts,
    Deletion,
    DeliveryOptions,
    Fault,
    History,
    Log,
    MessageRequest,
    Probe,
    Published,
    Rate,
    Receipt,
    Recorded,
    Registered,
    ReplayCounts,
    Replayed,
    Resource,
    ResourceRequest,
    Run,
    Scheduled,
    SeenInactive,
    kept_in,
)
from tests.faults.promises.effects import once

SECRET = "whsec_" + "QUJD" * 8
NOON = 1_750_000_000
_REPOSITORY = Path(__file__).parents[2]


def a_receipt(
    message: str, body: str, tick: int, status: int = 200, *, name: str = "steady", worker: int = 1, replay: str = ""
) -> Receipt:
    """A tick is a second here."""
    signed_at = NOON + tick
    signature = Webhook(SECRET).sign(message, datetime.fromtimestamp(signed_at, UTC), body)
    return Receipt(name, message, body, signed_at, signature, 100.0 + tick, tick, 100.0 + tick, status, worker, replay)


def a_replayed(replay: str, message: str, tick: int, status: int = 200, name: str = "steady") -> Receipt:
    bodies = {"m1": "one", "m2": "two", "m3": "three", "m4": "lost answer"}
    return a_receipt(message, bodies[message], tick, status, name=name, worker=2, replay=replay)


def a_history() -> History:
    """Two workers. Worker 1 is killed once, with one duplicate; a listener, a queue and a key are deleted."""
    history = History(Bounds(most_unrecorded=1, timeout_seconds=5), epoch=NOON - 100.0)
    history.listeners["steady"] = Registered("q", sent=1, answered=2, id="l", secret=SECRET)
    history.listeners["gone"] = Registered("q", 3, 4, "g", SECRET, delete_sent=5, deleted_at=105.0)
    history.publishes = [
        Published("q", ("one",), sent=10, answered=11, ids=("m1",), answered_at=111.0),
        Published("q", ("two", "three"), sent=12, answered=13, ids=("m2", "m3"), answered_at=113.0),
        Published("q", ("lost answer",), sent=14),
        Published("theirs", ("secret",), sent=15, answered=16, ids=("m7",), answered_at=116.0),
    ]
    history.receipts = [
        a_receipt("m1", "one", 28),
        a_receipt("m2", "two", 28, status=500),
        a_receipt("m3", "three", 28),
        a_receipt("m4", "lost answer", 28),
        a_receipt("m1", "one", 31, worker=2),
        a_receipt("m2", "two", 32, worker=2),
    ]
    history.faults = [Fault("kill", workers=(1,), began=30, began_at=130.0, ended=31, ended_at=130.5)]
    history.logs = {"q": Log(head=5, ids=("m0", "m1", "m2", "m3", "m4")), "theirs": Log(head=1, ids=("m7",))}
    history.replays = [
        Replayed("steady", "m1", "m3", sent=33, answered=34, id="r1"),
        Replayed("steady", "m3", "", sent=33, answered=34, id="r2"),
        Replayed("steady", "m1", "m3", sent=33, answered=34, id="r3", delete_sent=35, deleted_at=135.0),
        Replayed("gone", "m1", "m1", sent=3),
    ]
    history.receipts[4:4] = [
        a_replayed("r0", "m1", 9, name="gone"),
        a_replayed("r1", "m1", 36),
        a_replayed("r1", "m2", 36, status=500),
        *[a_replayed("r1", message, 38) for message in ("m2", "m3")],
        *[a_replayed("r2", message, 38) for message in ("m3", "m4")],
        a_replayed("r3", "m1", 36),
    ]
    history.replay_counts = {"r1": ReplayCounts("done", 3, 0, 0), "r2": ReplayCounts("done", 2, 0, 0)}
    history.redelivered = ["steady"]
    history.counts = {"steady": Counts(acknowledged=4, pending=0, missed=0, start_seq=1)}
    history.resources = {
        "/queues/q": Resource("ours", 1, 1),
        "/queues/theirs": Resource("others", 1, 1),
        "/queues/gone": Resource("ours", 20, 21, delete_sent=25, deleted=26, deleted_at=126.0),
        "/api_keys/k": Resource("ours", 20, 21, delete_sent=25, deleted=26, deleted_at=126.0),
    }
    history.resource_requests = [
        ResourceRequest("/queues/gone", 2, sent=22, sent_at=122.0, answered=23, status=200),
        ResourceRequest("/queues/gone", 1, sent=27, sent_at=127.0, answered=28, status=404),
        ResourceRequest("/queues/theirs", 1, sent=27, sent_at=127.0, stranger=True, answered=28, status=404),
        ResourceRequest("/api_keys/k", 2, sent=22, sent_at=122.0, answered=23, status=200),
        ResourceRequest("/api_keys/k", 2, sent=26, sent_at=126.9, answered=27, status=200),
        ResourceRequest("/api_keys/k", 2, sent=28, sent_at=128.0, answered=29, status=401),
        ResourceRequest("/api_keys/k", 1, sent=40, sent_at=140.0),
    ]
    return history


Doctor = Callable[[History], object]
"""A change that breaks a promise, or one that is allowed."""


def change(part: msgspec.Struct, **fields: object) -> None:
    for name, value in fields.items():
        setattr(part, name, value)


def lose(history: History, message: str, *, replay: str | None = None, tick: int = 0) -> None:
    """Remove the receipts of a message: all, or those of a replay, or of a tick."""
    history.receipts = [
        each
        for each in history.receipts
        if each.message != message or replay not in (None, each.replay) or tick not in (0, each.tick)
    ]


def assert_found(history: History, doctor: Doctor, finding: str) -> None:
    doctor(history)
    found = check_history(history).broken
    assert any(finding in sentence for sentence in found), found


def test_a_history_without_faults_is_found_without() -> None:
    result = check_history(a_history())
    assert result.broken == []
    assert (result.messages, result.undecided, result.duplicates, result.allowed_duplicates) == (4, 1, 1, 1)
    assert "every promise was kept" in result.summary
    assert result.duplicates_after["kill"] == 1


def sends_again_what_was_long_recorded(history: History) -> None:
    history.faults[0].began_at = history.faults[0].ended_at = 139.0
    history.receipts[-2].at = history.receipts[-2].came_at = 140.0


def sends_when_its_lease_is_over(history: History) -> None:
    """Worker 1 goes on where it stood still, and begins with what worker 2 has sent meanwhile."""
    history.faults = [Fault("pause", workers=(1,), began=27, began_at=127.0, ended=30, ended_at=130.5)]
    history.receipts[0].worker, history.receipts[-2].worker = 2, 1


def lets_two_workers_deliver_at_once(history: History) -> None:
    for number, worker in enumerate((1, 2, 1, 2)):
        history.receipts.append(a_receipt("m2", "two", 50, status=500, worker=worker))
        history.receipts[-1].came_at = 150.0 + number * 0.4


def begins_before_a_replay(history: History) -> None:
    history.replays[0].first, history.replay_counts["r1"] = "m2", ReplayCounts("done", 2, 0, 0)


def replays_what_was_published_after_it_was_asked_for(history: History) -> None:
    history.publishes.append(Published("q", ("late",), sent=36, answered=37, ids=("m9",), answered_at=137.0))
    history.receipts += [a_receipt("m9", "late", 38), a_receipt("m9", "late", 39, replay="r2")]
    history.logs["q"] = Log(head=6, ids=("m0", "m1", "m2", "m3", "m4", "m9"))
    history.counts["steady"].acknowledged = 5


def replays_to_somebody_else(history: History) -> None:
    history.listeners["other"] = Registered("q", sent=1, answered=40, id="o", secret=SECRET)
    history.receipts.append(a_replayed("r1", "m1", 41, name="other"))


def crosses_queues(history: History) -> None:
    history.publishes[2].queue = "another queue"
    history.resources["/queues/another queue"] = Resource("ours", 1, 1)


def gives_old_messages_to_a_new_listener(history: History) -> None:
    history.listeners["young"] = Registered("q", sent=17, answered=18, id="y", secret=SECRET)
    history.receipts.append(a_receipt("m1", "one", 40, name="young"))


def lets_messages_wait_for_a_rolling_restart(history: History) -> None:
    history.faults.append(Fault("rolling restart", (), began=39, began_at=140.0, ended=40, ended_at=142.0))
    history.publishes.append(Published("q", ("four",), sent=41, answered=42, ids=("m8",), answered_at=141.0))
    history.receipts.append(a_receipt("m8", "four", 71))


BROKEN: dict[str, tuple[Doctor, str]] = {
    "loses a message": (lambda h: lose(h, "m3"), "never got m3, answered at 13"),
    "loses a message that is in the log": (lambda h: lose(h, "m4"), "never got m4, which is in the log"),
    "sends more again than was in flight": (
        lambda h: h.receipts.append(a_receipt("m3", "three", 40)),
        "no fault explains",
    ),
    "sends again what another worker sent": (lambda h: change(h.receipts[0], worker=2), "no fault explains"),
    "sends again what was long recorded": (sends_again_what_was_long_recorded, "no fault explains"),
    "sends again what came long after the fault": (
        lambda h: change(h.faults[0], began_at=110.0, ended_at=110.0),
        "no fault explains",
    ),
    "sends again before the fault": (
        lambda h: change(h.faults[0], began_at=131.5, ended_at=131.5),
        "no fault explains",
    ),
    "sends when its lease is over": (sends_when_its_lease_is_over, "no fault explains"),
    "lets two workers deliver at once": (lets_two_workers_deliver_at_once, "by turns"),
    "takes a replay for a delivery": (lambda h: lose(h, "m3", replay=""), "never got m3, answered at 13"),
    "leaves a message out of a replay": (lambda h: lose(h, "m3", replay="r1"), "never got m3 of its replay r1"),
    "leaves out what was answered before a replay": (
        lambda h: lose(h, "m3", replay="r2"),
        "never got m3 of its replay r2",
    ),
    "does not try again in a replay": (lambda h: lose(h, "m2", replay="r1", tick=38), "never got m2 of its replay r1"),
    "never ends a replay": (
        lambda h: h.replay_counts.update(r1=ReplayCounts("running", 3, 0, 0)),
        "replay r1 to steady is not done",
    ),
    "forgets a replay": (lambda h: h.replay_counts.pop("r1"), "replay r1 to steady is not done"),
    "goes beyond a replay": (
        lambda h: h.receipts.append(a_replayed("r1", "m4", 40)),
        "got m4, which is outside its replay r1",
    ),
    "does not know a replay that it confirmed": (
        lambda h: change(h.replays[0], was_unknown=True),
        "the replay r1 was confirmed, and not known",
    ),
    "begins before a replay": (begins_before_a_replay, "got m1, which is outside its replay r1"),
    "replays what was published after it was asked for": (
        replays_what_was_published_after_it_was_asked_for,
        "got m9, which is outside its replay r2",
    ),
    "replays to somebody else": (replays_to_somebody_else, "the replay r1, which it was not asked for"),
    "replays what nobody asked for": (
        lambda h: h.receipts.append(a_replayed("r9", "m1", 41)),
        "the replay r9, which it was not asked for",
    ),
    "goes on after a replay was cancelled": (
        lambda h: h.receipts.append(a_replayed("r3", "m2", 60)),
        "of a replay 25.0 s after that was cancelled",
    ),
    "sends again in a replay what was recorded": (
        lambda h: h.receipts.extend([a_replayed("r1", "m1", 50), a_replayed("r1", "m1", 51)]),
        "no fault explains",
    ),
    "counts more than it replayed": (
        lambda h: h.replay_counts.update(r2=ReplayCounts("done", 3, 0, 0)),
        "acknowledged 2 messages of its replay r2",
    ),
    "counts less than it replayed": (
        lambda h: h.replay_counts.update(r1=ReplayCounts("done", 2, 0, 0)),
        "replay r1 do not add up",
    ),
    "leaves missed what was redelivered": (
        lambda h: change(h.counts["steady"], acknowledged=3, missed=1),
        "which were all redelivered",
    ),
    "invents a body": (lambda h: h.receipts.append(a_receipt("m9", "nobody wrote this", 40)), "never published"),
    "changes an id": (lambda h: change(h.receipts[0], message="m0"), "two ids"),
    "swaps bodies": (lambda h: change(h.receipts[2], body="two"), "body of another message"),
    "stores an undecided message twice": (lambda h: h.receipts.append(a_receipt("m5", "lost answer", 40)), "two ids"),
    "crosses queues": (crosses_queues, "never published to its queue"),
    "crosses organizations": (lambda h: h.receipts.append(a_receipt("m7", "secret", 40)), "of another organization"),
    "gives old messages to a new listener": (gives_old_messages_to_a_new_listener, "before it was created"),
    "goes on after a deletion": (
        lambda h: h.receipts.append(a_receipt("m1", "one", 12, name="gone")),
        "after its deletion",
    ),
    "signs with another key": (
        lambda h: change(h.listeners["steady"], secret="whsec_" + "QUJE" * 8),
        "wrong signature",
    ),
    "signs another time": (lambda h: change(h.receipts[0], timestamp=NOON + 29), "wrong signature"),
    "leaves a hole in the log": (lambda h: change(h.logs["q"], head=6), "its head is 6"),
    "stores a message twice": (lambda h: change(h.logs["q"], ids=("m0", "m1", "m2", "m3", "m3")), "an id twice"),
    "loses a confirmed message from the log": (
        lambda h: change(h.logs["q"], head=4, ids=("m0", "m1", "m2", "m4")),
        "lacks m3",
    ),
    "stores a batch in another order": (
        lambda h: change(h.logs["q"], ids=("m0", "m1", "m3", "m2", "m4")),
        "in its order",
    ),
    "counts less than the log": (lambda h: change(h.counts["steady"], acknowledged=3), "do not add up"),
    "counts more than it sent": (lambda h: change(h.counts["steady"], acknowledged=5), "counted otherwise"),
    "counts nothing": (lambda h: change(h.counts["steady"], acknowledged=0, missed=4), "counted otherwise"),
    "does not find what was made elsewhere": (
        lambda h: change(h.resource_requests[0], status=404),
        "answered 404 for /queues/gone",
    ),
    "does not let a new key in": (lambda h: change(h.resource_requests[3], status=401), "answered 401 for /api_keys/k"),
    "shows what was deleted": (lambda h: change(h.resource_requests[1], status=200), "still took /queues/gone"),
    "shows it to a stranger": (lambda h: change(h.resource_requests[2], status=200), "to a stranger"),
    "lets a revoked key in": (lambda h: change(h.resource_requests[5], status=200), "still took /api_keys/k 2.00 s"),
    "lets a revoked key in long after a fault": (
        lambda h: change(h.resource_requests[6], answered=41, status=200),
        "still took /api_keys/k 14.00 s",
    ),
    "takes messages for a deleted queue": (
        lambda h: h.publishes.append(Published("gone", ("late",), 27, answered=28, ids=("m8",), answered_at=128.0)),
        "after its deletion was answered",
    ),
    "lets messages wait for a rolling restart": (lets_messages_wait_for_a_rolling_restart, "waited 30.00 s"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found(name: str) -> None:
    assert_found(a_history(), *BROKEN[name])


def is_deleted_before(history: History) -> None:
    history.publishes[0].sent, history.publishes[0].answered = 4, 4
    history.listeners["steady"].answered = 3


def never_got_a_publish_of_unknown_outcome(history: History) -> None:
    """It is not in the log either."""
    lose(history, "m4")
    history.logs["q"] = Log(head=4, ids=("m0", "m1", "m2", "m3"))
    history.counts["steady"].acknowledged = 3
    history.replay_counts["r2"] = ReplayCounts("done", 1, 0, 0)


def got_what_was_lost_with_the_old_primary(history: History) -> None:
    """Undecided, received, and in no log any more."""
    history.logs["q"] = Log(head=4, ids=("m0", "m1", "m2", "m3"))
    history.counts["steady"].acknowledged = 3


def lost_the_record_of_an_acknowledgement(history: History) -> None:
    history.counts["steady"] = Counts(acknowledged=3, pending=1, missed=0, start_seq=1)


def could_not_hear_of_the_revocation(history: History) -> None:
    history.faults.append(Fault("cut off", (2,), began=26, began_at=126.5, ended=29, ended_at=129.0))
    history.resource_requests[5].status = 200


def could_not_hear_of_the_deletion(history: History) -> None:
    history.faults.append(Fault("cut off", (1,), began=5, began_at=105.5, ended=11, ended_at=111.0))
    history.receipts.append(a_receipt("m1", "one", 12, name="gone"))


def had_begun_before_it_stood_still(history: History) -> None:
    sends_when_its_lease_is_over(history)
    history.receipts[-2] = a_receipt("m1", "one", 26)
    history.receipts[-2].came_at = history.receipts[-2].at = 130.6


def sent_again_what_two_faults_explain_and_what_one_does(history: History) -> None:
    history.faults.append(Fault("kill", (1,), began=32, began_at=131.5, ended=33, ended_at=131.6))
    history.receipts[2].at = history.receipts[2].came_at = 127.5
    history.receipts.append(a_receipt("m3", "three", 40, worker=2))


def refused_twice_what_came_again(history: History) -> None:
    """Retries of a repeat are not repeats of their own."""
    history.receipts[-2].status = 503
    history.receipts += [a_receipt("m1", "one", tick, status, worker=2) for tick, status in ((33, 503), (35, 200))]


@pytest.mark.parametrize(
    "doctor",
    [
        is_deleted_before,
        never_got_a_publish_of_unknown_outcome,
        got_what_was_lost_with_the_old_primary,
        lost_the_record_of_an_acknowledgement,
        could_not_hear_of_the_revocation,
        could_not_hear_of_the_deletion,
        had_begun_before_it_stood_still,
        sent_again_what_two_faults_explain_and_what_one_does,
        refused_twice_what_came_again,
    ],
)
def test_allowed_histories_pass(doctor: Doctor) -> None:
    history = a_history()
    doctor(history)
    assert check_history(history).broken == []


def a_recorded_history() -> History:
    """Every request is on record, but the first one of m1: worker 1 was killed before it stored the outcome."""
    history = a_history()
    requests = [Recorded(each.name, each.message, each.number, each.replay) for each in history.receipts]
    history.recorded = [each for each in requests if each.name in history.counts]
    history.recorded.remove(Recorded("steady", "m1", 1))
    return history


def test_attempts_on_record_are_found_without() -> None:
    assert check_history(a_recorded_history()).broken == []


@pytest.mark.parametrize("status", [0, 500])
def test_request_that_is_written_twice_within_an_attempt_is_found(status: int) -> None:
    history = a_recorded_history()
    history.receipts.insert(-1, a_receipt("m2", "two", 31, status=status, worker=2))
    found = check_history(history).broken
    assert found == ["steady got m2 in 3 requests of attempt 1, of which 2 are on record: no fault explains it"]


def test_requests_that_a_fault_kept_from_the_record_are_found_beyond_its_bound() -> None:
    history = a_recorded_history()
    assert history.recorded is not None
    history.recorded.remove(Recorded("steady", "m3", 1))
    assert any("got m3 in 1 requests of attempt 1" in each for each in check_history(history).broken)


def a_trimmed_history() -> History:
    """Deleted are t1, after it was acknowledged, t2, before it was sent, and perhaps t4. There is no fault."""
    history = History(Bounds(most_unrecorded=1, timeout_seconds=5), epoch=NOON - 100.0, trimmed=["q"])
    history.listeners["steady"] = Registered("q", sent=1, answered=2, id="l", secret=SECRET)
    bodies = ("one", "two", "three", "four")
    ids = ("t1", "t2", "t3", "t4")
    deletions = {"t1": Deletion(20, 21, 121.0), "t2": Deletion(12, 13, 113.0), "t4": Deletion(20)}
    history.publishes = [Published("q", bodies, 10, 11, ids, 111.0, deletions=deletions)]
    history.receipts = [a_receipt(each, body, 14) for each, body in zip(ids, bodies, strict=True) if each != "t2"]
    history.logs = {"q": Log(4, ("t3", "t4"))}
    history.counts = {"steady": Counts(acknowledged=3, pending=0, missed=0, start_seq=0)}
    return history


def test_a_history_with_deletions_is_found_without() -> None:
    assert check_history(a_trimmed_history()).broken == []


@pytest.mark.parametrize(("kind", "is_broken"), [("failover after cancelling", False), ("kill", True)])
def test_failover_explains_that_a_delivered_message_is_in_no_log(kind: str, *, is_broken: bool) -> None:
    history = a_trimmed_history()
    for message in ("t5", "t6", "t7"):
        history.publishes.append(Published("q", (message,), 15))
        history.receipts.append(a_receipt(message, message, 16))
    history.faults.append(Fault(kind, workers=(1,), began=17, began_at=117.0, ended=18, ended_at=118.0))
    assert any("was counted otherwise" in each for each in check_history(history).broken) is is_broken


TRIMMED: dict[str, tuple[Doctor, str]] = {
    "counts what was deleted": (lambda h: change(h.counts["steady"], acknowledged=4), "less those that were deleted"),
    "misses what was deleted": (
        lambda h: change(h.counts["steady"], acknowledged=2, missed=1),
        "was counted otherwise",
    ),
    "forgets what it acknowledged": (lambda h: change(h.counts["steady"], acknowledged=0), "less those that"),
    "keeps what was deleted": (lambda h: change(h.logs["q"], ids=("t2", "t3")), "has t2, whose deletion was answered"),
    "deletes something else": (lambda h: change(h.logs["q"], ids=("t4",)), "lacks t3, which nobody deleted"),
    "deletes more": (lambda h: change(h.logs["q"], ids=()), "has 0 messages, its head is 4, and 2 were deleted"),
    "does not know what it confirmed": (
        lambda h: change(h.publishes[0].deletions["t1"], was_unknown=True),
        "t1 was confirmed, and not known",
    ),
    "sends what was deleted": (
        lambda h: h.receipts.append(a_receipt("t2", "two", 40)),
        "got t2 27.0 s after that was deleted",
    ),
}


@pytest.mark.parametrize("name", TRIMMED)
def test_a_broken_promise_about_deletions_is_found(name: str) -> None:
    assert_found(a_trimmed_history(), *TRIMMED[name])


def a_history_of_short_retention() -> History:
    """Two messages of a queue that keeps them for 20 s: one is seen, and later found gone. In the end, both are."""
    history = History(Bounds(most_unrecorded=1, timeout_seconds=5), epoch=NOON - 100.0, short_retention=["q"])
    history.listeners["steady"] = Registered("q", sent=1, answered=2, id="l", secret=SECRET)
    published = Published("q", ("one", "two"), 10, 11, ("f1", "f2"), 111.0, sent_at=110.0)
    history.publishes = [published]
    history.message_requests = [MessageRequest(published, "f1", 20, at, at < 130.0) for at in (129.0, 131.0)]
    history.receipts = [a_receipt(each, body, 14) for each, body in (("f1", "one"), ("f2", "two"))]
    history.logs = {"q": Log(2, ())}
    history.counts = {"steady": Counts(acknowledged=2, pending=0, missed=0, start_seq=0)}
    return history


def test_a_history_with_retention_is_found_without() -> None:
    assert check_history(a_history_of_short_retention()).broken == []


FORGOTTEN: dict[str, tuple[Doctor, str]] = {
    "forgets too early": (
        lambda h: h.message_requests.append(MessageRequest(h.publishes[0], "f2", 20, 129.5, is_there=False)),
        "f2 was gone after 19.5 s, and must be kept for 20",
    ),
    "keeps a message": (lambda h: change(h.logs["q"], ids=("f2",)), "still has 1 messages, of which f2 is the oldest"),
    "forgets to count": (lambda h: change(h.counts["steady"], acknowledged=1), "are not those of 2 acknowledged"),
    "counts what it did not send": (lambda h: h.receipts.pop(), "steady acknowledged 1 of 2 messages"),
}


@pytest.mark.parametrize("name", FORGOTTEN)
def test_a_broken_promise_about_retention_is_found(name: str) -> None:
    assert_found(a_history_of_short_retention(), *FORGOTTEN[name])


def test_wrong_clock_explains_that_a_message_is_gone_early() -> None:
    history = a_history_of_short_retention()
    FORGOTTEN["forgets too early"][0](history)
    history.faults.append(Fault("database clock", (1,), began=17, began_at=117.0, ended=18, ended_at=118.0))
    assert check_history(history).broken == []


def a_timed_history() -> History:
    """A message of a topic with two queues, a delayed message, and a schedule that is deleted after its third run."""
    history = History(Bounds(most_unrecorded=1, timeout_seconds=5), epoch=NOON - 100.0, delaying=["later"])
    for name in ("one", "other", "later", "runs"):
        history.listeners[name] = Registered(name, sent=1, answered=2, id=name, secret=SECRET)
        history.counts[name] = Counts(acknowledged=1, pending=0, missed=0, start_seq=0)
        history.resources[f"/queues/{name}"] = Resource("ours", 1, 1)
    routes = ("one", "other")
    history.publishes = [Published(each, ("routed",), 10, 11, ("t1",), 111.0, routes=routes) for each in routes]
    delayed = DeliveryOptions(due_at=NOON + 20.0)
    history.publishes.append(Published("later", ("late",), 12, 13, ("d1",), 113.0, (delayed,)))
    history.receipts = [a_receipt("t1", "routed", 12, name=each) for each in routes]
    history.receipts.append(a_receipt("d1", "late", 21, name="later"))
    history.receipts += [a_receipt(f"r{run}", "again", 20 + run, name="runs") for run in (1, 2, 3)]
    history.counts["runs"].acknowledged = 3
    runs = [Run("s", (NOON + 20 + run) * 1_000) for run in (1, 2, 3)]
    history.logs = {each: Log(1, ("t1",)) for each in routes}
    history.logs |= {"later": Log(2, ("d1",), moved=1), "runs": Log(3, ("r1", "r2", "r3"), runs=runs)}
    first_run, reached = ((NOON + run) * 1_000 for run in (21, 24))
    history.schedules = [
        Scheduled("runs", "again", 1_000, 119.5, "s", first_run, looked_at=123.5, reached=reached, deleted_at=123.9)
    ]
    return history


def test_a_timed_history_without_faults_is_found_without() -> None:
    assert check_history(a_timed_history()).broken == []


def has_a_run_more(history: History, run_at: float) -> None:
    history.logs["runs"].runs.append(Run("s", round((NOON + run_at) * 1_000)))


TIMED: dict[str, tuple[Doctor, str]] = {
    "stores a message of a topic in one queue": (
        lambda h: change(h.logs["other"], ids=(), head=0),
        "t1 is in ['one'] only, and its topic leads to ['one', 'other']",
    ),
    "gives a message of a topic two ids": (lambda h: change(h.receipts[1], message="t2"), "two ids"),
    "sends a delayed message early": (
        lambda h: change(h.receipts[2], came_at=119.9),
        "0.10 s before it was due",
    ),
    "loses a delayed message": (lambda h: h.receipts.pop(2), "never got d1"),
    "stores a delayed message twice": (lambda h: change(h.logs["later"], ids=("d1", "d1")), "an id twice"),
    "leaves out a run": (lambda h: h.logs["runs"].runs.pop(1), "has no message of its run at"),
    "repeats a run": (lambda h: has_a_run_more(h, 22), "has 2 messages of its run"),
    "runs between its runs": (lambda h: has_a_run_more(h, 22.5), "which is not one of its runs"),
    "runs before its first run": (lambda h: has_a_run_more(h, 20), "which is not one of its runs"),
    "runs after it was deleted": (lambda h: has_a_run_more(h, 24), "after its deletion was answered"),
    "publishes a run elsewhere": (lambda h: change(h.schedules[0], queue="one"), "never published to its queue"),
}


@pytest.mark.parametrize("name", TIMED)
def test_a_broken_promise_about_times_and_topics_is_found(name: str) -> None:
    assert_found(a_timed_history(), *TIMED[name])


@pytest.mark.parametrize("name", ["sends a delayed message early", "leaves out a run"])
@pytest.mark.parametrize("kind", ["clock ahead", "database clock"])
def test_only_a_wrong_clock_of_the_database_explains_wrong_times(name: str, kind: str) -> None:
    """It affects all workers; a wrong clock of one worker affects none."""
    history, is_of_the_database = a_timed_history(), kind == "database clock"
    TIMED[name][0](history)
    touched = (1,) if is_of_the_database else ()
    history.faults.append(Fault(kind, touched, began=12, began_at=119.7, ended=26, ended_at=121.0))
    assert (check_history(history).broken == []) == is_of_the_database


@pytest.mark.parametrize(("began_at", "is_broken"), [(121.5, False), (123.2, True)])
def test_a_failover_explains_that_a_run_which_was_seen_is_missing(began_at: float, *, is_broken: bool) -> None:
    history = a_timed_history()
    # That of the second second: a failover that begins later took nothing of it back.
    TIMED["leaves out a run"][0](history)
    history.faults.append(
        Fault("failover after cancelling", (1,), began=12, began_at=began_at, ended=26, ended_at=125.0)
    )
    assert bool(check_history(history).broken) == is_broken


def test_logged_error_that_no_fault_explains_is_found() -> None:
    history = a_history()
    lines = [
        f'{{"time": "{datetime.fromtimestamp(NOON + at, UTC).isoformat()}", "level": "{level}", "event": "x"}}'
        for level, at in (("error", 29.0), ("error", 31.0), ("error", 44.0), ("info", 44.0))
    ]
    history.said = {2: lines}
    found = check_history(history).broken
    assert found == [f"worker 2 logged an error that no fault explains: {line}" for line in (lines[0], lines[2])]


def an_inactive_history(*came_at: float) -> History:
    """Three probes fail, the listener is shown as inactive, and a probe succeeds: a failed message comes again."""
    history = History(Bounds(most_unrecorded=1, timeout_seconds=5), epoch=NOON - 100.0)
    history.listeners["interrupted"] = Registered("q", 1, 2, "l", SECRET)
    history.publishes = [Published("q", ("one",), 3, 4, ("m1",), 104.0)]
    history.receipts = [a_receipt("m1", "one", 5, status=503, name="interrupted")]
    history.receipts += [a_receipt("m1", "one", int(at - 100), status=503, name="interrupted") for at in came_at]
    history.receipts.append(a_receipt("m1", "one", 31, name="interrupted"))
    history.probes = [Probe("interrupted", at, at > 120) for at in (105.0, 106.0, 107.0, 108.0, 130.0)]
    history.inactive = [SeenInactive("interrupted", 108.5, 108.6), SeenInactive("interrupted", 130.1, 130.2)]
    return history


def test_an_inactive_listener_that_gets_nothing_is_found_without() -> None:
    assert check_history(an_inactive_history()).broken == []
    assert check_history(an_inactive_history(107.0, 109.0)).broken == []


def test_request_to_an_inactive_listener_is_found() -> None:
    found = check_history(an_inactive_history(129.0)).broken
    assert found == ["interrupted got m1 20.40 s after it was shown as inactive"]


def was_shown_after_two_failures(history: History) -> None:
    del history.probes[1:3]


def had_answered_a_probe(history: History) -> None:
    history.probes[2] = Probe("interrupted", 107.0, is_alive=True)


def answered_a_probe_meanwhile(history: History) -> None:
    history.probes.insert(4, Probe("interrupted", 128.0, is_alive=True))


def lost_what_was_seen_with_the_old_primary(history: History) -> None:
    history.faults.append(Fault("failover after cancelling", (1,), began=7, began_at=107.5, ended=8, ended_at=109.0))


@pytest.mark.parametrize(
    "doctor",
    [
        was_shown_after_two_failures,
        had_answered_a_probe,
        answered_a_probe_meanwhile,
        lost_what_was_seen_with_the_old_primary,
    ],
)
def test_request_to_a_listener_that_may_be_tried_passes(doctor: Doctor) -> None:
    history = an_inactive_history(129.0)
    doctor(history)
    assert check_history(history).broken == []


def an_ordered_history() -> History:
    """Key a: one message fails at first, one expires behind it, two follow. Key b continues meanwhile. No fault."""
    history = History(Bounds(most_unrecorded=1, timeout_seconds=5), epoch=NOON - 100.0, ordered=["q"])
    history.listeners["steady"] = Registered("q", sent=1, answered=2, id="l", secret=SECRET)
    history.publishes = [
        Published("q", ("old",), 3, 4, ("a0",), 104.0, (DeliveryOptions("a"),)),
        Published("q", ("one",), 10, 11, ("a1",), 111.0, (DeliveryOptions("a"),)),
        Published("q", ("two",), 12, 13, ("a2",), 113.0, (DeliveryOptions("a", NOON + 21.0),)),
        Published("q", ("three", "four"), 14, 15, ("b1", "a3"), 115.0, (DeliveryOptions("b"), DeliveryOptions("a"))),
        Published("q", ("lost answer",), 16, options=(DeliveryOptions("a"),)),
    ]
    history.receipts = [
        a_receipt("a0", "old", 5),
        a_receipt("a1", "one", 12, status=500),
        a_receipt("b1", "three", 16),
        a_receipt("a1", "one", 22),
        a_receipt("a3", "four", 23),
        a_receipt("a4", "lost answer", 24),
    ]
    history.logs = {"q": Log(6, ("a0", "a1", "a2", "b1", "a3", "a4"), {"a2": NOON + 21.0})}
    history.counts = {"steady": Counts(acknowledged=5, pending=0, missed=1, start_seq=0)}
    history.replays = [Replayed("steady", "a1", "a3", sent=30, answered=31, id="r1")]
    history.receipts += [
        a_receipt("b1", "three", 32, replay="r1"),
        a_receipt("a1", "one", 32, status=500, replay="r1"),
        a_receipt("a1", "one", 33, replay="r1"),
        a_receipt("a3", "four", 34, replay="r1"),
    ]
    history.replay_counts = {"r1": ReplayCounts("done", 3, 0, 1)}
    return history


def test_an_ordered_history_without_faults_is_found_without() -> None:
    assert check_history(an_ordered_history()).broken == []


def sends_the_next_one_of_a_key_before(history: History) -> None:
    history.receipts.insert(2, a_receipt("a3", "four", 14, status=500))


def sends_the_next_one_before_one_that_would_expire(history: History) -> None:
    history.logs["q"].expiries["a2"] = NOON + 40.0
    history.publishes[2].options = (DeliveryOptions("a", NOON + 40.0),)


def sends_what_has_expired(history: History) -> None:
    history.receipts.insert(4, a_receipt("a2", "two", 23))


def forgets_what_has_expired(history: History) -> None:
    history.counts["steady"] = Counts(acknowledged=5, pending=1, missed=0, start_seq=0)


def forgets_what_has_expired_and_nobody_heard_of(history: History) -> None:
    """The publish got no response and the message never arrived: only the log shows that it expires."""
    history.publishes.pop(2)
    forgets_what_has_expired(history)


def misses_what_does_not_expire(history: History) -> None:
    history.logs["q"].expiries.clear()
    history.publishes[2].options = ()


BROKEN_ORDER: dict[str, tuple[Doctor, str]] = {
    "sends the next one of a key before": (sends_the_next_one_of_a_key_before, "got a3 before it had acknowledged a1"),
    "sends a publish of unknown outcome before": (
        lambda h: h.receipts.insert(2, a_receipt("a4", "lost answer", 17)),
        "got a4 before it had acknowledged a3",
    ),
    "sends the next one while one is answered": (
        lambda h: change(h.receipts[3], at=123.5),
        "got a3 before it had acknowledged a1",
    ),
    "sends the next one before one that would expire": (
        sends_the_next_one_before_one_that_would_expire,
        "got a3 before a2 was done with",
    ),
    "sends one that expires after the next": (
        lambda h: h.receipts.append(a_receipt("a2", "two", 25)),
        "got a3 before a2 was done with",
    ),
    "replays the next one of a key before": (
        lambda h: change(h.receipts[-1], came_at=132.5),
        "in the replay r1 steady got a3 before it had acknowledged a1",
    ),
    "stores in another order than it answers": (
        lambda h: change(h.logs["q"], ids=("a0", "a2", "a1", "b1", "a3", "a4")),
        "has a2 before a1, which was answered before it was sent",
    ),
    "sends what has expired": (sends_what_has_expired, "got a2 2.00 s after it had expired"),
    "forgets what has expired": (forgets_what_has_expired, "did not get 1 messages that expired, and has missed 0"),
    "forgets what has expired and nobody heard of": (
        forgets_what_has_expired_and_nobody_heard_of,
        "did not get 1 messages that expired, and has missed 0",
    ),
    "misses what does not expire": (misses_what_does_not_expire, "never got a2"),
}


@pytest.mark.parametrize("name", BROKEN_ORDER)
def test_a_broken_promise_of_an_ordered_queue_is_found(name: str) -> None:
    assert_found(an_ordered_history(), *BROKEN_ORDER[name])


def a_redelivered_history(*, blocks: bool = False) -> History:
    """The first message of a key is missed after two attempts, and redelivered when another key goes on."""
    history = History(Bounds(most_unrecorded=1, timeout_seconds=5), epoch=NOON - 100.0, ordered=["q"])
    history.blocking = ["q"] if blocks else []
    history.listeners["lossy"] = Registered("q", sent=1, answered=2, id="l", secret=SECRET, attempts=2)
    history.publishes = [
        Published("q", ("one", "two"), 3, 4, ("a1", "a2"), 104.0, (DeliveryOptions("a"), DeliveryOptions("a"))),
        Published("q", ("three",), 5, 6, ("a3",), 106.0, (DeliveryOptions("a"),)),
    ]
    redelivered = a_receipt("a1", "one", 14, name="lossy")
    failed = [a_receipt("a1", "one", tick, status=500, name="lossy") for tick in (7, 9)]
    following = [a_receipt("a2", "two", 15 if blocks else 11, name="lossy")]
    following += [a_receipt("a3", "three", 16 if blocks else 12, name="lossy")]
    history.receipts = [*failed, redelivered, *following]
    history.logs = {"q": Log(3, ("a1", "a2", "a3"))}
    history.counts = {"lossy": Counts(acknowledged=3, pending=0, missed=0, start_seq=0)}
    history.redelivered = ["lossy"]
    return history


@pytest.mark.parametrize("blocks", [False, True])
def test_a_redelivered_history_without_faults_is_found_without(*, blocks: bool) -> None:
    assert check_history(a_redelivered_history(blocks=blocks)).broken == []


def passes_one_with_an_attempt_left(history: History) -> None:
    history.receipts[3] = a_receipt("a2", "two", 8, name="lossy")


def passes_one_that_is_redelivered(history: History) -> None:
    history.receipts[3].at = 113.5
    history.receipts[4].came_at = 112.5


@pytest.mark.parametrize(
    ("doctor", "finding"),
    [
        (passes_one_with_an_attempt_left, "lossy got a2 before a1 was missed or acknowledged"),
        (passes_one_that_is_redelivered, "lossy got a3 before a2 was missed or acknowledged"),
        (lambda h: h.blocking.append("q"), "lossy got a2 before it had acknowledged a1"),
    ],
    ids=["one with an attempt left", "a redelivered one", "a missed one of a blocked key"],
)
def test_message_that_overtakes_its_key_is_found(doctor: Doctor, finding: str) -> None:
    assert_found(a_redelivered_history(), doctor, finding)


def test_attempt_that_never_arrived_counts_before_a_message_is_passed() -> None:
    history = a_redelivered_history()
    passes_one_with_an_attempt_left(history)
    history.recorded = [Recorded(each.name, each.message, each.number) for each in history.receipts]
    [broken] = check_history(history).broken
    assert broken.startswith("lossy got a2 before a1 was missed or acknowledged")
    history.recorded.append(Recorded("lossy", "a1", 1))
    assert check_history(history).broken == []


def is_not_ordered(history: History) -> None:
    history.ordered.clear()
    sends_the_next_one_of_a_key_before(history)


def came_again_out_of_its_order(history: History) -> None:
    """Order concerns first receipts: a killed worker may have both in flight."""
    history.faults.append(Fault("kill", workers=(1,), began=26, began_at=124.5, ended=27, ended_at=125.0))
    history.receipts.append(a_receipt("a1", "one", 28))


def lost_one_with_the_old_primary(history: History) -> None:
    """It came, and was not acknowledged; nothing of it is in the log."""
    history.publishes.insert(2, Published("q", ("gone",), 12, options=(DeliveryOptions("a"),)))
    history.receipts.insert(4, a_receipt("a9", "gone", 22, status=500))


def had_no_turn_before_the_listener_was_made(history: History) -> None:
    history.receipts.pop(0)
    history.listeners["steady"].sent = history.listeners["steady"].answered = 4
    history.counts["steady"] = Counts(acknowledged=4, pending=0, missed=1, start_seq=1)


def expired_by_a_wrong_clock(history: History) -> None:
    sends_the_next_one_before_one_that_would_expire(history)
    history.faults.append(Fault("database clock", (1,), began=14, began_at=121.0, ended=26, ended_at=140.0))


def came_late_by_a_wrong_clock(history: History) -> None:
    sends_what_has_expired(history)
    history.faults.append(Fault("database clock", (1,), began=14, began_at=121.0, ended=26, ended_at=123.0))
    history.counts["steady"] = Counts(acknowledged=6, pending=0, missed=0, start_seq=0)


def came_when_a_worker_went_on(history: History) -> None:
    sends_what_has_expired(history)
    history.faults.append(Fault("pause", (1,), began=14, began_at=120.0, ended=26, ended_at=122.9))
    history.counts["steady"] = Counts(acknowledged=6, pending=0, missed=0, start_seq=0)


def expired_unrecorded(history: History) -> None:
    """It was acknowledged in time, that could not be stored, and its expiry was found out by the next worker."""
    history.receipts[3:3] = [a_receipt("a1", "one", 18), a_receipt("a2", "two", 20)]
    history.receipts[5].came_at = 120.5
    history.faults.append(Fault("kill", workers=(1,), began=15, began_at=120.2, ended=26, ended_at=120.3))


@pytest.mark.parametrize(
    "doctor",
    [
        is_not_ordered,
        came_again_out_of_its_order,
        lost_one_with_the_old_primary,
        had_no_turn_before_the_listener_was_made,
        expired_by_a_wrong_clock,
        came_late_by_a_wrong_clock,
        came_when_a_worker_went_on,
        expired_unrecorded,
    ],
)
def test_allowed_histories_of_an_ordered_queue_pass(doctor: Doctor) -> None:
    history = an_ordered_history()
    doctor(history)
    assert check_history(history).broken == []


def a_paced_history(came_at: list[float], *faults: Fault) -> History:
    """Attempts of one message, all but the last of which failed, at a listener that takes two a second, or three."""
    history = History(Bounds(most_unrecorded=1, timeout_seconds=5), epoch=NOON - 100.0, faults=list(faults))
    history.listeners["steady"] = Registered("q", 1, 2, "l", SECRET, rate=Rate(per_second=2.0, burst=3))
    history.publishes = [Published("q", ("one",), 3, 4, ("m1",), 104.0)]
    for number, at in enumerate(came_at, 1):
        receipt = a_receipt("m1", "one", int(at), status=200 if number == len(came_at) else 500)
        receipt.came_at = receipt.at = 100.0 + at
        history.receipts.append(receipt)
    return history


@given(burst_at=st.floats(10, 20), gaps=st.lists(st.floats(0.5, 9), max_size=40), taken=st.integers(1, 3))
def test_requests_at_the_rate_limit_pass(burst_at: float, gaps: list[float], taken: int) -> None:
    came_at = [burst_at] * taken
    for gap in gaps:
        came_at.append(came_at[-1] + gap)
    assert check_history(a_paced_history(came_at)).broken == []


@given(before=st.lists(st.floats(10, 40), max_size=20), burst_at=st.floats(10, 40))
def test_more_requests_than_burst_and_rate_allow_are_found(before: list[float], burst_at: float) -> None:
    """Three at once, two for the second that one may be late, and one too many: whatever else there was."""
    came_at = sorted([*before, *[burst_at] * 6])
    assert any("faster than its rate" in sentence for sentence in check_history(a_paced_history(came_at)).broken)


def test_a_bucket_that_is_full_after_a_takeover_is_found() -> None:
    kill = Fault("kill", workers=(1,), began=30, began_at=120.6, ended=31, ended_at=120.7)
    history = a_paced_history([19.0, 20.0, 20.0, 20.0, 20.5, 21.0, 21.0, 21.0, 21.0, 21.5], kill)
    for receipt in history.receipts[5:]:
        receipt.worker = 2
    assert any("faster than its rate" in sentence for sentence in check_history(history).broken)


def test_requests_delayed_by_a_fault_do_not_break_the_rate_limit() -> None:
    """They had been signed before their worker stood still, and came together when it went on."""
    pause = Fault("pause", workers=(1,), began=30, began_at=121.5, ended=31, ended_at=124.0)
    history = a_paced_history([18.0, 19.0, 20.0, 21.0, 24.0, 24.0, 24.0, 24.0, 24.0, 24.0], pause)
    assert check_history(history).broken
    for receipt in history.receipts[4:]:
        receipt.timestamp = NOON + 21
        signed_at = datetime.fromtimestamp(receipt.timestamp, UTC)
        receipt.signature = Webhook(SECRET).sign(receipt.message, signed_at, receipt.body)
    assert check_history(history).broken == []


def test_longest_delay_is_reported_with_its_fault() -> None:
    result = check_history(a_history())
    assert result.longest_delays == {"nothing": 17.0}
    history = a_history()
    history.faults[0].began_at = 113.2
    result = check_history(history)
    assert result.longest_delays == {"nothing": 17.0, "kill": 15.0}
    assert "kill" in result.table


def test_a_message_that_meets_a_crash_while_it_may_wait_is_not_held_against_a_rolling_restart() -> None:
    history = a_history()
    lets_messages_wait_for_a_rolling_restart(history)
    # It may wait 26.5 s: the longest usual wait is 17 s.
    history.faults.append(Fault("crash", (1, 2), began=61, began_at=167.4, ended=62, ended_at=168.0))
    assert not [sentence for sentence in check_history(history).broken if "rolling restart" in sentence]
    history.faults[-1].began_at = 167.6
    assert [sentence for sentence in check_history(history).broken if "rolling restart" in sentence]


def test_a_slow_network_is_not_held_against_a_rolling_restart() -> None:
    history = a_history()
    lets_messages_wait_for_a_rolling_restart(history)
    assert [sentence for sentence in check_history(history).broken if "rolling restart" in sentence]
    history.bounds = msgspec.structs.replace(history.bounds, lateness_seconds=100.0)
    assert not [sentence for sentence in check_history(history).broken if "rolling restart" in sentence]


def test_every_bug_that_is_to_be_found_can_be_put_in() -> None:
    put_in = "from tests.faults.broken import BUGS; print(len([bug() for bug in BUGS.values()]))"
    done = subprocess.run(
        [sys.executable, "-c", put_in], cwd=_REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


@pytest.mark.parametrize(
    ("effects", "broken"),
    [
        (1, []),
        (2, ["m1 has had 2 effects at once-1"]),
        (0, ["once-1 acknowledged m1, which has had no effect"]),
    ],
)
def test_acknowledged_message_without_exactly_one_effect_is_found(effects: int, broken: list[str]) -> None:
    history = a_history()
    for status in (0, 200):
        history.receipts.append(a_receipt("m1", "one", 50, status=status, name="once-1"))
    history.effects = {"once-1 m1": effects, "once-1 m2": 1}
    assert list(once(history)) == broken


def test_stored_history_is_checked_again(tmp_path: Path) -> None:
    history, path = a_history(), tmp_path / "history"
    lose(history, "m3")
    history.keep(path)
    assert check_history(kept_in(path)) == check_history(history)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.checker", str(path)],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "never got m3" in done.stdout


@pytest.mark.parametrize(("restarted_at", "is_found"), [(150.2, False), (150.5, False), (151.0, True), (149.0, True)])
def test_worker_that_restarts_hands_over_its_cursors_and_may_get_them_back(
    restarted_at: float, *, is_found: bool
) -> None:
    history = a_history()
    for number, worker in enumerate((1, 2, 1)):
        history.receipts.append(a_receipt("m2", "two", 50, status=500, worker=worker))
        history.receipts[-1].came_at = 150.0 + number * 0.4
    history.faults = [Fault("restart", (), began=50, began_at=restarted_at, ended=51, ended_at=restarted_at + 0.5)]
    assert any("by turns" in sentence for sentence in check_history(history).broken) is is_found
