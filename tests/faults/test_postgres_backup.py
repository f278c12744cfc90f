"""Recovery of PostgreSQL to a moment, by a base backup and archived WAL, as the documentation says."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.client import Client
from tests.faults.product import Product
from tests.faults.receiver import Receiver
from tests.support.ports import HOST
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.processes import until
from tests.support.postgres.server import USER

_DATABASE = "recovered"


class Archiving(Cluster):
    """A cluster that archives its WAL next to its data directory."""

    def __init__(self) -> None:
        super().__init__(settings={"archive_mode": "on", "archive_command": "test ! -f ../wal/%f && cp %p ../wal/%f"})

    def lay(self) -> None:
        super().lay()
        (self.folder / "wal").mkdir()
        self.programs.account.own(self.folder / "wal")

    def archive_all(self) -> None:
        """Return when everything that was committed so far is in the archive."""
        [(segment,)] = self.run_sql("SELECT pg_walfile_name(pg_switch_wal())")
        until(
            lambda: self.run_sql("SELECT last_archived_wal FROM pg_stat_archiver") == [(segment,)],
            f"{segment} is archived",
        )


class Recovered(Cluster):
    """A base backup of another cluster, which recovers to a moment."""

    def __init__(self, source: Archiving) -> None:
        super().__init__(programs=source.programs)
        self._source = source

    def lay(self) -> None:
        self.programs.run(
            "pg_basebackup",
            f"--pgdata={self.data}",
            f"--dbname=host={HOST} port={self._source.port} user={USER}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--no-sync",
            folder=self.folder,
        )

    def back_up(self) -> None:
        """Make the base backup."""
        self._make_folder()
        self.lay()

    def recover(self, moment: str) -> None:
        """Start, and return when writes are taken: in a history that ends at the moment."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"restore_command = 'cp {self._source.folder}/wal/%f %p'\n")
            file.write(f"recovery_target_time = '{moment}'\nrecovery_target_action = 'promote'\n")
        (self.data / "recovery.signal").touch()
        self.start()
        until(lambda: self.run_sql("SELECT pg_is_in_recovery()") == [("f",)], "the recovery has ended")


class Told(NamedTuple):
    """The messages of a run, their queues and listeners, and the moment to recover to."""

    queue: str
    disabled_queue: str
    disabled: str
    """The listener that is disabled at the moment."""
    settled: list[str]
    waiting: str
    late: str
    moment: str


async def run_and_lose(product: Product, receiver: Receiver, lost: Archiving, recovered: Recovered) -> Told:
    """Publish before and after a base backup, and after the moment that is recovered later."""
    client = product.client()
    queue, disabled_queue = await client.queue(), await client.queue()
    steady = await client.listener(queue, receiver.url("steady"))
    # From the beginning: a lane learns of a change shortly after its request has returned.
    disabled = await client.listener(disabled_queue, receiver.url("disabled"), status="disabled")
    settled = [await client.publish(queue, "before the base backup")]
    recovered.back_up()
    settled.append(await client.publish(queue, "after the base backup"))
    await client.until_shown(
        f"/queues/{queue}/listeners/{steady}", lambda shown: shown["messages"]["acknowledged_count"] == len(settled)
    )
    waiting = await client.publish(disabled_queue, "waits at the moment")
    [(moment,)] = lost.run_sql("SELECT clock_timestamp()")
    await set_status(client, disabled_queue, disabled, "enabled")
    late = await client.publish(queue, "after the moment")
    await receiver.until(receiver.has_all([waiting], "disabled"))
    await receiver.until(receiver.has_all([late], "steady"))
    await product.kill()
    lost.archive_all()
    lost.kill()
    return Told(queue, disabled_queue, disabled, settled, waiting, late, str(moment))


async def set_status(client: Client, queue: str, listener: str, status: str) -> None:
    answer = await client.ask("PUT", f"/queues/{queue}/listeners/{listener}", {"status": status})
    assert answer.status == 200, answer


@pytest.mark.torture
async def test_recovery_to_a_moment_keeps_everything_before_it_and_nothing_after_it(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        with Archiving() as lost:
            lost.create_database(_DATABASE)
            recovered = Recovered(lost)
            try:
                async with Product(tmp_path, database=lost.dsn(_DATABASE)) as product:
                    told = await run_and_lose(product, receiver, lost, recovered)
                recovered.recover(told.moment)
                async with Product(tmp_path, database=recovered.dsn(_DATABASE)) as product:
                    await check_recovered(product, receiver, told)
                    assert await product.stop() == 0
            finally:
                recovered.close()


async def check_recovered(product: Product, receiver: Receiver, told: Told) -> None:
    client = product.client()
    messages = f"/queues/{told.queue}/messages"
    for message in told.settled:
        assert (await client.ask("GET", f"{messages}/{message}")).status == 200
    assert (await client.ask("GET", f"{messages}/{told.late}")).status == 404
    assert (await client.ask("GET", f"/queues/{told.disabled_queue}/messages/{told.waiting}")).status == 200
    new = await client.publish(told.queue, "after the recovery")
    await receiver.until(receiver.has_all([new], "steady"))
    assert receiver.messages("steady") == [*told.settled, told.late, new]
    await set_status(client, told.disabled_queue, told.disabled, "enabled")
    await receiver.until(lambda: receiver.messages("disabled") == [told.waiting, told.waiting])
