"""A worker is cut off from the database, and not from its clients and listeners."""

from tests.faults.nemesis.field import Field


async def freeze(field: Field) -> None:
    """Drop what a worker and its database send each other, without an error."""
    with field.a_worker() as worker, field.fault_of("cut off in silence", worker):
        for link in worker.links:
            link.freeze()
        try:
            await field.lasts(0.3, 3)
        finally:
            for link in worker.links:
                link.thaw()


async def refuse(field: Field) -> None:
    """Reset a worker's connections and refuse new ones."""
    with field.a_worker() as worker, field.fault_of("cut off", worker):
        for link in worker.links:
            await link.cut()
        try:
            await field.lasts(0.3, 3)
        finally:
            for link in worker.links:
                await link.mend()
