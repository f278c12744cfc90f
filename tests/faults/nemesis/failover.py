"""The primary dies and its standby takes over; then there is another standby, for the next time."""

import time

from tests.faults.nemesis.field import Field
from tests.support.postgres.standby import Pair

_WAITING_SECONDS = 3.0
_BETWEEN_SECONDS = 0.05
_SHORTEST_SECONDS = 0.3
_LONGEST_SECONDS = 2.0


async def fail_over(field: Field) -> None:
    with field.fault_of_all("failover"):
        await field.blocking(field.pair.fail_over)
    await field.lasts(0, 1)
    await field.blocking(field.pair.rejoin)


async def fail_over_from_one_that_hangs(field: Field) -> None:
    """The primary stands still, and keeps its connections. While some wait for it, others find the next one."""
    with field.fault_of_all("failover from a hang") as fault:
        fault.blows += 1
        await field.blocking(field.pair.primary.pause)
        await field.lasts(0, 0.5)
        former = await field.blocking(field.pair.take_over)
        await field.lasts(0.5, 2)
        await field.blocking(former.kill)
    await field.blocking(field.pair.rejoin)


async def fail_over_after_cancelling(field: Field) -> None:
    """Commits wait for a standby that is gone, are cancelled in their wait, and are not on the next primary."""
    with field.fault_of_all("failover after cancelling") as fault:
        seconds = field.random.uniform(_SHORTEST_SECONDS, _LONGEST_SECONDS)
        fault.blows += await field.blocking(_lose_commits, field.pair, seconds)
        await field.blocking(field.pair.fail_over)
    await field.lasts(0, 1)
    await field.blocking(field.pair.rejoin)


async def fail_over_after_a_restart(field: Field) -> None:
    """The primary crashes while commits wait for a standby that is gone, comes back with them, and dies."""
    with field.fault_of_all("failover after restart") as fault:
        fault.blows += 2
        await field.blocking(_crash_with_commits, field.pair)
        await field.lasts(1, 2)
        await field.blocking(field.pair.primary.kill)
        await field.blocking(field.pair.standby.resume)
        await field.blocking(field.pair.fail_over)
    await field.lasts(0, 1)
    await field.blocking(field.pair.rejoin)


def _crash_with_commits(pair: Pair) -> None:
    _leave_alone(pair)
    pair.primary.restart("immediate")


def _leave_alone(pair: Pair) -> None:
    """The standby stands still before anything is sent, so that not even its network has it. Some commits wait then."""
    pair.standby.pause()
    pair.primary.run_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
    until = time.monotonic() + _WAITING_SECONDS
    while not pair.primary.waiting_commits() and time.monotonic() < until:
        time.sleep(_BETWEEN_SECONDS)


def _lose_commits(pair: Pair, seconds: float) -> int:
    """How often some were cancelled."""
    cancelled = 0
    try:
        _leave_alone(pair)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            cancelled += pair.primary.cancel_waiting_commits() > 0
            time.sleep(_BETWEEN_SECONDS)
        pair.primary.kill()
    finally:
        pair.standby.resume()
    return cancelled
