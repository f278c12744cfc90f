"""A server on SQLite, in one or several processes, that is killed repeatedly under load."""

import asyncio
import os
import random
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from tests.faults.final_state import read_final_state
from tests.faults.history import History
from tests.faults.load import Load
from tests.faults.plan import LoadPlan
from tests.faults.product import Product
from tests.faults.receiver import Receiver
from tests.faults.recorder import Recorder
from tests.faults.running import ALTERATIONS, MAX_IN_FLIGHT, TIMEOUT_SECONDS, run_under_load
from tests.support.postgres.processes import children_of

_MOST_OWED = 2_000
_QUIET_SECONDS = 10.0
_ONE_OF_SEVERAL_SHARE = 0.7
SOON = ((0, 30), (300, 3_000))
_LATER = (3_000, 8_000)


class Plan(msgspec.Struct, frozen=True):
    """How a run goes. The same seed makes the same choices; what they meet differs."""

    kills: int
    seed: int
    load: LoadPlan = LoadPlan()
    workers: int = 1
    patience_seconds: float = 40.0
    moments: Sequence[tuple[int, int]] = (*SOON, _LATER)
    """Ranges of events after which a kill comes, each as likely as the others."""
    down_seconds: float = 0.0
    """Time after a kill before the server is started again."""
    bug: str = ""


async def torture(folder: Path, plan: Plan, history: History) -> None:
    """Kill the server so many times, let everything arrive, and end it in good order; `history` tells all of it."""
    alterations = [f"{name}={value}" for name, value in (*ALTERATIONS.items(), ("bug", plan.bug)) if value]
    product = Product(
        folder,
        command=("-m", "tests.faults.altered", *alterations),
        workers=plan.workers,
        listener_max_in_flight=MAX_IN_FLIGHT,
        delivery_timeout_seconds=TIMEOUT_SECONDS,
    )
    choices = random.Random(plan.seed)  # noqa: S311 - choices that can be made again
    recorder = Recorder(history, _MOST_OWED)
    load = Load(plan.load, product, recorder, choices)
    async with Receiver(load.respond, load.probed, keep=False) as receiver, product:
        await load.prepare(receiver.url)
        killer = _Killer(plan, product, recorder, choices)
        await run_under_load(load, killer.kill_all(), plan.patience_seconds)
        assert await product.stop() == 0, "".join(product.lines)
    await read_final_state(f"sqlite:///{product.database}", history)


class _Killer:
    def __init__(self, plan: Plan, product: Product, recorder: Recorder, choices: random.Random) -> None:
        self._plan = plan
        self._product = product
        self._recorder = recorder
        self._random = choices

    async def kill_all(self) -> None:
        for _ in range(self._plan.kills):
            await self._wait_for_the_moment()
            if self._plan.workers > 1 and self._random.random() < _ONE_OF_SEVERAL_SHARE:
                self._kill_one()
            else:
                await self._kill_and_start()
        await self._wait_for_the_moment()

    async def _kill_and_start(self) -> None:
        await self._kill()
        if self._random.random() < 0.2:
            await self._kill_while_starting()
        await self._product.start()

    async def _wait_for_the_moment(self) -> None:
        """Some kills come soon after the start, some later: counted in events, so that load goes on meanwhile."""
        events = self._random.randrange(*self._random.choice(self._plan.moments))
        with suppress(TimeoutError):
            async with asyncio.timeout(_QUIET_SECONDS):
                await self._recorder.until_more(events)

    async def _kill_while_starting(self) -> None:
        await self._product.begin()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._random.uniform(0.05, 0.5)):
                await self._product.ready()
        await self._kill()

    async def _kill(self) -> None:
        """Kill the server. Of several processes only the parent is killed: the others notice it and exit."""
        with self._recorder.fault("kill"):
            await self._product.kill()
            await asyncio.sleep(self._plan.down_seconds)

    def _kill_one(self) -> None:
        """Kill one worker process. Its parent starts another."""
        children = children_of(self._product.pid)
        if children:
            with self._recorder.fault("kill of one"), suppress(ProcessLookupError):
                os.kill(self._random.choice(sorted(children)), signal.SIGKILL)
