"""Rows that the benchmarks insert with SQL: the service must read them like its own."""

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks.body import MESSAGE
from benchmarks.crowd import LISTENERS, Crowd
from benchmarks.product import Product
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.fixtures import new_database

_KEY = "dsk_" + "c" * 60
_QUEUES = 2
_MESSAGES = 5


@pytest.fixture
def database(postgres_cluster: Cluster) -> Iterator[str]:
    with new_database(postgres_cluster) as address:
        yield address


def _worker(database: str) -> Product:
    return Product(database, _KEY, [min(os.sched_getaffinity(0))])


def _with_crowd(cluster: Cluster, database: str) -> None:
    with _worker(database) as product:
        queue = product.queue()
        listener = product.listener(queue, "http://127.0.0.1:9/")
        product.change(listener, status="disabled")
    name = database.rpartition("/")[2]
    Crowd(queue, listener, _QUEUES, _MESSAGES).make(lambda sql: cluster.run_sql(sql, name))


@pytest.mark.torture
def test_one_listener_of_each_queue_has_all_messages_pending(postgres_cluster: Cluster, database: str) -> None:
    _with_crowd(postgres_cluster, database)
    with _worker(database) as product:
        queues = product.ask("GET", "/v1/queues")["queues"]
        queues = [queue for queue in queues if queue["alias"] != "system/events"]
        listeners = product.ask("GET", "/v1/listeners?per_page=100")["listeners"]
        messages = [product.ask("GET", f"/v1/queues/{queue['id']}/messages")["messages"] for queue in queues]
        found = product.ask("GET", f"/v1/queues/{queues[0]['id']}/messages/{messages[0][0]['id']}")

    waiting = Counter((one["status"], one["messages"]["pending_count"]) for one in listeners)
    assert waiting == {("disabled", _MESSAGES): _QUEUES + 1, ("enabled", 0): _QUEUES * (LISTENERS - 1)}
    assert [len(of_queue) for of_queue in messages] == [_MESSAGES] * (_QUEUES + 1)
    assert found["message"]["data"] == MESSAGE.decode()
