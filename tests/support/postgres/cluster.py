"""A server and its databases: where clients find them, and who is connected to them."""

from tests.support.ports import HOST
from tests.support.postgres.server import USER, Server
from tests.support.postgres.session import Row, Session

_WAITS_FOR_STANDBY = "wait_event = 'SyncRep'"


class Cluster(Server):
    """A PostgreSQL server. Calls that use SQL block for some milliseconds. Clients need no password."""

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@{HOST}:{self.port}/{database}"

    def unix_dsn(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@/{database}?host={self.folder}&port={self.port}"

    def connect(self, database: str = "postgres", *, name: str = "tests") -> Session:
        return Session(str(self.folder / f".s.PGSQL.{self.port}"), user=USER, database=database, name=name)

    def run_sql(self, sql: str, database: str = "postgres") -> list[Row]:
        """Run statements in a session of their own; their rows, as text."""
        with self.connect(database) as session:
            return session.run(sql)

    def create_database(self, name: str, template: str = "template0") -> None:
        self.run_sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"{self._strategy}')

    def drop_database(self, name: str) -> None:
        """Drop a database; its clients are disconnected."""
        self.run_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def disconnect_all(self) -> int:
        """End every client's connection; how many there were."""
        return self._for_each_client("pg_terminate_backend", "TRUE")

    def waiting_commits(self) -> int:
        """How many commits wait for a standby."""
        return self._for_each_client("", _WAITS_FOR_STANDBY)

    def cancel_waiting_commits(self) -> int:
        """End the wait of every commit that waits for a standby; how many there were. They stay committed here."""
        return self._for_each_client("pg_cancel_backend", _WAITS_FOR_STANDBY)

    def _for_each_client(self, function: str, condition: str) -> int:
        return len(
            self.run_sql(
                f"SELECT {function}(pid) FROM pg_stat_activity"
                f" WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND {condition}"
            )
        )

    @property
    def _strategy(self) -> str:
        return " STRATEGY file_copy" if self.programs.major >= 15 else ""
