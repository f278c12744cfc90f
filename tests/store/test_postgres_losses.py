"""Requests that wait for a connection when connections are lost: they rest on data of a server that may be gone."""

import asyncio
from collections.abc import Iterator

import pytest

from discue.domain.errors import StoreUnavailable
from tests.store.postgres_engine import becomes, opened
from tests.store.test_engine import changed
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database

_BLOCKED = "FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture
def address(runner: asyncio.Runner, postgres_cluster: Cluster) -> Iterator[str]:
    with new_database(postgres_cluster) as dsn:
        yield dsn


async def test_a_settle_that_waited_over_a_loss_is_not_stored(postgres_cluster: Cluster, address: str) -> None:
    async with opened(address) as made:
        settle = await made.lay()
        with postgres_cluster.connect(address.rpartition("/")[2]) as session:
            session.run("BEGIN; SELECT * FROM cursor FOR UPDATE")
            settles = [asyncio.ensure_future(made.settle(changed(settle, position=1))) for _ in range(3)]
            await becomes(
                lambda: postgres_cluster.run_sql(f"SELECT count(*) {_BLOCKED}") == [("2",)], "two settles wait"
            )
            session.run(f"SELECT pg_terminate_backend(pid) {_BLOCKED}; ROLLBACK")
            for each in settles:
                with pytest.raises(StoreUnavailable):
                    await each
        assert await made.rows("SELECT position, version FROM cursor") == [(0, 0)]
