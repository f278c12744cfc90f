"""Quotas, event counts and events of an organization."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pytest

from discue.control import api_keys, listeners, organizations, queues, usage
from discue.control.activity import rate_a_minute
from discue.control.api_keys import KeyFields
from discue.control.context import ControlContext
from discue.control.listener_fields import ListenerFields
from discue.control.organizations import OrganizationFields
from discue.control.queues import QueueFields
from discue.control.usage import DAY_MS, SETTLING_MS, EventPage, EventSelection, event_position
from discue.domain import quotas as domain_quotas
from discue.domain.errors import (
    BadRequest,
    DiscueError,
    Forbidden,
    QuotaExceeded,
    TooManyRequests,
    Unprocessable,
)
from discue.domain.ids import event_id_of, last_id_of, millisecond_in, row_id_at
from discue.domain.quotas import NAMES
from discue.domain.rate import MINUTE_MS
from discue.domain.scopes import Principal
from discue.store import events, tallies
from discue.store.events import Occurrence
from discue.store.pagination import Selection
from discue.store.tallies import PERIOD_MS
from tests.support.cast import Cast
from tests.support.clocks import NOON

ENDPOINT = ListenerFields(notify_url="https://example.com/", liveness_url="https://example.com/")


async def _allow(cast: Cast, **limits: int | None) -> None:
    """Set limits of alice's organization, by the names of the settings."""
    await organizations.set_limits(cast.control, "com.example.alice", limits)


async def _settings(cast: Cast) -> dict[str, int | bool]:
    alice = cast.alice.principal
    return (await organizations.get(cast.control, alice, alice.organization_public_id)).settings


def _refused(answers: list[Any]) -> int:
    return sum(isinstance(answer, QuotaExceeded) for answer in answers)


