"""The queue of system events: what clients may do with it, and which changes it reports."""

import re
from functools import partial

import msgspec
import pytest

from discue.control import listeners, organizations, queues, schedules, topics, usage
from discue.control.context import ControlContext
from discue.control.listener_fields import ListenerFields, OptionFields
from discue.control.queues import QueueFields
from discue.control.schedules import ScheduleFields
from discue.control.topics import ChannelFields
from discue.domain.aliases import NameFields
from discue.domain.errors import Conflict, DiscueError, Forbidden, QuotaExceeded, Unprocessable
from discue.domain.listener_health import Liveness
from discue.domain.message_data import JSON_VALUE, SentData
from discue.domain.model import Queue
from discue.domain.system_events import SYSTEM_QUEUE_ALIAS
from discue.publishing.publish import NewMessage, publish
from discue.store import cursors
from discue.store.engine import Transaction
from discue.store.listeners import HealthRecord, ListenerHealth, write_health
from tests.support.cast import Cast, publisher_of
from tests.support.system_queue import system_events

URLS = ListenerFields("billing", notify_url="https://example.com/a", liveness_url="https://example.com/b")


async def _system_queue(cast: Cast) -> Queue:
    """Return alice's system queue: it is in her list, and nothing else is."""
    [details] = (await queues.page(cast.control, cast.alice.principal)).items
    assert details.queue.alias == SYSTEM_QUEUE_ALIAS
    return details.queue


async def test_each_organization_has_a_queue_that_counts_towards_no_quota(cast: Cast, control: ControlContext) -> None:
    await _system_queue(cast)
    alice = cast.alice.principal
    await organizations.set_limits(control, "com.example.alice", {"quota_queues": 1})
    assert (await usage.used_quotas(control, alice)).used["queues"] == 0
    await queues.create(control, alice, QueueFields())
    with pytest.raises(QuotaExceeded):
        await queues.create(control, alice, QueueFields())
    assert "queue_added" not in (await usage.event_counts(control, cast.charlie.principal))["last_24_hours"]


async def test_clients_cannot_publish_to_the_system_queue(cast: Cast, control: ControlContext) -> None:
    alice, queue = cast.alice.principal, await _system_queue(cast)
    record = await control.cache.queue(alice.organization, queue.public_id)
    with pytest.raises(Forbidden, match="Only the service publishes"):
        await publish(publisher_of(control), record, [NewMessage(b"1", JSON_VALUE)])
    fields = ScheduleFields(cron="@daily", data=SentData(b"1"))
    with pytest.raises(Forbidden):
        await schedules.create(control, alice, queue.public_id, fields)
    topic = (await topics.create(control, alice, NameFields())).topic.public_id
    with pytest.raises(Forbidden):
        await topics.create_channel(control, alice, topic, ChannelFields(queue=queue.public_id))


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("message.mised", "/types/1 matches no system event; did you mean message.missed?"),
        ("listener.*.*", "/types/1 matches no system event"),
        ("zzz", "/types/1 matches no system event; known names: domain.lost, domain.verified, "),
    ],
)
async def test_types_that_no_system_event_has_are_refused(
    cast: Cast, control: ControlContext, given: str, rule: str
) -> None:
    alice, system = cast.alice.principal, (await _system_queue(cast)).public_id
    types = ListenerFields("a", notify_url="https://example.com/a", options=OptionFields(types=("listener.>", given)))
    with pytest.raises(Unprocessable, match=re.escape(rule)):
        await listeners.create(control, alice, system, types)
    fields = msgspec.structs.replace(types, options=OptionFields(types=("listener.>", "*.missed")))
    made = (await listeners.create(control, alice, system, fields)).listener.public_id
    with pytest.raises(Unprocessable, match=re.escape(rule)):
        await listeners.change(control, alice, system, made, fields=types)
    other = (await queues.create(control, alice, QueueFields())).queue.public_id
    assert (await listeners.create(control, alice, other, types)).listener.options.types == ("listener.>", given)


