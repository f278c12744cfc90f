"""Publishing to a queue that changes at the same moment."""

import msgspec
import pytest

from discue.auth.control_plane_cache import QueueRecord
from discue.control import messages, queues
from discue.control.queues import QueueFields
from discue.domain.errors import Fault, NotFound, PayloadTooLarge, Unavailable
from discue.domain.message_data import JSON_VALUE, TEXT
from discue.domain.scopes import Principal
from discue.publishing.publish import NewMessage, publish
from discue.store.pagination import Selection
from tests.support.cast import Cast, publisher_of

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
