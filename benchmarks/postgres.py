"""A PostgreSQL server of the run's own: durable, on the core of the load, with a database for each name."""

from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.cpu import family_seconds
from benchmarks.failure import BenchmarkFailed
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.programs import ProgramFailed, Programs, find_programs
from tests.support.postgres.server import NotStarted
from tests.support.postgres.session import Row, ServerError

SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
"""Beside PostgreSQL's defaults: what anybody sets who means to use it."""

_STATEMENTS = ("LOG:  statement: ", "LOG:  execute ")


class Postgres:
    """Started with the run, stopped with it."""

    def __init__(self, folder: Path) -> None:
        self._cluster = Cluster(folder / "postgres", programs=programs(), durable=True, settings=SETTINGS)
        # The account that PostgreSQL runs under has to get through to its own folder.
        folder.chmod(0o711)
        self._names: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self._cluster.__enter__()
        except (NotStarted, ProgramFailed) as error:
            raise BenchmarkFailed(f"PostgreSQL does not start: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # One that is killed loses its children, and what they have computed would count as somebody else's.
            self._cluster.stop()
        finally:
            self._cluster.close()

    def database(self, name: str) -> str:
        """The address of the database of that name, which is made if there is none."""
        if name not in self._names:
            self._cluster.create_database(name)
            self._names.add(name)
        return self._cluster.dsn(name)

    def run(self, name: str, sql: str) -> list[Row]:
        """Run statements in the database of that name; their rows, as text."""
        try:
            return self._cluster.run_sql(sql, name)
        except (ServerError, OSError) as error:
            raise BenchmarkFailed(f"PostgreSQL fails: {error}") from error

    def number(self, name: str, sql: str) -> int:
        """What a statement says that answers one number."""
        ((value,),) = self.run(name, sql)
        return int(value or 0)

    def cpu_seconds(self) -> float:
        """Of all the server's processes since its start."""
        return family_seconds(self._cluster.pid)

    def log_statements(self, name: str) -> None:
        """From now on every connection to the database of that name has its statements in the server's log."""
        self._cluster.run_sql(f"ALTER DATABASE \"{name}\" SET log_statement = 'all'")

    def statements(self) -> list[str]:
        """What the log has of statements."""
        lines = self._cluster.log.splitlines()
        return [line.partition(mark)[2] for line in lines for mark in _STATEMENTS if mark in line]


def programs() -> Programs:
    """Raises BenchmarkFailed where there are none."""
    found = find_programs()
    if found is None:
        raise BenchmarkFailed("There are no programs of a PostgreSQL server on this machine.")
    return found