async def test_system_queue_cannot_be_deleted_and_only_its_retention_and_retries_change(
    cast: Cast, control: ControlContext
) -> None:
    alice, queue = cast.alice.principal, (await _system_queue(cast)).public_id
    with pytest.raises(Conflict, match="cannot be deleted"):
        await queues.delete(control, alice, queue)
    for fields in (QueueFields("alarms"), QueueFields(max_message_bytes=5)):
        with pytest.raises(Unprocessable, match="only `retention` and `retry`"):
            await queues.change(control, alice, queue, fields)
    changed = await queues.change(control, alice, queue, QueueFields(SYSTEM_QUEUE_ALIAS, retention_seconds=60))
    assert (changed.queue.retention_seconds, changed.queue.is_system) == (60, True)


async def test_no_other_queue_can_have_its_alias(cast: Cast, control: ControlContext) -> None:
    other = (await queues.create(control, cast.alice.principal, QueueFields("orders"))).queue.public_id
    attempts: tuple[DiscueError, ...] = ()
    for attempt in (
        queues.create(control, cast.alice.principal, QueueFields(SYSTEM_QUEUE_ALIAS)),
        queues.change(control, cast.alice.principal, other, QueueFields(SYSTEM_QUEUE_ALIAS)),
    ):
        with pytest.raises(Unprocessable) as refused:
            await attempt
        attempts += (refused.value,)
    assert [error.faults[0].detail for error in attempts] == ["is reserved for the events of the service"] * 2


async def _become_inactive(cast: Cast, organization: int, listener: int, url: str) -> None:
    async def work(tx: Transaction) -> None:
        await tx.execute("UPDATE cursor SET owner = 77 WHERE listener = $1", listener)
        [lane] = await cursors.lanes_of(tx, owner=77, organization=organization, listener=listener)
        known = ListenerHealth(Liveness("inactive", in_a_row=-3))
        await write_health(tx, [HealthRecord(organization, listener, lane.token, url, 1, known)])

    await cast.control.store.write(work)


async def test_requests_that_disable_enable_or_unblock_a_listener_are_reported(
    cast: Cast, control: ControlContext
) -> None:
    alice = cast.alice.principal
    queue = (await queues.create(control, alice, QueueFields("orders"))).queue
    listener = (await listeners.create(control, alice, queue.public_id, URLS)).listener
    change = partial(listeners.change, control, alice, queue.public_id, listener.public_id)
    # Neither does a name change anything, nor a second time, nor a URL while the listener is not inactive.
    for fields in (
        ListenerFields(status="enabled"),
        ListenerFields("invoices", status="disabled"),
        ListenerFields("invoices", status="disabled"),
        ListenerFields(status="enabled"),
        ListenerFields(liveness_url="https://example.com/c"),
    ):
        await change(fields=fields)
    await _become_inactive(cast, alice.organization, listener.id, "https://example.com/c")
    await change(fields=ListenerFields(liveness_url=None))
    at = control.clock.now()
    names = {
        "at": at,
        "listener": {"id": listener.public_id, "alias": "invoices"},
        "queue": {"id": queue.public_id, "alias": "orders"},
    }
    assert await system_events(control.store, alice.organization) == [
        {"type": "listener.disabled", "reason": "request", **names},
        {"type": "listener.recovered", "was": "disabled", **names},
        {"type": "listener.recovered", "was": "inactive", **names},
    ]


async def test_the_resource_that_reaches_80_percent_of_a_quota_is_reported(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    await organizations.set_limits(control, "com.example.alice", {"quota_queues": 5})
    made = [await queues.create(control, alice, QueueFields()) for _ in range(5)]
    near = {"type": "quota.near", "at": control.clock.now(), "quota": "queues", "limit": 5, "used": 4}
    assert await system_events(control.store, alice.organization) == [near]
    await queues.delete(control, alice, made[0].queue.public_id)
    await queues.create(control, alice, QueueFields())
    assert await system_events(control.store, alice.organization) == [near]


async def test_creation_that_reaches_80_percent_of_a_quota_is_reported_once_a_day(
    cast: Cast, control: ControlContext
) -> None:
    alice = cast.alice.principal
    await organizations.set_limits(control, "com.example.alice", {"quota_creations_a_day": 5})
    for name in ("a", "b", "c", "d", "e"):
        await queues.create(control, alice, QueueFields(name))
    near = {"type": "quota.near", "at": control.clock.now(), "quota": "creations_a_day", "limit": 5, "used": 4}
    assert await system_events(control.store, alice.organization) == [near]
