"""Rows for tests of the store, with ids that say which is which."""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from discue.domain.domain_challenge import Challenge, Domain, Verification
from discue.domain.ids import encode, row_id_at
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import StoredMessage
from discue.domain.model import (
    ApiKey,
    CursorCounts,
    Listener,
    MissedSelection,
    Organization,
    Queue,
    Redelivery,
    Replay,
)
from discue.domain.schedule import Schedule, Timing
from discue.store import listeners, organizations, queues
from discue.store.engine import Append, Appended, Batch, IdempotencyRecord, NewEntry, Row, Settle, Transaction
from discue.store.queues import Head
from discue.store.store import Store
from tests.support.clocks import NOON
from tests.support.messages import read_message


def public_id(number: int, letter: str = "a") -> str:
    """The id of the `number`th thing, made `number` milliseconds after noon."""
    return encode(NOON + number, 8) + letter * 13


def row_id(number: int) -> int:
    return row_id_at(NOON + number)


def an_organization(number: int, alias: str | None = None, *, is_operator: bool = False) -> Organization:
    return Organization(
        id=row_id(number),
        public_id=public_id(number),
        alias=alias or f"com.example.n{number}",
        state="active",
        is_operator=is_operator,
        settings={},
        created_at=NOON,
        updated_at=NOON,
    )


def a_key(organization: int, number: int, alias: str | None = None) -> ApiKey:
    return ApiKey(
        organization=organization,
        id=row_id(number),
        public_id=public_id(number),
        alias=alias or f"key-{number}",
        status="enabled",
        scopes="{}",
        expires_at=0,
        last_used_at=0,
        created_at=NOON,
        updated_at=NOON,
        secret_hash=b"\0" * 32,
    )


def a_queue(organization: int, number: int, alias: str | None = None) -> Queue:
    return Queue(
        organization=organization,
        id=row_id(number),
        public_id=public_id(number),
        alias=alias or f"queue-{number}",
        retention_seconds=None,
        max_message_bytes=None,
        config_version=1,
        created_at=NOON,
        updated_at=NOON,
    )


def a_listener(queue: Queue, number: int, alias: str | None = None) -> Listener:
    return Listener(
        organization=queue.organization,
        id=row_id(number),
        public_id=public_id(number),
        queue=queue.id,
        queue_public_id=queue.public_id,
        alias=alias or f"listener-{number}",
        status="enabled",
        notify_url="https://example.com/notify",
        liveness_url="https://example.com/live",
        config_version=1,
        created_at=NOON,
        updated_at=NOON,
        secrets=b'[{"text":"whsec_one"}]',
    )


def a_domain(number: int, **changes: object) -> Domain:
    """Return a domain of the first organization, unless the changes name another."""
    made = Domain(
        organization=row_id(1),
        id=row_id(number),
        public_id=public_id(number),
        alias=f"domain-{number}",
        hostname="Example.com",
        host_key="example.com",
        port=443,
        challenge=Challenge(".well-known/discue", "name", "content", NOON, NOON + 1),
        verification=Verification(due_at=NOON),
        config_version=1,
        created_at=NOON,
        updated_at=NOON,
    )
    return msgspec.structs.replace(made, **changes)


def a_redelivery(listener: Listener, number: int, **changes: object) -> Redelivery:
    """Return a redelivery of all that the listener has missed, with these changes."""
    key = (listener.organization, row_id(number), public_id(number), listener.id)
    plain = Redelivery(*key, "waiting", MissedSelection(), 0, 9, 0, NOON, NOON)
    return msgspec.structs.replace(plain, **changes)


def a_replay(listener: Listener, number: int) -> Replay:
    key = (listener.organization, row_id(number), public_id(number), listener.id)
    return Replay(*key, "waiting", 1, 9, 0, 9, NOON, NOON)


def a_schedule(queue: Queue, number: int, **changes: object) -> Schedule:
    """Return a schedule that runs every minute, with these changes."""
    made = Schedule(
        organization=queue.organization,
        id=row_id(number),
        public_id=public_id(number),
        queue=queue.id,
        queue_public_id=queue.public_id,
        alias=f"schedule-{number}",
        status="enabled",
        timing=Timing("* * * * *"),
        config_version=1,
        created_at=NOON,
        updated_at=NOON,
        data=b'{"n":1}',
    )
    return msgspec.structs.replace(made, **changes)


async def stored_queue(store: Store, organization: int, number: int) -> Queue:
    queue = a_queue(organization, number)
    await store.write(lambda tx: queues.insert(tx, queue))
    return queue


