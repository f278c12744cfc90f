"""Leases of consumers end by the database's clock, whatever the wall clocks of workers show."""

import asyncio
from pathlib import Path

import pytest

from discue.control.pulls import LeasedMessage
from discue.domain.clock import DatabaseClock, SystemClock
from discue.store.store import Store
from tests.dispatch.stage import Stage
from tests.support.clocks import StandingClock
from tests.support.pull_consumers import LEASE_MS, pull_fixture
from tests.support.stores import ENGINES, WAITING_BYTES, opened_store

HOUR_MS = 3_600_000


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_worker_whose_clock_is_an_hour_ahead_leases_by_the_database_s_clock(
    runner: asyncio.Runner, engine: str, tmp_path: Path
) -> None:
    ahead = StandingClock(SystemClock().now() + HOUR_MS)
    with opened_store(runner, engine, tmp_path) as opened:
        store = Store(opened.engine, max_waiting_bytes=WAITING_BYTES, clock=DatabaseClock(ahead))
        stage = Stage(store, ahead)
        before = SystemClock().now()
        runner.run(store.poll(()))
        after = SystemClock().now()
        (leased,) = runner.run(_lease(stage))
        runner.run(stage.close())
    if engine == "sqlite":
        # A file has no clock of its own: its processes run on one machine.
        before = after = ahead.now()
    assert before <= leased.leased_until - LEASE_MS <= after


async def _lease(stage: Stage) -> list[LeasedMessage]:
    at = await pull_fixture(stage)
    await at.publish()
    return await at.pull(worker=at.worker(stage.store.clock))
