"""The event loop with virtual time, and the guards around it."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.simulation.loop import BusyLoop, Deadlock, Host, OutOfTime, SimLoop
from tests.simulation.trace import Trace

_REPOSITORY = Path(__file__).parents[2]

_GUARDED = """
import os
import socket
import sys
from random import Random

from discue.domain.clock import SystemClock
from discue.store.sqlite.connection import SerialThread
from tests.simulation.guard import Leak, guard

guard(lambda: 0.0, Random(1))
for use in sys.argv[1:]:
    try:
        exec(use)
    except Leak as leak:
        print(leak)
"""


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    loop = SimLoop(Random(1), Trace(), shuffles=False)  # noqa: S311 - to be made again
    yield loop
    _end(loop)


def _end(loop: SimLoop) -> None:
    for task in asyncio.all_tasks(loop):
        # A simulation that ends early leaves tasks behind.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()


async def _forever() -> None:
    while True:  # noqa: ASYNC110 - it is a bug
        await asyncio.sleep(0)


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


def test_time_jumps_to_the_next_timer(loop: SimLoop) -> None:
    loop.run_until_complete(asyncio.sleep(3_600))
    assert loop.time() == 3_600


def test_callbacks_keep_their_order_and_tasks_may_overtake() -> None:
    orders = set()
    for seed in range(20):
        loop, seen = SimLoop(Random(seed), Trace(), shuffles=True), list[str]()  # noqa: S311 - to be made again

        async def note(name: str, seen: list[str]) -> None:
            seen.append(name)

        async def program(loop: SimLoop, seen: list[str]) -> None:
            for number in range(3):
                loop.call_soon(seen.append, f"callback {number}")
            await asyncio.gather(note("one", seen), note("other", seen))

        loop.run_until_complete(program(loop, seen))
        _end(loop)
        assert [each for each in seen if each.startswith("callback")] == ["callback 0", "callback 1", "callback 2"]
        orders.add(tuple(seen))
    assert len(orders) > 1


def test_deadlock_names_the_tasks_that_wait(loop: SimLoop) -> None:
    with pytest.raises(Deadlock, match=r"(?s)these tasks wait.*_never"):
        loop.run_until_complete(_never())


def test_busy_loop_is_an_error(loop: SimLoop) -> None:
    with pytest.raises(BusyLoop, match="50,000 steps at one moment"):
        loop.run_until_complete(_forever())


def test_run_that_takes_too_long_is_an_error(loop: SimLoop) -> None:
    loop.ends_at = 5
    with pytest.raises(OutOfTime):
        loop.run_until_complete(asyncio.sleep(6))


def test_thread_is_a_step(loop: SimLoop) -> None:
    async def program() -> int:
        return await asyncio.to_thread(lambda: 7)

    assert loop.run_until_complete(program()) == 7


def test_paused_host_goes_on_where_it_was_and_a_killed_one_does_not(loop: SimLoop) -> None:
    paused, killed, seen = Host("paused", "127.0.0.11"), Host("killed", "127.0.0.12"), list[str]()

    async def work(name: str) -> None:
        await asyncio.sleep(1)
        seen.append(f"{name} at {loop.time():g}")

    async def program() -> None:
        tasks = [loop.run_on(host, work(host.name)) for host in (paused, killed)]
        await asyncio.sleep(0.5)
        paused.is_paused = killed.is_down = True
        await asyncio.sleep(2)
        loop.resume(paused)
        await tasks[0]

    loop.run_until_complete(program())
    assert seen == ["paused at 2.5"]


def test_use_of_the_real_machine_is_a_leak() -> None:
    leaks = {
        "SystemClock().now()": "discue.domain.clock reads time.time_ns",
        "os.urandom(8)": "os.urandom is used",
        "SerialThread('writer')": "Thread.start is used",
        "socket.socket()": "socket.socket is used",
    }
    command = [sys.executable, "-c", _GUARDED, *leaks]
    found = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(found) == len(leaks)
    assert all(map(str.startswith, found, leaks.values())), found
