"""A simulated machine with the real worker on it: started, killed, paused and restarted."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from contextvars import copy_context
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

from discue.config.settings import Settings
from discue.control.encryption import ensure_encryption
from discue.control.organizations import ensure_operator
from discue.dispatch.ownership import Predecessors
from discue.domain.clock import Clock
from discue.observability.logs import Log
from discue.product import edge
from discue.server.installation import Machine, open_installation
from discue.server.worker import Worker
from discue.store.engine import Engine, Notification
from discue.store.sqlite.siblings import SiblingNotifier
from tests.faults.client import KEY
from tests.faults.running import TIMEOUT_SECONDS
from tests.simulation.api_server import serve
from tests.simulation.guard import EPOCH_SECONDS
from tests.simulation.loop import HOST, Host, SimLoop
from tests.simulation.network import Network
from tests.simulation.trace import Trace

MAX_IN_FLIGHT: Final = 8
_CLUSTER: Final = "postgresql://database/discue"
_STORE_FAILED: Final = "store_failed"
_API_PORT: Final = 3_000
_LOCK_CHECKS_SECONDS: Final = 0.05
_WRITE_SECONDS: Final = (0.000_5, 0.006)
_NOTIFICATION_SECONDS: Final = (0.000_05, 0.002)
_LOST_NOTIFICATIONS: Final = 0.1
_ENCRYPTION_KEY: Final = bytes(range(32))


class HostClock:
    """The clocks of a machine. Its wall clock may be wrong."""

    def __init__(self, loop: SimLoop, host: Host) -> None:
        self._loop = loop
        self._host = host

    def now(self) -> int:
        return EPOCH_SECONDS * 1_000 + int(self._loop.time() * 1_000) + self._host.clock_error_ms

    def monotonic(self) -> float:
        # Not 0: nothing in the product may take the start of the machine for "never".
        return 1_000 + self._loop.time()


class Steps:
    """A thread, as steps of the loop: each piece of work is one, a while after it was submitted.

    It waits while another process has the lock of its file.
    """

    def __init__(self, loop: SimLoop, choices: Random, is_locked_out: Callable[[], bool] = lambda: False) -> None:
        self._is_locked_out = is_locked_out
        self._loop = loop
        self._random = choices
        self._works: list[Callable[[], None]] = []
        self._is_running = False
        self._idle = asyncio.Event()
        self._idle.set()

    def submit(self, work: Callable[[], None]) -> None:
        self._works.append(work)
        self._idle.clear()
        if not self._is_running:
            self._is_running = True
            self._schedule()

    async def close(self) -> None:
        await self._idle.wait()

    def _schedule(self) -> None:
        self._loop.call_later(self._random.uniform(*_WRITE_SECONDS), self._run)

    def _run(self) -> None:
        if self._is_locked_out():
            self._loop.trace.reach("wait for the lock of a file")
            self._loop.call_later(_LOCK_CHECKS_SECONDS, self._run)
            return
        work = self._works.pop(0)
        work()
        if self._works:
            self._schedule()
        else:
            self._is_running = False
            self._idle.set()


class SimNotifier:
    """Notifies the other processes on a file, after a while. Some notifications are lost."""

    def __init__(self, loop: SimLoop, choices: Random, others: Callable[[], Iterable["SimNotifier"]]) -> None:
        """Take those of the other processes from `others`."""
        self._loop = loop
        self._random = choices
        self._others = others
        self._context = copy_context()
        self._on_notify: Callable[[Notification], None] = lambda _hint: None

    def notify(self, hint: Notification) -> None:
        for other in self._others():
            if self._random.random() >= _LOST_NOTIFICATIONS:
                seconds = self._random.uniform(*_NOTIFICATION_SECONDS)
                self._loop.call_later(seconds, other.hear, hint, context=other._context)

    def listen(self, on_notify: Callable[[Notification], None]) -> None:
        self._on_notify = on_notify

    def hear(self, hint: Notification) -> None:
        self._loop.trace.reach("notification of another process on a file")
        self._on_notify(hint)

    def close(self) -> None:
        self.listen(lambda _hint: None)


def machine_of(
    loop: SimLoop,
    clock: Clock,
    choices: Random,
    network: Network,
    *,
    database: Engine | None = None,
    siblings: SiblingNotifier | None = None,
    is_locked_out: Callable[[], bool] = lambda: False,
) -> Machine:
    """Return what the product takes from a simulated machine."""
    return Machine(
        clock=clock,
        random_bytes=choices.randbytes,
        start_thread=lambda _name: Steps(loop, choices, is_locked_out),
        resolve=network.resolve,
        siblings=siblings,
        database=database,
        random=choices.random,
    )


class SimLog(Log):
    """Writes into the trace, and keeps errors: what the store reports may have a fault for its cause, all else has not.

    Each kind of event counts as something that a run has reached.
    """

    is_debug = False

    def __init__(self, trace: Trace, place: str, *, errors: list[str], said: list[str]) -> None:
        """`said` gets the errors that a fault may explain, as the checker reads them."""
        super().__init__()
        self._trace = trace
        self._place = place
        self._errors = errors
        self._said = said

    def _write(self, level: int, event: str, fields: dict[str, object], error: BaseException | None) -> None:
        # The path of the database differs between runs.
        shown = " ".join(f"{name}={value}" for name, value in fields.items() if name != "database")
        if error is not None:
            shown = f"{shown} {error!r}".strip()
        self._trace.add(self._place, event, shown)
        if event != "attempt":
            self._trace.reach(event)
        if level < logging.ERROR:
            return
        if event == _STORE_FAILED:
            at = datetime.fromtimestamp(time.time(), UTC).isoformat()
            self._said.append(json.dumps({"level": "error", "time": at, "event": event, "detail": shown}))
        else:
            self._errors.append(f"{self._place} logged {event} {shown}")


class SimWorker:
    """A worker and its machine. After a crash, `start` starts another machine on the same files."""

    def __init__(
        self,
        number: int,
        folder: Path,
        loop: SimLoop,
        network: Network,
        *,
        choices: Random,
        connect: Callable[[], Engine] | None = None,
    ) -> None:
        """`connect` returns the engine for a shared database; None: it has a SQLite file of its own."""
        self.number = number
        self._connect = connect
        self.folder = folder
        self.errors: list[str] = []
        self.said: list[str] = []
        self.serving = asyncio.Event()
        self.siblings: Sequence[SimWorker] = ()
        """The processes that share its file, and itself."""
        self.notifier: SimNotifier | None = None
        self.lease_seconds = 3
        self._worker: Worker | None = None
        self.host = self._new_host()
        self._loop = loop
        self._network = network
        self._random = choices
        self._running: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    @property
    def port(self) -> int:
        return _API_PORT + self.number

    @property
    def settings(self) -> Settings:
        return Settings(
            database=f"sqlite:///{self.folder}/discue.db" if self._connect is None else _CLUSTER,
            bootstrap_key=KEY,
            encryption_key=(_ENCRYPTION_KEY,),
            allow_private_targets=True,
            show_private_responses=True,
            rate_limit=0,
            address_rate_limit=0,
            lease_seconds=self.lease_seconds,
            workers=max(1, len(self.siblings)),
            listener_max_in_flight=MAX_IN_FLIGHT,
            delivery_timeout_seconds=TIMEOUT_SECONDS,
            drain_timeout_seconds=5,
        )

    def start(self) -> None:
        """Begin to start. `serving` is set when it does."""
        self.host = self._new_host(self.host)
        self._stop = asyncio.Event()
        self._running = self._loop.run_on(self.host, self._serve(self._stop))

    def killed(self) -> None:
        """Forget what ran on the machine, which was killed."""
        self.serving.clear()
        self.host.is_down = True
        self._loop.bury(self._running)

    async def stop(self) -> None:
        """Stop in good order."""
        self.serving.clear()
        self._stop.set()
        if self._running is not None:
            await self._running

    async def until_serving(self) -> None:
        """Return when it serves. Raises what has ended it instead."""
        serving = asyncio.ensure_future(self.serving.wait())
        running = self._running
        assert running is not None
        await asyncio.wait([serving, running], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            serving.cancel()
            running.result()

    def _is_locked_out(self) -> bool:
        others = (each.host for each in self.siblings if each is not self)
        return any(host.has_lock and not host.is_down for host in others)

    def _notifiers(self) -> Iterable[SimNotifier]:
        return [each.notifier for each in self.siblings if each is not self and each.notifier is not None]

    def _predecessors(self, database: Engine | None) -> Predecessors:
        """Return what is known to have ended: on a file, the parent process has seen the end of the last worker."""
        if database is None and not self.siblings:
            return "all"
        return (self._worker.lease.session.id,) if database is None and self._worker is not None else ()

    def _new_host(self, previous: Host | None = None) -> Host:
        host = Host(f"worker {self.number}", f"127.0.0.{self.number + 11}", self.number)
        if previous is not None:
            host.clock_error_ms = previous.clock_error_ms
        return host

    async def _serve(self, stop: asyncio.Event) -> None:
        host = HOST.get()
        assert host is not None
        trace, clock = self._loop.trace, HostClock(self._loop, host)
        trace.add(host.name, "starts")
        log = SimLog(trace, host.name, errors=self.errors, said=self.said)
        database = self._connect() if self._connect is not None else None
        self.notifier = SimNotifier(self._loop, self._random, self._notifiers) if self.siblings else None
        machine = machine_of(
            self._loop,
            clock,
            self._random,
            self._network,
            database=database,
            siblings=self.notifier,
            is_locked_out=self._is_locked_out,
        )
        settings = self.settings
        async with AsyncExitStack() as stack:
            control = await stack.enter_async_context(open_installation(settings, clock, log, machine))
            await ensure_encryption(control, log)
            await ensure_operator(control, settings.organization, settings.bootstrap_key)
            self._worker = worker = Worker(
                control, log, edge(), predecessors=self._predecessors(database), machine=machine
            )
            server = await serve(worker.application, "127.0.0.1", self.port)
            await worker.start()
            self.serving.set()
            await stop.wait()
            await worker.hand_over()
            server.close()
            await worker.leave()
        trace.add(host.name, "has stopped")
