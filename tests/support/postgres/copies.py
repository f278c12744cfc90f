"""Copies of a database that tests have one after another: to empty one takes a fraction of the time of making one."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import count

from tests.support.postgres.cluster import Cluster
from tests.support.postgres.session import Row, Session

# Deleted rows stay in the files, and later scans read past them.
_MOST_TESTS = 40
_MAX_ROWS = 2_000

# Definitions, the planner's statistics, and transactions in progress. A changed column has another `xmin`: to hash
# the text of all columns would take most of the time.
_SHAPE = """
SELECT md5(string_agg(c::text, '' ORDER BY oid)) FROM pg_class c WHERE oid >= 16384;
SELECT count(*), sum(xmin::text::bigint) FROM pg_attribute WHERE attrelid >= 16384;
SELECT md5(string_agg(p::text, '' ORDER BY oid)) FROM pg_proc p WHERE oid >= 16384;
SELECT count(*) FROM pg_trigger WHERE oid >= 16384;
SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = (
    SELECT oid FROM pg_database WHERE datname = current_database()
);
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()
"""
_TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"
_ROWS = """SELECT format('INSERT INTO %1$I SELECT (json_populate_record(NULL::%1$I, %2$L)).*', '{0}', row_to_json(t))
FROM "{0}" t"""
_EMPTYING = 'WITH gone AS (DELETE FROM "{}" RETURNING 1) SELECT count(*) FROM gone'


class _Copy:
    def __init__(self, name: str, session: Session) -> None:
        self.name = name
        self.session = session
        self.tests = 0


class Copies:
    """Databases lent to one test at a time. A database that differs from the template, or has grown, is dropped."""

    def __init__(self, cluster: Cluster, template: str) -> None:
        self._cluster = cluster
        self._template = template
        self._numbers = count(1)
        self._free: list[_Copy] = []

    @contextmanager
    def lent(self) -> Iterator[str]:
        """Yield the DSN of a database that equals the template. Clients that remain connected are disconnected."""
        copy = self._free.pop() if self._free else self._made()
        try:
            yield self._cluster.dsn(copy.name)
        finally:
            copy.tests += 1
            is_emptied = False
            try:
                is_emptied = copy.tests < _MOST_TESTS and self._is_emptied(copy)
            finally:
                if is_emptied:
                    self._free.append(copy)
                else:
                    copy.session.close()
                    self._cluster.drop_database(copy.name)

    def close(self) -> None:
        """Close the sessions of databases that are not lent. The server keeps the databases."""
        while self._free:
            self._free.pop().session.close()

    def _made(self) -> _Copy:
        name = f"copy_{next(self._numbers)}"
        self._cluster.create_database(name, self._template)
        return _Copy(name, self._cluster.connect(name))

    def _is_emptied(self, copy: _Copy) -> bool:
        shape, emptying, filling = self._as_it_was
        if copy.session.run(_SHAPE) != shape:
            return False
        deleted = copy.session.run(emptying)
        copy.session.run(filling)
        return sum(int(row[0] or 0) for row in deleted) < _MAX_ROWS

    @cached_property
    def _as_it_was(self) -> tuple[list[Row], str, str]:
        """The template's shape, what empties its tables, and what inserts the rows that it has."""
        with self._cluster.connect(self._template) as session:
            tables = [str(row[0]) for row in session.run(_TABLES)]
            rows = [str(row[0]) for table in tables for row in session.run(_ROWS.format(table))]
            return session.run(_SHAPE), ";".join(map(_EMPTYING.format, tables)), ";".join(rows)
