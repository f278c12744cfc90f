"""A database that a hostile tenant has filled with the data for attacks on reads, and more than a page of everything.

It is built once for all processes of a run, through the store, as the service fills it.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from msgspec.structs import replace

from discue.domain.message_data import JSON_VALUE
from discue.domain.model import Queue
from discue.store import listeners, queues
from discue.store.engine import Append, DeliveryRow, NewEntry, Transaction
from tests.store.rows import a_listener, a_settle
from tests.support.served_api import Service, cast_of, served

LARGE_MESSAGES, LARGE_BYTES = 4_000, 250_000
HUGE_MESSAGES, HUGE_BYTES = 48, 8_300_000
SMALL_BYTES = 300
LISTENERS = 1_000
MISSED_MESSAGES = 10_000
REPLAYED_MESSAGES = 188_000

_MOST_BYTES = 8_388_608
_SETTLED_LISTENERS = 10
"""Listeners of the queue `large` that have settled all of its messages."""
_MISSED_EVERY = _SETTLED_LISTENERS * LARGE_MESSAGES // MISSED_MESSAGES
"""Each of these listeners has missed one in this many messages."""

LISTED_MESSAGES = 100

_APPENDED_BYTES, _APPENDED_MESSAGES = 8_000_000, 1_000
_FILE = "hostile.json"


class HostileStore(NamedTuple):
    """The database, with the keys and ids that the tests use."""

    folder: str
    operator: str
    """A key of the operator's organization."""
    key: str
    """A key of the hostile organization."""
    large: str
    """A queue with 1 GB of large messages. Listeners have missed some of them, and one has received none."""
    huge: str
    """A queue with messages of about 8 MB. Every other one is a long list."""
    huge_messages: Sequence[str]
    crowd: str
    """A queue with nearly all listeners, which have received none of its messages."""
    replayed: str
    """A queue with many small messages."""
    listener: str
    """A listener of `large`, which has missed messages."""
    listener_of_huge: str
    neighbours_key: str
    """A key of another organization."""
    neighbours_queue: str
    """A queue of that organization, with few small messages."""

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder}/discue.db"


def shared_folder(folders: pytest.TempPathFactory) -> Path:
    """Return a folder that the processes of a run share."""
    folder = folders.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "hostile"


