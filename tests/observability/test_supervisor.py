import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from discue.domain.errors import StoreUnavailable
from discue.domain.reservations import FEW_ROWS
from discue.observability.logs import Log
from discue.observability.supervisor import Supervisor


class Rounds:
    """Work that fails at first, and reports when it has run often enough."""

    def __init__(self, failures: list[Exception], enough: int) -> None:
        self._failures = failures
        self._enough = enough
        self.done = 0
        self.finished = asyncio.Event()

    async def __call__(self) -> None:
        self.done += 1
        if self.done == self._enough:
            self.finished.set()
        if self._failures:
            raise self._failures.pop(0)


def _supervised(
    monkeypatch: pytest.MonkeyPatch, rounds: Callable[[], Rounds], seconds: float = 0.25
) -> tuple[Supervisor, list[float]]:
    """Run until the work is finished. Return the supervisor and its pauses."""
    pauses: list[float] = []
    sleep, own_thread = asyncio.sleep, threading.get_ident()

    def recorded(seconds: float) -> Awaitable[None]:
        # Services of other tests may run on other threads of this process: they sleep as long as they mean to.
        if threading.get_ident() != own_thread:
            return sleep(seconds)
        pauses.append(seconds)
        return sleep(0)

    async def run() -> Supervisor:
        monkeypatch.setattr(asyncio, "sleep", recorded)
        supervisor = Supervisor(Log("test"))
        work = rounds()
        supervisor.every(seconds, "work", work, reads=FEW_ROWS)
        await work.finished.wait()
        await supervisor.stop()
        return supervisor

    return asyncio.run(run()), pauses


def test_work_is_repeated_until_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor, pauses = _supervised(monkeypatch, lambda: Rounds([], 5))
    assert pauses[:4] == [0.25] * 4
    assert supervisor.failures == {"work": 0}
    assert all(task.done() for task in supervisor._tasks)


def test_failed_work_is_counted_logged_and_retried_with_backoff(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception] = [LookupError("one"), LookupError("two")] * 4
    supervisor, pauses = _supervised(monkeypatch, lambda: Rounds(failures, 10))
    assert supervisor.failures == {"work": 8}
    assert pauses[:9] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 0.25]
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 8


def test_unavailable_store_is_not_counted_as_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supervisor, pauses = _supervised(monkeypatch, lambda: Rounds([StoreUnavailable(), StoreUnavailable()], 4))
    assert supervisor.failures == {"work": 0}
    assert pauses[:3] == [0.5, 1.0, 0.25]


def test_work_without_an_interval_backs_off_while_the_store_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Exception] = [StoreUnavailable() for _ in range(9)]
    _, pauses = _supervised(monkeypatch, lambda: Rounds(failures, 11), seconds=0)
    assert pauses[:10] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 0]
