"""discue itself, on a thread of the test's process, with a clock that can be moved."""

import asyncio
import logging
import math
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from discue.config.settings import Settings
from discue.config.types import reachable
from discue.control.organizations import ensure_operator
from discue.dashboard.users.sign_in import one_time_code
from discue.domain.attempts import Outcome
from discue.domain.egress import EgressPolicy
from discue.domain.errors import DiscueError, SettingsInvalid
from discue.http.rsgi import Application
from discue.observability.logs import Log
from discue.product import edge
from discue.sending.request import AttemptRequest
from discue.sending.response import SenderLimits
from discue.sending.sender import Sender
from discue.server.http import Address, held_port
from discue.server.installation import Machine, open_installation
from discue.server.signals import completed
from discue.server.worker import Worker, served
from discue.store.migrations import migrations
from discue.store.sqlite import schema
from discue.store.sqlite.connection import connect
from discue.testing.clock import BEYOND, LATEST, MovableClock, SendingClock
from discue.testing.loop_thread import LoopThread
from discue.testing.receiver import AttemptKey

if TYPE_CHECKING:
    import httpx2

SETTLE_SECONDS: Final = 5.0
"""How long work may take that is due, in real time."""

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.001
_FILE: Final = "discue.db"
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only a folder with a random name in it is used

# Without this, programs that configure no logging would get warnings about the failures that tests script.
logging.getLogger("discue.testing").addHandler(logging.NullHandler())


Held = Callable[[], Collection[AttemptKey]]
"""Returns the attempts that a listener of the test keeps waiting."""


class ServerDied(RuntimeError):
    """The server of the test has ended."""


class StillWorking(Exception):
    """Something that is due was not done in time."""


