"""The database crashes, cuts everybody off, or cannot write."""

import subprocess

from tests.faults.nemesis.field import Field
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.processes import children_of, lives

_UNLIMITED = "unlimited"
_FULL_BYTES = "4096"
_PATIENCE_SECONDS = 10.0


async def crash(field: Field) -> None:
    """`pg_ctl stop -m immediate`, and a start soon or a while after."""
    primary = field.pair.primary
    with field.fault_of_all("database crash"):
        await field.blocking(primary.stop, "immediate")
        await field.lasts(0, field.random.choice((0, 1.5)))
        await field.blocking(primary.start)


async def kill(field: Field) -> None:
    """SIGKILL of all its processes."""
    primary = field.pair.primary
    with field.fault_of_all("database kill"):
        await field.blocking(primary.kill)
        await field.blocking(primary.start)


async def cut_connections(field: Field) -> None:
    """Every connection ends at once: by the server's word, or by a reset from the network."""
    with field.fault_of_all("connections cut"):
        if field.random.random() < 0.5:
            await field.blocking(field.pair.primary.disconnect_all)
        else:
            for worker in field.fleet.members:
                for link in worker.links:
                    await link.reset()


async def pause(field: Field) -> None:
    """SIGSTOP of all its processes: connections stand, nothing is answered, and then it goes on."""
    primary = field.pair.primary
    with field.fault_of_all("database pause"):
        await field.blocking(primary.pause)
        try:
            await field.lasts(0.2, 1.5)
        finally:
            await field.blocking(primary.resume)


async def refuse_writing(field: Field) -> None:
    """No process of the server can write beyond a file's first page, its log of writes included.

    What a full disk is to it, as far as one can be made without one: PostgreSQL takes it as an error of writing, ends
    itself, and cannot recover until there is room.
    """
    primary = field.pair.primary
    with field.fault_of_all("writing refused"):
        _limit_files(primary, _FULL_BYTES)
        await field.lasts(0.3, 1)
        await field.blocking(_give_room, primary)


def _give_room(primary: Cluster) -> None:
    if primary.running:
        _limit_files(primary, _UNLIMITED)
        primary.stop("immediate")
    else:
        primary.kill()
    primary.start()


def _limit_files(primary: Cluster, most_bytes: str) -> None:
    """By the account that the server runs as: root may have lost the right to do that to others."""
    account = primary.programs.account
    for pid in (primary.pid, *children_of(primary.pid)):
        done = subprocess.run(
            ["prlimit", "--pid", str(pid), f"--fsize={most_bytes}:"],
            user=account.user,
            group=account.group,
            extra_groups=account.extra_groups,
            check=False,
            capture_output=True,
            timeout=_PATIENCE_SECONDS,
        )
        assert done.returncode == 0 or not lives(pid), f"process {pid} of the server could not be limited"
