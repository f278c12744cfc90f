"""The health of listeners, as the owners of their cursors store it."""

from functools import partial

import msgspec
import pytest

from discue.domain.listener_health import NO_FAILURES, FailureStreak, Liveness
from discue.domain.model import Listener
from discue.store import cursors, delivery_rows, listeners
from discue.store.cursors import LaneRecord
from discue.store.listeners import HealthRecord, ListenerHealth, Sweep
from discue.store.store import Store
from tests.store.rows import row_id, stored_listener, stored_organization, stored_queue, take_all
from tests.support.clocks import NOON

OWNER = 77
DOWN = Liveness("inactive", 7, 5, NOON, NOON + 5, 503, "answered 503 — ü", -3)
KNOWN = ListenerHealth(DOWN, FailureStreak(NOON + 1, NOON), Sweep(12, 40))


async def _listener(store: Store) -> Listener:
    organization = await stored_organization(store, 1)
    listener = await stored_listener(store, await stored_queue(store, organization.id, 10), 11)
    await store.write(lambda tx: take_all(tx, OWNER))
    return listener


async def _record(store: Store, listener: Listener) -> LaneRecord:
    of = partial(cursors.lanes_of, owner=OWNER, organization=listener.organization, listener=listener.id)
    [record] = await store.read(of)
    return record


def _standing(listener: Listener, record: LaneRecord, known: ListenerHealth = KNOWN) -> HealthRecord:
    return HealthRecord(
        listener.organization, listener.id, record.token, listener.liveness_url, listener.config_version, known
    )


async def _write(store: Store, *standings: HealthRecord) -> set[int]:
    return await store.write(lambda tx: listeners.write_health(tx, standings))


async def _shown(store: Store, listener: Listener) -> Liveness:
    facts = await store.read(lambda tx: listeners.read_facts(tx, listener.organization, [listener]))
    return facts[listener.id].liveness


async def _changed(store: Store, listener: Listener, **changes: str) -> Listener:
    changed = msgspec.structs.replace(listener, config_version=listener.config_version + 1, **changes)
    assert await store.write(lambda tx: listeners.update(tx, changed))
    return changed


async def test_written_health_is_read_with_the_lane_and_listed(store: Store) -> None:
    listener = await _listener(store)
    assert await _write(store, _standing(listener, await _record(store, listener))) == {listener.id}
    record = await _record(store, listener)
    assert record.known == KNOWN
    assert record.liveness_url == listener.liveness_url
    assert await _shown(store, listener) == DOWN


async def test_last_written_health_wins(store: Store) -> None:
    listener = await _listener(store)
    record = await _record(store, listener)
    await _write(store, _standing(listener, record))
    later = ListenerHealth(Liveness("stable", 9, 5, NOON + 9, in_a_row=2))
    await _write(store, _standing(listener, record, later))
    assert (await _record(store, listener)).known == later


async def test_former_cursor_owner_cannot_write_health(store: Store) -> None:
    listener = await _listener(store)
    former = await _record(store, listener)
    await store.write(partial(cursors.renew_tokens, owner=OWNER))
    assert await _write(store, _standing(listener, former)) == set()
    assert await _shown(store, listener) == Liveness()


async def test_new_liveness_url_keeps_only_the_counts(store: Store) -> None:
    listener = await _listener(store)
    await _write(store, _standing(listener, await _record(store, listener)))
    moved = await _changed(store, listener, liveness_url="https://example.com/other")
    expected = msgspec.structs.replace(DOWN, state="unknown", in_a_row=0)
    assert await _shown(store, moved) == expected
    known = (await _record(store, moved)).known
    assert (known.liveness, known.failing, known.sweep) == (expected, NO_FAILURES, KNOWN.sweep)


@pytest.mark.parametrize("change", [{"notify_url": "https://example.com/other"}, {"alias": "other"}])
async def test_any_other_change_keeps_the_state_and_forgets_what_failed(store: Store, change: dict[str, str]) -> None:
    listener = await _listener(store)
    await _write(store, _standing(listener, await _record(store, listener)))
    changed = await _changed(store, listener, **change)
    assert await _shown(store, changed) == DOWN
    assert (await _record(store, changed)).known == ListenerHealth(DOWN, NO_FAILURES, KNOWN.sweep)


async def test_many_are_written_at_once_and_each_is_read_as_its_own(store: Store) -> None:
    organization = await stored_organization(store, 1)
    queue = await stored_queue(store, organization.id, 10)
    made = [await stored_listener(store, queue, number) for number in range(20, 107)]
    await store.write(lambda tx: take_all(tx, OWNER))
    records = {each.id: await _record(store, each) for each in made}
    standings = [
        _standing(each, records[each.id], ListenerHealth(Liveness(success_count=number)))
        for number, each in enumerate(made)
    ]
    stale = msgspec.structs.replace(standings[40], token=99)
    assert await _write(store, *standings[:40], stale, *standings[41:]) == {each.id for each in made} - {made[40].id}
    found = await store.read(lambda tx: listeners.read_facts(tx, organization.id, made))
    assert [found[each.id].liveness.success_count for each in made] == [*range(40), 0, *range(41, 87)]


async def test_a_listener_of_another_organization_is_not_shown(store: Store) -> None:
    listener = await _listener(store)
    await _write(store, _standing(listener, await _record(store, listener)))
    found = await store.read(lambda tx: listeners.read_facts(tx, row_id(2), [listener]))
    assert found == {}


_EXCEPTION = """
    INSERT INTO delivery (organization, listener, stream, seq, queue, state, attempts, due_at, reason)
    VALUES ($1, $2, 0, $3, $4, $5, 1, $6, '')"""


async def test_a_sweep_passes_retries_in_the_order_of_the_log_whatever_they_wait_for(store: Store) -> None:
    listener = await _listener(store)
    for seq, state, due_at in (
        (3, "retry", NOON),
        (5, "missed", 0),
        (7, "retry", 1),
        (8, "sending", 0),
        (9, "retry", 2),
    ):
        values = (listener.organization, listener.id, seq, listener.queue, state, due_at)
        await store.write(lambda tx, values=values: tx.execute(_EXCEPTION, *values))  # type: ignore[misc]
    key = (listener.organization, listener.id, 0)

    async def waiting(sweep: Sweep, limit: int = 10) -> list[int]:
        queue = (listener.organization, listener.queue)
        found = await store.read(
            lambda tx: delivery_rows.read_sweep(tx, queue, key, sweep, limit=limit, max_bytes=1_000, known=())
        )
        return [retry.seq for retry in found.retries]

    assert await waiting(Sweep(0, 9)) == [3, 7, 9]
    assert await waiting(Sweep(3, 8)) == [7]
    assert await waiting(Sweep(0, 9), 2) == [3, 7]
    assert await waiting(Sweep(9, 9)) == []
