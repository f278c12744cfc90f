"""What every measure stands on: cores, a folder, a sink, loads, a PostgreSQL server, and how much effort to make."""

import secrets
import string
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import msgspec

from benchmarks.child import Child, python
from benchmarks.loads import Loads
from benchmarks.postgres import Postgres
from benchmarks.product import Product
from benchmarks.sink import Sink
from discue.config.types import SQLITE_PREFIX

_KEY_CHARACTERS = 60


class Effort(msgspec.Struct, frozen=True):
    """How often and how long. `waiting` messages wait in the log, `pulled` are pulled, `origins` listeners are new.

    On PostgreSQL there are ten listeners for each of `queues`.
    """

    pairs: int
    seconds: int
    latency_seconds: int
    idle_seconds: int
    waiting: int
    pulled: int
    origins: int
    queues: int


FULL = Effort(
    pairs=8,
    seconds=2,
    latency_seconds=15,
    idle_seconds=20,
    waiting=1_000_000,
    pulled=50_000,
    origins=5_000,
    queues=1_000,
)
QUICK = Effort(
    pairs=2, seconds=1, latency_seconds=4, idle_seconds=5, waiting=50_000, pulled=5_000, origins=500, queues=100
)


class Bench:
    """One run's surroundings. Leaving ends what serves many measures."""

    def __init__(self, folder: Path, cores: tuple[int, int], effort: Effort) -> None:
        self.folder = folder
        self.effort = effort
        self.server_core, load_core = cores
        self.load_core = load_core
        self.key = _new_key()
        self.loads = Loads(folder, load_core)
        self.sink = Sink(folder, load_core)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(self.sink.child)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @cached_property
    def postgres(self) -> Postgres:
        """Started when it is asked for. Raises BenchmarkFailed where there is no PostgreSQL."""
        return self._open.enter_context(Postgres(self.folder))

    def product(
        self,
        name: str,
        *,
        cores: Sequence[int] = (),
        settings: Mapping[str, object] = MappingProxyType({}),
        interpreter: str = sys.executable,
    ) -> Product:
        """A server on the SQLite database of that name, which is made if there is none. Without `cores`, it has one."""
        return Product(
            self.database(name),
            self.key,
            cores or [self.server_core],
            settings=settings,
            interpreter=interpreter,
        )

    def product_on_postgres(self, name: str) -> Product:
        """A server on the PostgreSQL database of that name, which is made if there is none."""
        return Product(self.postgres.database(name), self.key, [self.server_core], self.postgres.cpu_seconds)

    def database(self, name: str) -> str:
        """The address of a SQLite database."""
        return f"{SQLITE_PREFIX}{self.folder / name}.db"

    def sender_alone(self) -> Child:
        return Child([self.server_core], "sender", python("benchmarks.sender_alone"))

    def bare_pair(self) -> Child:
        return Child([self.server_core], "bare pair", python("benchmarks.bare_pair"))

    def open_loop(self) -> Child:
        return Child([self.load_core], "open loop", python("benchmarks.open_loop"))

    def fill(self, name: str, queue_id: str, count: int) -> None:
        """Publish to a queue of a SQLite database that is not being served."""
        command = python("benchmarks.preparation", self.database(name), self.key, queue_id, str(count))
        with Child([self.server_core], "preparation", command) as filling:
            filling.hear()


def _new_key() -> str:
    characters = string.ascii_letters + string.digits
    return "dsk_" + "".join(secrets.choice(characters) for _ in range(_KEY_CHARACTERS))
