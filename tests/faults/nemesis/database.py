"""Faults of the database: it crashes, cuts everybody off, cannot write, or a standby takes over from its primary."""

import subprocess
import time
from asyncio import to_thread

from tests.faults.nemesis.field import Field
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.processes import children_of, lives
from tests.support.postgres.standby import Pair

_UNLIMITED = "unlimited"
_FULL_BYTES = "4096"
_PATIENCE_SECONDS = 10.0
_WAITING_SECONDS = 3.0
_BETWEEN_SECONDS = 0.05
_DELAYS_SECONDS = (0.02, 1.0)
_SHORTEST_SECONDS = 0.3
_LONGEST_SECONDS = 2.0


async def crash(field: Field) -> None:
    """`pg_ctl stop -m immediate`, and a start soon or a while after."""
    primary = field.pair.primary
    with field.fault_of_all("database crash"):
        await to_thread(primary.stop, "immediate")
        await field.lasts(0, field.random.choice((0, 1.5)))
        await to_thread(primary.start)


async def kill(field: Field) -> None:
    """SIGKILL of all its processes."""
    primary = field.pair.primary
    with field.fault_of_all("database kill"):
        await to_thread(primary.kill)
        await to_thread(primary.start)


async def cut_connections(field: Field) -> None:
    """Every connection ends at once: by the server's word, or by a reset from the network."""
    with field.fault_of_all("connections cut"):
        if field.random.random() < 0.5:
            await to_thread(field.pair.primary.disconnect_all)
        else:
            for worker in field.fleet.members:
                for link in worker.links:
                    await link.reset()


async def pause(field: Field) -> None:
    """SIGSTOP of all its processes: connections stand, nothing is answered, and then it goes on."""
    primary = field.pair.primary
    with field.fault_of_all("database pause"):
        await to_thread(primary.pause)
        try:
            await field.lasts(0.2, 1.5)
        finally:
            await to_thread(primary.resume)


async def slow_down(field: Field) -> None:
    """Each round trip takes up to a second: leases may be lost, and nothing else."""
    with field.fault_of_all("slow database"):
        seconds = field.random.uniform(*_DELAYS_SECONDS)
        links = [link for worker in field.fleet.members for link in worker.links]
        for link in links:
            link.delay_seconds = seconds
        try:
            await field.lasts(1, 3)
        finally:
            for link in links:
                link.delay_seconds = 0.0


async def refuse_writing(field: Field) -> None:
    """No process of the server can write beyond a file's first page, its log of writes included.

    What a full disk is to it, as far as one can be made without one: PostgreSQL takes it as an error of writing, ends
    itself, and cannot recover until there is room.
    """
    primary = field.pair.primary
    with field.fault_of_all("writing refused"):
        _limit_files(primary, _FULL_BYTES)
        await field.lasts(0.3, 1)
        await to_thread(_give_room, primary)


def _give_room(primary: Cluster) -> None:
    if primary.running:
        _limit_files(primary, _UNLIMITED)
        primary.stop("immediate")
    else:
        primary.kill()
    primary.start()


def _limit_files(primary: Cluster, most_bytes: str) -> None:
    """By the account that the server runs as: root may have lost the right to do that to others."""
    for pid in (primary.pid, *children_of(primary.pid)):
        done = subprocess.run(
            ["prlimit", "--pid", str(pid), f"--fsize={most_bytes}:"],
            **primary.programs.account.options,
            check=False,
            capture_output=True,
            timeout=_PATIENCE_SECONDS,
        )
        assert done.returncode == 0 or not lives(pid), f"process {pid} of the server could not be limited"


async def fail_over(field: Field) -> None:
    with field.fault_of_all("failover"):
        await to_thread(field.pair.fail_over)
    await field.lasts(0, 1)
    await to_thread(field.pair.rejoin)


async def fail_over_from_one_that_hangs(field: Field) -> None:
    """The primary stands still, and keeps its connections. While some wait for it, others find the next one."""
    with field.fault_of_all("failover from a hang") as fault:
        fault.blows += 1
        await to_thread(field.pair.primary.pause)
        await field.lasts(0, 0.5)
        former = await to_thread(field.pair.take_over)
        await field.lasts(0.5, 2)
        await to_thread(former.kill)
    await to_thread(field.pair.rejoin)


async def fail_over_after_cancelling(field: Field) -> None:
    """Commits wait for a standby that is gone, are cancelled in their wait, and are not on the next primary."""
    with field.fault_of_all("failover after cancelling") as fault:
        seconds = field.random.uniform(_SHORTEST_SECONDS, _LONGEST_SECONDS)
        fault.blows += await to_thread(_lose_commits, field.pair, seconds)
        await to_thread(field.pair.fail_over)
    await field.lasts(0, 1)
    await to_thread(field.pair.rejoin)


async def fail_over_after_a_restart(field: Field) -> None:
    """The primary crashes while commits wait for a standby that is gone, comes back with them, and dies."""
    with field.fault_of_all("failover after restart") as fault:
        fault.blows += 2
        await to_thread(_crash_with_commits, field.pair)
        await field.lasts(1, 2)
        await to_thread(field.pair.primary.kill)
        await to_thread(field.pair.standby.resume)
        await to_thread(field.pair.fail_over)
    await field.lasts(0, 1)
    await to_thread(field.pair.rejoin)


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
