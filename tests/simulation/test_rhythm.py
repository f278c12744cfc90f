"""Users rest between bursts, and a fault finds them awake."""

import asyncio
from random import Random

from tests.simulation.loop import SimLoop
from tests.simulation.rhythm import Rhythm
from tests.simulation.trace import Trace


def _run(quiet_seconds: float, *, faults: bool) -> float:
    """Return the share of 1,000 moments, 10 s apart or at a fault, at which users are awake."""
    loop = SimLoop(Random(1), Trace(), shuffles=False)  # noqa: S311 - to be made again

    async def program() -> float:
        rhythm = Rhythm(quiet_seconds, Random(2))  # noqa: S311 - as above
        tasks, awake = rhythm.tasks(), 0
        for _ in range(1_000):
            await asyncio.sleep(10)
            if faults:
                rhythm.wake()
                await asyncio.sleep(0.01)
            awake += rhythm.awake.is_set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return awake / 1_000

    share: float = loop.run_until_complete(program())
    loop.close()
    return share


def test_users_rest_most_of_the_time() -> None:
    assert 0 < _run(60.0, faults=False) < 0.05


def test_fault_finds_users_awake() -> None:
    assert _run(60.0, faults=True) == 1


def test_users_without_quiet_seconds_never_rest() -> None:
    assert _run(0.0, faults=False) == 1
