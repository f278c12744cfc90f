"""PostgreSQL on a disk that is full: on a small file system of its own, where we may mount one."""

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.client import Client
from tests.faults.fleet import Fleet, fleet_of
from tests.faults.receiver import Receiver
from tests.faults.test_disk import publish_again, refused_for_now
from tests.support.postgres.cluster import Cluster

_DISK_BYTES = 160 << 20
_PATIENCE_SECONDS = 10.0
_PIECE = bytes(1 << 16)
_LARGE = "x" * 60_000
_AT_ONCE = 20


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A small file system that PostgreSQL's account can use."""
    with tempfile.TemporaryDirectory() as name:
        disk = Path(name)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES},mode=755", "tmpfs", name]
        try:
            subprocess.run(mount, check=True, capture_output=True, timeout=_PATIENCE_SECONDS)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no file system may be mounted here")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", name], check=True, timeout=_PATIENCE_SECONDS)


def fill(disk: Path) -> Path:
    """A file that takes all room there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(_PIECE)
    return ballast


async def publish_until_refused(client: Client, queue: str) -> list[str]:
    """The ids of what was confirmed."""
    confirmed: list[str] = []
    while True:
        batch = {"messages": [{"data": _LARGE}] * _AT_ONCE}
        answer = await client.ask("POST", f"/queues/{queue}/messages/batch", batch)
        if answer.status != 200:
            refused_for_now(answer)
            return confirmed
        confirmed += [message["id"] for message in answer.body["messages"]]


@pytest.mark.torture
async def test_a_disk_that_is_full_loses_nothing_and_service_goes_on_when_there_is_room(
    tmp_path: Path, small_disk: Path
) -> None:
    with Cluster(small_disk / "postgres", settings={"max_wal_size": "64MB"}) as cluster:
        cluster.create_database("full")
        fleet = Fleet(tmp_path, [cluster.port], "full", workers=2, lease_seconds=2)
        async with Receiver() as receiver, fleet_of(fleet):
            client = fleet.client_of(0)
            queue = await client.queue(receiver.url("steady"))
            ballast = await asyncio.to_thread(fill, small_disk)
            confirmed = await publish_until_refused(client, queue)
            refused_for_now(await client.ask("POST", f"/queues/{queue}/messages", {"data": _LARGE}))
            assert "No space left on device" in cluster.log
            ballast.unlink()
            if not cluster.running:
                await asyncio.to_thread(cluster.kill)
                await asyncio.to_thread(cluster.start)
            await fleet.until_ready()
            confirmed.append(await publish_again(client, queue, "room again"))
            await receiver.until(receiver.has_all(confirmed, "steady"))
            await fleet.stop()
