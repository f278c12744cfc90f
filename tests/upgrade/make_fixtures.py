"""Makes the fixtures of the upgrade test: `BASE/.venv/bin/python tests/upgrade/make_fixtures.py BASE`.

BASE is a checkout of the old program, commit 3ae712a, with its virtual environment (`make .venv/.dev-installed`).
The script furnishes an installation on each engine, kills the old program while it works, and dumps the database.
Then it reads everything from the dump with the old program, and lets that deliver the rest: what it shows and
sends is what the present program must show and send.
"""

import asyncio
import gzip
import importlib.util
import json
import random
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"
ALIAS = "com.example.operator"
_LOOKS, _LOOK_SECONDS = 3, 0.05
LEASE_UNTIL = 1_750_000_000_000

Module = Any
"""A module of the old program, whose names the present one need not have."""


def _load_story() -> Module:
    specification = importlib.util.spec_from_file_location("story", HERE / "story.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def _old(name: str) -> Module:
    return importlib.import_module(name)


story = _load_story()


class Clock:
    """Stands still until it is moved, or runs from an instant on."""

    def __init__(self, now: int, *, runs: bool = False) -> None:
        self._now = now
        self._runs = runs
        self._began = time.monotonic()

    def now(self) -> int:
        return self._now + int((time.monotonic() - self._began) * 1_000) * self._runs

    def monotonic(self) -> float:
        return self.now() / 1_000

    def advance(self, milliseconds: int) -> None:
        self._now += milliseconds


class Sender:
    """A stand-in for the old program's sender: the path of a URL decides the outcome."""

    def __init__(self) -> None:
        self.hanging: list[tuple[str, Callable[[Any], None]]] = []

    def send(self, request: Any, done: Callable[[Any], None]) -> None:
        kind, alias = request.target.path.strip("/").split("/")
        if kind == "hang":
            self.hanging.append((alias, done))
        else:
            asyncio.get_running_loop().call_soon(done, self._failed() if kind == "fail" else self._acknowledged())

    async def close(self, grace_seconds: float) -> None:
        """Nothing to close."""

    def end(self, alias: str) -> None:
        """End the requests of a listener: the first is acknowledged, the others fail."""
        ends = [done for name, done in self.hanging if name == alias]
        for at, done in enumerate(ends):
            done(self._failed() if at else self._acknowledged())

    @staticmethod
    def _acknowledged() -> Any:
        return _old("discue.model").Outcome(200, "", "", 3)

    @staticmethod
    def _failed() -> Any:
        trace = _old("discue.trace")
        timings = trace.Timings(None, None, None, 1, 3)
        kept = trace.Trace(b"POST / HTTP/1.1\r\nhost: x\r\n\r\n", (), b"no", 2, "127.0.0.1:1", True, timings)
        return _old("discue.model").Outcome(500, "status", "It answered 500.", 3, trace=kept)


class Probe:
    """A stand-in for the old program's probes: every listener lives."""

    def __init__(self, _fetcher: Any) -> None:
        self._fetched = _old("discue.sending.fetch").Fetched

    def __call__(self, _target: Any, done: Callable[[Any], None]) -> None:
        asyncio.get_running_loop().call_soon(done, self._fetched(200, b""))

    async def close(self) -> None:
        """Nothing to close."""


def _settings(database: str, role: str) -> Any:
    return _old("discue.settings").Settings(
        database=database, port=0, role=role, allow_private_targets=True, disable_after_seconds=86_400 * 365
    )


async def _furnish(database: str) -> Any:
    """Run the old program until it is killed; returns what its clients know."""
    worker_module, clock, sender = _old("discue.worker"), Clock(story.STARTED_AT), Sender()
    log = _old("discue.logs").Log("upgrade")
    worker_module.Fetching = Probe
    worker_module._VERIFICATION_SECONDS = 3_600.0
    worker_module.SystemRandom = lambda: random.Random(1)  # noqa: S311 - repeatable
    opening = _old("discue.installation").opened(_settings(database, "all"), clock, log)
    installation = await opening.__aenter__()
    await _old("discue.control.bootstrap").ensure_operator(installation.control, ALIAS, story.OPERATOR_KEY)
    worker = worker_module.Worker(installation, log, sender=sender)
    server = _old("discue.http_server").HttpServer(
        worker.application, _old("discue.http_server").Address("127.0.0.1", 0), max_connections=100
    )
    await server.start()
    await worker.start()

    async def settle() -> None:
        for _ in range(_LOOKS):
            worker.dispatcher.wake()
            await asyncio.sleep(_LOOK_SECONDS)
            while tasks := installation.store.commits | worker.dispatcher._tasks:
                await asyncio.wait(tasks, timeout=5)

    async def step(milliseconds: int) -> None:
        await settle()
        clock.advance(milliseconds)
        await settle()

    url = f"http://127.0.0.1:{server.address.port}"
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        furnishing = story.Furnishing(story.Caller(client, url, story.OPERATOR_KEY), step)
        clients = await furnishing.run()
        await asyncio.sleep(1.5)
        await step(story.CRASHED_AT - clock.now())
    await server.stop(1)
    # From here on nothing but the requests of two listeners goes on: their cursors are handed over meanwhile.
    await worker._supervisor.stop()
    moving = {furnishing.listeners[alias].rpartition("/")[2] for alias in ("sending", "ended")}
    lanes = [lane for lane in worker.dispatcher._lanes if lane.record.listener_public_id in moving]
    handing_over = asyncio.create_task(worker.dispatcher.hand_over([lane.key for lane in lanes]))
    await asyncio.sleep(0.3)
    sender.end("ended")
    await asyncio.sleep(0.5)
    await handing_over
    worker.dispatcher.alarms.stop()
    await installation.store.engine.close()
    return clients


@asynccontextmanager
async def _running(database: str, clock: Clock, role: str) -> AsyncIterator[str]:
    """Run the old program on a database; yields its URL."""
    worker_module, log = _old("discue.worker"), _old("discue.logs").Log("upgrade")
    async with _old("discue.installation").opened(_settings(database, role), clock, log) as installation:
        worker = worker_module.Worker(installation, log)
        address = _old("discue.http_server").Address("127.0.0.1", 0)
        async with worker_module.served(worker, address, max_connections=100) as server:
            yield f"http://127.0.0.1:{server.address.port}"


async def _read(database: str, clients: Any) -> Any:
    clock = Clock(story.CRASHED_AT)
    async with _running(database, clock, "api") as url, httpx.AsyncClient(trust_env=False, timeout=30) as client:
        return await story.everything_readable(story.Caller(client, url, story.OPERATOR_KEY), clients)


async def _finish(database: str, receiver: Any, clients: Any) -> Any:
    clock = Clock(story.CRASHED_AT, runs=True)
    async with _running(database, clock, "all") as url, httpx.AsyncClient(trust_env=False, timeout=30) as client:
        ending = await story.finish(story.Caller(client, url, story.OPERATOR_KEY), clients)
    requests = [story.Delivered(each.path, each.headers, each.body) for each in receiver]
    return {**ending, "delivered": story.sent_to_listeners(requests, clients["secrets"])}


class Sqlite:
    """Databases in files."""

    name = "sqlite"

    @contextmanager
    def database(self, dump: str | None = None, port: int | None = None) -> Iterator[str]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "discue.db"
            if dump is not None:
                path.touch(0o600)
                with sqlite3.connect(path) as connection:
                    connection.executescript(dump)
                    if port is not None:
                        connection.executescript(story.statement_for_port(port))
                connection.close()
            yield f"sqlite:///{path}"

    def dump(self, database: str) -> str:
        connection = sqlite3.connect(database.removeprefix("sqlite:///"))
        connection.execute("UPDATE worker SET lease_until = ?", (LEASE_UNTIL,))
        connection.commit()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        lines = list(connection.iterdump())
        connection.close()
        return "\n".join([f"PRAGMA application_id={application_id};", *lines]) + "\n"


class Postgres:
    """Databases of a server of the old program's tests."""

    name = "postgres"

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._number = 0

    @contextmanager
    def database(self, dump: str | None = None, port: int | None = None) -> Iterator[str]:
        self._number += 1
        name = f"made_{self._number}"
        self._cluster.create_database(name)
        if dump is not None:
            self._cluster.run_sql(dump, name)
            if port is not None:
                self._cluster.run_sql(story.statement_for_port(port), name)
        try:
            yield self._cluster.dsn(name)
        finally:
            self._cluster.drop_database(name)

    def dump(self, database: str) -> str:
        name = database.rpartition("/")[2]
        self._cluster.run_sql(f"UPDATE worker SET lease_until = {LEASE_UNTIL}", name)
        address = [f"--host={self._cluster.folder}", f"--port={self._cluster.port}", f"--username={_old_user()}"]
        flags = ["--inserts", "--no-owner", "--no-privileges", "--no-comments", "--dbname", name]
        text = self._cluster.programs.run("pg_dump", *address, *flags, folder=self._cluster.folder)
        return _portable(text)


def _old_user() -> str:
    return str(_old("tests.postgres.server").USER)


def _portable(text: str) -> str:
    """Remove what depends on the version of the server or of pg_dump, and sort the rows of each table."""
    kept: list[str] = []
    rows: list[str] = []
    for line in re.sub(r"\n{2,}", "\n", text).splitlines():
        if line.startswith("INSERT INTO"):
            rows.append(line)
            continue
        kept += sorted(rows)
        rows = []
        if not line.startswith(("--", "SET ", "\\", "SELECT pg_catalog.set_config")):
            kept.append(line)
    return "\n".join([*kept, *sorted(rows)]) + "\n"


async def _fixtures_of(engine: Any) -> tuple[str, Any, Any, Any]:
    # Only ids, keys and secrets are to repeat: the drivers of databases take random bytes of their own.
    _old("discue.installation").os = SimpleNamespace(urandom=random.Random(7).randbytes)  # noqa: S311
    with engine.database() as database:
        clients = await _furnish(database)
        dump = engine.dump(database)
    with engine.database(dump) as database:
        readable = await _read(database, clients)
    receiver_class = _old("tests.faults.receiver").Receiver
    async with receiver_class() as receiver:
        with engine.database(dump, receiver.port) as database:
            ending = await _finish(database, receiver.delivered, clients)
    return dump, clients, readable, ending


def _write(name: str, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    content = text.encode()
    (FIXTURES / name).write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)


def main(base: str) -> int:
    """Write the fixtures. Both engines must show and send the same."""
    sys.path.insert(0, str(Path(base).resolve()))
    FIXTURES.mkdir(exist_ok=True)
    with ExitStack() as stack:
        cluster = stack.enter_context(_old("tests.postgres.cluster").Cluster())
        made = {}
        for engine in (Sqlite(), Postgres(cluster)):
            dump, clients, readable, ending = asyncio.run(_fixtures_of(engine))
            _write(f"{engine.name}.sql", dump)
            _write(f"{engine.name}-readable.json.gz", readable)
            made[engine.name] = (clients, ending)
    if made["sqlite"] != made["postgres"]:
        print("The engines differ: run this again on a machine with less to do.")
        return 1
    for name, value in zip(("clients.json", "ending.json"), made["sqlite"], strict=True):
        _write(name, value)
    return 0


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1]))
