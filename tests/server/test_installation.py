"""Log lines about a failing store."""

import apsw
import pytest

from discue.observability.logs import Log
from discue.server.installation import StoreFailureLog
from tests.support.clocks import StandingClock


def _repeated(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [vars(record)["discue_fields"]["repeated"] for record in caplog.records]


def test_a_failure_that_lasts_is_told_once_in_a_while_with_how_often_it_was(caplog: pytest.LogCaptureFixture) -> None:
    clock = StandingClock()
    failures = StoreFailureLog(Log("test"), clock)
    for _ in range(50):
        failures.report("commit", apsw.FullError("database or disk is full"))
    assert _repeated(caplog) == [0]
    clock.advance(10_000)
    failures.report("commit", apsw.FullError("database or disk is full"))
    assert _repeated(caplog) == [0, 49]


def test_another_failure_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    failures = StoreFailureLog(Log("test"), StandingClock())
    failures.report("commit", apsw.FullError("database or disk is full"))
    failures.report("commit", apsw.BusyError("database is locked"))
    failures.report("read", apsw.FullError("database or disk is full"))
    assert _repeated(caplog) == [0, 0, 0]