@contextmanager
def hostile_copy(built: Path, folder: Path) -> Iterator[HostileStore]:
    """Copy the database that all processes of a run share. The first one that needs it builds it in `built`."""
    built.mkdir(exist_ok=True)
    with (built / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (built / _FILE).exists():
            made = _build(built)
            (built / _FILE).write_text(json.dumps(made))
    made = HostileStore(*json.loads((built / _FILE).read_text()))
    for file in built.glob("discue.db*"):
        shutil.copyfile(file, folder / file.name)
        (folder / file.name).chmod(0o600)
    yield made._replace(folder=str(folder))
    for file in folder.glob("discue.db*"):
        file.unlink()


def _build(folder: Path) -> HostileStore:
    return fill(folder, large_bytes=LARGE_BYTES, huge_bytes=HUGE_BYTES, replayed_messages=REPLAYED_MESSAGES)


def fill(folder: Path, *, large_bytes: int, huge_bytes: int, replayed_messages: int) -> HostileStore:
    """Fill a new database in a folder."""
    with served(folder, rate_limit=0, max_message_bytes=_MOST_BYTES) as service:
        building = _Building(service)
        return building.store(str(folder), large_bytes, huge_bytes, replayed_messages)


def ordinary(folder: Path) -> HostileStore:
    """Fill a database like the hostile one, with small messages only."""
    return fill(folder, large_bytes=SMALL_BYTES, huge_bytes=SMALL_BYTES, replayed_messages=0)


class _Building:
    """Fills the database of a service that does not deliver."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._installation = service.installation

    def store(self, folder: str, large_bytes: int, huge_bytes: int, replayed_messages: int) -> HostileStore:
        # It is older than the hostile organization, so that its messages come first.
        neighbour = cast_of(self._service)
        queue = neighbour.queue(alias="orders")
        self._publish(queue, SMALL_BYTES, LISTED_MESSAGES)
        cast = cast_of(self._service)
        large, huge, crowd, replayed = (cast.queue(alias=alias) for alias in ("large", "huge", "crowd", "replayed"))
        of_large = [cast.listener(large) for _ in range(_SETTLED_LISTENERS)]
        others = [cast.listener(queue, status="disabled") for queue in (large, huge)]
        self._crowd(crowd, LISTENERS - len(of_large) - len(others))
        self._publish(crowd, SMALL_BYTES, LISTED_MESSAGES)
        self._publish(replayed, SMALL_BYTES // 3, replayed_messages)
        self._publish(large, large_bytes, LARGE_MESSAGES)
        ids = self._publish(huge, huge_bytes, HUGE_MESSAGES)
        for number, listener in enumerate(of_large):
            self._service.run(self._miss(listener, number % _MISSED_EVERY + 1))
        key = str(cast.alice.headers["x-api-key"])
        return HostileStore(
            folder,
            self._service.operator,
            key,
            large,
            huge,
            ids,
            crowd,
            replayed,
            of_large[0],
            others[1],
            str(neighbour.alice.headers["x-api-key"]),
            queue,
        )

    def _crowd(self, public_id: str, count: int) -> None:
        ids = self._installation

        async def work(tx: Transaction) -> None:
            queue = await self._queue(tx, public_id)
            for number in range(count):
                made = replace(
                    a_listener(queue, number),
                    id=ids.row_ids.next(),
                    public_id=ids.public_ids.next(),
                    status="disabled",
                    notify_url="http://127.0.0.1:9/notify",
                    liveness_url="http://127.0.0.1:9/live",
                )
                await listeners.insert(tx, made, 0)

        self._service.run(ids.store.write(work))

    def _publish(self, public_id: str, size: int, count: int) -> list[str]:
        """Append messages of about this size in few commits, and return their ids."""
        at_once = max(1, min(_APPENDED_MESSAGES, _APPENDED_BYTES // size))
        return self._service.run(self._append(public_id, size, count, at_once))

    async def _append(self, public_id: str, size: int, count: int, at_once: int) -> list[str]:
        store, clock, next_id = self._installation.store, self._installation.clock, self._installation.public_ids.next
        queue = await store.read(lambda tx: self._queue(tx, public_id))
        bodies = [_body(number, size) for number in range(2)]
        entries = [NewEntry(next_id(), JSON_VALUE, bodies[number % 2]) for number in range(count)]
        for start in range(0, count, at_once):
            some = tuple(entries[start : start + at_once])
            await store.append(Append(queue.organization, queue.id, queue.config_version, clock.now(), some))
        return [entry.id for entry in entries]

    async def _miss(self, public_id: str, first: int) -> None:
        """Mark all messages of a queue as settled for a listener, and some at equal distances as missed."""
        store, now = self._installation.store, self._installation.clock.now()
        found = await store.read(lambda tx: tx.row("SELECT organization FROM listener WHERE public_id = $1", public_id))
        assert found is not None
        listener = await store.read(lambda tx: listeners.get(tx, found[0], public_id))
        assert listener is not None
        seqs = range(first, LARGE_MESSAGES + 1, _MISSED_EVERY)
        rows = tuple(DeliveryRow(seq, "missed", 3, now, "failed") for seq in seqs)
        acknowledged = LARGE_MESSAGES - len(rows)
        settle = a_settle(listener, LARGE_MESSAGES, acknowledged=acknowledged, missed=len(rows), delivery_rows=rows)
        assert await store.settle(settle)

    async def _queue(self, tx: Transaction, public_id: str) -> Queue:
        found = await tx.row("SELECT organization FROM queue WHERE public_id = $1", public_id)
        assert found is not None
        queue = await queues.get(tx, found[0], public_id)
        assert queue is not None
        return queue


def _body(number: int, size: int) -> bytes:
    """Return an object whose parts are a long text, or a long list."""
    fields = {"order": number, "state": "paid"}
    if number % 2:
        return msgspec.json.encode({**fields, "items": ["y" * 20] * (size // 23)})
    return msgspec.json.encode({**fields, "text": "x" * (size - 40)})