def settings_for_tests(folder: Path, **settings: Any) -> Settings:
    """Return the settings of a server for tests, with the given ones in place of its own."""
    ours: dict[str, Any] = {
        "database": f"sqlite:///{folder}/{_FILE}",
        "host": "127.0.0.1",
        "port": 0,
        "allow_private_targets": True,
        "show_private_responses": True,
        "attempt_details": "all",
        "rate_limit": 0,
        "address_rate_limit": 0,
        "drain_timeout_seconds": 0,
    }
    return Settings(**{**ours, **settings})


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder in memory, where the system has one."""
    return tempfile.TemporaryDirectory(prefix="discue-test-", dir=_MEMORY if _MEMORY.is_dir() else None)


@cache
def _empty_database() -> bytes:
    """Return the content of a database in which there is nothing but tables."""
    with temporary_folder() as place:
        path = Path(place, _FILE)
        connection = connect(path)
        schema.migrate(connection, migrations(schema.DIALECT))
        connection.close()
        return path.read_bytes()


def _copy_empty_database(folder: Path) -> None:
    """Put a database into the folder. Making its tables there would take ten times as long."""
    (folder / _FILE).write_bytes(_empty_database())


class KitSender(Sender):
    """A sender that knows its requests in flight."""

    def __init__(self, clock: MovableClock, limits: SenderLimits, **options: Any) -> None:
        super().__init__(clock=SendingClock(clock), limits=limits, **options)
        self._moved = clock
        self._open: dict[AttemptKey, int] = {}
        """The end of each request in flight, in milliseconds since the epoch on the clock of the test."""

    def is_busy(self, but: Collection[AttemptKey] = ()) -> bool:
        """Whether a request is in flight, except for those of `but`."""
        return any(key not in but for key in self._open)

    def next_deadline(self, of: Collection[AttemptKey]) -> int | None:
        """Return when the first of these requests times out, in milliseconds since the epoch."""
        return min((at for key, at in self._open.items() if key in of), default=None)

    def send(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        key = AttemptKey(request.destination.listener_id, request.message_id, request.number, request.replay_id)
        # The timer that applies timeouts compares fractions of a millisecond.
        self._open[key] = self._moved.now() + request.timeout_ms + 1

        def end(outcome: Outcome) -> None:
            self._open.pop(key, None)
            done(outcome)

        super().send(request, end)


class Timeline:
    """Moves the clock of a worker step by step, and waits for what is due. Belongs to the loop of the worker."""

    def __init__(self, worker: Worker, clock: MovableClock, sender: KitSender) -> None:
        self._worker = worker
        self._dispatcher = worker.delivery.dispatcher
        self._clock = clock
        self._sender = sender
        self.is_moved = False
        """Whether the clock is not that of the machine any more."""

    async def now(self) -> int:
        """Return the time on the clock of the server, in milliseconds since the epoch."""
        return self._clock.now()

    async def settle(self, seconds: float = SETTLE_SECONDS, but: Held = tuple, *, pulls: bool = False) -> None:
        """Return when nothing is due and nothing in flight, except for the attempts of `but`.

        With `pulls`, messages that consumers can pull or hold count. Raises StillWorking after `seconds` of real time.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while True:
            if not self._is_busy(but):
                await self._catch_up()
                # Tasks that this has started run at least once before the second look.
                await asyncio.sleep(0)
                # Consumers first: what one publishes before it acknowledges may be on its way to others.
                has_pulls = pulls and await self._worker.delivery.pulls.has_work()
                if not has_pulls and not self._is_busy(but):
                    return
            if loop.time() >= ends_at:
                raise StillWorking
            await asyncio.sleep(_PAUSE_SECONDS)

    async def advance_by(self, milliseconds: int, but: Held = tuple, seconds: float = SETTLE_SECONDS) -> None:
        """Move the clock by so much, counted from the end of what is in flight: see `advance_to`."""
        await self.settle(seconds, but)
        await self.advance_to(self._clock.now() + milliseconds, but, seconds)

    async def advance_to(self, instant: int, but: Held = tuple, seconds: float = SETTLE_SECONDS) -> None:
        """Move the clock to a time in milliseconds since the epoch.

        Stops on the way at each time at which something is due, until it is done. Raises StillWorking if that takes
        longer than `seconds`, and ValueError for a time beyond the year 9000.
        """
        if instant > LATEST:
            raise ValueError(BEYOND)
        await self.pass_until(instant, but, seconds)
        # Jobs that usually run every few seconds or minutes: they delete, miss and verify what is due.
        jobs = self._worker.jobs
        await jobs.retention.run()
        await self._worker.delivery.pulls.miss_too_old()
        await jobs.verifier.round()
        await jobs.retention.flush_key_usage()
        await self.settle(seconds, but)

    async def pass_until(self, instant: int, but: Held = tuple, seconds: float = math.inf) -> None:
        """Move the clock to a time, and do what is due by then. Work that is done every few minutes is not due."""
        self.is_moved = True
        while True:
            await self.settle(seconds, but)
            # Includes deadlines that tests do not see.
            known = (self._dispatcher.timers.next_at, self._worker.jobs.scheduler.next_at)
            due_at = _earliest(*known, self._sender.next_deadline(but()))
            if due_at is None or due_at > instant:
                break
            await self._move_to(due_at)
        await self._move_to(instant)

    async def advance_to_next(self, but: Held = tuple, seconds: float = SETTLE_SECONDS) -> None:
        """Move the clock to the time of the next delivery, delayed message or schedule, if there is one."""
        await self.settle(seconds, but)
        due_at = self.next_delivery_at(but())
        if due_at is not None:
            await self.advance_to(due_at, but, seconds)

    async def freeze(self, *, stands_still: bool) -> None:
        """Let the clock stand still, or run again."""
        self.is_moved = True
        if stands_still:
            self._clock.freeze()
        else:
            self._clock.unfreeze()

    async def set_available(self, *, is_available: bool) -> None:
        """Respond to requests again, or with `503` as while a server starts. Deliveries go on."""
        self._worker.readiness.phase = "serving" if is_available else "starting"

    def next_delivery_at(self, held: Collection[AttemptKey] = ()) -> int | None:
        """Return when a delivery is next due or times out, in milliseconds since the epoch."""
        waking = (lane.wakes_at for lane in self._dispatcher.lanes)
        return _earliest(self._worker.jobs.scheduler.next_at, *waking, self._sender.next_deadline(held))

    async def _move_to(self, instant: int) -> None:
        self._clock.move_to(instant)
        await self._catch_up()

    def _is_busy(self, but: Held) -> bool:
        """Return whether anything runs or is due now, except for the attempts of `but`."""
        delivery = self._worker.delivery
        return bool(
            self._dispatcher.tasks.running
            or self._dispatcher.has_turns_to_come
            or self._worker.control.store.is_busy
            or delivery.pulls.tasks.running
            or delivery.probe.in_flight
            or self._worker.poller.is_busy
            or 0 < self._dispatcher.timers.next_at <= self._clock.now()
            or self._sender.is_busy(but())
        )

    async def _catch_up(self) -> None:
        """Start what the clock has made due. Delayed messages, schedules and reports are done when this returns."""
        self._worker.delivery.sender.sweep()
        self._dispatcher.timers.wake_due()
        self._dispatcher.delayed_flushes.wake()
        self._worker.delivery.pulls.timers.wake_due()
        await self._worker.jobs.scheduler.deliver_due()
        await self._worker.jobs.missed_reports.report()


def _earliest(*times: int | None) -> int | None:
    """Return the earliest time, or None. 0 also means no time."""
    return min((at for at in times if at), default=None)


