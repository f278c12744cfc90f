"""Relays whose messages are refused, whose database fails, or which stand still."""

import asyncio
import logging
import time
from contextlib import closing

import pytest

from discue_client import AsyncDiscue, ConfigurationError, outbox
from discue_client.outbox.database import database_of
from discue_client.outbox.relay import Relay
from discue_client.outbox.sqlite import SqliteDatabase
from discue_client.outbox.steps import Statement, Step
from tests.clients.python.outbox.conftest import ONE_VARIANT
from tests.clients.python.outbox.databases import connect, run, waiting
from tests.clients.python.outbox.relayed import HOUR, HOUR_MS, is_empty, published, store
from tests.clients.python.outbox.watched import watched
from tests.support.served_api import Cast


@pytest.fixture
def engine_name(variant: str) -> str:
    return variant.partition("+")[0]


@pytest.mark.parametrize("variant", ONE_VARIANT)
async def test_refused_message_stays_with_its_error_and_the_others_go_on_in_order(
    async_client: AsyncDiscue, url: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    await async_client.queues.create(alias="orders", json_schema={"type": "number"})
    store(url, 0, 1, "no", 3, "neither", "nor this", 6)
    relay = Relay(database, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: len(waiting(url)) == 3)

    assert await published(async_client) == [0, 1, 3, 6]
    rows = run(url, "SELECT payload, batch, error FROM discue_outbox ORDER BY id")
    assert [bytes(payload) for payload, *_ in rows] == [b"no", b"neither", b"nor this"]
    assert all(batch is None and "422 schema_violation: /data must be" in error for _, batch, error in rows)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 3
    assert errors[0].startswith("Row 3 of the outbox cannot be published, and stays in the table: POST /queues/orders/")


@pytest.mark.parametrize("variant", ["sqlite"])
@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"{", "json"),
        (b"1, 2", "json"),
        (b"\xff", "text"),
        (b'"\xff"', "json"),
        (b"[" * 20_000 + b"]" * 20_000, "json"),
    ],
    ids=["truncated", "two-values", "text-not-utf8", "json-not-utf8", "deep"],
)
async def test_row_of_another_program_that_is_no_message_does_not_stop_the_others(
    async_client: AsyncDiscue, url: str, database: str, content: bytes, form: str
) -> None:
    await async_client.queues.create(alias="orders")
    store(url, 0, 1, 2)
    place = "?" if url.startswith("sqlite") else "%s"
    with closing(connect(url)) as connection:
        connection.execute(f"UPDATE discue_outbox SET payload = {place}, form = {place} WHERE id = 2", (content, form))
    relay = Relay(database, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: "refuse" in watching.names and len(waiting(url)) == 1)

    assert await published(async_client) == [0, 2]
    ((error,),) = run(url, "SELECT error FROM discue_outbox")
    assert error.startswith("The row is not a message: ")


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_messages_wait_for_their_queue_and_other_queues_go_on(
    async_client: AsyncDiscue, url: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    await async_client.queues.create(alias="orders")
    store(url, "early", queue="missing")
    store(url, "here")
    relay = Relay(database, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: watching.names.count("release") >= 2 and len(waiting(url)) == 1)
        await async_client.queues.create(alias="missing")
        await watching.until(lambda: is_empty(url))

    assert await published(async_client, "missing") == ["early"]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("Messages to missing wait in the outbox: POST /queues/missing/messages/batch: 404")


@pytest.mark.parametrize("variant", ONE_VARIANT)
async def test_rows_that_were_changed_after_they_were_published_stay_and_the_others_go_on(
    async_client: AsyncDiscue, url: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    await async_client.queues.create(alias="orders")
    store(url, 1, 2, 3)
    key = "outbox-1"
    batch = {"messages": [{"data": 1}, {"data": 2}]}
    await async_client.request("POST", "/queues/orders/messages/batch", body=batch, idempotency_key=key)
    run(
        url,
        f"UPDATE discue_outbox SET batch = '{key}', attempts = '1' WHERE id < 3",
        "DELETE FROM discue_outbox WHERE id = 1",
    )
    relay = Relay(database, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: len(waiting(url)) == 1)

    assert await published(async_client) == [1, 2, 3]
    ((error,),) = run(url, "SELECT error FROM discue_outbox")
    assert error.startswith("The service has published the batch of this row with other rows than it has now")
    assert "Row 2 of the outbox cannot be published" in caplog.text


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_message_that_is_too_large_stays_and_the_others_go_on(async_client: AsyncDiscue, url: str) -> None:
    await async_client.queues.create(alias="orders", max_message_bytes=1_000)
    store(url, 0, "x" * 2_000, 2)
    relay = Relay(url, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: len(waiting(url)) == 1)

    assert await published(async_client) == [0, 2]
    ((error,),) = run(url, "SELECT error FROM discue_outbox")
    assert "413 message_too_large: /data has 2000 bytes; at most 1000 are allowed" in error


async def impatient_relay(client: AsyncDiscue, url: str) -> Relay:
    """Return a relay of one message on a SQLite database, whose locks it waits for hardly at all."""
    await client.queues.create(alias="orders")
    store(url, 1)
    relay = Relay(url, client, poll_seconds=HOUR)
    object.__setattr__(relay, "_database", SqliteDatabase(url.removeprefix("sqlite:///"), busy_seconds=0.01))
    return relay


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_application_that_locks_sqlite_delays_the_relay(
    async_client: AsyncDiscue, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    relay = await impatient_relay(async_client, url)
    watching = watched(relay)
    with closing(connect(url)) as application:
        application.execute("BEGIN IMMEDIATE")
        refused = asyncio.Event()
        watching.before = lambda name: refused.set() if "database is locked" in caplog.text else None

        async with relay:
            await asyncio.wait_for(refused.wait(), 20)
            application.execute("COMMIT")
            await watching.until(lambda: is_empty(url))

    assert await published(async_client) == [1]
    assert caplog.text.count("WARNING") == 1


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_relay_starts_while_an_application_locks_the_database(
    async_client: AsyncDiscue, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    relay = await impatient_relay(async_client, url)
    watching = watched(relay)
    with closing(connect(url)) as application:
        # Not even readers get in, as while a write-ahead log is recovered.
        application.execute("BEGIN EXCLUSIVE")
        async with relay:
            application.execute("COMMIT")
            await watching.until(lambda: is_empty(url))

    assert await published(async_client) == [1]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    path = url.removeprefix("sqlite:///")
    assert warning == f"The relay cannot read its database: database is locked ({path})"


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_rows_that_could_not_be_deleted_are_deleted_long_before_the_lease_ends(
    async_client: AsyncDiscue, url: str
) -> None:
    await async_client.queues.create(alias="orders")
    store(url, 1)
    relay = Relay(url, async_client, poll_seconds=HOUR, lease_seconds=HOUR)
    watching = watched(relay)
    failures = iter([OSError("disk full")])

    def fail_once(name: str) -> None:
        error = next(failures, None) if name == "delete" else None
        if error is not None:
            raise error

    watching.before = fail_once
    async with relay:
        await watching.until(lambda: is_empty(url))

    assert await published(async_client) == [1]


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_relay_that_stood_still_looks_again_before_it_sends(async_client: AsyncDiscue, url: str) -> None:
    await async_client.queues.create(alias="orders")
    store(url, 1)
    relay = Relay(url, async_client, poll_seconds=HOUR)
    watching = watched(relay)
    times = iter([0, 25 * HOUR_MS])
    object.__setattr__(relay, "_now", lambda: next(times, 25 * HOUR_MS))

    async with relay:
        await watching.until(lambda: is_empty(url))

    assert watching.names.count("claim") >= 2
    assert await published(async_client) == [1]


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_batch_that_is_published_after_its_key_has_expired_is_reported(
    async_client: AsyncDiscue, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await async_client.queues.create(alias="orders")
    store(url, 1, 2)
    named_at = round(time.time() * 1_000) - 30 * HOUR_MS
    run(url, f"UPDATE discue_outbox SET batch = 'outbox-{named_at}-a', attempts = '1'")
    relay = Relay(url, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: is_empty(url))

    assert "Rows 1 to 2 of the outbox were sent 30 hours ago, and again now." in caplog.text


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_table_that_is_missing_for_a_while_stops_the_relay_for_that_long(
    async_client: AsyncDiscue, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await async_client.queues.create(alias="orders")
    relay = Relay(url, async_client, poll_seconds=HOUR)
    watching = watched(relay)
    failed = asyncio.Event()
    watching.before = lambda name: failed.set() if "no such table" in caplog.text else None

    async with relay:
        await watching.until(lambda: watching.names == ["waiting_queues"])
        run(url, "ALTER TABLE discue_outbox RENAME TO elsewhere")
        relay.wake()
        await asyncio.wait_for(failed.wait(), 20)
        with closing(connect(url)) as connection:
            # In one transaction: a relay that reads an empty table would next look in an hour.
            connection.execute("BEGIN")
            connection.execute("ALTER TABLE elsewhere RENAME TO discue_outbox")
            outbox.publish(connection, "orders", "late")
            connection.execute("COMMIT")
        await watching.until(lambda: is_empty(url))

    assert "The relay cannot read its database: no such table: discue_outbox" in caplog.text
    assert await published(async_client) == ["late"]


@pytest.mark.parametrize("variant", ["postgres", "postgres+psycopg"])
async def test_relay_that_stands_still_in_a_transaction_does_not_stop_the_others(url: str, database: str) -> None:
    opened = database_of(database)

    def settings() -> Step[str]:
        rows = yield Statement("SELECT current_setting('idle_in_transaction_session_timeout')")
        return str(rows[0][0])

    assert await opened.transaction(settings(), lock="orders") == "10s"
    assert await opened.transaction(settings()) == "0"
    await opened.close()


@pytest.mark.parametrize("variant", ["postgres", "postgres+psycopg"])
async def test_relay_goes_on_after_its_connections_are_lost(async_client: AsyncDiscue, url: str, database: str) -> None:
    await async_client.queues.create(alias="orders")
    relay = Relay(database, async_client, poll_seconds=HOUR)
    watching = watched(relay)

    async with relay:
        await watching.until(lambda: watching.names == ["waiting_queues"])
        await asyncio.to_thread(_disconnect_others, url)
        await watching.until(lambda: len(watching.names) >= 2)
        await asyncio.to_thread(store, url, "late")
        await watching.until(lambda: is_empty(url))

    assert await published(async_client) == ["late"]


def _disconnect_others(url: str) -> None:
    others = "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    # The relay has two connections. The server may still be closing one of the test's own.
    assert len(run(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity {others}")) >= 2


@pytest.mark.parametrize("variant", ["sqlite"])
async def test_missing_table_or_file_is_an_error_at_the_start(async_client: AsyncDiscue, url: str) -> None:
    run(url, "DROP TABLE discue_outbox")
    with pytest.raises(
        outbox.OutboxUnavailable, match=r"^The outbox cannot be read: no such table: discue_outbox\. Create "
    ):
        async with Relay(url, async_client):
            pass
    with pytest.raises(outbox.OutboxUnavailable, match="unable to open"):
        async with Relay(f"{url}.missing", async_client):
            pass


@pytest.mark.parametrize("variant", ["postgres", "postgres+psycopg"])
async def test_missing_table_of_postgresql_is_an_error_at_the_start(
    async_client: AsyncDiscue, url: str, database: str
) -> None:
    run(url, "DROP TABLE discue_outbox")
    with pytest.raises(outbox.OutboxUnavailable, match='relation "discue_outbox" does not exist'):
        async with Relay(database, async_client):
            pass


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("mysql://root:secret@localhost/shop", r"must look like postgresql://host/name or sqlite:///file\.$"),
        ("sqlite://", "cannot read a database in memory"),
        (17, r"not builtins\.int\.$"),
    ],
)
async def test_database_that_cannot_be_used_is_named_without_its_password(
    cast: Cast, target: object, reason: str
) -> None:
    async with AsyncDiscue(cast.service.url, "key") as client:
        with pytest.raises(ConfigurationError, match=reason) as caught:
            Relay(target, client)

    assert "secret" not in str(caught.value)
