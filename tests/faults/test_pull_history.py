"""The checker finds each broken promise about pull in a doctored history."""

import pytest

from tests.faults.checker import check_history
from tests.faults.history import Bounds, Counts, DeliveryOptions, Fault, HandedOut, History, Log, Published, Pulling
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
        Published("q", ("one",), 10, 11, ("m1",), 110.0, (DeliveryOptions("a"),)),
        Published("q", ("two",), 12, 13, ("m2",), 112.0, (DeliveryOptions("a"),)),
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


@pytest.mark.parametrize(
    ("kind", "workers", "is_excused"),
    [("clock ahead", (), False), ("clock ahead", (0,), True), ("database clock", (0, 1), True)],
)
def test_only_the_clock_of_the_database_excuses_a_message_that_is_leased_twice(
    kind: str, workers: tuple[int, ...], *, is_excused: bool
) -> None:
    history = a_history()
    history.handed_out.insert(1, handed("m1", "one", 121.0, "", state=""))
    history.faults = [Fault(kind, workers, began=20, began_at=119.0, ended=30, ended_at=120.0)]
    assert bool(check_history(history).broken) is not is_excused
