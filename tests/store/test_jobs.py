from functools import partial

from discue.store import purge
from discue.store.purge import Job
from discue.store.store import Store
from tests.store.rows import row_id


async def test_jobs_come_oldest_first_and_stay_until_they_are_finished(store: Store) -> None:
    older = Job(row_id(1), row_id(10), "purge_queue", queue=row_id(5))
    newer = Job(row_id(2), row_id(11), "purge_listener", listener=row_id(6))
    for job in (newer, older):
        await store.write(partial(purge.enqueue, job=job))
    assert await store.read(purge.next_after) == older
    assert await store.read(purge.next_after) == older
    assert await store.read(lambda tx: purge.next_after(tx, older.id)) == newer
    await store.write(lambda tx: purge.finish(tx, older))
    assert await store.read(purge.next_after) == newer
    await store.write(lambda tx: purge.finish(tx, newer))
    assert await store.read(purge.next_after) is None
