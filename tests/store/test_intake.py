"""Messages of the intake, which applications publish in their own transactions, and their moves into the logs."""

import asyncio
from functools import partial

import msgspec
import pytest

from discue.backup import copying
from discue.backup.copying import Side
from discue.dispatch.jobs.intake import Intake
from discue.domain.errors import StoreUnusable
from discue.domain.message_data import JSON_VALUE, TEXT
from discue.domain.messages import decode_options, hash_key
from discue.domain.model import EventType
from discue.observability.logs import Log
from discue.store import erasures, event_types, feed, intake, organizations, queues, tallies
from discue.store.engine import Notification, Transaction
from discue.store.intake import IntakeStep, MovedByAnother
from discue.store.purge import Job
from tests.store.intake_application import OURS, Application, publish
from tests.store.postgres_plans import index_conditions
from tests.store.rows import row_id, stored_organization, stored_queue
from tests.support.tallied import drift


async def test_message_is_published_by_the_commit_and_not_by_a_rollback(application: Application) -> None:
    async with application.connected() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await publish(connection, {"n": 1})
        await application.intake.move()
        assert await application.published() == []
        await transaction.commit()

        transaction = connection.transaction()
        await transaction.start()
        await publish(connection, {"n": 2})
        await transaction.rollback()

    await application.intake.move()

    assert await application.published() == [{"n": 1}]
    assert await application.waiting() == []


async def test_message_has_its_fields_and_is_counted(application: Application) -> None:
    async with application.connected() as connection:
        await connection.execute(
            """SELECT discue_publish('orders', ' {"b":1,"a":1.0} ', key => 'k', alias => 'first', type => 'order.paid',
                headers => '{"x-a":"b","X-B":"c d",
                    "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',
                expires_at => clock_timestamp() + interval '1 hour')"""
        )
        await publish(connection, "text")
        await publish(connection, None)
    await application.intake.move()

    first, second, third = await application.entries()
    assert (first.body, first.codec, first.key_hash) == (b'{"b":1,"a":1.0}', JSON_VALUE, hash_key("k"))
    options = decode_options(first.extra)
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert (options.key, options.headers) == ("k", (("x-a", "b"), ("X-B", "c d"), ("traceparent", traceparent)))
    assert (options.type, options.traceparent) == ("order.paid", traceparent)
    ((alias, expires_at),) = await application.run("SELECT alias, expires_at FROM log WHERE seq = 1")
    assert (alias, expires_at) == ("first", first.expires_at)
    assert (second.body, second.codec) == (b"text", TEXT)
    assert (third.body, third.codec) == (b"null", JSON_VALUE)
    counts = await application.store.read(lambda tx: tallies.since(tx, OURS, 1))
    assert [(kind, n) for _, kind, n in counts] == [(tallies.MESSAGE_ADDED, 3)]
    assert await application.store.read(drift) == {}


async def test_messages_of_a_key_are_ordered_in_an_ordered_queue(application: Application) -> None:
    await application.change_queue(ordered=True)
    await application.run("UPDATE queue SET ordered = 1 WHERE id = $1", application.queue.id)
    await application.control.cache.reset()
    await application.publish(1, key="k")
    await application.intake.move()

    assert [entry.key_hash for entry in await application.entries()] == [hash_key("k")]


async def test_delayed_message_waits_until_it_is_due(application: Application) -> None:
    async with application.connected() as connection:
        await connection.execute("SELECT discue_publish('orders', '1', deliver_at => now() + interval '1 hour')")
        await connection.execute("SELECT discue_publish('orders', '2', deliver_at => '2001-01-01')")
    await application.intake.move()

    first, second = await application.entries()
    assert (first.is_delayed, second.is_delayed) == (True, False)
    ((due_at, origin_seq),) = await application.run("SELECT due_at, origin_seq FROM scheduled")
    assert (origin_seq, application.delayed) == (1, [due_at])


async def test_many_messages_are_moved_in_the_order_of_their_transactions(application: Application) -> None:
    other = await stored_queue(application.store, OURS, 11)
    async with application.connected() as connection:
        await connection.execute("SELECT discue_publish('orders', to_json(n)) FROM generate_series(1, 1201) AS n")
        await connection.execute("SELECT discue_publish('queue-11', to_json(n)) FROM generate_series(1, 3) AS n")
        await connection.execute("SELECT discue_publish('orders', '0')")
    await application.intake.move()

    assert await application.published() == [*range(1, 1202), 0]
    assert [entry.body for entry in await application.entries(other)] == [b"1", b"2", b"3"]


