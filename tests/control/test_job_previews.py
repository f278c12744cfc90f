"""Previews of redeliveries and replays: they write nothing, and wait for no write."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from discue.control import listeners, queues
from discue.control.context import ControlContext, IdempotentWrite
from discue.control.jobs import REDELIVERIES, REPLAYS, JobResult, RedeliveryParams, ReplayParams
from discue.control.listener_fields import ListenerFields
from discue.control.listeners import ListenerPath
from discue.control.queues import QueueFields
from discue.domain.errors import Forbidden
from discue.domain.idempotency import idempotency_key
from discue.domain.model import Redelivery, Replay
from discue.domain.scopes import Principal, Scope
from discue.store import feed, idempotency
from discue.store import redeliveries as store_redeliveries
from discue.store.engine import AlreadyDone, DeliveryRow, Notification, Transaction
from discue.store.redeliveries import JobPreview
from discue.store.store import Store
from tests.store.rows import a_settle, public_id, publish
from tests.support.cast import Cast
from tests.support.databases import engine_name
from tests.support.stores import WAITING_BYTES, another

__all__ = ["engine_name"]

COUNT = 3
IDS = [public_id(100 + seq) for seq in range(1, COUNT + 1)]

Result = JobResult[Redelivery] | JobResult[Replay]
Preview = Callable[[ControlContext, Principal, ListenerPath], Awaitable[Result]]


async def _redelivery(control: ControlContext, principal: Principal, path: ListenerPath) -> Result:
    return await REDELIVERIES.create(control, principal, path, RedeliveryParams(dry_run=True))


async def _redelivery_by_id(control: ControlContext, principal: Principal, path: ListenerPath) -> Result:
    params = RedeliveryParams(messages=tuple(IDS), dry_run=True)
    return await REDELIVERIES.create(control, principal, path, params)


async def _replay(control: ControlContext, principal: Principal, path: ListenerPath) -> Result:
    return await REPLAYS.create(control, principal, path, ReplayParams(from_at=0, dry_run=True))


PREVIEWS = pytest.mark.parametrize("preview", [_redelivery, _redelivery_by_id, _replay])


async def _missed(cast: Cast) -> ListenerPath:
    """Make a listener that has missed all messages of its queue."""
    alice, control = cast.alice.principal, cast.control
    queue = (await queues.create(control, alice, QueueFields())).queue
    fields = ListenerFields(notify_url="https://example.com/", liveness_url="https://example.com/")
    listener = (await listeners.create(control, alice, queue.public_id, fields)).listener
    await publish(control.store, queue, IDS, control.clock.now())
    rows = tuple(DeliveryRow(seq, "missed", 12, 0, "too_old") for seq in range(1, COUNT + 1))
    assert await control.store.settle(a_settle(listener, COUNT, delivery_rows=rows, missed=COUNT))
    return queue.public_id, listener.public_id


def _counted(result: Result) -> tuple[int, str, str]:
    found = result.preview
    return found.selected, found.first, found.last


@asynccontextmanager
async def _exclusive_lock_of_another_process(store: Store) -> AsyncIterator[None]:
    """Another process holds the lock of exclusive writes, in a transaction that does not end before the block does."""
    held, let_go = threading.Event(), threading.Event()

    async def hold(_: Transaction) -> None:
        held.set()
        # Blocks the thread: of the other engine's loop on PostgreSQL, of its writer on SQLite.
        let_go.wait()

    async def run() -> None:
        engine = another(store.engine)
        await engine.open()
        try:
            await Store(engine, max_waiting_bytes=WAITING_BYTES).write_exclusively(hold)
        finally:
            await engine.close()

    holding = asyncio.ensure_future(asyncio.to_thread(asyncio.run, run()))
    try:
        await asyncio.to_thread(held.wait)
        yield
    finally:
        let_go.set()
        await holding


@PREVIEWS
async def test_preview_works_while_another_process_holds_the_exclusive_lock(cast: Cast, preview: Preview) -> None:
    path = await _missed(cast)
    async with _exclusive_lock_of_another_process(cast.control.store):
        async with asyncio.timeout(30):
            assert _counted(await preview(cast.control, cast.alice.principal, path)) == (COUNT, IDS[0], IDS[-1])


async def test_redelivery_counts_before_it_waits_for_the_exclusive_lock(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, counted, count = await _missed(cast), asyncio.Event(), store_redeliveries.preview

    async def count_and_say(*given: Any, **options: Any) -> JobPreview:
        found = await count(*given, **options)
        counted.set()
        return found

    monkeypatch.setattr(store_redeliveries, "preview", count_and_say)
    async with _exclusive_lock_of_another_process(cast.control.store):
        creation = REDELIVERIES.create(cast.control, cast.alice.principal, path, RedeliveryParams())
        creating = asyncio.ensure_future(creation)
        async with asyncio.timeout(30):
            await counted.wait()
        assert not creating.done()
    made = (await creating).job
    assert made is not None
    assert (made.selected, made.until_seq) == (COUNT, COUNT)


@PREVIEWS
async def test_preview_writes_and_notifies_nothing(
    cast: Cast, preview: Preview, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = await _missed(cast), cast.control.store
    before, sent = await store.read(feed.head), list[Notification]()
    monkeypatch.setattr(store.engine, "notify", sent.append)
    await preview(cast.control, cast.alice.principal, path)
    assert (await store.read(feed.head), sent) == (before, [])
    assert (await REDELIVERIES.page(cast.control, cast.alice.principal, path)).items == ()
    assert (await REPLAYS.page(cast.control, cast.alice.principal, path)).items == ()


@PREVIEWS
async def test_preview_needs_the_right_to_start_the_job(cast: Cast, preview: Preview) -> None:
    path = await _missed(cast)
    reader = await cast.bob({"listeners": Scope("read"), "queues": Scope("read")})
    with pytest.raises(Forbidden):
        await preview(cast.control, reader.principal, path)


@PREVIEWS
async def test_preview_with_an_idempotency_key_stores_its_response(cast: Cast, preview: Preview) -> None:
    path, principal = await _missed(cast), cast.alice.principal
    key = idempotency_key(principal.organization, "a", "POST", "/redeliveries", body=b"")
    once = IdempotentWrite(key, lambda made: repr(_counted(made)).encode(), cast.control.row_ids.next())
    control = replace(cast.control, once=once)
    counted = _counted(await preview(control, principal, path))
    kept = await control.store.read(lambda tx: idempotency.read_response(tx, key.organization, key.hash))
    assert kept is not None
    assert kept.content == repr(counted).encode()
    with pytest.raises(AlreadyDone):
        await preview(control, principal, path)
