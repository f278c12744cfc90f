"""A night of runs names what it has not reached."""

from collections import Counter

import pytest

from tests.faults.history import Bounds, History, Published, Receipt, Registered
from tests.simulation import __main__ as runner
from tests.simulation import reached
from tests.simulation.plan import draw
from tests.simulation.run import Outcome, Prepared


def _receipt(message: str, body: str, status: int) -> Receipt:
    return Receipt("ordered-1", message, body, 0, "", 0.0, 1, 0.0, status)


def test_history_shows_a_repeat_a_failure_in_an_ordered_queue_and_an_unanswered_publish() -> None:
    history = History(Bounds(most_unrecorded=1, timeout_seconds=1.0))
    history.ordered.append("queue")
    history.listeners["ordered-1"] = Registered("queue", 1)
    history.publishes = [Published("queue", ("1",), 1), Published("queue", ("2",), 2, answered=3)]
    history.receipts = [_receipt("a", "1", 500), _receipt("a", "1", 200), _receipt("b", "2", 200)]
    assert reached.reached_by(history) == {
        "message that was sent again": 1,
        "ordered message that failed": 1,
        "publish of unknown outcome that was stored": 1,
    }


@pytest.mark.parametrize(("missing", "code"), [("", 0), ("failover", 1), ("lease that ran out", 1)])
def test_run_of_many_seeds_fails_and_names_a_situation_that_it_never_reached(
    missing: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Counter(dict.fromkeys(reached.EVERYTHING, 1))
    del found[missing]
    outcome = Outcome(draw(1), [], 300.0, 1.0, 1, "", 1, 1, found, [])
    monkeypatch.setattr(runner, "prepare", lambda: Prepared(b""))
    monkeypatch.setattr(runner, "run_all", lambda *_: iter([outcome]))
    assert runner.main(["--seeds", "999"]) == 0
    told = capsys.readouterr().out
    assert "Never reached" not in told
    assert "Virtual seconds per second of a processor: 300 in the median run, 300 in total." in told
    assert runner.main(["--seeds", "1000"]) == code
    assert (f"Never reached: {missing}." in capsys.readouterr().out) is bool(missing)