async def test_open_transaction_of_an_application_holds_up_no_other_publish(application: Application) -> None:
    async with application.connected() as slow, application.connected() as fast:
        transaction = slow.transaction()
        await transaction.start()
        await publish(slow, "slow")
        await publish(fast, "fast")
        await asyncio.wait_for(application.intake.move(), 10)
        assert [entry.body for entry in await application.entries()] == [b"fast"]
        await transaction.commit()
    await application.intake.move()

    assert [entry.body for entry in await application.entries()] == [b"fast", b"slow"]


async def test_large_messages_are_moved_in_several_transactions(application: Application) -> None:
    async with application.connected() as connection:
        for size in (200_000, 200_000, 200_000, 200_000, 200_000, 200_000, 1):
            await publish(connection, "x" * size)
    rows = await application.store.read(partial(intake.oldest, queue=(OURS, application.queue.id)))
    assert len(rows) == 5

    await application.intake.move()

    assert [len(entry.body) for entry in await application.entries()] == [*[200_000] * 6, 1]


@pytest.mark.parametrize("has_statistics", [False, True])
async def test_step_reads_no_more_of_a_backlog_than_it_moves(application: Application, *, has_statistics: bool) -> None:
    async with application.connected() as connection:
        await connection.execute("SELECT discue_publish('orders', to_json(n)) FROM generate_series(1, 2000) AS n")
    if has_statistics:
        await application.run("ANALYZE intake")

    [condition] = (await application.store.read(lambda tx: index_conditions(tx, intake._ROWS))).values()
    assert "id >=" in condition


async def test_workers_that_move_the_same_rows_publish_each_once(application: Application) -> None:
    async with application.connected() as connection:
        await connection.execute("SELECT discue_publish('orders', to_json(n)) FROM generate_series(1, 700) AS n")
    second = Intake(
        application.control,
        Log("test"),
        application.leadership,
        on_error=application.errors.append,
        on_delayed=application.delayed.append,
    )

    await asyncio.gather(application.intake.move(), second.move(), application.intake.move())

    assert await application.published() == list(range(1, 701))


async def test_step_whose_rows_another_worker_has_moved_changes_nothing(application: Application) -> None:
    await application.publish(1)
    [row] = await application.store.read(partial(intake.oldest, queue=(OURS, application.queue.id)))
    version = application.queue.config_version
    step = IntakeStep((OURS, application.queue.id), version, (row.id + 1, row.id), (), {}, (1, 2))
    plan = await application.intake._plan(intake.WaitingQueue(step.queue, application.queue.public_id), [row, row], 1)
    step = msgspec.structs.replace(plan, ids=(row.id + 1, row.id))

    with pytest.raises(MovedByAnother):
        await application.store.write_exclusively(partial(intake.move, step=step, now=1))

    assert await application.published() == []
    assert await application.waiting() == [(1, None)]


async def test_worker_that_is_not_the_leader_moves_nothing(application: Application) -> None:
    await application.publish(1)
    application.leadership.is_held = False
    application.intake.request()
    await application.intake.round()
    assert await application.published() == []

    application.leadership.is_held = True
    application.intake.request()
    await application.intake.round()
    assert await application.published() == [1]


