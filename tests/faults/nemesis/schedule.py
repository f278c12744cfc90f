"""Every kind of fault in random order, again and again, and at times two at once."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from tests.faults.nemesis import database, workers
from tests.faults.nemesis.field import Field

Strike = Callable[[Field], Coroutine[Any, Any, None]]

OF_A_WORKER: Sequence[Strike] = (
    workers.kill,
    workers.kill_two,
    workers.short_pause,
    workers.long_pause,
    workers.freeze,
    workers.freeze_between_steps,
    workers.freeze_with_locks,
    workers.freeze_after_start,
    workers.refuse,
)
OF_THE_DATABASE: Sequence[Strike] = (
    database.crash,
    database.kill,
    database.cut_connections,
    database.pause,
    database.slow_down,
    database.refuse_writing,
    database.fail_over,
    database.fail_over_after_cancelling,
    database.fail_over_after_a_restart,
    database.fail_over_from_one_that_hangs,
)
APART: Sequence[Strike] = (workers.clock_ahead, workers.clock_behind, workers.rolling_restart, workers.rolling_upgrade)
EVERY_KIND: Sequence[Strike] = (*OF_A_WORKER, *OF_THE_DATABASE, *APART)

_AT_ONCE_SHARE = 0.25
_AT_WORK = (2.0, 2.0)
"""In leases: before the first fault, so that everybody is at work."""
_RESTS = ((0.0, 0.0), (0.2, 1.0), (1.5, 2.0))
"""Pauses before the next fault, in leases: within or after the effects of the last fault."""


async def nothing(field: Field) -> None:
    """For what comes to light by itself."""
    await field.lasts(5, 5)


async def strike_for(field: Field, seconds: float, kinds: Sequence[Strike] = EVERY_KIND) -> None:
    """Go on for so long, and at least until every kind was there once. Returns when all are well again."""
    end = time.monotonic() + seconds
    await field.lasts(*_AT_WORK)
    strikes = _shuffled(field, kinds)
    for number, strike in enumerate(strikes, 1):
        await _strike(field, strike)
        if number >= len(kinds) and time.monotonic() > end:
            break
        await field.lasts(*field.random.choice(_RESTS))
    await field.calm()


def _shuffled(field: Field, kinds: Sequence[Strike]) -> Iterator[Strike]:
    while True:
        yield from field.random.sample(kinds, len(kinds))


async def _strike(field: Field, strike: Strike) -> None:
    strikes = [strike]
    if strike in OF_THE_DATABASE and field.random.random() < _AT_ONCE_SHARE:
        strikes.append(field.random.choice(OF_A_WORKER))
    async with asyncio.TaskGroup() as at_once:
        for each in strikes:
            at_once.create_task(each(field))
    await field.fleet.until_ready()
