"""The server in a world that a test made: `python -m tests.faults.altered NAME=VALUE … serve …`.

`source` is the address that it sends from, so that a receiver knows the worker. `clock` is a file with the error of its
wall clock, in milliseconds. `migrations` is the number of additional migrations that it knows. `retries` are the
seconds between attempts, `runs` those between the runs of every schedule, and `probes` those between the liveness
probes of a listener. `dies` is a file: if it does not exist, the server dies once it has stored a request with an
idempotency key, before it responds, and creates the file. `largest` is how many bytes its files may have. `fails` is a
file: while it is there, the poller ends with an unexpected exception. `steps` is the file to which it writes the long
steps of its event loop, which is then plain asyncio (`tests.security.steps`). `bug` is one of `broken.BUGS`.
"""

import asyncio
import mmap
import os
import resource
import signal
import ssl
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from discue.cli import serve
from discue.cli.main import main
from discue.control.context import ControlContext
from discue.dispatch.poller import Poller
from discue.domain import clock, listener_health, retry, schedule
from discue.domain.clock import SystemClock
from discue.domain.egress import IPAddress, Target
from discue.domain.retry import RetryPolicy
from discue.sending.dialer import Dialer, ProtocolFactory
from discue.store.engine import Append, Appended, TopicAppend, Work
from discue.store.migrations import Migration, migrations
from discue.store.postgres import engine as postgres
from discue.store.sqlite import engine as sqlite
from discue.store.store import Store
from tests.faults.broken import BUGS, put
from tests.security.steps import write_long_steps

_OFFSET = struct.Struct("q")


class WrongClock:
    """The wall clock of servers that follow a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ahead_ms = 0
        path.write_bytes(_OFFSET.pack(0))

    def set(self, ahead_ms: int) -> None:
        """Let the clock jump."""
        self.ahead_ms = ahead_ms
        with self.path.open("r+b") as file:
            file.write(_OFFSET.pack(ahead_ms))


def send_from(source: str) -> None:
    async def connect(
        _self: Dialer, target: Target, address: IPAddress, factory: ProtocolFactory, _context: ssl.SSLContext
    ) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(factory, str(address), target.port, local_addr=(source, 0))

    put(Dialer, "_connect", connect)


def follow_clock(path: str) -> None:
    right = SystemClock.now
    with Path(path).open("rb") as file:
        offset = mmap.mmap(file.fileno(), _OFFSET.size, prot=mmap.PROT_READ)

    def now(self: SystemClock) -> int:
        return right(self) + int(_OFFSET.unpack(offset)[0])

    put(clock.SystemClock, "now", now)


def know_more_migrations(number: str) -> None:
    def known(dialect: dict[str, str]) -> tuple[Migration, ...]:
        own = migrations(dialect)
        return (*own, *_added(own[-1].number, int(number)))

    for engine in (postgres, sqlite):
        put(engine, "migrations", known)


def _added(last: int, count: int) -> Iterator[Migration]:
    """Each adds a column to a table that every commit writes, and an index to one that grows."""
    for number in range(last + 1, last + 1 + count):
        sql = (
            f"ALTER TABLE cursor ADD COLUMN added_{number} BIGINT NOT NULL DEFAULT {number};"
            f"CREATE INDEX added_{number} ON attempt (organization, number);"
        )
        yield Migration(number, f"{number:04}_added", sql)


def retry_after(seconds: str) -> None:
    policy = RetryPolicy(tuple(int(each) for each in seconds.split(",")))
    put(retry, "DEFAULT_RETRY_POLICY", policy)


def run_every(seconds: str) -> None:
    apart_ms = int(seconds) * 1_000
    put(schedule, "_ticks", lambda _timing, instant: count((instant // apart_ms + 1) * apart_ms, apart_ms))


def probe_every(seconds: str) -> None:
    for name in ("PROBE_INTERVAL_MS", "RECOVERY_INTERVAL_MS"):
        put(listener_health, name, int(seconds) * 1_000)


def die_with_a_key(marker: str) -> None:
    append, append_to_topic, write = Store.append, Store.append_to_topic, ControlContext.write

    def die(came_with_a_key: object) -> None:
        if came_with_a_key is not None and not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    async def appended(self: Store, new: Append) -> Appended:
        answer = await append(self, new)
        die(new.idempotency_record)
        return answer

    async def stored(self: Store, new: TopicAppend) -> tuple[Appended, ...]:
        answer = await append_to_topic(self, new)
        die(new.idempotency_record)
        return answer

    async def written(self: ControlContext, work: Work[Any]) -> Any:
        answer = await write(self, work)
        die(self.once)
        return answer

    put(Store, "append", appended)
    put(Store, "append_to_topic", stored)
    put(ControlContext, "write", written)


def limit_files(most_bytes: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes), resource.RLIM_INFINITY))


def fail_while(marker: str) -> None:
    poll = Poller.run_once

    async def run_once(self: Poller) -> None:
        if os.path.exists(marker):  # noqa: ASYNC240, PTH110 - the test's own file, which takes no time
            raise RuntimeError("the test lets this poll fail")
        await poll(self)

    put(Poller, "run_once", run_once)


def measure_steps(path: str) -> None:
    # Steps of uvloop do not run in Python. The server uses only its `run`.
    put(serve, "uvloop", asyncio)
    write_long_steps(Path(path))


ALTERATIONS: Mapping[str, Callable[[str], None]] = {
    "source": send_from,
    "clock": follow_clock,
    "migrations": know_more_migrations,
    "retries": retry_after,
    "runs": run_every,
    "probes": probe_every,
    "dies": die_with_a_key,
    "largest": limit_files,
    "fails": fail_while,
    "steps": measure_steps,
    "bug": lambda name: BUGS[name](),
}

if __name__ == "__main__":
    arguments = sys.argv[1:]
    while "=" in arguments[0]:
        name, value = arguments.pop(0).split("=", 1)
        ALTERATIONS[name](value)
    sys.exit(main(arguments))
