import msgspec
import pytest

from discue.control import listeners, queues
from discue.control.context import ControlContext
from discue.control.listener_fields import ListenerFields
from discue.control.queues import QueueFields
from discue.domain.errors import NotFound
from discue.domain.message_data import JSON_VALUE
from discue.store import purge
from discue.store.engine import Append, NewEntry, QueueClosed
from tests.support.cast import Cast


async def test_change_sets_only_given_fields_and_increments_the_version(cast: Cast, control: ControlContext) -> None:
    made = await queues.create(control, cast.alice.principal, QueueFields("orders", max_message_bytes=100))
    cast.clock.advance(5)
    fields = QueueFields(retention_seconds=60)
    changed = (await queues.change(control, cast.alice.principal, made.queue.public_id, fields)).queue
    assert changed == msgspec.structs.replace(
        made.queue,
        retention_seconds=60,
        config_version=made.queue.config_version + 1,
        updated_at=made.queue.updated_at + 5,
    )
    cleared = await queues.change(control, cast.alice.principal, changed.public_id, QueueFields(max_message_bytes=None))
    assert (cleared.queue.max_message_bytes, cleared.queue.retention_seconds) == (None, 60)


async def test_deletion_frees_the_alias_and_ends_publishing_at_once(cast: Cast, control: ControlContext) -> None:
    principal = cast.alice.principal
    made = (await queues.create(control, principal, QueueFields("orders"))).queue
    await control.cache.queue(principal.organization, made.public_id)
    await queues.delete(control, principal, made.public_id)
    with pytest.raises(NotFound):
        await queues.get(control, principal, made.public_id)
    with pytest.raises(NotFound):
        await control.cache.queue(principal.organization, made.public_id)
    entry = NewEntry("m" * 21, JSON_VALUE, b"1")
    with pytest.raises(QueueClosed):
        await control.store.append(Append(made.organization, made.id, made.config_version, 0, (entry,)))
    await queues.create(control, principal, QueueFields("orders"))
    job = await control.store.read(purge.next_after)
    assert job is not None
    assert (job.kind, job.queue) == ("purge_queue", made.id)


async def test_queue_shows_ids_and_aliases_of_its_listeners(cast: Cast, control: ControlContext) -> None:
    principal = cast.alice.principal
    queue = (await queues.create(control, principal, QueueFields())).queue.public_id
    urls = ListenerFields("billing", notify_url="https://example.com/a", liveness_url="https://example.com/b")
    made = (await listeners.create(control, principal, queue, urls)).listener
    shown = await queues.get(control, principal, queue)
    assert [(each.public_id, each.alias) for each in shown.listeners] == [(made.public_id, "billing")]
    assert (await queues.page(control, principal)).items[0] == shown
