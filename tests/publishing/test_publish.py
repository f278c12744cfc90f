"""Publishing to a queue that changes at the same moment."""

import msgspec
import pytest

from discue.auth.control_plane_cache import QueueRecord
from discue.control import event_types, messages, organizations, queues
from discue.control.event_types import EventTypeFields
from discue.control.organizations import OrganizationFields
from discue.control.queues import QueueFields
from discue.domain.errors import Fault, NotFound, PayloadTooLarge, Unavailable, Unprocessable
from discue.domain.message_data import JSON_VALUE, TEXT
from discue.domain.messages import MessageOptions
from discue.domain.scopes import Principal
from discue.publishing.publish import NewMessage, publish
from discue.store.pagination import Selection
from tests.support.cast import Cast, control_of, publisher_of

ONE = (NewMessage(b"1", JSON_VALUE),)


async def _queue(cast: Cast, principal: Principal) -> QueueRecord:
    made = await queues.create(cast.control, principal, QueueFields("orders", max_message_bytes=10))
    return await cast.control.cache.queue(principal.organization, made.queue.public_id)


async def _stored(cast: Cast, queue: QueueRecord) -> int:
    listing = await messages.page_of_queue(cast.control, cast.alice.principal, queue.public_id, Selection(100))
    return len(listing.items)


async def test_messages_have_consecutive_seqs_in_request_order(cast: Cast) -> None:
    queue = await _queue(cast, cast.alice.principal)
    drafts = tuple(NewMessage(b"%d" % number, JSON_VALUE) for number in range(3))
    entries = await publish(publisher_of(cast.control), queue, drafts)
    assert [(entry.seq, entry.body) for entry in entries] == [(1, b"0"), (2, b"1"), (3, b"2")]


async def test_oversized_message_is_named_and_none_is_stored(cast: Cast) -> None:
    queue = await _queue(cast, cast.alice.principal)
    drafts = (
        NewMessage(b"1", JSON_VALUE, None, "/messages/0/data"),
        NewMessage(b"x" * 11, TEXT, None, "/messages/1/data"),
    )
    with pytest.raises(PayloadTooLarge) as raised:
        await publish(publisher_of(cast.control), queue, drafts)
    assert raised.value.faults == (Fault("/messages/1/data", "has 11 bytes; at most 10 are allowed"),)
    assert await _stored(cast, queue) == 0


async def test_outdated_queue_is_read_again(cast: Cast) -> None:
    queue = await _queue(cast, cast.alice.principal)
    outdated = msgspec.structs.replace(queue, config_version=queue.config_version + 7)
    await publish(publisher_of(cast.control), outdated, ONE)
    assert await _stored(cast, queue) == 1


async def test_message_is_checked_against_the_changed_queue(cast: Cast) -> None:
    principal = cast.alice.principal
    queue = await _queue(cast, principal)
    await queues.change(cast.control, principal, queue.public_id, QueueFields(max_message_bytes=2))
    with pytest.raises(PayloadTooLarge):
        await publish(publisher_of(cast.control), queue, (NewMessage(b"123", JSON_VALUE),))
    assert await _stored(cast, queue) == 0


async def test_deleted_queue_is_not_found(cast: Cast) -> None:
    queue = await _queue(cast, cast.alice.principal)
    await queues.delete(cast.control, cast.alice.principal, queue.public_id)
    with pytest.raises(NotFound):
        await publish(publisher_of(cast.control), queue, ONE)


async def test_publish_fails_if_the_queue_keeps_changing(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = await _queue(cast, cast.alice.principal)
    outdated = msgspec.structs.replace(queue, config_version=queue.config_version + 7)

    async def always_outdated(_organization: int, _public_id: str) -> QueueRecord:
        return outdated

    monkeypatch.setattr(cast.control.cache, "queue", always_outdated)
    with pytest.raises(Unavailable):
        await publish(publisher_of(cast.control), outdated, ONE)


async def test_worker_with_an_outdated_cache_accepts_what_the_queue_allows_now(cast: Cast) -> None:
    queue = await _queue(cast, cast.alice.principal)
    await queues.change(cast.control, cast.alice.principal, queue.public_id, QueueFields(max_message_bytes=11))
    await publish(publisher_of(cast.control), queue, (NewMessage(b"x" * 11, TEXT),))
    with pytest.raises(PayloadTooLarge):
        await publish(publisher_of(cast.control), queue, (NewMessage(b"x" * 12, TEXT),))
    assert await _stored(cast, queue) == 1


async def test_worker_with_an_outdated_cache_accepts_what_the_event_types_allow_now(cast: Cast) -> None:
    principal = cast.alice.principal
    own = principal.organization_public_id
    await organizations.change(cast.control, principal, own, OrganizationFields(require_known_types=True))
    strict = EventTypeFields("order.paid", json_schema=b'{"type": "string"}')
    event_type = await event_types.create(cast.control, principal, strict)
    queue = await _queue(cast, principal)
    elsewhere = control_of(cast.control.store, cast.clock)
    await elsewhere.cache.open()
    publisher = publisher_of(elsewhere)
    draft = (NewMessage(b"1", JSON_VALUE, options=MessageOptions(type="order.paid")),)
    with pytest.raises(Unprocessable, match="string"):
        await publish(publisher, queue, draft)
    loose = EventTypeFields(json_schema=b'{"type": "integer"}')
    await event_types.change(cast.control, principal, event_type.public_id, loose)
    await publish(publisher, queue, draft)
    await event_types.delete(cast.control, principal, event_type.public_id)
    await elsewhere.cache.catch_up()
    with pytest.raises(Unprocessable, match="must be an event type"):
        await publish(publisher, queue, draft)
    await organizations.change(cast.control, principal, own, OrganizationFields(require_known_types=False))
    await publish(publisher, queue, draft)
    assert await _stored(cast, queue) == 2


async def test_refused_messages_are_refused_however_often_others_change_something(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, cache = await _queue(cast, cast.alice.principal), cast.control.cache
    elsewhere, catch_up = control_of(cast.control.store, cast.clock), cache.catch_up
    await elsewhere.cache.open()

    async def changed_meanwhile() -> None:
        await queues.create(elsewhere, cast.charlie.principal, QueueFields())
        await catch_up()

    monkeypatch.setattr(cache, "catch_up", changed_meanwhile)
    with pytest.raises(PayloadTooLarge):
        await publish(publisher_of(cast.control), queue, (NewMessage(b"x" * 11, TEXT),))