async def stored_organization(store: Store, number: int) -> Organization:
    organization = an_organization(number)
    await store.write(lambda tx: organizations.insert(tx, organization))
    return organization


async def stored_listener(store: Store, queue: Queue, number: int) -> Listener:
    listener = a_listener(queue, number)

    async def work(tx: Transaction) -> None:
        head = await queues.head(tx, queue.organization, queue.id)
        assert head is not None
        await listeners.insert(tx, listener, head.head)

    await store.write(work)
    return listener


async def stored_listeners(store: Store, count: int) -> list[Listener]:
    """Store an organization and a queue with so many listeners, in one transaction."""
    organization = an_organization(1)
    queue = a_queue(organization.id, 2)
    made = [a_listener(queue, 10 + number) for number in range(count)]

    async def work(tx: Transaction) -> None:
        await organizations.insert(tx, organization)
        await queues.insert(tx, queue)
        for listener in made:
            await listeners.insert(tx, listener, 0)

    await store.write(work)
    return made


def a_settle(listener: Listener, position: int = 0, **changes: object) -> Settle:
    """Return a settle of a live cursor that has neither an owner nor a settle yet, with these changes."""
    plain = Settle(listener.organization, listener.id, 0, listener.queue, 0, 0, position, None, 0, 0, 0, 0, 0)
    return msgspec.structs.replace(plain, **changes)


async def rows(store: Store, sql: str) -> list[Row]:
    return await store.read(lambda tx: tx.rows(sql))


async def stored_message(store: Store, queue: Queue, message: str) -> StoredMessage:
    found = await store.read(lambda tx: read_message(tx, queue, message))
    assert found is not None
    return found


async def head_of(store: Store, queue: Queue) -> Head:
    found = await store.read(lambda tx: queues.head(tx, queue.organization, queue.id))
    assert found is not None
    return found


async def counts_of(store: Store, organization: int, listener: int) -> CursorCounts:
    async def work(tx: Transaction) -> CursorCounts:
        found = await listeners.by_id(tx, organization, listener)
        assert found is not None
        return (await listeners.read_facts(tx, organization, [found]))[listener].counts

    return await store.read(work)


def an_append(
    queue: Queue,
    first: int,
    count: int = 1,
    size: int = 2,
    *,
    now: int = NOON,
    version: int = 1,
    record: IdempotencyRecord | None = None,
) -> Append:
    """Return an append of messages whose ids begin with the `first`th."""
    entries = tuple(NewEntry(public_id(first + index), JSON_VALUE, b"x" * size) for index in range(count))
    return Append(queue.organization, queue.id, version, now, entries, record)


async def appended(store: Store, *appends: Append) -> list[Appended | Exception]:
    """Store appends in one commit."""
    return list((await store.engine.commit(Batch(appends=appends))).appends)


async def settled(store: Store, *settles: Settle) -> list[bool | Exception]:
    """Store settles in one commit."""
    return list((await store.engine.commit(Batch(settles=settles))).settles)


async def publish(store: Store, queue: Queue, ids: Sequence[str], now: int = NOON) -> Appended:
    entries = tuple(NewEntry(each, JSON_VALUE, b'"%s"' % each.encode()) for each in ids)
    return await store.append(Append(queue.organization, queue.id, queue.config_version, now, entries))


async def append_all(store: Store, appends: Iterable[Append]) -> None:
    """Store appends in order, in few commits: a commit for each append would take most of a test's time.

    Messages of a queue in one commit get the same time, so this sets the time of each append afterwards.
    """
    ordered = tuple(appends)
    await asyncio.gather(*map(store.append, ordered))
    times = ", ".join(f"('{entry.id}', {each.now})" for each in ordered for entry in each.entries)
    if times:
        sql = f"UPDATE log SET stored_at = v.column2 FROM (VALUES {times}) AS v WHERE log.id = v.column1"
        await store.write(lambda tx: tx.execute(sql))


async def publish_each(store: Store, queue: Queue, messages: Iterable[tuple[str, int]]) -> None:
    """Publish messages in order. Each has an id and a time."""
    entries = ((now, (NewEntry(each, JSON_VALUE, b'"%s"' % each.encode()),)) for each, now in messages)
    await append_all(store, (Append(queue.organization, queue.id, queue.config_version, *each) for each in entries))


async def take_all(tx: Transaction, owner: int) -> None:
    """Every cursor that somebody else has, or nobody."""
    await tx.execute("UPDATE cursor SET owner = $1, token = token + 1 WHERE owner IS DISTINCT FROM $1", owner)
