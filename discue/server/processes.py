"""Several workers on one machine: a parent forks them, starts those again that end, and ends all of them together.

The parent serves nothing. It has no thread, no event loop and no database open: that is what makes it safe to fork.
"""

import asyncio
import gc
import math
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from selectors import EVENT_READ, BaseSelector
from typing import Final, NoReturn

from discue.config.settings import Settings
from discue.dispatch.cluster.ownership import Predecessors
from discue.domain.clock import Clock
from discue.observability.logs import Log

SERVES: Final = b"serves"

_FINE: Final = 0
_FAILED: Final = 1


def all_before(settings: Settings) -> Predecessors:
    """For whoever begins to serve a database. A file nobody else has (`alone_on`): whoever was there is gone."""
    return () if settings.database_path is None else "all"


@dataclass(frozen=True, slots=True)
class WorkerPipe:
    """One worker's. Its `leash` is a descriptor that becomes readable when the parent drains, or is gone."""

    number: int
    predecessors: Predecessors
    parent_pipe: int
    reports: int

    def report_session_id(self, session_id: int) -> None:
        """To be called before anything is written under it: then it is known who died when this process did."""
        self._tell(b"%d" % session_id)

    def report_serving(self) -> None:
        self._tell(SERVES)

    def _tell(self, word: bytes) -> None:
        # Without a parent there is nobody to tell, and the leash has ended.
        with suppress(BrokenPipeError):
            os.write(self.reports, word + b"\n")


STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

_ENDED_AT_ONCE: Final = 1
_WAKINGS_READ: Final = 4_096


def stop_asked(log: Log) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT from now on. A second one ends the process at once, with exit code 1."""
    asked = asyncio.Event()

    def receive(name: str) -> None:
        if asked.is_set():
            log.warning("stopped_at_once", signal=name)
            os._exit(_ENDED_AT_ONCE)
        log.info("draining", signal=name)
        asked.set()

    _receive(receive)
    return asked


def stop_told(log: Log, parent_pipe: int) -> asyncio.Event:
    """For one of several workers: set by the end of its leash, or by a signal, however many there are.

    A terminal and a service manager signal the workers as well as their parent: it is the parent that counts.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(reason: str) -> None:
        if not told.is_set():
            log.info("draining", reason=reason)
            told.set()
            loop.remove_reader(parent_pipe)

    loop.add_reader(parent_pipe, stop, "parent")
    _receive(stop)
    return told


@contextmanager
def signals_heard(selector: BaseSelector) -> Iterator[list[signal.Signals]]:
    """For a process without an event loop: which of them came. They wake the selector, and so do ends of children."""
    heard: list[signal.Signals] = []
    woken, waker = socket.socketpair()
    with woken, waker:
        for end in (woken, waker):
            end.setblocking(False)
        selector.register(woken, EVENT_READ, lambda: woken.recv(_WAKINGS_READ))
        for number in STOPPING:
            signal.signal(number, lambda number, _: heard.append(signal.Signals(number)))
        # With the handler that the system has, nothing would be woken.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            yield heard
        finally:
            signal.set_wakeup_fd(-1)


def _receive(receive: Callable[[str], None]) -> None:
    for number in STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, receive, number.name)
    # A parent holds them back from what it forks, until they would be heard.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_LIVED_SECONDS: Final = 60.0
_STARTS_TRIED: Final = 5
_DRAIN_MARGIN_SECONDS: Final = 30.0
_HALTED_SECONDS: Final = 5.0
_PREDECESSORS_KEPT: Final = 16
_READ_BYTES: Final = 65_536

Serve = Callable[[WorkerPipe], int]
"""Serves as one worker, in a process of its own, and returns its exit code."""


@dataclass(slots=True)
class _Child:
    """One worker as its parent sees it. `pid` is 0 while none runs."""

    number: int
    pid: int = 0
    reports: int = -1
    unread: bytes = b""
    session_ids: list[int] = field(default_factory=list)
    """Of those that ran here since one of them last served: whoever ended without serving buried nobody."""
    started_at: float = 0.0
    due_at: float | None = None
    halted_at: float | None = None
    pause: float = 0.0
    failed_starts: int = 0
    serves: bool = False
    has_served: bool = False


