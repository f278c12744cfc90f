from collections.abc import Sequence

import pytest

from discue.control import messages, queues
from discue.control.context import ControlContext
from discue.control.queues import QueueFields
from discue.domain.errors import Forbidden, NotFound
from discue.domain.message_data import TEXT
from discue.domain.scopes import Scope
from discue.store.engine import Append, NewEntry
from tests.support.cast import Cast, Person
from tests.support.clocks import NOON


async def _reserve(size: int, codec: int) -> None:
    raise AssertionError(f"{size} bytes are read with their message")


async def _published(control: ControlContext, person: Person, count: int = 1) -> tuple[str, Sequence[str]]:
    """The id of a new queue, and those of its messages, oldest first."""
    queue = (await queues.create(control, person.principal, QueueFields())).queue
    ids = [control.public_ids.next() for _ in range(count)]
    entries = tuple(NewEntry(each, TEXT, b"hello") for each in ids)
    await control.store.append(Append(queue.organization, queue.id, queue.config_version, NOON, entries))
    return queue.public_id, ids


async def test_key_limited_to_a_queue_or_message_reaches_only_those(cast: Cast, control: ControlContext) -> None:
    queue, whole = await _published(control, cast.alice, 2)
    other, (one, hidden) = await _published(control, cast.alice, 2)
    bob = (await cast.bob({"messages": Scope("write", (queue, one))})).principal
    assert {each.id for each in (await messages.page(control, bob)).items} == {*whole, one}
    assert [each.id for each in (await messages.page_of_queue(control, bob, other)).items] == [one]
    assert len((await messages.page_of_queue(control, bob, queue)).items) == 2
    await messages.get(control, bob, other, one, reserve=_reserve)
    await messages.delete(control, bob, queue, whole[0])
    for refused in (
        messages.get(control, bob, other, hidden, reserve=_reserve),
        messages.delete(control, bob, other, hidden),
    ):
        with pytest.raises(Forbidden):
            await refused
    with pytest.raises(NotFound):
        await messages.get(control, bob, queue, hidden, reserve=_reserve)


async def test_glances_are_only_at_messages_that_the_caller_may_read(cast: Cast, control: ControlContext) -> None:
    queue, _ = await _published(control, cast.alice, 2)
    found = (await messages.page_of_queue(control, cast.alice.principal, queue)).items
    scopes: list[tuple[dict[str, Scope], int]] = [
        ({"messages": Scope("read")}, 2),
        ({"messages": Scope("read", (found[0].id,))}, 1),
        ({"listeners": Scope("write"), "queues": Scope("write")}, 0),
    ]
    for granted, count in scopes:
        principal = (await cast.bob(granted)).principal
        glances = await messages.glances(control, principal, found, 4)
        assert [each.start for each in glances.values()] == [b"hell"] * count
