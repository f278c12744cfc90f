"""Worker processes: a parent forks them, restarts the ones that end, and stops all of them together.

The parent serves nothing. It has no thread, no event loop and no open database, which makes it safe to fork.
"""

import math
import os
import selectors
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from discue.config.settings import Settings
from discue.dispatch.ownership import Predecessors
from discue.domain.clock import Clock
from discue.observability.logs import Log
from discue.server.process import freeze_memory
from discue.server.sd_notify import ServiceManager
from discue.server.signals import SIGNAL_SECONDS, STOPPING, received_signals

_LONGEST_FOLDER: Final = 76
"""The longest path of a folder for sockets, in bytes: the path of a socket can have 103 on some systems."""

_FAILED: Final = 1
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_LIVED_SECONDS: Final = 60.0
"""A worker that has run this long is restarted without a longer pause."""
_STARTS_TRIED: Final = 5
_DRAIN_MARGIN_SECONDS: Final = 30.0
_HALTED_SECONDS: Final = 5.0
"""A worker that stays halted this long is killed."""
_PREDECESSORS_KEPT: Final = 16

SERVES: Final = b"serves"
BEATS: Final = b"beats"


@dataclass(frozen=True, slots=True)
class WorkerPipe:
    """A worker's connection to its parent."""

    number: int
    """Number of the worker, from 1."""
    predecessors: Predecessors
    """Earlier workers that are known to have ended."""
    parent_pipe: int
    """Descriptor that becomes readable when the parent drains or ends."""
    reports: int
    """Descriptor for reports to the parent."""
    folder: Path
    """A folder of the installation's workers on this machine, for sockets."""
    beat_seconds: float = 0.0
    """Time between two calls of `report_beat`; 0: the parent expects none."""

    def report_session_id(self, session_id: int) -> None:
        """Report the session id. Call this before anything is stored under it, so that the parent knows what died."""
        self._write(b"%d" % session_id)

    def report_serving(self) -> None:
        self._write(SERVES)

    def report_beat(self) -> None:
        """Report that the event loop of the worker runs."""
        self._write(BEATS)

    def _write(self, word: bytes) -> None:
        # A broken pipe means that the parent has ended: `parent_pipe` says so, too.
        with suppress(BrokenPipeError):
            os.write(self.reports, word + b"\n")


Serve = Callable[[WorkerPipe], int]
"""Serves as one worker, in a process of its own, and returns its exit code."""


def all_predecessors(settings: Settings) -> Predecessors:
    """Return the predecessors of the first worker. The lock on a SQLite file proves that all earlier workers ended."""
    return () if settings.database_path is None else "all"


@dataclass(slots=True)
class _Child:
    """A worker as its parent sees it."""

    number: int
    pid: int = 0
    """0 while the worker does not run."""
    reports: int = -1
    unread: bytes = b""
    session_ids: list[int] = field(default_factory=list)
    """Session ids of this worker's processes since the last one that served: those may not have been expired yet."""
    started_at: float = 0.0
    due_at: float | None = None
    halted_at: float | None = None
    pause: float = 0.0
    failed_starts: int = 0
    serves: bool = False
    has_served: bool = False
    beaten_at: float = 0.0
    """When the worker reported last that its event loop runs."""


