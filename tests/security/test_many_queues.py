"""No background job keeps the event loop of a worker for long, however many queues and listeners there are.

On SQLite, reads do not suspend: a job that only reads in a loop would otherwise end in the step in which it began.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from discue.config.settings import Settings
from discue.control.context import ControlContext
from discue.control.organizations import ensure_operator
from discue.domain.clock import SystemClock
from discue.domain.message_data import JSON_VALUE
from discue.domain.model import Queue
from discue.observability.logs import Log
from discue.observability.supervisor import Supervisor
from discue.server.installation import open_installation
from discue.server.worker import Worker
from discue.store import listeners, queues
from discue.store.engine import Append, NewEntry, Transaction
from tests.dispatch.stage import SECRET
from tests.security.steps import MeasuredSteps, Step, shown
from tests.store.rows import a_listener

_QUEUES = 10_000
_LONGEST_SECONDS = 0.1
_END = "end"
_SECRETS = b'[{"text":"%s"}]' % SECRET.encode()
_COPY_MESSAGES = """
    INSERT INTO log ({0}) SELECT {1} FROM log, queue WHERE log.queue = $1 AND queue.id <> $1"""


class _Jobs(Supervisor):
    """Collects the periodic jobs instead of running them. Jobs without an interval wait for a request first."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.works: dict[str, Callable[[], Awaitable[None]]] = {}

    def every(self, seconds: float, name: str, work: Callable[[], Awaitable[None]], *_: Any, **__: Any) -> None:
        if seconds or name == "poller":
            self.works[name] = work


async def _fill(control: ControlContext, organization: int) -> None:
    """Create queues, each with a message, a listener in pull mode and one that is disabled."""
    now = control.clock.now()

    made = list[Queue]()

    async def work(tx: Transaction) -> None:
        for number in range(_QUEUES):
            queue = Queue(
                organization=organization,
                id=control.row_ids.next(),
                public_id=control.public_ids.next(),
                alias=f"queue-{number}",
                retention_seconds=None,
                max_message_bytes=None,
                config_version=1,
                created_at=now,
                updated_at=now,
            )
            made.append(queue)
            await queues.insert(tx, queue)
            for mode, status, url in (("pull", "enabled", ""), ("push", "disabled", "http://127.0.0.1:9/")):
                row_id, public_id = control.row_ids.next(), control.public_ids.next()
                of_queue = replace(a_listener(queue, 0, alias=mode), id=row_id, public_id=public_id)
                listener = replace(
                    of_queue, mode=mode, status=status, notify_url=url, liveness_url=url, secrets=_SECRETS
                )
                await listeners.insert(tx, listener, 0)

    await control.store.write(work)
    queue = made[0]
    entries = (NewEntry(control.public_ids.next(), JSON_VALUE, b"1"),)
    await control.store.append(Append(organization, queue.id, queue.config_version, now, entries))

    async def copy(tx: Transaction) -> None:
        columns = [row[1] for row in await tx.rows("PRAGMA table_info(log)")]
        copied = {"queue": "queue.id", "id": "queue.public_id"}
        values = [copied.get(column, f"log.{column}") for column in columns]
        await tx.execute(_COPY_MESSAGES.format(", ".join(columns), ", ".join(values)), queue.id)
        await tx.execute("UPDATE queue_head SET head = 1")

    await control.store.write(copy)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Collect no garbage: that would take time for all objects of the process that runs the tests."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _longest_steps(folder: Path) -> dict[str, Step]:
    """Start a worker, run each job, and read all listeners again. Returns the longest step of each."""
    settings = Settings(database=f"sqlite:///{folder}/worker.db", port=0, lease_seconds=60)
    async with open_installation(settings, SystemClock(), Log()) as control:
        organization, _ = await ensure_operator(control, "com.example.operator", None)
        await _fill(control, organization.id)
        worker = Worker(control, Log())
        jobs = worker.supervisor
        assert isinstance(jobs, _Jobs)
        works, longest = jobs.works, dict[str, Step]()
        name = "start"

        async def run(job: str) -> None:
            nonlocal name
            name = job
            # In a task of its own: steps must not be those of two jobs.
            await asyncio.ensure_future(works[job]())

        def note(seconds: float, handle: asyncio.Handle) -> None:
            if name != _END and seconds > longest.get(name, Step()).seconds:
                longest[name] = Step(seconds, shown(handle))

        with MeasuredSteps(note), _without_collections():
            await worker.start()
            assert len(worker.delivery.dispatcher.lanes.cursors) == _QUEUES
            for job in works:
                await run(job)
            control.store.has_other_workers = True
            await run("poller")
            name = "reload"
            worker.delivery.dispatcher.on_change("everything", 0, 0)
            await asyncio.gather(*worker.delivery.dispatcher.tasks.running)
            await asyncio.sleep(0)
            # The step that ends the measurement is measured, and may collect garbage again.
            name = _END
        await asyncio.sleep(0)
        await worker.hand_over()
        await worker.leave()
    return longest


def test_no_step_of_a_job_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discue.server.worker.Supervisor", _Jobs)
    longest = asyncio.run(_longest_steps(tmp_path))
    for name, step in sorted(longest.items(), key=lambda each: -each[1].seconds):
        print(f"{name}: {step.seconds:.4f} s")
    assert {"retention", "pulled_messages", "pull_backlogs", "poller"} <= longest.keys()
    assert not {name: step for name, step in longest.items() if step.seconds > _LONGEST_SECONDS}