async def test_message_that_the_schema_rejects_stays_with_its_error_and_the_others_go_on(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    await application.change_queue(schema='{"type":"number"}', schema_id="x", schema_language="json_schema")
    for data in (1, "no", 2):
        await application.publish(data)
    await application.intake.move()

    assert await application.published() == [1, 2]
    [(data, error)] = await application.waiting()
    assert data == "no"
    assert error.startswith("The schema of the queue rejects the data: /data ")
    assert [each.message for each in caplog.records if each.levelname == "ERROR"] == ["intake_refused"]
    assert not (await application.store.engine.poll(())).has_intake

    await application.change_queue(schema=None, schema_id=None)
    await application.run("UPDATE intake SET error = NULL")
    await application.intake.move()
    assert [entry.body for entry in await application.entries()] == [b"1", b"2", b"no"]


async def test_message_without_a_known_type_stays_with_its_error(application: Application) -> None:
    settings = '{"require_known_types":true}'
    await application.run("UPDATE organization SET settings = $1 WHERE id = $2", settings, OURS)
    paid = EventType(OURS, 17, "e" * 21, "order.paid", "enabled", 0, 0, json_schema='{"type":"number"}')
    await application.store.write(partial(event_types.insert, made=paid))
    await application.control.cache.reset()
    for data, event_type in ((1, "order.paid"), ("no", "order.paid"), (2, "order.sent"), (3, None)):
        await application.publish(data, type=event_type)
    await application.intake.move()

    assert await application.published() == [1]
    refused = dict(await application.waiting())
    assert refused["no"].startswith("The schema of the event type order.paid rejects the data: /data ")
    assert refused[2].startswith("The value at /type must be an event type ")
    assert refused[3].startswith("The value at /type is required, and must be an event type ")

    async def delete(tx: Transaction) -> None:
        await event_types.delete(tx, OURS, paid.id)
        await feed.record(tx, "event_type", OURS, paid.id)

    # The deletion is in effect before this worker follows the feed.
    await application.store.write(delete)
    await application.publish(4, type="order.paid")
    await application.intake.move()
    assert await application.published() == [1]


async def test_message_whose_error_quotes_what_postgresql_cannot_store_holds_up_no_other(
    application: Application,
) -> None:
    schema = '{"additionalProperties":{"type":"number"}}'
    await application.change_queue(schema=schema, schema_id="x", schema_language="json_schema")
    async with application.connected() as connection:
        await connection.execute("""SELECT discue_publish('orders', '{"\\u0000":"x"}')""")
        await publish(connection, {"a": 1})
    await application.intake.move()

    assert await application.published() == [{"a": 1}]
    ((error,),) = await application.run("SELECT error FROM intake")
    assert "/data/\\u0000 must be" in error


async def test_json_that_only_postgresql_accepts_is_refused_when_it_is_moved(application: Application) -> None:
    async with application.connected() as connection:
        await connection.execute("""SELECT discue_publish('orders', '["\\ud800"]')""")
        await publish(connection, 2)
    await application.intake.move()

    assert await application.published() == [2]
    ((error,),) = await application.run("SELECT error FROM intake")
    assert "cannot be decoded" in error


async def test_messages_beyond_a_quota_wait_without_holding_up_another_organization(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    owner = await application.store.read(partial(organizations.get, organization=OURS))
    assert owner is not None
    limited = msgspec.structs.replace(owner, settings={"quota_messages_a_day": 2})
    await application.store.write(partial(organizations.update, organization=limited))
    for number in range(3):
        await application.publish(number)
    await application.intake.move()

    assert await application.published() == [0, 1]
    assert await application.waiting() == [(2, None)]
    assert [each.message for each in caplog.records if each.name.startswith("discue.test")] == ["intake_waits"]

    await application.store.write(partial(organizations.update, organization=owner))
    await application.intake.move()
    assert await application.published() == [0, 1]
    application.clock.advance(10_000)
    await application.intake.move()
    assert await application.published() == [0, 1, 2]


@pytest.mark.parametrize("waits", [True, False])
async def test_organization_with_many_queues_leaves_others_their_turns(
    application: Application, *, waits: bool
) -> None:
    await stored_organization(application.store, 2)
    theirs = await stored_queue(application.store, row_id(2), 20)
    many = [await stored_queue(application.store, OURS, number) for number in range(21, 24 + intake.QUEUES_A_TURN)]
    if waits:
        await application.run("UPDATE organization SET settings = '{\"quota_messages_a_day\": 0}' WHERE id = $1", OURS)
    for owner, queue in [*((OURS, queue) for queue in many), (row_id(2), theirs)]:
        row = "INSERT INTO intake (organization, queue, size, options, body) VALUES ($1, $2, 1, '{}', '1')"
        await application.run(row, owner, queue.id)

    await application.intake.move()

    page = await application.store.page(row_id(2), theirs.id, 0, 10, max_bytes=1 << 20)
    assert [entry.body for entry in page.entries] == [b"1"]
    assert len(await application.waiting()) == (len(many) if waits else 0)


async def test_unexpected_error_of_one_organization_holds_up_no_other(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await stored_queue(application.store, OURS, 11)
    await application.publish(1)
    await application.publish(2, "queue-11")
    fault = RuntimeError("a bug")
    checked = Intake._plan

    async def plan(self: Intake, waiting: intake.WaitingQueue, rows: list[intake.IntakeRow], now: int) -> IntakeStep:
        if waiting.public_id == application.queue.public_id:
            raise fault
        return await checked(self, waiting, rows, now)

    monkeypatch.setattr(Intake, "_plan", plan)
    await application.intake.move()
    assert application.errors == [fault]

    monkeypatch.undo()
    application.clock.advance(10_000)
    await application.intake.move()
    assert await application.published() == [1]
    assert [entry.body for entry in await application.entries(other)] == [b"2"]


async def test_messages_of_a_queue_that_is_deleted_go_with_it(application: Application) -> None:
    await application.publish(1)
    await application.store.write_exclusively(
        partial(queues.mark_deleted, organization=OURS, queue=application.queue.id, now=5)
    )
    await application.control.cache.reset()
    await application.intake.move()

    assert await application.waiting() == []


async def _begin_erasure(application: Application, key: str) -> Job:
    queue = (OURS, application.queue.id)
    begin = partial(erasures.begin, queue=queue, row_id=row_id(90), key=key, now=application.clock.now())
    return await application.store.write_exclusively(begin)


async def _erase(application: Application, job: Job) -> int:
    while not await application.store.write(partial(erasures.step, job=job, now=application.clock.now())):
        pass
    ((erased,),) = await application.run("SELECT erased FROM erasure WHERE id = $1", job.id)
    return int(erased)


async def test_erasure_covers_messages_that_were_committed_before_it(application: Application) -> None:
    await stored_queue(application.store, OURS, 11)
    await application.publish("moved", key="k")
    await application.intake.move()
    await application.change_queue(schema='{"type":"number"}', schema_id="x", schema_language="json_schema")
    await application.publish("refused", key="k")
    await application.intake.move()
    await application.change_queue(schema=None, schema_id=None)
    await application.publish("waiting", key="k")
    await application.publish("waiting", headers='{"key":"k"}')
    await application.publish("other key", key="k2")
    await application.publish("other queue", queue="queue-11", key="k")
    async with application.connected() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await publish(connection, "later", key="k")
        assert await _erase(application, await _begin_erasure(application, "k")) == 3
        await transaction.commit()
    assert await application.waiting() == [(body, None) for body in ("waiting", "other key", "other queue", "later")]
    await application.intake.move()

    assert [entry.body for entry in await application.entries()] == [b"waiting", b"other key", b"later"]
    assert await application.store.read(drift) == {}


async def test_erasure_ends_while_an_application_publishes_on(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "ROWS_A_STEP", 2)
    for number in range(5):
        await application.publish(number, key="k" if number % 2 == 0 else "other")
    job = await _begin_erasure(application, "k")
    steps = 0
    while not await application.store.write(partial(erasures.step, job=job, now=application.clock.now())):
        steps += 1
        await application.publish(5, key="k")
        await application.publish(6)
    # Five messages in the intake, two at a time.
    assert steps == 3
    assert sorted(data for data, _ in await application.waiting()) == sorted([1, 3, *[5, 6] * 3])


async def test_erasure_finds_the_messages_that_move_while_it_runs(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "ROWS_A_STEP", 2)
    for number in range(6):
        await application.publish(number, key="k" if number in {1, 2, 5} else "other")
    job = await _begin_erasure(application, "k")
    await application.store.write(partial(erasures.step, job=job, now=application.clock.now()))
    await application.intake.move()
    assert {entry.body for entry in await application.entries()} > {b"2", b"5"}
    assert await _erase(application, job) == 3
    assert [entry.body for entry in await application.entries()] == [b"0", b"3", b"4"]


async def test_message_that_was_erased_while_its_move_was_prepared_is_not_moved(application: Application) -> None:
    await application.publish("erased", key="k")
    await application.publish("kept")
    rows = await application.store.read(partial(intake.oldest, queue=(OURS, application.queue.id)))
    waiting = intake.WaitingQueue((OURS, application.queue.id), application.queue.public_id)
    step = await application.intake._plan(waiting, rows, application.clock.now())
    assert await _erase(application, await _begin_erasure(application, "k")) == 1
    with pytest.raises(MovedByAnother):
        await application.store.write_exclusively(partial(intake.move, step=step, now=application.clock.now()))
    await application.intake.move()

    assert [entry.body for entry in await application.entries()] == [b"kept"]


@pytest.mark.parametrize("has_statistics", [False, True])
async def test_erasure_finds_the_messages_of_its_queue_by_an_index(
    application: Application, *, has_statistics: bool
) -> None:
    async with application.connected() as connection:
        await connection.execute("SELECT discue_publish('orders', to_json(n)) FROM generate_series(1, 2000) AS n")
    await application.run("UPDATE intake SET error = 'x' WHERE id % 2 = 0")
    if has_statistics:
        await application.run("ANALYZE intake")

    last = [intake._LAST.format(given) for given in ("IS NULL", "IS NOT NULL")]
    for sql, indexes in ((intake._OLDEST_WITH_KEY, 2), (last[0], 1), (last[1], 1)):
        conditions = await application.store.read(partial(index_conditions, sql=sql))
        assert len(conditions) == indexes
        assert all("queue =" in condition for condition in conditions.values())


async def test_commit_notifies_the_workers_and_a_poll_finds_what_waits(application: Application) -> None:
    received = asyncio.Queue[Notification]()
    application.store.engine.listen(received.put_nowait, lambda: None)
    async with asyncio.timeout(10):
        # That of the connection itself.
        assert (await received.get()).anything
        assert not (await application.store.engine.poll(())).has_intake
        await application.publish(1)
        assert await received.get() == Notification(intake=True)
        async with application.connected() as connection:
            await connection.execute("SET discue.notify = 'off'")
            await publish(connection, 2)
    assert received.empty()
    assert (await application.store.engine.poll(())).has_intake


async def test_copy_is_refused_while_messages_wait(application: Application) -> None:
    await application.publish(1)
    source = Side(application.store, "the source", is_held=True)

    with pytest.raises(StoreUnusable, match="Messages of applications wait in the intake of the source"):
        await copying.begin(source, source, 1, "first")
