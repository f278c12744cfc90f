"""PostgreSQL for tests: one server for each test process, started on first use, and an empty database for each test."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count

import pytest

from tests.support.postgres.cluster import Cluster

_numbers = count(1)

# Plans depend on statistics, which autovacuum would change at any time. Compiling an expensive plan takes longer than
# running it on the few rows of a test.
_SETTINGS = {"autovacuum": "off", "jit": "off"}


@cache
def shared_cluster() -> Cluster:
    """The server of this process, which ends with it."""
    cluster = Cluster(settings=_SETTINGS)
    atexit.register(cluster.close)
    return cluster.__enter__()


@pytest.fixture(scope="session")
def postgres_cluster() -> Cluster:
    return shared_cluster()


@contextmanager
def new_database(cluster: Cluster, template: str = "template0") -> Iterator[str]:
    """Yield the DSN of a new database, empty or a copy, and drop it afterwards with its connections."""
    name = f"test_{next(_numbers)}"
    cluster.create_database(name, template)
    try:
        yield cluster.dsn(name)
    finally:
        if cluster.running:
            cluster.drop_database(name)
