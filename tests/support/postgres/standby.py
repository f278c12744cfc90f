"""A standby of a cluster, and the pair of both whose roles change when the primary dies."""

from collections.abc import Mapping
from contextlib import ExitStack
from itertools import count
from types import TracebackType
from typing import Self

from tests.support.ports import HOST
from tests.support.postgres.cluster import Cluster
from tests.support.postgres.processes import until
from tests.support.postgres.server import USER
from tests.support.postgres.session import Row

_AUTO = "postgresql.auto.conf"
_SYNCHRONOUS = "synchronous_standby_names"


class Standby(Cluster):
    """A copy of a running cluster that follows it by streaming, over a replication slot that bears its name.

    After `promote` it is a primary of its own, that waits for nobody until it is told to.
    """

    def __init__(self, primary: Cluster, name: str = "standby", *, port: int | None = None) -> None:
        super().__init__(programs=primary.programs, port=port, durable=primary.durable)
        self.primary = primary
        self.name = name

    def lay(self) -> None:
        """A base backup, settings included."""
        self.programs.require("pg_basebackup")
        self.programs.run(
            "pg_basebackup",
            f"--pgdata={self.data}",
            f"--dbname=host={HOST} port={self.primary.port} user={USER} application_name={self.name}",
            "--checkpoint=fast",
            "--create-slot",
            f"--slot={self.name}",
            "--wal-method=stream",
            "--write-recovery-conf",
            "--no-sync",
            folder=self.folder,
        )
        self._wait_for_nobody()

    def close(self) -> None:
        """Close the standby. A primary that still serves stops keeping its log for it."""
        super().close()
        if self.primary.running and not self.primary.paused:
            until(self._drop_slot, f"the slot of {self.name} is dropped")

    def follow(self) -> None:
        """Returns when it streams from its primary."""
        until(lambda: self._seen_by_primary("state") == [("streaming",)], f"{self.name} streams from its primary")

    def make_synchronous(self) -> None:
        """From its return on, a commit on the primary is confirmed only when this standby has it on its disk."""
        self.follow()
        self.primary.run_sql(f"ALTER SYSTEM SET {_SYNCHRONOUS} = '{self.name}'")
        self.primary.run_sql("SELECT pg_reload_conf()")
        until(lambda: self._seen_by_primary("sync_state") == [("sync",)], f"{self.name} is synchronous")
        # Commits wait only when the checkpointer has heard of it too. It hears of it before it makes a checkpoint
        # that is asked for by a session that knows already.
        self.primary.run_sql("CHECKPOINT")

    def caught_up(self) -> None:
        """Returns when it shows what the primary had committed before the call."""
        [(end,)] = self.primary.run_sql("SELECT pg_current_wal_lsn()")
        until(
            lambda: self.run_sql(f"SELECT pg_last_wal_replay_lsn() >= '{end}'") == [("t",)],
            f"{self.name} has replayed up to {end}",
        )

    def promote(self) -> None:
        """Returns when it takes writes."""
        assert self.run_sql("SELECT pg_promote(wait_seconds => 30)") == [("t",)], self.log

    def _seen_by_primary(self, column: str) -> list[Row]:
        return self.primary.run_sql(f"SELECT {column} FROM pg_stat_replication WHERE application_name = '{self.name}'")

    def _drop_slot(self) -> bool:
        slots = f"FROM pg_replication_slots WHERE slot_name = '{self.name}'"
        self.primary.run_sql(f"SELECT pg_drop_replication_slot(slot_name) {slots} AND NOT active")
        return not self.primary.run_sql(f"SELECT {slots}")

    def _wait_for_nobody(self) -> None:
        """Wait for no standby: the copied settings of the primary may name one."""
        path = self.data / _AUTO
        kept = [line for line in path.read_text().splitlines(keepends=True) if not line.startswith(_SYNCHRONOUS)]
        path.write_text("".join(kept))


class Pair:
    """A primary and its synchronous standby. Two ports, that change roles with every failover."""

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        self._first = Cluster(settings=settings)
        self._dead: Cluster | None = None
        self._names = (f"standby_{number}" for number in count(1))
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self.primary: Cluster = opening.enter_context(self._first)
            self.standby = self._new_standby(opening, None)
            self._open = opening.pop_all()
        self.ports = (self.primary.port, self.standby.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def fail_over(self) -> None:
        """Kill the primary and promote the standby, which then serves alone."""
        self.primary.kill()
        self.take_over()

    def take_over(self) -> Cluster:
        """Promote the standby, which then serves alone; the primary that was, in whatever state it is."""
        self.standby.promote()
        self.primary, self._dead = self.standby, self.primary
        return self._dead

    def rejoin(self) -> None:
        """After a failover: a fresh synchronous standby, on the port of the primary that was killed."""
        assert self._dead is not None, "nothing has failed over"
        self._dead.close()
        self.standby = self._new_standby(self._open, self._dead.port)

    def _new_standby(self, opened: ExitStack, port: int | None) -> Standby:
        standby = opened.enter_context(Standby(self.primary, next(self._names), port=port))
        standby.make_synchronous()
        return standby
