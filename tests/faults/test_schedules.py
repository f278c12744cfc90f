"""Servers that die while many schedules run: each run has exactly one message."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from discue.domain.headers import SCHEDULE_HEADER, SCHEDULED_AT_HEADER
from tests.faults.altered import WrongClock
from tests.faults.client import Client, Lost
from tests.faults.logs import Stored, stored_in
from tests.faults.product import running
from tests.faults.receiver import Receiver

_SCHEDULES = 30
_FROM_RUN_TO_RUN_MS = 60_000
_JUMP_MS = 3_600_000
_RECEIPTS_BEFORE_A_KILL = (1, 700)
_LEASE_SECONDS = 2
_LONGEST_SECONDS = 60
_APART_SECONDS = 0.05


def broken(first_runs: Mapping[str, int], last_at: int, stored: Iterable[Stored]) -> Iterator[str]:
    """Runs of schedules, one each minute from the first to `last_at`, that have no message or more than one."""
    runs: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for each in stored:
        headers = dict(each.headers)
        runs[headers[SCHEDULE_HEADER]][int(headers[SCHEDULED_AT_HEADER])] += 1
    for schedule, first_at in first_runs.items():
        for run_at in range(first_at, last_at, _FROM_RUN_TO_RUN_MS):
            if runs[schedule][run_at] != 1:
                yield f"{schedule} has {runs[schedule][run_at]} messages of its run at {run_at}"
        for run_at in runs[schedule]:
            if (run_at - first_at) % _FROM_RUN_TO_RUN_MS or run_at < first_at:
                yield f"{schedule} has a message of {run_at}, which is no run"


async def _schedules(client: Client, queue: str) -> dict[str, int]:
    """Create schedules. Returns the time of the first run by id."""
    fields: dict[str, Any] = {"cron": "* * * * *", "data": "x", "missed_runs": "catch_up", "catch_up_limit": 100}
    made = [await client.create(f"/queues/{queue}/schedules", fields) for _ in range(_SCHEDULES)]
    return {each["id"]: each["next_runs"][0] for each in made}


async def _until_they_ran(client: Client, queue: str, schedules: Iterable[str], until: int) -> None:
    for schedule in schedules:
        while True:
            with suppress(Lost):
                answer = await client.ask("GET", f"/queues/{queue}/schedules/{schedule}")
                if answer.status == 200 and answer.body["schedule"]["next_runs"][0] > until:
                    break
            await asyncio.sleep(_APART_SECONDS)


async def test_each_run_of_a_schedule_has_one_message_whatever_dies(tmp_path: Path, database: str) -> None:
    clock = WrongClock(tmp_path / "clock")
    command = ("-m", "tests.faults.altered", f"clock={clock.path}")
    async with (
        Receiver() as receiver,
        asyncio.timeout(_LONGEST_SECONDS),
        running(tmp_path, database, command=command, lease_seconds=_LEASE_SECONDS) as products,
    ):
        clients = [product.client() for product in products]
        queue = await clients[0].queue(receiver.url("steady"))
        first_runs = await _schedules(clients[0], queue)
        for number, receipts in enumerate(_RECEIPTS_BEFORE_A_KILL):
            clock.set(clock.ahead_ms + _JUMP_MS)
            await receiver.until_more(receipts)
            died, asked = number % len(products), (number + 1) % len(products)
            await products[died].kill()
            if died == asked:
                await products[died].start()
            await _until_they_ran(clients[asked], queue, first_runs, time.time_ns() // 1_000_000 + clock.ahead_ms)
            if died != asked:
                await products[died].start()
        for product in products:
            assert await product.stop() == 0, "".join(product.lines)
        stored = await stored_in(database)
    assert list(broken(first_runs, max(_runs_of(stored)), stored)) == []
    assert len(stored) >= _SCHEDULES * len(_RECEIPTS_BEFORE_A_KILL) * _JUMP_MS // _FROM_RUN_TO_RUN_MS


def _runs_of(stored: Iterable[Stored]) -> Iterator[int]:
    for each in stored:
        yield int(dict(each.headers)[SCHEDULED_AT_HEADER])


@pytest.mark.parametrize(
    ("runs", "sentence"),
    [
        ((60_000, 120_000), "s has 0 messages of its run at 180000"),
        ((60_000, 120_000, 120_000, 180_000), "s has 2 messages of its run at 120000"),
        ((60_000, 120_000, 150_000, 180_000), "s has a message of 150000, which is no run"),
        ((0, 60_000, 120_000, 180_000), "s has a message of 0, which is no run"),
    ],
)
def test_checker_finds_broken_promises(runs: tuple[int, ...], sentence: str) -> None:
    stored = [
        Stored("q", str(run_at), "x", ((SCHEDULE_HEADER, "s"), (SCHEDULED_AT_HEADER, str(run_at)))) for run_at in runs
    ]
    assert list(broken({"s": 60_000}, 180_001, stored)) == [sentence]
