"""When users do something, and how much. The torture keeps a machine busy; here each second costs what happens in it.

In most plans, users do something in bursts: around faults, and now and then. In between, retries, leases, probes and
schedules go on alone.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final

from discue.domain import listener_health
from tests.faults import again, consumers, lives, outages, short_retention, timing, topics
from tests.faults import load as loads
from tests.faults.altered import retry_after, run_every
from tests.faults.broken import put
from tests.faults.history import Rate
from tests.simulation.plan import SimPlan

_BURST_SECONDS: Final = (0.3, 1.5)
_BEFORE_A_FAULT_SHARE: Final = 0.6
"""The share of faults that meet users who have just begun to do something."""
_AFTER_A_FAULT_SHARE: Final = 0.3
"""The share of faults after which users do something at once."""

Change = tuple[Any, str, Any]
"""A module, a name in it, and its value."""

_PAUSES: Final[Sequence[Change]] = (
    (loads, "_KEYED_APART_SECONDS", 2.5),
    (consumers, "_APART_SECONDS", 0.5),
    (outages, "_APART_SECONDS", 2.0),
    (timing, "_APART_SECONDS", 2.0),
    (topics, "_APART_SECONDS", 2.0),
    (short_retention, "_APART_SECONDS", 0.5),
    (loads, "_BURSTS_APART_SECONDS", 26.0),
    (lives, "_PROBES_APART_SECONDS", 0.5),
    (lives, "_REST_SECONDS", 8.0),
)
"""The pauses between what users do, in a plan without slowness."""
_SPARSE: Final[Sequence[Change]] = (
    (loads, "_EVENTS_OF_A_LIFE", 60),
    (loads, "_AGAIN_SECONDS", 0.5),
    (loads, "_REQUESTS_APART_SECONDS", 0.5),
    (loads, "_STRAGGLERS", 6),
    (outages, "_REQUESTS_APART_SECONDS", 1.0),
    (again, "_REQUESTS_APART_SECONDS", 0.5),
    (lives, "_PROBES", 6),
    (listener_health, "PROBE_INTERVAL_MS", 1_000),
    (listener_health, "RECOVERY_INTERVAL_MS", 1_000),
)
_IN_BURSTS: Final[Sequence[Change]] = (
    (loads, "_BATCH", 5),
    (loads, "_EVENTS_OF_A_LIFE", 120),
    (loads, "_FLAKY_SHARE", 4),
    (loads, "_ABRUPT_SHARE", 8),
    (loads, "_STRAGGLERS", 3),
    # On the slowest network, a request takes 2.4 s more, and must end before its timeout.
    (loads, "_STRAGGLER_SECONDS", 2.0),
    (loads, "_AILING_RETRY_SECONDS", 5),
    (loads, "_BURST", 12),
    (loads, "_RATE", Rate(per_second=0.5, burst=6)),
    (loads, "_REQUESTS_APART_SECONDS", 4.0),
    (again, "_REQUESTS_APART_SECONDS", 4.0),
    (again, "_REDELIVERIES_APART_SECONDS", 10.0),
    (outages, "_REQUESTS_APART_SECONDS", 6.0),
    (outages, "_UP_SECONDS", (5.0, 40.0)),
    (outages, "_INACTIVE_SECONDS", (5.0, 30.0)),
    (outages, "_LONGEST_SECONDS", 90.0),
    (timing, "_LOOKS", 3),
    (timing, "_REQUESTS_APART_SECONDS", 12.0),
    (timing, "RUNS_APART_SECONDS", 8),
    (lives, "_PROBES", 2),
    (lives, "_PROBES_APART_SECONDS", 2.0),
    (lives, "_REST_SECONDS", 40.0),
    (listener_health, "PROBE_INTERVAL_MS", 10_000),
    (listener_health, "RECOVERY_INTERVAL_MS", 5_000),
)
"""Changes in a plan whose users rest: fewer messages, of which more fail, and longer waits."""
_RETRIES: Final = "1,2,3,5,8,13,20,20,20,20"
"""The seconds between attempts: nothing may wait for longer than the users do at the end."""
_QUIET_RETRIES: Final = "1,4,15,40,60,60,60,60,60,60"


def make_sparse(plan: SimPlan) -> None:
    """Make the users of this process do less in a second, and with slowness even less."""
    is_in_bursts = plan.quiet_seconds > 0
    pauses = [(place, name, pause * plan.slowness) for place, name, pause in _PAUSES]
    for place, name, value in (*_SPARSE, *pauses, *(_IN_BURSTS if is_in_bursts else ())):
        put(place, name, value)
    run_every(str(timing.RUNS_APART_SECONDS))
    retry_after(_QUIET_RETRIES if is_in_bursts else _RETRIES)


class Rhythm:
    """Wakes the users for a few seconds, and lets them rest for longer. `awake` is set while they do something."""

    def __init__(self, quiet_seconds: float, choices: Random) -> None:
        """Users rest for `quiet_seconds` on average; 0: they never do."""
        self.awake = asyncio.Event()
        self._quiet_seconds = quiet_seconds
        self._random = choices
        self._wanted = asyncio.Event()
        self.awake.set()

    def tasks(self) -> "list[asyncio.Future[None]]":
        """Start the task that wakes the users, if they ever rest."""
        return [asyncio.ensure_future(self._go_on())] if self._quiet_seconds else []

    def wake(self) -> None:
        """Wake the users if they rest."""
        self._wanted.set()

    async def before_a_fault(self) -> None:
        """Wake the users, mostly, and wait until some of them are in the middle of something."""
        if self._quiet_seconds and self._random.random() < _BEFORE_A_FAULT_SHARE:
            self.wake()
            await asyncio.sleep(self._random.uniform(0, _BURST_SECONDS[1]))

    def after_a_fault(self) -> None:
        """Wake the users, at times."""
        if self._quiet_seconds and self._random.random() < _AFTER_A_FAULT_SHARE:
            self.wake()

    async def _go_on(self) -> None:
        while True:
            self._wanted.clear()
            self.awake.set()
            await asyncio.sleep(self._random.uniform(*_BURST_SECONDS))
            self.awake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._random.expovariate(1 / self._quiet_seconds)):
                    await self._wanted.wait()
