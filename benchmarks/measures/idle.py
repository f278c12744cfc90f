"""What do workers cost that have nothing to do?"""

import time

from benchmarks.bench import Bench
from benchmarks.installation import Installation
from benchmarks.table import Row, at_most, below, seen

_NAME = "idle"
_WORKERS = 3
_QUEUES = 30
_LISTENERS = 10
_SHARE = 1.0
_STATEMENTS = 2.0
_MEMORY_MB = 80.0
_MIB = 2**20
_BRACKETS = ("BEGIN", "COMMIT", "ROLLBACK", "START TRANSACTION")


def measure(bench: Bench) -> list[Row]:
    bench.postgres.database(_NAME)
    bench.postgres.log_statements(_NAME)
    with Installation(bench, _NAME, _WORKERS) as installation:
        memory = max(worker.memory().resident for worker in installation.workers) / _MIB
        installation.spread(_QUEUES, _LISTENERS, bench.sink.url)
        installation.rest()
        workers, seconds = installation.workers, bench.effort.idle_seconds
        before = [worker.cpu_seconds() for worker in workers]
        server, logged = bench.postgres.cpu_seconds(), len(bench.postgres.statements())
        time.sleep(seconds)
        statements = bench.postgres.statements()[logged:]
        used = [worker.cpu_seconds() - earlier for worker, earlier in zip(workers, before, strict=True)]
        server = bench.postgres.cpu_seconds() - server
    queries = [statement for statement in statements if not statement.lstrip().upper().startswith(_BRACKETS)]
    all_of_them = len(statements) / seconds / _WORKERS
    name = f"{_QUEUES * _LISTENERS} listeners, {_WORKERS} idle workers"
    return [
        at_most("empty database, memory of an idle worker", memory, _MEMORY_MB, " MB"),
        below(f"{name}, CPU of the busiest", max(used) / seconds * 100, _SHARE, " % of a core"),
        seen(f"{name}, CPU of the PostgreSQL server", f"{server / seconds * 100:.2g} % of a core"),
        at_most(f"{name}, statements of each", len(queries) / seconds / _WORKERS, _STATEMENTS, " a second"),
        seen(f"{name}, with those that only begin or end transactions", f"{all_of_them:.2f} a second"),
    ]
