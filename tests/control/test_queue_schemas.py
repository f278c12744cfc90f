import asyncio

import msgspec
import pytest

from discue.auth.control_plane_cache import QueueRecord
from discue.control import queues
from discue.control.context import ControlContext
from discue.control.queues import ClearedSchema, QueueFields
from discue.domain.errors import Unprocessable
from discue.domain.message_data import JSON_VALUE
from discue.domain.schemas import Schema, parse_schema
from discue.publishing.publish import NewMessage, publish
from tests.support.cast import Cast, publisher_of

NUMBERS = parse_schema(b'{"n": {"type": "number"}}', "rules")
STRINGS = parse_schema(b'{"n": {"type": "string"}}', "rules")
NUMBER, STRING = NewMessage(b'{"n": 1}', JSON_VALUE), NewMessage(b'{"n": "x"}', JSON_VALUE)


async def _queue(cast: Cast, schema: Schema | None) -> QueueRecord:
    fields = QueueFields() if schema is None else QueueFields(schema=schema)
    made = await queues.create(cast.control, cast.alice.principal, fields)
    return await cast.control.cache.queue(cast.alice.principal.organization, made.queue.public_id)


async def test_new_schema_increments_the_version_and_sets_its_time(cast: Cast, control: ControlContext) -> None:
    principal = cast.alice.principal
    made = (await queues.create(control, principal, QueueFields(schema=NUMBERS))).queue
    cast.clock.advance(5)
    same = (await queues.change(control, principal, made.public_id, QueueFields(schema=NUMBERS))).queue
    other = (await queues.change(control, principal, made.public_id, QueueFields(schema=STRINGS))).queue
    cleared = ClearedSchema(frozenset({"rules"}))
    none = (await queues.change(control, principal, made.public_id, QueueFields(schema=cleared))).queue
    versions = [each.config_version for each in (made, same, other, none)]
    assert versions == list(range(versions[0], versions[0] + 4))
    assert [each.schema_set_at - made.created_at for each in (made, same, other)] == [0, 0, 5]
    assert (none.schema, none.schema_id, none.schema_set_at) == (None, None, 0)


async def test_every_message_fits_the_schema_at_the_time_of_its_append(cast: Cast, control: ControlContext) -> None:
    """No message is stored under a configuration that rejects it."""
    principal, queue = cast.alice.principal, await _queue(cast, NUMBERS)
    publisher = publisher_of(control)

    async def change() -> None:
        await queues.change(control, principal, queue.public_id, QueueFields(schema=STRINGS))

    drafts = [NUMBER, STRING] * 10
    outcomes = await asyncio.gather(
        *(publish(publisher, queue, (draft,)) for draft in drafts[:10]),
        change(),
        *(publish(publisher, queue, (draft,)) for draft in drafts[10:]),
        return_exceptions=True,
    )
    kinds = {type(outcome) for outcome in outcomes if outcome is not None}
    assert kinds <= {tuple, Unprocessable}
    bodies = [
        entry.body
        for page in [await control.store.page(queue.organization, queue.id, 0, 100, max_bytes=1 << 20)]
        for entry in page.entries
    ]
    changed_at = bodies.index(STRING.body) if STRING.body in bodies else len(bodies)
    assert bodies == [NUMBER.body] * changed_at + [STRING.body] * (len(bodies) - changed_at)
    with pytest.raises(Unprocessable):
        await publish(publisher, queue, (NUMBER,))


async def test_schema_is_compiled_once_per_version(cast: Cast, control: ControlContext) -> None:
    queue = await _queue(cast, NUMBERS)
    publisher = publisher_of(control)
    assert queue.checker is not None
    await publish(publisher, queue, (NUMBER,))
    again = await control.cache.queue(queue.organization, queue.public_id)
    assert again.checker is queue.checker
    await queues.change(control, cast.alice.principal, queue.public_id, QueueFields(schema=STRINGS))
    changed = await control.cache.queue(queue.organization, queue.public_id)
    assert changed.checker is not queue.checker


async def test_expensive_schema_lowers_the_size_limit_of_messages(cast: Cast, control: ControlContext) -> None:
    rules = [{"maximum": number} for number in range(512)]
    heavy = parse_schema(msgspec.json.encode({"items": {"allOf": rules}}), "json_schema")
    queue = await _queue(cast, heavy)
    assert queue.max_message_bytes == 65_536
