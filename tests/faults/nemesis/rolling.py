"""Workers are stopped in good order and started again, one after another: nothing may be repeated, nothing may wait."""

from tests.faults.fleet import Worker
from tests.faults.nemesis.field import Field


async def restart(field: Field) -> None:
    await field.calm()
    with field.fault_of("rolling restart"):
        for worker in field.fleet.members:
            await _exchange(field, worker)


async def upgrade(field: Field) -> None:
    """Restart the workers one after another with a program that knows one more migration."""
    await field.calm()
    with field.fault_of("rolling upgrade"):
        for worker in field.fleet.members:
            worker.migrations += 1
            await _exchange(field, worker)


async def _exchange(field: Field, worker: Worker) -> None:
    with field.holding(worker):
        code = await worker.product.stop()
        assert code == 0, f"worker {worker.number} ended with {code}:\n{''.join(worker.product.lines)}"
        await worker.start()
        await worker.until_ready()