@dataclass(frozen=True, slots=True)
class Running:
    """The parts of a running server."""

    url: str
    key: str
    """A key of the operator's organization, with every scope."""
    timeline: Timeline
    sender: KitSender
    ended: Callable[[], Coroutine[Any, Any, None]]
    """Returns when the HTTP server has stopped."""
    sign_in_code: Callable[[], Coroutine[Any, Any, str]]
    """Returns a code that opens the dashboard once, within a minute."""


Wrap = Callable[[Application, Timeline, str], Application]
"""Adds to what is served, for holders of the operator's key."""


@asynccontextmanager
async def running(
    settings: Settings,
    log: Log,
    wrap: Wrap | None = None,
    *,
    clock: MovableClock | None = None,
    make_sender: Callable[..., KitSender] = KitSender,
    machine: Machine | None = None,
    hold: Callable[[Address], AbstractContextManager[int]] = held_port,
) -> AsyncIterator[Running]:
    """Serve a new database while the block runs. By default, retries come exactly at the times of the policy.

    `hold` reserves the port.
    """
    clock = clock or MovableClock()
    with hold(Address(settings.host, settings.port)) as port:
        settings = replace(settings, port=port)
        async with open_installation(settings, clock, log) as control:
            organization, key = await ensure_operator(control, settings.organization, settings.bootstrap_key)
            if key is None:
                raise SettingsInvalid("database: it must be a new database. Name one that does not exist yet.")
            limits = SenderLimits(connect_timeout_ms=settings.connect_timeout_seconds * 1_000)
            public = EgressPolicy(allow_private=True)
            sender = make_sender(clock, limits, policy=control.egress, details=settings.attempt_details, public=public)
            worker = Worker(control, log, edge(), sender=sender, machine=machine or Machine(random=lambda: 0.0))
            timeline = Timeline(worker, clock, sender)
            if wrap is not None:
                worker.application = wrap(worker.application, timeline, key)
            url = Address(reachable(settings.host), port).url
            address = Address(settings.host, port, shared=True)
            async with served(worker, address) as server:
                code = partial(one_time_code, control, organization.id)
                yield Running(url, key, timeline, sender, server.ended, code)


class InProcessServer:
    """A server in this process. Start it once; a stopped one does not start again."""

    url: str
    key: str
    timeline: Timeline

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._thread = LoopThread("discue-server", uvloop.new_event_loop)
        self._started: Future[Running] = Future()
        self._stopping: asyncio.Event | None = None
        self._done: Future[None] = Future()

    @property
    def thread(self) -> LoopThread:
        """The thread of the server. Raises ServerDied if it has ended."""
        self.require_running()
        return self._thread

    @cached_property
    def http_client(self) -> "httpx2.Client":
        """The connections of all clients in this process. Opening them takes as long as ten requests."""
        # `discue dev --ephemeral` has no client, and perhaps nothing that clients need.
        import httpx2  # noqa: PLC0415

        return httpx2.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False)

    def start(self) -> None:
        """Return when the server accepts requests. Raises what prevents it, such as a port that is in use."""
        self._done = self._thread.submit(self._serve())
        ends: list[Future[Any]] = [self._started, self._done]
        wait(ends, _START_SECONDS, FIRST_COMPLETED)
        if self._done.done():
            error = self._done.exception()
            self._thread.stop()
            raise error or ServerDied("The server of the test has ended at its start.")
        if not self._started.done():
            raise TimeoutError(f"The server of the test was not ready within {_START_SECONDS:g} s.")
        running = self._started.result()
        self.url, self.key, self.timeline = running.url, running.key, running.timeline

    def require_running(self) -> None:
        """Raise ServerDied, with the reason if it is known, if the server has ended."""
        if self._done.done() or self._thread.ended.done():
            error = self._done.exception() if self._done.done() and not self._done.cancelled() else None
            reason = f"{type(error).__name__}: {error}" if error is not None else "its thread was stopped"
            raise ServerDied(f"The discue server of this test has ended: {reason}.") from error

    def stop(self) -> None:
        """Stop, and delete the database. Stopping a server that has ended does nothing."""
        if "http_client" in vars(self):
            self.http_client.close()
        if self._stopping is not None and not self._done.done():
            with suppress(RuntimeError):  # The loop is closed already.
                self._thread.loop.call_soon_threadsafe(self._stopping.set)
            wait([self._done, self._thread.ended], _STOP_SECONDS, FIRST_COMPLETED)
        self._thread.stop()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        with temporary_folder() as place:
            _copy_empty_database(Path(place))
            async with running(settings_for_tests(Path(place), **self._settings), Log("testing")) as found:
                self._started.set_result(found)
                if await completed(found.ended(), self._stopping):
                    raise DiscueError("its HTTP server stopped")
