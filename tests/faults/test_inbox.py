"""Receivers with an inbox that are killed at every step: each message has one effect, however often it arrives."""

import asyncio
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import pytest

from discue_client.inbox.table import create_statements
from tests.clients.python.outbox.databases import empty_database, run
from tests.faults.client import Client
from tests.faults.conftest import Tell
from tests.faults.inbox_lives import MARKS_APART, POINTS
from tests.faults.outbox_lives import NEVER
from tests.faults.product import Product
from tests.support.forked import Forked
from tests.support.ports import free_port

_BATCH: Final = 1_000
_LOOK_SECONDS: Final = 0.05
_LISTENERS: Final = 2
"""Each message goes to two receivers on one database, at the same time, and both have the same name in the inbox."""


@dataclass
class Lives:
    """A receiver that is restarted each time it kills itself, once for each of its points."""

    command: list[str]
    environment: dict[str, str]
    folder: Path
    points: Iterator[tuple[str, int]]
    bug: str
    deaths: list[str] = field(default_factory=list)

    async def live(self) -> None:
        for point, occurrence in [*self.points, (NEVER, 1)]:
            process = Forked(
                ("-m", "tests.faults.inbox_lives", *self.command, point, str(occurrence), self.bug),
                folder=self.folder,
                environment=self.environment,
            )
            try:
                # Not in a thread: it would still wait for the process when this task is cancelled.
                while process.poll() is None:  # noqa: ASYNC110 - it kills itself
                    await asyncio.sleep(_LOOK_SECONDS)
                assert process.returncode == -signal.SIGKILL, process.stderr.read()
            finally:
                process.kill()
                process.wait(10)
                process.stdout.close()
                process.stderr.close()
            self.deaths.append(point)


@contextmanager
def application_database(engine_name: str, folder: Path) -> Iterator[str]:
    with empty_database(engine_name, folder) as url:
        run(url, *create_statements("sqlite" if engine_name == "sqlite" else "postgresql"))
        run(url, "CREATE TABLE effects (message text)")
        if engine_name == "sqlite":
            run(url, "PRAGMA journal_mode = wal")
        yield url


def points_of(rounds: int, apart: int, seed: int) -> Iterator[tuple[str, int]]:
    """Return every point `rounds` times, each with the number of requests until it."""
    chance = random.Random(seed)  # noqa: S311 - reproducible
    return iter([(point, chance.randint(1, apart)) for point in islice(cycle(POINTS), rounds * len(POINTS))])


async def deliver(folder: Path, url: str, messages: int, rounds: int, bug: str = "") -> list[list[str]]:
    """Deliver messages until both listeners have acknowledged all. Returns where each receiver was killed."""
    async with Product(folder) as product:
        client = product.client()
        queue = str((await client.create("/queues", {}))["id"])
        places, lives = [], []
        for number in range(_LISTENERS):
            port = free_port()
            retry = {"schedule": [1], "jitter": 0, "attempts": 100}
            fields = {"notify_url": f"http://127.0.0.1:{port}/", "retry": retry, "max_in_flight": 20}
            made = await client.create(f"/queues/{queue}/listeners", fields)
            places.append(f"/queues/{queue}/listeners/{made['id']}")
            points = points_of(rounds, max(messages // (3 * rounds * len(POINTS)), 3), number)
            environment = {"DISCUE_WEBHOOK_SECRET": made["secret"]}
            lives.append(Lives([url, str(port)], environment, folder, points, bug))
        living = [asyncio.create_task(each.live()) for each in lives]
        try:
            arrived = asyncio.create_task(publish_and_wait(client, queue, places, messages))
            await asyncio.wait([arrived, *living], return_when=asyncio.FIRST_COMPLETED)
            await next(task for task in (*living, arrived) if task.done())
        finally:
            for task in (arrived, *living):
                task.cancel()
            await asyncio.gather(arrived, *living, return_exceptions=True)
    return [each.deaths for each in lives]


async def publish_and_wait(client: Client, queue: str, places: list[str], messages: int) -> None:
    for first in range(0, messages, _BATCH):
        batch = [{"data": {"n": number}} for number in range(first, min(first + _BATCH, messages))]
        answer = await client.ask("POST", f"/queues/{queue}/messages/batch", {"messages": batch})
        assert answer.status == 200, answer
    for place in places:
        await client.until_shown(place, lambda shown: shown["messages"]["acknowledged_count"] == messages)


def counts(url: str) -> tuple[int, int, int]:
    """Return the numbers of effects, of messages with an effect, and of marks."""
    ((effects, messages),) = run(url, "SELECT count(*), count(DISTINCT message) FROM effects")
    ((marks,),) = run(url, "SELECT count(*) FROM discue_inbox")
    return effects, messages, marks


@pytest.mark.parametrize(
    ("engine_name", "messages", "rounds", "within_seconds"),
    [
        pytest.param("sqlite", 200, 1, 90, id="sqlite"),
        pytest.param("sqlite", 10_000, 4, 600, id="10,000 on sqlite", marks=pytest.mark.torture),
        pytest.param("postgres", 10_000, 4, 600, id="10,000 on postgres", marks=pytest.mark.torture),
    ],
)
def test_each_message_has_one_effect_wherever_its_receivers_are_killed(
    tmp_path: Path, tell: Tell, engine_name: str, messages: int, rounds: int, within_seconds: float
) -> None:
    with application_database(engine_name, tmp_path) as url:
        deaths = asyncio.run(asyncio.wait_for(deliver(tmp_path, url, messages, rounds), within_seconds))
        found = counts(url)

    assert found == (messages, messages, messages)
    assert [sorted(each) for each in deaths] == [sorted(POINTS * rounds)] * _LISTENERS
    tell(f"{messages:,} messages to {_LISTENERS} receivers, {sum(map(len, deaths))} kills: {found[0]:,} effects")


@pytest.mark.torture
@pytest.mark.parametrize("engine_name", ["sqlite", "postgres"])
def test_mark_that_is_committed_apart_from_its_effect_is_noticed(tmp_path: Path, engine_name: str) -> None:
    with application_database(engine_name, tmp_path) as url:
        asyncio.run(asyncio.wait_for(deliver(tmp_path, url, 200, 1, MARKS_APART), 120))
        effects, messages, marks = counts(url)

    assert (effects, marks) == (messages, 200)
    assert effects < 200