class WorkerProcesses:
    """The parent of as many workers as the settings say.

    The first one starts alone: it finds what is wrong with the database, founds what is missing there, and settles
    what earlier workers left behind.
    """

    def __init__(self, serve: Serve, settings: Settings, clock: Clock, log: Log) -> None:
        self._serve = serve
        self._settings = settings
        self._clock = clock
        self._log = log
        self._children = [_Child(number) for number in range(1, settings.workers + 1)]
        self._selector = selectors.DefaultSelector()
        self._signals: list[signal.Signals] = []
        self._parent_pipe, self._parent_pipe_held = os.pipe()
        self._is_asked = False
        self._kill_at: float | None = None
        self._has_started = False
        self._code = _FINE

    def run(self) -> int:
        """Returns when all have ended: 0 if they were asked to, and each did it well."""
        gc.collect()
        # What is shared with the workers stays shared: no collector of theirs walks it.
        gc.freeze()
        self._children[0].due_at = self._clock.monotonic()
        with self._selector, signals_heard(self._selector) as self._signals:
            while self._goes_on():
                for key, _ in self._selector.select(self._patience()):
                    key.data()
        if any(child.has_served for child in self._children):
            self._log.info("workers_stopped", exit_code=self._code)
        return self._code

    @property
    def _is_draining(self) -> bool:
        return self._kill_at is not None

    def _goes_on(self) -> bool:
        """Do what is due. Whether there is anything left to watch."""
        self._obey_signals()
        for child in self._children:
            self._look_after(child)
        self._kill_hopeless()
        for child in self._children:
            if child.due_at is not None and child.due_at <= self._clock.monotonic() and not self._is_draining:
                self._start(child)
        return not self._is_draining or any(child.pid for child in self._children)

    def _patience(self) -> float | None:
        """How long nothing has to be done unless something happens."""
        instants = [child.halted_at + _HALTED_SECONDS for child in self._children if child.halted_at is not None]
        if self._kill_at is None:
            instants += [child.due_at for child in self._children if child.due_at is not None]
        elif self._kill_at < math.inf:
            instants.append(self._kill_at)
        return max(0.0, min(instants) - self._clock.monotonic()) if instants else None

    def _start(self, child: _Child) -> None:
        child.due_at, child.started_at, child.serves = None, self._clock.monotonic(), False
        try:
            child.pid, child.reports = self._fork(child)
        except OSError as error:
            self._log.error("worker_not_started", worker=child.number, reason=error.strerror)
            self._start_again(child)
            return
        self._selector.register(child.reports, selectors.EVENT_READ, lambda: self._hear(child))

    def _fork(self, child: _Child) -> tuple[int, int]:
        """The worker's process, and what it reports. In the worker this does not return."""
        reports, told = os.pipe()
        os.set_blocking(reports, False)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # A signal waits until the worker has said what it means to it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            pid = os.fork()
            if pid == 0:
                self._be_child(WorkerPipe(child.number, self._predecessors(child), self._parent_pipe, told), reports)
        except OSError:
            os.close(reports)
            raise
        finally:
            os.close(told)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid, reports

    def _predecessors(self, child: _Child) -> Predecessors:
        if child is self._children[0] and not child.has_served:
            return all_before(self._settings)
        return tuple(child.session_ids)

    def _be_child(self, place: WorkerPipe, reports: int) -> NoReturn:
        """The rest of a worker's life. Its end unwinds nothing of the parent's."""
        code = _FAILED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for descriptor in (
                self._parent_pipe_held,
                reports,
                *(child.reports for child in self._children if child.pid),
            ):
                os.close(descriptor)
            code = self._serve(place)
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001 - nothing of it may reach the parent's code
            traceback.print_exc()
        finally:
            os._exit(code)

    def _hear(self, child: _Child) -> bool:
        """Take in what a worker told. Whether there may be more."""
        try:
            told = os.read(child.reports, _READ_BYTES)
        except BlockingIOError:
            return False
        if not told:
            return False
        *words, child.unread = (child.unread + told).split(b"\n")
        for word in words:
            if word == SERVES:
                self._note_serving(child)
            else:
                child.session_ids = [*child.session_ids[1 - _PREDECESSORS_KEPT :], int(word)]
        return True

    def _note_serving(self, child: _Child) -> None:
        child.serves = child.has_served = True
        child.failed_starts = 0
        del child.session_ids[:-1]
        for other in self._children:
            if not other.pid and other.due_at is None:
                other.due_at = self._clock.monotonic()
        if not self._has_started and all(other.serves for other in self._children):
            self._has_started = True
            self._log.info("workers_started", count=len(self._children), pid=os.getpid())

    def _look_after(self, child: _Child) -> None:
        """Take notice of what the system says of a worker: that it was halted, goes on, or ended."""
        while child.pid:
            pid, status = os.waitpid(child.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if not pid:
                return
            if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                child.halted_at = self._clock.monotonic() if os.WIFSTOPPED(status) else None
            else:
                self._note_end(child, os.waitstatus_to_exitcode(status))

    def _note_end(self, child: _Child, code: int) -> None:
        while self._hear(child):
            pass
        self._selector.unregister(child.reports)
        os.close(child.reports)
        is_first = child is self._children[0] and not child.has_served
        # Of the first one's end people are told by itself, and by the exit code of the command.
        if not (is_first and code > 0) and not (self._is_draining and code == 0):
            self._log.warning("worker_ended", worker=child.number, pid=child.pid, **_end(code))
        child.pid, child.reports, child.unread, child.halted_at = 0, -1, b"", None
        if self._is_draining:
            self._fail(code)
        else:
            self._start_again(child, code)

    def _start_again(self, child: _Child, code: int = _FAILED) -> None:
        """After a pause; unless none has served here yet, and it does not look as if one ever could."""
        if not child.serves:
            child.failed_starts += 1
        if not child.has_served and (child is self._children[0] or child.failed_starts == _STARTS_TRIED):
            self._fail(code or _FAILED)
            self._drain()
            return
        now = self._clock.monotonic()
        lived = now - child.started_at >= _LIVED_SECONDS
        child.pause = _FIRST_PAUSE_SECONDS if lived else max(_FIRST_PAUSE_SECONDS, child.pause * 2)
        child.pause = min(child.pause, _LONGEST_PAUSE_SECONDS)
        child.due_at = now + child.pause

    def _fail(self, code: int) -> None:
        """The command ends with the first failure."""
        self._code = self._code or (_FAILED if code < 0 else code)

    def _drain(self) -> None:
        os.close(self._parent_pipe_held)
        self._kill_at = self._clock.monotonic() + self._settings.drain_timeout_seconds + _DRAIN_MARGIN_SECONDS

    def _kill_hopeless(self) -> None:
        """A halted worker may hold up the writers of all others: it has to go on soon, or to end."""
        now = self._clock.monotonic()
        for child in self._children:
            if child.halted_at is not None and child.halted_at + _HALTED_SECONDS <= now:
                self._kill(child, "halted")
        if self._kill_at is not None and self._kill_at <= now:
            self._kill_all("does not end")

    def _kill_all(self, reason: str) -> None:
        self._kill_at = math.inf
        for child in self._children:
            if child.pid:
                self._kill(child, reason)

    def _kill(self, child: _Child, reason: str) -> None:
        self._log.error("worker_killed", worker=child.number, pid=child.pid, reason=reason)
        child.halted_at = None
        os.kill(child.pid, signal.SIGKILL)

    def _obey_signals(self) -> None:
        """The first asks for a drain, the second ends all workers at once."""
        while self._signals:
            name = self._signals.pop(0).name
            if self._is_asked:
                self._log.warning("stopped_at_once", signal=name)
                self._kill_all("asked twice")
                continue
            self._log.info("draining", signal=name)
            self._is_asked = True
            if not self._is_draining:
                self._drain()


def _end(code: int) -> dict[str, object]:
    """How a process ended, as a log says it."""
    if code >= 0:
        return {"exit_code": code}
    known = -code in set(signal.Signals)
    return {"signal": signal.Signals(-code).name if known else -code}
