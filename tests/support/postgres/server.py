"""A PostgreSQL server of a test's own: laid, started, stopped, killed, paused, and always ended."""

import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.support.memory import folder_in_memory
from tests.support.ports import HOST, free_port
from tests.support.postgres.guard import Guard
from tests.support.postgres.processes import lives, signal_all, stop_family, until
from tests.support.postgres.programs import Programs, require_programs

USER = "discue"
PATIENCE_SECONDS = 30.0

StopMode = Literal["fast", "immediate"]

_STOP_SIGNALS: Mapping[StopMode, signal.Signals] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_SETTINGS = {
    "dynamic_shared_memory_type": "mmap",
    "log_timezone": "UTC",
    "max_connections": "200",
    "max_wal_size": "512MB",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "wal_level": "replica",
}
_UNSAFE = {"fsync": "off", "full_page_writes": "off"}
_LOCK_FILE = "postmaster.pid"
_STATUS_LINE = 7
_SHARED_MEMORY_LINE = 6


class NotStarted(AssertionError):
    """The server ended instead of serving; its log is the message."""


class Server:
    """A data directory and the server on it. The port stays the same over all its starts.

    What was committed is kept when the server is killed; when the machine is, only if it is `durable`. A folder that is
    given is kept, and must be one that the programs' account can reach. Without one it is a temporary folder, which is
    in memory if it need not be durable.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        programs: Programs | None = None,
        port: int | None = None,
        durable: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.programs = programs or require_programs()
        self.port = port or free_port()
        self._settings = {**_SETTINGS, **({} if durable else _UNSAFE), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._paused: set[int] = set()
        self._guard: Guard | None = None
        self._given = folder
        self.durable = durable
        self.folder: Path

    def __enter__(self) -> Self:
        self._make_folder()
        try:
            self.lay()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server at once, and remove its files if their folder was not given. It may be closed again."""
        self.kill()
        if self._guard is not None:
            self._guard.end()
            self._guard = None

    def lay(self) -> None:
        """Make the data directory."""
        self.programs.run(
            "initdb",
            f"--pgdata={self.data}",
            f"--username={USER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            folder=self.folder,
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in self._settings.items())

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int:
        """The id of the server's first process."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def paused(self) -> bool:
        return bool(self._paused)

    @property
    def log(self) -> str:
        """All that the server said, over all its starts."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Returns when it lets clients in. Raises NotStarted with its log if it ends instead."""
        assert not self.running, "the server runs already"
        with (self.folder / "log").open("ab") as log:
            self._process = self.programs.begin("postgres", self._arguments(), folder=self.folder, log=log)
        self._tell_guard(self._process.pid)
        try:
            until(lambda: self._status() == "ready" or not self.running, "the server lets clients in")
        except TimeoutError as error:
            raise NotStarted(self.log) from error
        if not self.running:
            raise NotStarted(self.log)

    def stop(self, mode: StopMode = "fast") -> None:
        """Returns when the server has ended. `smart` waits for its clients, `immediate` is a crash without a kill."""
        process = self._process
        assert process is not None, "the server does not run"
        process.send_signal(_STOP_SIGNALS[mode])
        self.resume()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"the server goes on; its log:\n{self.log}") from error
        self._process = None
        self._tell_guard()

    def restart(self, mode: StopMode = "fast") -> None:
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """SIGKILL for all its processes, if it runs. Returns when they are gone and it can be started again."""
        process, self._process, self._paused = self._process, None, set()
        if process is None:
            return
        if process.poll() is None:
            children = stop_family(process.pid)
            signal_all({*children, process.pid}, signal.SIGKILL)
            process.wait(PATIENCE_SECONDS)
            until(lambda: not any(map(lives, children)), "the server's processes are gone")
        self._tell_guard()
        self._remove_traces()

    def pause(self) -> None:
        """SIGSTOP for all its processes: connections stay, and nothing answers."""
        self._paused = stop_family(self.pid)
        self._tell_guard(self.pid, *self._paused)

    def resume(self) -> None:
        signal_all({*self._paused, self.pid}, signal.SIGCONT)
        self._paused = set()
        self._tell_guard(self.pid)

    def _make_folder(self) -> None:
        if self._given is None:
            place = None if self.durable else folder_in_memory()
            self.folder = Path(tempfile.mkdtemp(prefix="discue-postgres-", dir=place))
            self._guard = Guard(self.folder)
        else:
            self.folder = self._given.absolute()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._guard = Guard(self.data / _LOCK_FILE)
        self.folder.chmod(0o755)
        self.programs.account.own(self.folder)

    def _tell_guard(self, *pids: int) -> None:
        if self._guard is not None:
            self._guard.watch(*pids)

    def _arguments(self) -> list[str]:
        places = {"port": self.port, "listen_addresses": HOST, "unix_socket_directories": self.folder}
        return ["-D", str(self.data), *(word for item in places.items() for word in ("-c", "{}={}".format(*item)))]

    def _status(self) -> str:
        lines = self._lock_file()
        return lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE and lines[0] == str(self.pid) else ""

    def _lock_file(self) -> list[str]:
        try:
            return (self.data / _LOCK_FILE).read_text().splitlines()
        except FileNotFoundError:
            return []

    def _remove_traces(self) -> None:
        """Remove the lock files of a killed server: a process that reuses its id would prevent the next start."""
        lines = self._lock_file()
        if len(lines) > _SHARED_MEMORY_LINE and (words := lines[_SHARED_MEMORY_LINE].split()):
            subprocess.run(["ipcrm", "-m", words[-1]], check=False, capture_output=True)
        for path in [self.data / _LOCK_FILE, *self.folder.glob(".s.PGSQL.*")]:
            path.unlink(missing_ok=True)
