"""Backups in a process of their own, which share neither the interpreter lock of a server nor its priority.

A thread of low priority would not do: while it holds the lock and another program has the processor, the server waits.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import IO, Final, cast

import msgspec

from discue.backup.create import BackupResult, create_backup
from discue.backup.plan import BackupPlan, destination_of
from discue.backup.priority import yield_processors
from discue.domain.clock import SystemClock
from discue.domain.errors import DiscueError
from discue.store.sqlite.snapshot import RequireRunning

_POLL_SECONDS: Final = 0.2
_READ_BYTES: Final = 65_536


class _Order(msgspec.Struct, frozen=True):
    """A plan, in a form that can be sent."""

    database: str
    destination: str
    key: bytes | None
    keep_seconds: float | None


class _Result(msgspec.Struct, frozen=True):
    """The result of an order: a backup, or the reason why there is none."""

    made: BackupResult | None = None
    error: str = ""


def create_in_child(plan: BackupPlan, require_running: RequireRunning) -> BackupResult:
    """Make a backup like `create_backup`, in a process that ends with this one. Raises DiscueError."""
    order = _Order(str(plan.database), str(plan.destination), plan.key, plan.keep_seconds)
    command = [sys.executable, "-m", __name__]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe) as process:  # noqa: S603 - it is ours
        orders, results = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        try:
            # The process has ended: its status, which is read below, says why.
            with suppress(BrokenPipeError):
                orders.write(msgspec.json.encode(order) + b"\n")
            output = _read(results, require_running)
            process.wait()
        finally:
            process.kill()
    if not output:
        raise DiscueError(f"The process of the backup ended with status {process.returncode}.")
    result = msgspec.json.decode(output, type=_Result)
    if result.made is None:
        raise DiscueError(result.error)
    return result.made


def _read(results: IO[bytes], require_running: RequireRunning) -> bytes:
    """Read everything that a process writes until it ends."""
    output = b""
    with DefaultSelector() as selector:
        selector.register(results, EVENT_READ)
        while True:
            if not selector.select(_POLL_SECONDS):
                require_running()
            elif chunk := results.read(_READ_BYTES):
                output += chunk
            else:
                return output


def main() -> None:
    """Carry out the order on the standard input, and write the result to the standard output."""
    yield_processors()
    # A terminal sends it to this process, too. The parent decides whether the backup stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=_Order)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    clock = SystemClock()
    try:
        destination = destination_of(order.destination, os.environ, clock)
        plan = BackupPlan(Path(order.database), destination, order.key, order.keep_seconds)
        result = _Result(create_backup(plan, clock, os.urandom, lambda: None))
    except DiscueError as error:
        result = _Result(error=error.detail)
    sys.stdout.buffer.write(msgspec.json.encode(result))
    sys.stdout.flush()
    # The thread still reads: the interpreter would wait for its lock on the input.
    os._exit(0)


def _end_with_the_parent() -> None:
    # The parent writes nothing after the order: the input ends when the parent does.
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
