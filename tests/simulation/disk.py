"""A disk for real SQLite: it forgets at a crash what was not synced, in whole or in part, and fails when it is told to.

It is a VFS of SQLite, the default one of the process. Files lie in memory. The disk remembers each write since the
last sync of its file, with the bytes that it replaced.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import apsw

from tests.faults.broken import put
from tests.simulation.guard import EPOCH_SECONDS
from tests.simulation.loop import HOST, Host, SimLoop

FULL: Final = "full disk"
FAILURES: Final = ("failed write", "failed sync")
_NAME: Final = "simulated"
_SECTOR: Final = 512
_NO_CHECKPOINT: Final = apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE
_JULIAN_EPOCH: Final = 2_440_587.5
_DAY_SECONDS: Final = 86_400


class Write(NamedTuple):
    """A write that was not synced. `before` is what it replaced, and `size` the size of the file before."""

    offset: int
    content: bytes
    before: bytes
    size: int


class Disk(apsw.VFS):
    """The disk of all simulated machines: only those that share their files can have it fail."""

    def __init__(self, loop: SimLoop, choices: Random) -> None:
        super().__init__(_NAME, "unix", makedefault=True)
        self.random = choices
        self.loop = loop
        self.fault = ""
        """The current fault, also of a process that starts meanwhile: `FULL` or one of `FAILURES`; empty: nothing."""
        self.unsynced: dict[str, list[Write]] = {}
        """By path, in the order in which they were written."""
        self.on_power_cut: Callable[[Host], None] = lambda _host: None
        self._power_cuts: dict[Host, int] = {}
        """How many more writes and syncs a machine makes before its power is cut."""
        self._dead: set[Host] = set()
        self._reading: dict[str, int] = {}
        """Descriptors by path."""
        self._connections: dict[Host | None, list[apsw.Connection]] = {}
        # SQLite asks for entropy once, and then never again: it must ask this disk.
        apsw.randomness(0)
        apsw.connection_hooks.append(self._on_connection)
        put(apsw, "Connection", _Connection)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "File":  # noqa: N802 - SQLite's name
        return File(self, name, flags)

    def xRandomness(self, numbytes: int) -> bytes:  # noqa: N802 - SQLite's name
        return self.random.randbytes(numbytes)

    def xCurrentTime(self) -> float:  # noqa: N802 - SQLite's name
        return _JULIAN_EPOCH + (EPOCH_SECONDS + self.loop.time()) / _DAY_SECONDS

    def cut_power_after(self, host: Host, operations: int) -> None:
        """Cut the power of a machine in the middle of a write or sync, so many of them later."""
        self._power_cuts[host] = operations

    def crash(self, host: Host, folder: Path, *, power: bool) -> None:
        """End a machine's use of its files. With a loss of power, what was not synced is lost, in whole or in part."""
        self._power_cuts.pop(host, None)
        self._dead.discard(host)
        for connection in self._connections.pop(host, []):
            with suppress(apsw.ConnectionClosedError):
                connection.config(_NO_CHECKPOINT, 1)
                connection.close(True)
        if not power:
            return
        for path in sorted(self.unsynced):
            if Path(path).parent == folder:
                self._lose(path, self.unsynced.pop(path))
        for index in folder.glob("*-shm"):
            index.unlink()

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 - SQLite's name
        if (reading := self._reading.pop(filename, None)) is not None:
            os.close(reading)
        self.unsynced.pop(filename, None)
        super().xDelete(filename, syncdir)

    def content(self, path: str, offset: int, size: int) -> bytes:
        """Return what a file contains now; less than `size` at its end."""
        # Opened once: there are as many writes as anything else.
        if path not in self._reading:
            self._reading[path] = os.open(path, os.O_RDONLY)
        return os.pread(self._reading[path], size, offset)

    def note(self, path: str, write: Write) -> None:
        self.unsynced.setdefault(path, []).append(write)

    def operate(self, kind: str, path: str) -> bool:
        """Count an operation, and fail it if it is to fail. Returns whether the power is lost with it."""
        host = HOST.get()
        if host is None:
            return False
        if host in self._dead:
            raise apsw.IOError("the machine has no power")
        if host in self._power_cuts:
            self._power_cuts[host] -= 1
            if self._power_cuts[host] <= 0:
                self._dead.add(host)
                self.loop.trace.add(host.name, "power cut", f"at a {kind} of {Path(path).name}")
                self.on_power_cut(host)
                return True
        if self.fault == f"failed {kind}":
            self.loop.trace.reach(self.fault)
            raise apsw.IOError(f"a {kind} failed")
        return False

    def check_room(self) -> None:
        """Raise FullError if no file can grow."""
        if self.fault == FULL:
            self.loop.trace.reach(FULL)
            raise apsw.FullError("the disk is full")

    def _on_connection(self, connection: apsw.Connection) -> None:
        self._connections.setdefault(HOST.get(), []).append(connection)

    def _lose(self, path: str, writes: list[Write]) -> None:
        """Undo the unsynced writes of a file, and make some of them again: any, in whole or in sectors."""
        kept = torn = 0
        descriptor = os.open(path, os.O_RDWR)
        try:
            for write in reversed(writes):
                os.pwrite(descriptor, write.before, write.offset)
                os.ftruncate(descriptor, write.size)
            for write in writes:
                choice = self.random.random()
                if choice < 1 / 3:
                    os.pwrite(descriptor, write.content, write.offset)
                    kept += 1
                elif choice < 2 / 3:
                    for start in range(0, len(write.content), _SECTOR):
                        if self.random.random() < 0.5:
                            os.pwrite(descriptor, write.content[start : start + _SECTOR], write.offset + start)
                    torn += 1
        finally:
            os.close(descriptor)
        trace = self.loop.trace
        trace.add("disk", "unsynced writes", f"{Path(path).name}: {len(writes)}, {kept} kept, {torn} torn")
        if torn:
            trace.reach("torn write")
        if kept + torn < len(writes):
            trace.reach("lost write")


class _Connection(apsw.Connection):
    """A connection that closes as on a real disk: SQLite ignores errors of the checkpoint that closing makes.

    The exception of a VFS in Python stays until a call returns, and would be raised here.
    """

    def close(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - as in apsw
        with suppress(apsw.FullError, apsw.IOError):
            super().close(force)


class File(apsw.VFSFile):
    """A file on the simulated disk."""

    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        shown = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._path = shown or ""

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if not self._path or HOST.get() is None:
            # A temporary file, or one of a machine whose disk does not fail.
            super().xWrite(data, offset)
            return
        is_last = self._disk.operate("write", self._path)
        size = self.xFileSize()
        if offset + len(data) > size:
            self._disk.check_room()
        before = self._disk.content(self._path, offset, len(data)) if offset < size else b""
        self._disk.note(self._path, Write(offset, bytes(data), before, size))
        super().xWrite(data, offset)
        if is_last:
            raise apsw.IOError("the machine has no power")

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        self._disk.operate("write", self._path)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if self._disk.operate("sync", self._path):
            raise apsw.IOError("the machine has no power")
        self._disk.unsynced.pop(self._path, None)
        # Not passed on: the files lie in memory.