async def test_concurrent_creates_of_the_last_queue_succeed_once(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    await _allow(cast, quota_queues=2)
    await queues.create(control, alice, QueueFields())
    answers = await asyncio.gather(
        *(queues.create(control, alice, QueueFields()) for _ in range(5)), return_exceptions=True
    )
    assert _refused(answers) == 4
    await queues.create(control, cast.charlie.principal, QueueFields())


async def test_listener_quota_counts_all_queues(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    await _allow(cast, quota_listeners=2)
    made = [(await queues.create(control, alice, QueueFields())).queue.public_id for _ in range(3)]
    answers = await asyncio.gather(
        *(listeners.create(control, alice, queue, ENDPOINT) for queue in made), return_exceptions=True
    )
    assert _refused(answers) == 1
    with pytest.raises(QuotaExceeded, match="2 of 2 listeners"):
        await listeners.create(control, alice, made[0], ENDPOINT)


async def test_deletion_frees_quota_at_once(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    await _allow(cast, quota_queues=1, quota_listeners=1)
    queue = (await queues.create(control, alice, QueueFields())).queue.public_id
    await listeners.create(control, alice, queue, ENDPOINT)
    await queues.delete(control, alice, queue)
    queue = (await queues.create(control, alice, QueueFields())).queue.public_id
    await listeners.create(control, alice, queue, ENDPOINT)


async def test_usage_is_shown_with_and_without_quotas(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    queue = (await queues.create(control, alice, QueueFields())).queue.public_id
    await listeners.create(control, alice, queue, ENDPOINT)
    keys = len((await api_keys.page(control, alice)).items)
    expected = {**dict.fromkeys(NAMES, 0), "queues": 1, "listeners": 1, "api_keys": keys, "creations_a_day": 2}
    assert (await usage.used_quotas(control, alice)).used == expected
    await _allow(cast, quota_queues=5)
    use = await usage.used_quotas(control, alice)
    assert (use.used, use.quotas.queues, use.quotas.listeners) == (expected, 5, None)


async def test_creations_of_a_day_are_counted_for_the_account_until_midnight(
    cast: Cast, control: ControlContext
) -> None:
    charlie, alice = cast.charlie.principal, cast.alice.principal
    for alias in ("com.example.alice", "com.example.charlie"):
        await organizations.set_limits(control, alias, {"quota_creations_a_day": 3})
    answers = await asyncio.gather(
        *(queues.create(control, alice, QueueFields(f"name-{number}")) for number in range(5)), return_exceptions=True
    )
    assert _refused(answers) == 2
    events = [event for event in (await page(control, alice)).events if event.type == "queue_added"]
    made = [each for each in (await queues.page(control, alice)).items if not each.queue.is_system]
    assert len(events) == len(made) == 3

    # Organizations that a tenant has created share its quota.
    found = "UPDATE organization SET founder = $1 WHERE id = $2"
    await control.store.write(lambda tx: tx.execute(found, alice.organization, charlie.organization))
    with pytest.raises(QuotaExceeded):
        await queues.create(control, charlie, QueueFields())

    cast.clock.advance(DAY_MS)
    await queues.create(control, alice, QueueFields("tomorrow"))
    assert (await usage.used_quotas(control, alice)).used["creations_a_day"] == 1


async def test_creations_of_each_customer_are_counted_until_midnight(
    cast: Cast, control: ControlContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain_quotas, "CREATIONS_OF_A_CUSTOMER", 2)
    alice = cast.alice.principal
    acme, globex = (replace(alice, customer=name) for name in ("acme", "globex"))
    own = {
        each.customer: (await queues.create(control, alice, QueueFields(customer=each.customer))).queue.public_id
        for each in (alice, acme, globex)
    }

    async def create(principal: Principal) -> None:
        queue = own[principal.customer]
        made = (await listeners.create(control, principal, queue, ENDPOINT)).listener
        await listeners.delete(control, principal, queue, made.public_id)

    for _ in range(2):
        await create(acme)
    with pytest.raises(
        TooManyRequests, match="A customer can create at most 2 endpoints, redeliveries and replays"
    ) as refused:
        await create(acme)
    left_ms = DAY_MS - cast.clock.now() % DAY_MS
    assert refused.value.retry_after_seconds == left_ms // 1_000
    assert (await usage.used_quotas(control, alice)).used["creations_a_day"] == len(own) + 2
    for principal in (alice, alice, alice, globex, globex):
        await create(principal)

    cast.clock.advance(left_ms - 1)
    with pytest.raises(TooManyRequests):
        await create(acme)
    while await control.store.write(partial(tallies.delete_old_budgets, before_minute=cast.clock.now() // MINUTE_MS)):
        pass
    with pytest.raises(TooManyRequests):
        await create(acme)
    cast.clock.advance(1)
    await create(acme)


async def test_customers_together_leave_half_of_the_creations_to_their_organization(
    cast: Cast, control: ControlContext
) -> None:
    alice = cast.alice.principal
    customers = [replace(alice, customer=f"customer-{number}") for number in range(6)]
    fields = [QueueFields(customer=each.customer) for each in customers]
    own = [(await queues.create(control, alice, each)).queue.public_id for each in fields]
    await _allow(cast, quota_creations_a_day=20)
    for customer, queue in zip(customers[:5], own, strict=False):
        for _ in range(2):
            await listeners.create(control, customer, queue, ENDPOINT)
    with pytest.raises(TooManyRequests, match="Customers together can create at most 10 endpoints"):
        await listeners.create(control, customers[5], own[5], ENDPOINT)
    for _ in range(20 - len(own) - 10):
        await listeners.create(control, alice, own[0], ENDPOINT)
    with pytest.raises(QuotaExceeded):
        await listeners.create(control, alice, own[0], ENDPOINT)


async def test_refused_creation_of_a_customer_is_not_counted(cast: Cast, control: ControlContext) -> None:
    acme = replace(cast.alice.principal, customer="acme")
    queue = (await queues.create(control, cast.alice.principal, QueueFields(customer="acme"))).queue.public_id
    await _allow(cast, quota_creations_a_day=1)
    with pytest.raises(QuotaExceeded):
        await listeners.create(control, acme, queue, ENDPOINT)
    await _allow(cast, quota_creations_a_day=2)
    await listeners.create(control, acme, queue, ENDPOINT)
    with pytest.raises(TooManyRequests):
        await listeners.create(control, acme, queue, ENDPOINT)


@pytest.mark.parametrize(
    ("quota", "most"), [(None, 1_000), (100_000, 1_000), (10_000, 1_000), (9_999, 999), (15, 1), (9, 1), (0, 1)]
)
def test_customer_creates_at_most_a_tenth_of_the_quota(quota: int | None, most: int) -> None:
    assert domain_quotas.most_creations_of_a_customer(quota) == most


async def test_change_that_could_not_be_recorded_is_refused(
    cast: Cast, control: ControlContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_A_PERIOD", 1)
    monkeypatch.setattr(events, "MOST_BEYOND", 1)
    alice = cast.alice.principal
    key = (await api_keys.create(control, alice, KeyFields("builds"))).key.public_id
    for name in ("b", "c"):
        await api_keys.change(control, alice, key, KeyFields(name))
    cast.clock.advance(1_500)
    with pytest.raises(TooManyRequests, match="1 events `api_key_updated` can happen") as refused:
        await api_keys.change(control, alice, key, KeyFields("d"))
    assert refused.value.retry_after_seconds == (PERIOD_MS - NOON % PERIOD_MS) // 1_000 - 1
    assert (await api_keys.get(control, alice, key)).alias == "c"
    # Another author can change it, and deletions have none.
    other = replace(alice, key_public_id=event_id_of(row_id_at(NOON)))
    await api_keys.change(control, other, key, KeyFields("e"))
    await api_keys.delete(control, alice, key)
    recorded = [event for event in (await page(control, alice)).events if event.ref == key]
    assert [event.type for event in reversed(recorded)] == [
        "api_key_added",
        *["api_key_updated"] * 3,
        "api_key_deleted",
    ]
    cast.clock.advance(PERIOD_MS - 1_500)
    key = (await api_keys.create(control, alice, KeyFields("tests"))).key.public_id
    await api_keys.change(control, alice, key, KeyFields("f"))


async def test_operator_changes_single_limits(cast: Cast, control: ControlContext) -> None:
    olga, own = cast.olga.principal, cast.alice.principal.organization_public_id

    async def change(**fields: Any) -> dict[str, int | bool]:
        return (await organizations.change(control, olga, own, OrganizationFields(**fields))).settings

    assert await change(quotas={"queues": 5, "bytes_stored": 0}) == {"quota_queues": 5, "quota_bytes_stored": 0}
    assert await change(quotas={"bytes_stored": None}, rate_limit=7) == {"quota_queues": 5, "rate_limit": 7}
    assert await change(retention_seconds=60) == {"quota_queues": 5, "rate_limit": 7, "retention_seconds": 60}
    assert await change(quotas=None, retention_seconds=None) == {"rate_limit": 7}
    assert await change() == {"rate_limit": 7}


async def test_organization_can_only_send_back_its_limits(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    await _allow(cast, quota_queues=5, rate_limit=7)
    same = OrganizationFields(quotas={"queues": 5, "listeners": None}, rate_limit=7)
    await organizations.change(control, alice, alice.organization_public_id, same)
    for fields in (
        OrganizationFields(quotas={"queues": 6}),
        OrganizationFields(quotas=None),
        OrganizationFields(rate_limit=None),
        OrganizationFields(retention_seconds=1),
    ):
        with pytest.raises(Forbidden):
            await organizations.change(control, alice, alice.organization_public_id, fields)
        with pytest.raises(Forbidden):
            await organizations.create(control, alice, OrganizationFields(quotas={"queues": 6}))
    assert await _settings(cast) == {"quota_queues": 5, "rate_limit": 7}


async def test_limit_out_of_range_is_rejected_with_a_pointer(cast: Cast, control: ControlContext) -> None:
    olga, own = cast.olga.principal, cast.alice.principal.organization_public_id
    fields = OrganizationFields(rate_limit=-1, quotas={"queues": 100_001, "listeners": 3})
    with pytest.raises(Unprocessable) as refused:
        await organizations.change(control, olga, own, fields)
    assert [fault.pointer for fault in refused.value.faults] == ["/rate_limit", "/quotas/queues"]
    assert await _settings(cast) == {}


async def page(control: ControlContext, principal: Principal, **selection: object) -> EventPage:
    return await usage.page_of_events(control, principal, EventSelection(**selection))  # type: ignore[arg-type]


async def told(control: ControlContext, principal: Principal) -> list[tuple[str, str, str]]:
    """Return type, name and client of each event, oldest first."""
    events = (await page(control, principal)).events
    return [(event.type, event.name, event.client) for event in reversed(events)]


async def test_every_change_is_an_event_with_its_author(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    queue = (await queues.create(control, alice, QueueFields("orders"))).queue.public_id
    await queues.change(control, alice, queue, QueueFields("bills"))
    listener = (await listeners.create(control, alice, queue, ENDPOINT)).listener
    await listeners.change(control, alice, queue, listener.public_id, fields=ListenerFields("desk-1"))
    await listeners.delete(control, alice, queue, listener.public_id)
    key = (await api_keys.create(control, alice, KeyFields("robot"))).key
    await api_keys.change(control, alice, key.public_id, KeyFields("machine"))
    await api_keys.delete(control, alice, key.public_id)
    await queues.delete(control, alice, queue)
    by = alice.key_public_id
    assert (await told(control, alice))[1:] == [
        ("queue_added", "orders", by),
        ("queue_updated", "bills", by),
        ("listener_added", listener.public_id, by),
        ("listener_updated", "desk-1", by),
        ("listener_deleted", "desk-1", by),
        ("api_key_added", "robot", by),
        ("api_key_updated", "machine", by),
        ("api_key_deleted", "machine", by),
        ("queue_deleted", "bills", by),
    ]
    counts = (await usage.event_counts(control, alice))["last_1_hours"]
    assert counts["queue_updated"] == counts["api_key_deleted"] == counts["listener_added"] == 1
    assert counts["api_key_added"] == 2


async def test_new_organization_sees_the_key_event_and_its_creator_the_organization_event(
    cast: Cast, control: ControlContext
) -> None:
    fields = OrganizationFields("com.example.dora")
    created = await organizations.create(control, cast.olga.principal, fields)
    dora = (await control.cache.authenticate(created.first_key.text)).principal
    assert await told(control, dora) == [("api_key_added", dora.key_public_id, "")]
    await organizations.change(control, dora, dora.organization_public_id, OrganizationFields("com.example.dory"))
    assert (await told(control, dora))[-1] == ("organization_updated", "com.example.dory", dora.key_public_id)
    await organizations.delete(control, cast.olga.principal, dora.organization_public_id)
    olga = cast.olga.principal
    mine = [event for event in await told(control, olga) if event[1].startswith("com.example.dor")]
    assert mine == [
        ("organization_added", "com.example.dora", olga.key_public_id),
        ("organization_deleted", "com.example.dory", olga.key_public_id),
    ]


async def test_events_of_commands_have_no_author(cast: Cast, control: ControlContext) -> None:
    alias, alice = "com.example.alice", cast.alice.principal
    made = (await api_keys.create_for(control, alias, "spare", {})).key
    await api_keys.change_for(control, alias, made.public_id, "disabled")
    await api_keys.change_for(control, alias, made.public_id, "deleted")
    await organizations.set_state(control, alias, "suspended")
    assert (await told(control, alice))[1:] == [
        ("api_key_added", "spare", ""),
        ("api_key_updated", "spare", ""),
        ("api_key_deleted", "spare", ""),
        ("organization_updated", alias, ""),
    ]


async def test_rejected_operation_records_no_event_and_no_count(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    await queues.create(control, alice, QueueFields("orders"))
    before = await told(control, alice), await usage.event_counts(control, alice)
    refused: tuple[Callable[[], Coroutine[Any, Any, object]], ...] = (
        lambda: queues.create(control, alice, QueueFields("orders")),
        lambda: queues.delete(control, alice, "0" * 21),
        lambda: api_keys.delete(control, alice, alice.key_public_id),
    )
    for verb in refused:
        with pytest.raises(DiscueError):
            await verb()
    assert (await told(control, alice), await usage.event_counts(control, alice)) == before


async def test_event_is_hidden_after_24_hours(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    await queues.create(control, alice, QueueFields("orders"))
    cast.clock.advance(DAY_MS)
    newest = (await page(control, alice)).events
    assert [event.type for event in newest] == []
    cast.clock.advance(-1)
    assert len((await page(control, alice)).events) == 2


async def test_windows_start_at_the_period_that_contains_their_start(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    await queues.create(control, alice, QueueFields())
    counts = []
    midnight = NOON - NOON % DAY_MS + DAY_MS
    last = NOON - NOON % PERIOD_MS + PERIOD_MS - 1
    for now in (last + 3_600_000, last + 3_600_001, midnight - 1, midnight, last + DAY_MS, last + DAY_MS + 1):
        cast.clock.advance(now - control.clock.now())
        found = await usage.event_counts(control, alice)
        windows = (found["last_1_hours"], found["today_so_far"], found["last_24_hours"])
        counts.append(tuple(window["queue_added"] for window in windows))
    assert counts == [(1, 1, 1), (0, 1, 1), (0, 1, 1), (0, 0, 1), (0, 0, 1), (0, 0, 0)]


async def test_following_the_onward_id_skips_no_event_that_is_stored_late(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    start = (await page(control, alice)).onward
    heard: set[str] = set()
    late = control.occurrence(alice)
    for step in range(12):
        cast.clock.advance(1_000)
        await queues.create(control, alice, QueueFields(f"queue-{step}"))
        if step == 3:
            await _record_late(control, alice, late)
        following = await page(control, alice, after=start, limit=100)
        heard |= {event.name for event in following.events}
        start = following.onward
    assert {f"queue-{step}" for step in range(12)} | {"late"} <= heard
    assert millisecond_in(start) == control.clock.now() - SETTLING_MS


async def _record_late(control: ControlContext, principal: Principal, occurrence: Occurrence) -> None:
    await control.write(
        lambda tx: events.record(tx, occurrence, "queue_added", principal.organization, ref="0" * 21, name="late")
    )


async def test_full_pages_continue_after_their_last_event(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    after = last_id_of(control.clock.now())
    for step in range(5):
        cast.clock.advance(1)
        await queues.create(control, alice, QueueFields(f"queue-{step}"))
    names = []
    for _ in range(5):
        following = await page(control, alice, after=after, limit=1)
        names += [event.name for event in following.events]
        after = following.onward
    assert names == [f"queue-{step}" for step in range(5)]


OF_SEVEN = event_id_of(row_id_at(7) + 3)


@pytest.mark.parametrize(("stored_at", "place"), [(7, OF_SEVEN), (6, last_id_of(6)), (9, last_id_of(8))])
def test_position_follows_the_time_if_the_id_disagrees(stored_at: int, place: str) -> None:
    assert event_position(stored_at, OF_SEVEN) == place


async def _pages(cast: Cast, start: Selection, side: str) -> list[str]:
    """Follow the pages of events from one to the end of the list, and return all ids, newest first."""
    found: list[str] = []
    selection = start
    for _ in range(200):
        page = await usage.list_of_events(cast.control, cast.alice.principal, selection)
        ids = [event.id for event in page.items]
        assert len(ids) <= selection.per_page
        if side == "after":
            found, goes_on, place = [*found, *ids], page.has_next, page.resumes_after or (ids or [""])[-1]
        else:
            found, goes_on, place = [*ids, *found], page.has_previous, page.resumes_before or (ids or [""])[0]
        if not goes_on:
            return found
        selection = msgspec.structs.replace(start, page=1, **{side: place})
    raise AssertionError("the list has no end")


@pytest.mark.parametrize("is_cut", [False, True])
async def test_pages_of_events_follow_each_other_both_ways(
    cast: Cast,
    control: ControlContext,
    monkeypatch: pytest.MonkeyPatch,
    is_cut: bool,  # noqa: FBT001
) -> None:
    if is_cut:
        monkeypatch.setattr(events, "_ROWS_A_STEP", 2)
        monkeypatch.setattr(events, "_PASSED", 2)
    alice = cast.alice.principal
    made = [await queues.create(control, alice, QueueFields()) for _ in range(9)]
    for each in made[2:6]:
        await queues.delete(control, alice, each.queue.public_id)
    everything = [each.id for each in (await usage.page_of_events(control, alice, EventSelection())).events]
    assert len(everything) > 12
    for topic in ("all", "queues", "messages"):
        page = await usage.page_of_events(control, alice, EventSelection(topic))
        expected = [each.id for each in page.events]
        start = Selection(per_page=3, topic=topic)
        assert await _pages(cast, start, "after") == expected
        assert await _pages(cast, msgspec.structs.replace(start, before="0" * 21), "before") == expected
        numbered: list[str] = []
        for number in range(1, 9):
            shown = await usage.list_of_events(control, alice, msgspec.structs.replace(start, page=number))
            assert shown.has_previous == (number > 1 and bool(shown.items))
            numbered += [each.id for each in shown.items]
        assert numbered == expected
    with pytest.raises(BadRequest):
        await usage.list_of_events(control, alice, Selection(page=101))


@pytest.mark.parametrize(
    ("before", "current", "elapsed", "rate"),
    [
        (0, 0, 0, 0.0),
        (50, 0, 0, 10.0),
        (0, 50, PERIOD_MS, 10.0),
        (50, 50, PERIOD_MS // 2, 15.0),
        (50, 5, PERIOD_MS, 1.0),
        # Another worker's clock may be behind.
        (50, 5, PERIOD_MS + 1, 1.0),
    ],
)
def test_rate_is_the_average_of_the_past_five_minutes(before: int, current: int, elapsed: int, rate: float) -> None:
    assert rate_a_minute(before, current, elapsed) == rate


async def test_events_reach_further_back_than_a_day_only_if_asked_for(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    began = control.clock.now()
    queue = (await queues.create(control, alice, QueueFields())).queue.public_id
    cast.clock.advance(40 * DAY_MS)

    async def found(created_after: int | None) -> list[list[str]]:
        listed = await usage.list_of_events(control, alice, Selection(created_after=created_after))
        page = await usage.page_of_events(control, alice, EventSelection("queues", created_after=created_after))
        return [[each.ref for each in some if each.ref == queue] for some in (listed.items, page.events)]

    assert await found(None) == [[], []]
    assert await found(began - 1) == [[queue], [queue]]
    assert await found(began + 1_000) == [[], []]
