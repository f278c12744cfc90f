"""A load that runs while somebody makes faults, the check of its history, and whether a seeded bug is found."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.faults.again import Again
from tests.faults.checker import CheckResult, check_history
from tests.faults.history import Bounds, History
from tests.faults.lives import Lives
from tests.faults.load import Load
from tests.faults.outages import PROBES_APART_SECONDS, Outages
from tests.faults.recorder import Recorder
from tests.faults.short_retention import ShortRetention
from tests.faults.timing import RUNS_APART_SECONDS, Timing
from tests.faults.topics import Topics

ALTERATIONS = {"runs": RUNS_APART_SECONDS, "probes": PROBES_APART_SECONDS}
"""How servers under this load differ, so that everything happens within seconds."""
MAX_IN_FLIGHT = 25
TIMEOUT_SECONDS = 5
_BEAT_SECONDS = 0.1
_STALL_SECONDS = 0.5
_SEEDS = (7, 8, 9, 10)


def new_seed() -> int:
    """Return the seed of random choices: `TORTURE_SEED`, or a random one."""
    given = os.environ.get("TORTURE_SEED")
    return int(given) if given else int.from_bytes(os.urandom(4))


async def under_load(tasks: "Sequence[asyncio.Future[None]]", work: Coroutine[Any, Any, None]) -> None:
    """Run `work` while the tasks run. A task that fails fails the run."""
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.wait([doing, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (doing, *tasks):
            if not task.done():
                task.cancel()
        results = await asyncio.gather(doing, *tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def run_under_load(
    load: Load,
    work: Coroutine[Any, Any, None],
    patience_seconds: float,
    *others: "asyncio.Future[None]",
) -> None:
    """Run `work` under everything that a load does, then let everything arrive. The checker names what does not."""
    again = Again(load)
    timing, short_retention = Timing(load), ShortRetention(load)
    more: list[Topics | Timing | Outages] = []
    if load.plan.has_more:
        more += Topics(load), timing, Outages(load)
    if load.plan.forgets:
        more.append(short_retention)
    for each in more:
        await each.prepare()
    tasks = [task for each in (load, Lives(load), again, *more) for task in each.tasks()]
    await under_load([*tasks, *others], work)
    # In a queue that blocks, each message that fails now would hold up its key until it is redelivered.
    load.is_gentle = True
    await again.until_everything_came(patience_seconds)
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_seconds):
            await load.recorder.settled.wait()
    await load.pull_what_is_left(patience_seconds)
    await timing.finish(patience_seconds)
    await short_retention.finish(patience_seconds)


async def watch_the_machine(recorder: Recorder, workers: Sequence[int]) -> None:
    """A machine that does not let this process run does not let the workers either: a fault, and nobody's."""
    loop = asyncio.get_running_loop()
    while True:
        due_at = loop.time() + _BEAT_SECONDS
        await asyncio.sleep(_BEAT_SECONDS)
        if loop.time() - due_at > _STALL_SECONDS:
            recorder.stalled(workers, loop.time() - due_at)


def checked(
    run: Callable[[History], Coroutine[Any, Any, None]], seed: int, within_seconds: float, *, is_broken: bool
) -> CheckResult:
    """Run and check the history. That of a failure is kept, unless a bug was seeded: then a failure is wanted."""
    # A request is in flight until its outcome is recorded.
    history = History(Bounds(most_unrecorded=MAX_IN_FLIGHT, timeout_seconds=TIMEOUT_SECONDS))
    try:
        asyncio.run(asyncio.wait_for(run(history), within_seconds))
    except BaseException as error:
        error.add_note(history.keep_for_later(seed))
        raise
    result = check_history(history)
    if result.broken and not is_broken:
        result.broken.append(history.keep_for_later(seed))
    return result


def assert_caught(folder: Path, symptoms: Sequence[str], run: Callable[[Path, int], CheckResult]) -> None:
    """`run` takes a folder of its own and a seed. `symptoms` are the words, one or others, in which the bug shows.

    Raises AssertionError with what all runs came to if none of them shows it.
    """
    seen = []
    for seed in _SEEDS:
        own = folder / str(seed)
        own.mkdir()
        result = run(own, seed)
        if any(symptom in sentence for sentence in result.broken for symptom in symptoms):
            return
        seen.append(f"{result.summary}: {result.broken}")
    raise AssertionError("\n".join(["the bug was not noticed:", *seen]))