class WorkerProcesses:
    """The parent of the worker processes.

    The first worker starts alone: it reports errors of the database, creates what is missing in it, and takes over
    from earlier workers.
    """

    def __init__(self, serve: Serve, settings: Settings, clock: Clock, log: Log, *, manager: ServiceManager) -> None:
        """Prepare the workers. `manager`: with its watchdog, workers whose event loop hangs that long are replaced."""
        self._serve = serve
        self._settings = settings
        self._clock = clock
        self._log = log
        self._manager = manager
        self._beaten_at = -math.inf
        self._children = [_Child(number) for number in range(1, settings.workers + 1)]
        self._selector = selectors.DefaultSelector()
        self._signals: list[signal.Signals] = []
        self._parent_pipe, self._parent_pipe_held = os.pipe()
        self._asked_at: float | None = None
        self._kill_at: float | None = None
        self._has_started = False
        self._code = 0
        self._folder = Path()

    def run(self) -> int:
        """Run the workers. Returns when all have ended: 0 if they were asked to stop and each exited with 0."""
        # Memory that is shared with the workers stays shared: their garbage collectors do not touch frozen objects.
        freeze_memory()
        # The others are due when it serves: two workers must not create the organization or migrate at once.
        self._children[0].due_at = self._clock.monotonic()
        place = tempfile.gettempdir()
        if len(os.fsencode(place)) > _LONGEST_FOLDER:
            place = "/tmp"  # noqa: S108 - the folder in it is private
        with (
            tempfile.TemporaryDirectory(prefix="discue-", dir=place) as folder,
            self._selector,
            received_signals(self._selector) as self._signals,
        ):
            self._folder = Path(folder)
            while self._run_due():
                for key, _ in self._selector.select(self._timeout()):
                    key.data()
        if any(child.has_served for child in self._children):
            self._log.info("workers_stopped", exit_code=self._code)
        return self._code

    @property
    def _is_draining(self) -> bool:
        return self._kill_at is not None

    def _run_due(self) -> bool:
        """Handle everything that is due. Returns whether there is a worker left to watch."""
        self._handle_signals()
        self._beat()
        for child in self._children:
            self._check(child)
        self._kill_unresponsive()
        for child in self._children:
            if child.due_at is not None and child.due_at <= self._clock.monotonic() and not self._is_draining:
                self._start(child)
        return not self._is_draining or any(child.pid for child in self._children)

    def _timeout(self) -> float | None:
        """Return the seconds until something is due. None: only an event needs handling."""
        instants = [child.halted_at + _HALTED_SECONDS for child in self._children if child.halted_at is not None]
        if self._kill_at is None:
            if self._watches:
                instants.append(self._beaten_at + self._manager.beat_seconds)
            instants += [child.due_at for child in self._children if child.due_at is not None]
        elif self._kill_at < math.inf:
            instants.append(self._kill_at)
        return max(0.0, min(instants) - self._clock.monotonic()) if instants else None

    @property
    def _watches(self) -> bool:
        """Whether a service manager expects beats, and the parent expects them of its workers."""
        return self._manager.watchdog_seconds > 0 and self._has_started

    def _beat(self) -> None:
        """Tell the service manager that the parent works, and kill workers that have not told that they do."""
        now = self._clock.monotonic()
        if not self._watches or self._is_draining or now < self._beaten_at + self._manager.beat_seconds:
            return
        # A parent that did not run itself, on a machine that was suspended, knows nothing about its workers.
        has_slept = now - self._beaten_at > self._manager.watchdog_seconds / 2
        self._beaten_at = now
        for child in self._children:
            if has_slept:
                child.beaten_at = now
            elif child.pid and child.serves and now - child.beaten_at > self._manager.watchdog_seconds:
                self._kill(child, "unresponsive")
        missing = sum(not (child.pid and child.serves) for child in self._children)
        self._manager.beat(f"{missing} of {len(self._children)} workers do not serve." if missing else None)

    def _start(self, child: _Child) -> None:
        child.due_at, child.started_at, child.serves = None, self._clock.monotonic(), False
        try:
            child.pid, child.reports = self._fork(child)
        except OSError as error:
            self._log.error("worker_not_started", worker=child.number, reason=error.strerror)
            self._restart_later(child)
            return
        self._selector.register(child.reports, selectors.EVENT_READ, lambda: self._read_reports(child))

    def _fork(self, child: _Child) -> tuple[int, int]:
        """Return the process id and the descriptor of the worker's reports. Does not return in the worker."""
        reports, reports_end = os.pipe()
        os.set_blocking(reports, False)
        # The worker inherits what is buffered, and would write it a second time.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # Signals are blocked until the worker has its own handlers.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            pid = os.fork()
            if pid == 0:
                is_first = child is self._children[0] and not child.has_served
                predecessors = all_predecessors(self._settings) if is_first else tuple(child.session_ids)
                beat_seconds = self._manager.beat_seconds
                pipe = WorkerPipe(
                    child.number, predecessors, self._parent_pipe, reports_end, self._folder, beat_seconds
                )
                self._run_child(pipe, reports)
        except OSError:
            os.close(reports)
            raise
        finally:
            os.close(reports_end)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid, reports

    def _run_child(self, pipe: WorkerPipe, reports: int) -> NoReturn:
        """Serve, and exit the process without unwinding the stack of the parent."""
        code = _FAILED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            # Pipes end when every copy of their other end is closed: a worker must not keep those of the others open.
            others = [child.reports for child in self._children if child.pid]
            for descriptor in (self._parent_pipe_held, reports, *others):
                os.close(descriptor)
            code = self._serve(pipe)
            sys.stdout.flush()
        except BaseException:  # No exception may reach the parent's code
            traceback.print_exc()
        finally:
            os._exit(code)

    def _read_reports(self, child: _Child) -> bool:
        """Read reports of a worker. Returns whether there may be more."""
        try:
            chunk = os.read(child.reports, 65_536)
        except BlockingIOError:
            return False
        if not chunk:
            return False
        *words, child.unread = (child.unread + chunk).split(b"\n")
        for word in words:
            if word == SERVES:
                self._note_serving(child)
            elif word == BEATS:
                child.beaten_at = self._clock.monotonic()
            else:
                child.session_ids = [*child.session_ids[1 - _PREDECESSORS_KEPT :], int(word)]
        return True

    def _note_serving(self, child: _Child) -> None:
        child.serves = child.has_served = True
        child.beaten_at = self._clock.monotonic()
        child.failed_starts = 0
        del child.session_ids[:-1]
        for other in self._children:
            if not other.pid and other.due_at is None:
                other.due_at = self._clock.monotonic()
        if not self._has_started and all(other.serves for other in self._children):
            self._has_started = True
            self._log.info("workers_started", count=len(self._children), pid=os.getpid())
            self._manager.ready()

    def _check(self, child: _Child) -> None:
        """Note that a worker was halted, was continued or ended."""
        while child.pid:
            pid, status = os.waitpid(child.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if not pid:
                return
            if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                child.halted_at = self._clock.monotonic() if os.WIFSTOPPED(status) else None
            else:
                self._note_end(child, os.waitstatus_to_exitcode(status))

    def _note_end(self, child: _Child, code: int) -> None:
        while self._read_reports(child):
            pass
        self._selector.unregister(child.reports)
        os.close(child.reports)
        is_first = child is self._children[0] and not child.has_served
        # The first worker prints the reason of its failure itself, and its exit code becomes that of the command.
        if not (is_first and code > 0) and not (self._is_draining and code == 0):
            self._log.warning("worker_ended", worker=child.number, pid=child.pid, **_exit_fields(code))
        child.pid, child.reports, child.unread, child.halted_at = 0, -1, b"", None
        if self._is_draining:
            self._fail(code)
        else:
            self._restart_later(child, code)

    def _restart_later(self, child: _Child, code: int = _FAILED) -> None:
        """Schedule a restart, or give up and drain if the worker has never served and keeps failing."""
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
        """Set the exit code of the command, which is that of the first failure."""
        self._code = self._code or (_FAILED if code < 0 else code)

    def _drain(self) -> None:
        self._manager.stopping()
        # The workers see the end of the pipe, also when the parent is killed.
        os.close(self._parent_pipe_held)
        self._kill_at = self._clock.monotonic() + self._settings.drain_timeout_seconds + _DRAIN_MARGIN_SECONDS

    def _kill_unresponsive(self) -> None:
        """Kill workers that stay halted, as they may block the writes of others, and workers that do not drain."""
        now = self._clock.monotonic()
        for child in self._children:
            if child.halted_at is not None and child.halted_at + _HALTED_SECONDS <= now:
                self._kill(child, "halted")
        if self._kill_at is not None and self._kill_at <= now:
            self._kill_all("drain timeout")

    def _kill_all(self, reason: str) -> None:
        self._kill_at = math.inf
        for child in self._children:
            if child.pid:
                self._kill(child, reason)

    def _kill(self, child: _Child, reason: str) -> None:
        self._log.error("worker_killed", worker=child.number, pid=child.pid, reason=reason)
        child.halted_at = None
        os.kill(child.pid, signal.SIGKILL)

    def _handle_signals(self) -> None:
        """Start a drain on the first signal, and kill all workers on another one more than a second later."""
        while self._signals:
            name, now = self._signals.pop(0).name, self._clock.monotonic()
            if self._asked_at is None:
                self._asked_at = now
                self._log.info("drain_started", signal=name)
                if not self._is_draining:
                    self._drain()
            elif now - self._asked_at > SIGNAL_SECONDS:
                self._log.warning("stopped_immediately", signal=name)
                self._kill_all("second signal")


def _exit_fields(code: int) -> dict[str, object]:
    if code >= 0:
        return {"exit_code": code}
    known = -code in set(signal.Signals)
    return {"signal": signal.Signals(-code).name if known else -code}
