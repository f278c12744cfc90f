"""What does an installation with one queue per customer cost, on both engines?"""

import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

from msgspec.structs import replace

from benchmarks import body, population
from benchmarks.bench import Bench
from benchmarks.failure import BenchmarkFailed
from benchmarks.installation import Installation
from benchmarks.measures.samples import Series, Used
from benchmarks.measures.takeover import LEASE_SECONDS
from benchmarks.medians import ratio
from benchmarks.product import Product, Queue
from benchmarks.table import Row, at_most, below, seen

_NAME = "customers"
_FOR_EACH_QUEUE = 100
"""Customers for each queue of `effort.queues`: 100,000 in a whole run."""
_WORKERS = 3
_BYTES = 1_000.0
_READY_SECONDS = 10.0
_IDLE_SHARE = 2.0
_IN_TURN = 1_000
_OF_ONE_QUEUE = 1.25
_TAKEN_OVER_SECONDS = LEASE_SECONDS + 5.0
_SPREAD_SECONDS = 300.0
_POLL_SECONDS = 0.1
_OWNED_BY = "SELECT count(*) FROM cursor WHERE owner = {}"
_LEFT_BEHIND = """
    SELECT CASE WHEN EXISTS (SELECT 1 FROM cursor WHERE owner IS NULL AND stream = 0)
        OR EXISTS (SELECT 1 FROM cursor WHERE owner = {}) THEN 1 ELSE 0 END"""


def measure(bench: Bench) -> list[Row]:
    return [*_on_sqlite(bench), *_on_postgres(bench)]


def _customers(bench: Bench) -> int:
    return bench.effort.queues * _FOR_EACH_QUEUE


def _on_sqlite(bench: Bench) -> list[Row]:
    count = _customers(bench)
    name = f"{count:,} queues with a listener each, SQLite"
    with bench.product(_NAME) as product:
        queue = _first_customer(bench, product)
        product.rest()
        before = product.memory().resident
    with closing(sqlite3.connect(bench.folder / f"{_NAME}.db")) as connection, connection:
        for statement in population.customers(queue.id, count):
            connection.execute(statement)
    with bench.product(_NAME) as product:
        product.rest()
        each = (product.memory().resident - before) / count
        used, seconds = product.cpu_seconds(), bench.effort.idle_seconds
        time.sleep(seconds)
        idle = (product.cpu_seconds() - used) / seconds * 100
        return [
            at_most(f"{name}, ready", product.start_seconds, _READY_SECONDS, " s"),
            at_most(f"{name}, memory of each", each, _BYTES, " bytes"),
            at_most(f"{name}, idle", idle, _IDLE_SHARE, " % of a core"),
            *_in_turn(bench, product, queue, name),
        ]


def _in_turn(bench: Bench, product: Product, queue: Queue, name: str) -> list[Row]:
    one, many = Series(f"{name}: end to end to one"), Series(f"{name}: end to end to {_IN_TURN:,} in turn")
    load = product.load(queue, body.single(body.MESSAGE))
    ids = [population.customer_id(number) for number in range(1, _IN_TURN + 1)]
    paths = tuple(Queue(each).messages for each in ids)
    for warm in (False, *[True] * bench.effort.pairs):
        for series, published in ((one, (queue.messages,)), (many, paths)):
            used = Used(product)
            answers = bench.loads.run(replace(load, paths=published), bench.effort.seconds)
            product.rest()
            series.samples.extend([used.sample(answers.requests, answers.seconds)] * warm)
    in_turn = ratio(many.costs, one.costs)
    return [one.row(), many.row(), at_most(f"{name}: {_IN_TURN:,} in turn ÷ one", in_turn, _OF_ONE_QUEUE)]


def _on_postgres(bench: Bench) -> list[Row]:
    count = _customers(bench)
    name = f"{count:,} queues with a listener each, PostgreSQL"
    bench.postgres.database(_NAME)
    with bench.product_on_postgres(_NAME) as product:
        queue = _first_customer(bench, product)
    for statement in population.customers(queue.id, count):
        bench.postgres.run(_NAME, statement)
    with Installation(bench, _NAME, _WORKERS) as installation:
        spread = _until(lambda: _are_spread(installation, count), _SPREAD_SECONDS)
        installation.rest()
        before, seconds = [worker.cpu_seconds() for worker in installation.workers], bench.effort.idle_seconds
        time.sleep(seconds)
        idle = [worker.cpu_seconds() - used for worker, used in zip(installation.workers, before, strict=True)]
        killed = installation.workers[-1]
        left_behind = _LEFT_BEHIND.format(killed.session_id)
        killed.child.signal(signal.SIGKILL)
        taken_over = _until(lambda: installation.number(left_behind) == 0, _SPREAD_SECONDS)
        installation.remove(killed)
        return [
            seen(f"{name}, {_WORKERS} workers, spread", f"{spread:.1f} s after their start"),
            at_most(f"{name}, idle, the busiest worker", max(idle) / seconds * 100, _IDLE_SHARE, " % of a core"),
            below(f"{name}, a worker is killed, taken over", taken_over, _TAKEN_OVER_SECONDS, " s"),
        ]


def _first_customer(bench: Bench, product: Product) -> Queue:
    queue = product.queue()
    product.listener(queue, bench.sink.url, liveness_url=None)
    return queue


def _are_spread(installation: Installation, count: int) -> bool:
    """Whether each worker has about its share of the cursors."""
    owned = [installation.number(_OWNED_BY.format(worker.session_id)) for worker in installation.workers]
    return sum(owned) > count and min(owned) > count / _WORKERS * 0.9


def _until(is_so: Callable[[], bool], most_seconds: float) -> float:
    """Wait until a condition holds. Returns the seconds that it took."""
    began = time.monotonic()
    while not is_so():
        if time.monotonic() > began + most_seconds:
            raise BenchmarkFailed(f"The cursors did not move within {most_seconds:.0f} s.")
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - began
