"""The drill: a backup under load, the loss of the database, a restore, and a check of everything that happened."""

import asyncio
import random
import sys
import time
from pathlib import Path

import pytest

from discue.backup.destination import Folder
from tests.cli.commands import environment
from tests.faults.checker import check_history
from tests.faults.conftest import Tell
from tests.faults.final_state import read_final_state
from tests.faults.history import NEVER, Bounds, Fault, History, Receipt
from tests.faults.load import Load
from tests.faults.plan import LoadPlan
from tests.faults.product import Product
from tests.faults.receiver import Receiver
from tests.faults.recorder import Recorder
from tests.faults.running import MAX_IN_FLIGHT, TIMEOUT_SECONDS, new_seed, under_load

_PLAN = LoadPlan(queues=2, listeners=("steady", "slow", "flaky", "picky"))
_SIZES = (1, 1, 1, 1, 1, 1, 20, 20)
_MOST_OWED = 1_000
_EVENTS = 3_000
_SETTLED_SECONDS = 60


class Drill:
    """A server under load whose database is destroyed and restored."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.history = History(Bounds(MAX_IN_FLIGHT, TIMEOUT_SECONDS))
        self.recorder = Recorder(self.history, _MOST_OWED)
        self.backups = folder / "backups"
        self.backups.mkdir()
        self.product = Product(folder, listener_max_in_flight=MAX_IN_FLIGHT, delivery_timeout_seconds=TIMEOUT_SECONDS)
        self.load = Load(_PLAN, self.product, self.recorder, random.Random(seed))  # noqa: S311 - can be repeated

    async def run(self) -> None:
        load = self.load
        async with Receiver(load.respond, load.probed, keep=False) as receiver, self.product:
            await load.prepare(receiver.url)
            [tenant] = load.tenants
            producers = [load.again_and_again(tenant, load._produce, size) for size in _SIZES]
            await under_load([asyncio.ensure_future(each) for each in producers], self._lose_and_restore())
            async with asyncio.timeout(_SETTLED_SECONDS):
                await self.recorder.settled.wait()
            assert await self.product.stop() == 0
        await read_final_state(f"sqlite:///{self.product.database}", self.history)

    async def _lose_and_restore(self) -> None:
        await self.recorder.until_more(_EVENTS)
        fault = Fault("restore", (0,), self.recorder.tick(), time.monotonic())
        await command("backup", str(self.backups), "--database", f"sqlite:///{self.product.database}")
        await self.recorder.until_more(_EVENTS)
        await self.product.kill()
        for path in self.product.database.parent.glob("discue.db*"):
            if not path.name.endswith(".key"):
                path.unlink()
        await command("restore", str(self.backups), "--to", str(self.product.database))
        self._forget_since(fault)
        await self.product.start()
        fault.ended, fault.ended_at = self.recorder.tick(), time.monotonic()
        self.history.faults.append(fault)
        await self.recorder.until_more(_EVENTS)

    def _forget_since(self, fault: Fault) -> None:
        """Whether messages that were confirmed after the backup began are in it is not known."""
        for published in self.history.publishes:
            if published.answered > fault.began:
                published.answered = NEVER
                for name in self.history.listeners:
                    for message in published.ids:
                        self.recorder._forgive(name, message)
        self.recorder._look()


async def command(*arguments: str) -> None:
    """Run a command of discue to its end while the load goes on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "discue", *arguments, env=environment(*arguments), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out


def undone(history: History, fault: Fault) -> list[Receipt]:
    """Return receipts of after the beginning of the backup that the restored database does not know.

    They are of messages that are lost, or that came again afterwards.
    """
    stored = {message for log in history.logs.values() for message in log.ids}
    came_again = {(each.name, each.message) for each in history.receipts if each.tick > fault.ended}
    return [
        each
        for each in history.receipts
        if fault.began < each.tick < fault.ended
        and (each.message not in stored or (each.name, each.message) in came_again)
    ]


@pytest.mark.torture
async def test_restore_loses_nothing_that_was_confirmed_before_the_backup_began(tmp_path: Path, tell: Tell) -> None:
    """Everything after that may be lost, or be delivered again. Anything else, the checker reports."""
    seed = new_seed()
    drill = Drill(tmp_path, seed)
    await drill.run()
    history, [fault] = drill.history, drill.history.faults
    [backup] = Folder(drill.backups).contents().backups
    confirmed = sum(len(published.ids) for published in history.publishes if 0 < published.answered < fault.began)

    gone = undone(history, fault)
    ticks = {each.tick for each in gone}
    history.receipts = [each for each in history.receipts if each.tick not in ticks]
    result = check_history(history)
    tell(
        f"seed {seed}: {confirmed} messages confirmed before a backup of {backup.size:,} bytes began, "
        f"{len(gone)} later receipts undone by the restore\n{result.summary}"
    )

    assert not result.broken, history.keep_for_later(seed) + "\n" + "\n".join(result.broken)
    assert confirmed > 100
    assert gone, "the load went on after the backup"
    assert any(published.answered > fault.ended for published in history.publishes)
