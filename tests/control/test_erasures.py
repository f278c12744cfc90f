"""Requests that erase messages: who may send them, and what is gone when they return."""

from functools import partial

import pytest

from discue.control import erasures, messages, queues, usage
from discue.control.context import ControlContext
from discue.control.queues import QueueFields
from discue.control.usage import EventSelection
from discue.domain.errors import Forbidden, NotFound
from discue.domain.message_data import TEXT
from discue.domain.messages import MessageOptions, encode_options, hash_key
from discue.domain.scopes import Scope
from discue.store import feed, purge
from discue.store.engine import Append, NewEntry
from tests.support.cast import Cast, Person
from tests.support.clocks import NOON

KEY = "customer-7"


async def _published(control: ControlContext, person: Person, count: int = 3) -> str:
    queue = (await queues.create(control, person.principal, QueueFields())).queue
    extra = encode_options(MessageOptions(key=KEY))
    entries = tuple(
        NewEntry(control.public_ids.next(), TEXT, b"hello", extra=extra, key_hash=hash_key(KEY)) for _ in range(count)
    )
    await control.store.append(Append(queue.organization, queue.id, queue.config_version, NOON, entries))
    return queue.public_id


async def test_messages_are_gone_when_the_request_ends(cast: Cast, control: ControlContext) -> None:
    alice = cast.alice.principal
    queue = await _published(control, cast.alice)
    before = await control.store.read(feed.head)
    made = await erasures.create(control, alice, queue, KEY)
    assert (made.state, made.erased, made.key) == ("done", 3, KEY)
    assert (await messages.page_of_queue(control, alice, queue)).items == ()
    assert await erasures.get(control, alice, queue, made.public_id) == made
    assert (await erasures.page(control, alice, queue)).items == (made,)
    # Lanes, including those of other workers, drop the messages that they hold.
    changes = await control.store.read(partial(feed.since, version=before, limit=10))
    assert "message" in [change.kind for change in changes]
    assert await control.store.read(purge.next_after) is None


async def test_key_that_may_write_a_queue_erases_there_only(cast: Cast, control: ControlContext) -> None:
    own, other = await _published(control, cast.alice), await _published(control, cast.alice)
    bob = (await cast.bob({"messages": Scope("write", (own,))})).principal
    made = await erasures.create(control, bob, own, KEY)
    reader = (await cast.bob({"messages": Scope("read")})).principal
    for refused in (
        erasures.create(control, bob, other, KEY),
        erasures.page(control, bob, other),
        erasures.create(control, reader, own, KEY),
    ):
        with pytest.raises(Forbidden):
            await refused
    with pytest.raises(NotFound):
        await erasures.get(control, reader, other, made.public_id)
    assert len((await messages.page_of_queue(control, cast.alice.principal, other)).items) == 3


async def test_queue_of_another_organization_is_not_found(cast: Cast, control: ControlContext) -> None:
    queue = await _published(control, cast.alice)
    with pytest.raises(NotFound):
        await erasures.create(control, cast.olga.principal, queue, KEY)
    assert len((await messages.page_of_queue(control, cast.alice.principal, queue)).items) == 3


async def test_audit_log_has_the_author_and_the_queue_of_an_erasure_but_not_the_key(
    cast: Cast, control: ControlContext
) -> None:
    queue, unread = await _published(control, cast.alice), await _published(control, cast.alice)
    for erased in (queue, unread):
        await erasures.create(control, cast.alice.principal, erased, KEY)
    bob = (await cast.bob({"events": Scope("read", (queue,))})).principal
    for reader, seen in ((cast.alice.principal, [unread, queue]), (bob, [queue])):
        found = (await usage.page_of_events(control, reader, EventSelection())).events
        recorded = [event for event in found if event.type == "erasure_added"]
        assert [(event.subject, event.ref) for event in recorded] == [("erasure", ref) for ref in seen]
        assert KEY not in {event.name for event in recorded}
        assert {event.client for event in recorded} == {cast.alice.principal.key_public_id}
