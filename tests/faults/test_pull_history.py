"""The checker finds each broken promise about pull in a doctored history."""

import pytest

from tests.faults.checker import check_history
from tests.faults.history import Bounds, Counts, Fault, HandedOut, History, Log, LostPull, Published, Pulling, Wish
from tests.faults.test_history import Doctor, assert_found, change

EPOCH = 1_750_000_000.0


def handed(message: str, body: str, at: float, said: str, *, state: str) -> HandedOut:
    """Asked for at an instant, got a tenth of a second later for three seconds; something is said soon afterwards."""
    came_at = at + 0.1
    return HandedOut(
        listener="l",
        message=message,
        body=body,
        receipt=f"{message}-{at}",
        sent=int(at),
        sent_at=at,
        came_at=came_at,
        leased_until=came_at + 3,
        said=said,
        said_at=came_at + 0.5 if said else 0.0,
        state=state,
        answered_at=came_at + 0.6 if said else 0.0,
    )


def a_history() -> History:
    """Two messages of a key; the lease of the first runs out once, the second is rejected once."""
    history = History(Bounds(most_unrecorded=1, timeout_seconds=5), epoch=EPOCH)
    history.ordered = ["q"]
    history.pulling = [Pulling("q", 1, 2, "l", counts=Counts(2, 0, 0, start_seq=0))]
    history.publishes = [
        Published("q", ("one",), 10, 11, ("m1",), 110.0, (Wish("a"),)),
        Published("q", ("two",), 12, 13, ("m2",), 112.0, (Wish("a"),)),
        Published("other", ("theirs",), 14, 15, ("m3",), 114.0),
    ]
    history.handed_out = [
        handed("m1", "one", 120.0, "", state=""),
        handed("m1", "one", 124.0, "acknowledge", state="acknowledged"),
        handed("m2", "two", 126.0, "reject", state="rejected"),
        handed("m2", "two", 128.0, "acknowledge", state="acknowledged"),
    ]
    history.logs = {"q": Log(2, ("m1", "m2"))}
    return history


def test_a_history_without_faults_is_found_without() -> None:
    assert check_history(a_history()).broken == []


BROKEN: dict[str, tuple[Doctor, str]] = {
    "loses a message": (lambda h: change(h, handed_out=h.handed_out[:2]), "never got m2 to the end"),
    "leases a message twice": (
        lambda h: h.handed_out.insert(1, handed("m1", "one", 121.0, "", state="")),
        "m1 was handed out while m1 was leased to somebody else",
    ),
    "leases an acknowledged message": (
        lambda h: h.handed_out.append(handed("m1", "one", 140.0, "release", state="released")),
        "m1 was handed out again",
    ),
    "leases a message before its turn": (
        lambda h: h.handed_out.insert(0, handed("m2", "two", 115.0, "", state="")),
        "before m1 was acknowledged, which comes before it in its key",
    ),
    "leases a message of another queue": (
        lambda h: h.handed_out.append(handed("m3", "theirs", 140.0, "", state="")),
        "a message never published to its queue",
    ),
    "leases a message from before the listener": (
        lambda h: change(h.pulling[0], sent=12),
        "which was answered before there was a listener",
    ),
    "loses a count": (lambda h: change(h.pulling[0], counts=Counts(1, 0, 0, start_seq=0)), "do not add up to the log"),
    "leaves a message waiting": (
        lambda h: change(h.pulling[0], counts=Counts(1, 1, 0, start_seq=0)),
        "1 messages still wait",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_promise_that_was_broken_is_found(name: str) -> None:
    assert_found(a_history(), *BROKEN[name])


def lost_to_a_clock(*, most: int = 1, is_ordered: bool = True, ahead_seconds: float = 3_600.0) -> History:
    """The first message is leased by a clock that is ahead, and its receipt lost; the second one waits for its key."""
    history = a_history()
    change(history, handed_out=history.handed_out[:1])
    change(history.pulling[0], counts=Counts(0, 2, 0, start_seq=0), lost=[LostPull(most, 123.0, 127.0)])
    history.ordered = ["q"] if is_ordered else []
    history.faults = [
        Fault("clock ahead", (), began=20, began_at=125.0, ended=30, ended_at=128.0, ahead_seconds=ahead_seconds)
    ]
    return history


def test_messages_may_wait_for_a_lost_lease_by_a_clock_that_was_ahead() -> None:
    assert check_history(lost_to_a_clock()).broken == []
    assert check_history(lost_to_a_clock(most=2, is_ordered=False)).broken == []


BROKEN_IN_SPITE_OF_A_CLOCK: dict[str, tuple[History, Doctor, str]] = {
    "loses more than the pull asked for": (lost_to_a_clock(is_ordered=False), lambda _: None, "never got m2"),
    "leaves more waiting than the pull asked for": (lost_to_a_clock(is_ordered=False), lambda _: None, "2 messages"),
    "loses a message without a lost pull": (lost_to_a_clock(), lambda h: h.pulling[0].lost.clear(), "never got m1"),
    "loses a message by a right clock": (lost_to_a_clock(), lambda h: h.faults.clear(), "never got m1"),
    "loses a message whose lease ended": (
        lost_to_a_clock(ahead_seconds=20.0),
        lambda h: h.handed_out.append(handed("m3", "theirs", 150.0, "", state="")),
        "never got m1",
    ),
    "loses a message before the clock was ahead": (
        lost_to_a_clock(),
        lambda h: change(h.faults[0], began_at=128.5, ended_at=140.0),
        "never got m1",
    ),
    "loses a message after the clock was ahead": (
        lost_to_a_clock(),
        lambda h: change(h.faults[0], began_at=120.0, ended_at=122.5),
        "never got m1",
    ),
    "loses a message that was handed out later": (
        lost_to_a_clock(is_ordered=False),
        lambda h: h.handed_out.append(handed("m1", "one", 140.0, "", state="")),
        "never got m1",
    ),
    "loses a message of another key": (
        lost_to_a_clock(),
        lambda h: change(h.publishes[1], wishes=(Wish("b"),)),
        "never got m2",
    ),
    "loses a message from after the pull": (
        lost_to_a_clock(most=2, is_ordered=False),
        lambda h: change(h.publishes[1], answered_at=129.0),
        "never got m2",
    ),
}


@pytest.mark.parametrize("name", BROKEN_IN_SPITE_OF_A_CLOCK)
def test_a_clock_that_was_ahead_excuses_nothing_else(name: str) -> None:
    assert_found(*BROKEN_IN_SPITE_OF_A_CLOCK[name])
