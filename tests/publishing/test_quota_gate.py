"""Quotas of publishing, as one worker and as several keep them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from discue.auth.control_plane_cache import QueueRecord
from discue.control import messages, organizations, queues
from discue.control.queues import QueueFields
from discue.domain.errors import QuotaExceeded
from discue.domain.message_data import TEXT
from discue.domain.quotas import PublishUsage, Quotas
from discue.publishing.publish import NewMessage, Publisher, publish
from discue.publishing.quota_gate import DAY_MS, QuotaGate
from tests.support.cast import Cast, publisher_of
from tests.support.system_queue import system_events


async def _queue(cast: Cast, **limits: int | None) -> QueueRecord:
    alice = cast.alice.principal
    await organizations.set_limits(cast.control, "com.example.alice", limits)
    made = await queues.create(cast.control, alice, QueueFields())
    return await cast.control.cache.queue(alice.organization, made.queue.public_id)


async def _publish(publisher: Publisher, queue: QueueRecord, *sizes: int) -> Any:
    return await publish(publisher, queue, [NewMessage(b"x" * size, codec=TEXT) for size in sizes])


async def _many(publishers: Sequence[Publisher], queue: QueueRecord, count: int) -> int:
    """How many of so many publishes at once were let in."""
    answers = await asyncio.gather(
        *(_publish(publishers[number % len(publishers)], queue, 1) for number in range(count)), return_exceptions=True
    )
    assert all(isinstance(answer, tuple | QuotaExceeded) for answer in answers)
    return sum(isinstance(answer, tuple) for answer in answers)


async def _stored(cast: Cast) -> PublishUsage:
    """Return what clients have published. System events count towards no quota, and have no size."""
    control, own = cast.control, cast.alice.principal.organization
    rows = await control.store.read(
        lambda tx: tx.rows("SELECT count(*), sum(size) FROM log WHERE organization = $1 AND size > 0", own)
    )
    return PublishUsage(int(rows[0][0]), int(rows[0][1] or 0))


async def test_publish_without_a_quota_reads_no_usage(cast: Cast) -> None:
    queue = await _queue(cast, quota_queues=5)
    assert queue.quotas is None
    await _publish(publisher_of(cast.control), queue, 1)


@pytest.mark.parametrize("quota", [0, 1, 7, 50])
async def test_concurrent_publishes_of_one_worker_store_exactly_the_quota(cast: Cast, quota: int) -> None:
    queue, publisher = await _queue(cast, quota_messages_a_day=quota), publisher_of(cast.control)
    assert await _many([publisher], queue, 80) == quota
    assert (await _stored(cast)).messages == quota
    assert await _many([publisher], queue, 3) == 0


async def test_several_workers_exceed_a_quota_only_by_messages_in_flight(cast: Cast) -> None:
    queue = await _queue(cast, quota_messages_a_day=30)
    workers = [publisher_of(cast.control) for _ in range(3)]
    cast.control.store.workers = 3
    for _ in range(20):
        await _many(workers, queue, 3)
    assert 30 <= (await _stored(cast)).messages <= 32


async def test_bytes_count_until_they_are_deleted(cast: Cast) -> None:
    queue, publisher = await _queue(cast, quota_bytes_stored=100), publisher_of(cast.control)
    (first, _) = await _publish(publisher, queue, 60, 30)
    with pytest.raises(QuotaExceeded, match="90 of 100 bytes of stored messages"):
        await _publish(publisher, queue, 11)
    await _publish(publisher, queue, 10)
    await messages.delete(cast.control, cast.alice.principal, queue.public_id, first.id)
    await _publish(publisher, queue, 60)


async def test_batch_is_admitted_as_a_whole(cast: Cast) -> None:
    queue, publisher = await _queue(cast, quota_messages_a_day=5), publisher_of(cast.control)
    await _publish(publisher, queue, 1, 1, 1)
    with pytest.raises(QuotaExceeded):
        await _publish(publisher, queue, 1, 1, 1)
    assert (await _stored(cast)).messages == 3


async def test_usage_resets_at_midnight_utc(cast: Cast) -> None:
    queue, publisher = await _queue(cast, quota_messages_a_day=2), publisher_of(cast.control)
    assert await _many([publisher], queue, 5) == 2
    cast.clock.advance(DAY_MS - cast.clock.now() % DAY_MS - 1)
    assert await _many([publisher], queue, 5) == 0
    cast.clock.advance(1)
    assert await _many([publisher], queue, 5) == 2


async def test_usage_of_past_hours_still_counts(cast: Cast) -> None:
    cast.clock.advance(DAY_MS - cast.clock.now() % DAY_MS)
    queue, publisher = await _queue(cast, quota_messages_a_day=40), publisher_of(cast.control)
    for _ in range(10):
        await _publish(publisher, queue, 1, 1, 1)
        cast.clock.advance(2 * 3_600_000)
    assert await _many([publisher], queue, 20) == 10


async def test_usage_far_from_the_quota_is_read_once_per_second(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, publisher = await _queue(cast, quota_messages_a_day=1_000), publisher_of(cast.control)
    looks, read = [], cast.control.store.read

    async def counted(work: Any) -> Any:
        looks.append(work)
        return await read(work)

    monkeypatch.setattr(cast.control.store, "read", counted)
    await _many([publisher], queue, 50)
    first = len(looks)
    await _many([publisher], queue, 50)
    assert len(looks) == first
    cast.clock.advance(1_000)
    await _many([publisher], queue, 1)
    assert len(looks) == first + 1


async def test_failed_publish_uses_no_quota(cast: Cast) -> None:
    quotas = QuotaGate(cast.control.store, cast.control.clock, cast.control.row_ids)
    limits, own = Quotas(messages_a_day=1), cast.alice.principal.organization
    with pytest.raises(RuntimeError):
        async with quotas.reserve(own, limits, PublishUsage(1, 1)):
            raise RuntimeError
    async with quotas.reserve(own, limits, PublishUsage(1, 1)):
        pass


async def test_a_quota_that_is_nearly_used_up_is_reported_once_a_day_by_all_workers(cast: Cast) -> None:
    queue = await _queue(cast, quota_messages_a_day=10, quota_bytes_stored=1_000)
    workers = [publisher_of(cast.control) for _ in range(2)]
    cast.control.store.workers = 2
    own = cast.alice.principal.organization
    for number in range(7):
        await _publish(workers[number % 2], queue, 1)
    assert await system_events(cast.control.store, own) == []
    for number in range(3):
        await _publish(workers[number % 2], queue, 1)
    [event] = await system_events(cast.control.store, own)
    assert (event["type"], event["quota"], event["limit"], event["used"]) == ("quota.near", "messages_a_day", 10, 8)
    cast.clock.advance(DAY_MS)
    await _publish(workers[0], queue, 790)
    for number in range(8):
        await _publish(workers[number % 2], queue, 1)
    reported = [event["quota"] for event in await system_events(cast.control.store, own)]
    assert reported == ["messages_a_day", "bytes_stored", "messages_a_day"]


async def test_a_publish_that_is_refused_reports_the_use_before_it(cast: Cast) -> None:
    queue, publisher = await _queue(cast, quota_messages_a_day=10), publisher_of(cast.control)
    await _publish(publisher, queue, *[1] * 5)
    with pytest.raises(QuotaExceeded):
        await _publish(publisher, queue, *[1] * 6)
    assert await system_events(cast.control.store, cast.alice.principal.organization) == []
