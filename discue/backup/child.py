"""Backups in a process of their own, which share neither the interpreter lock of a server nor its priority.

A thread of low priority would not do: while it holds the lock and another program has the processor, the server waits.
"""

import asyncio
import os
import signal
import sys
import threading
from asyncio.subprocess import PIPE
from contextlib import suppress
from typing import Final, cast

import msgspec

from discue.backup.create import BackupResult, create_backup, newest_of
from discue.backup.plan import BackupPlan, destination_of
from discue.backup.priority import yield_processors
from discue.domain.clock import SystemClock
from discue.domain.errors import DiscueError

_CREATE: Final = "create"
_NEWEST: Final = "newest"
_REFUSED: Final = 3
"""Status of a process that has written the reason why there is no result."""
_STOP_SECONDS: Final = 5.0


async def create_in_child(plan: BackupPlan) -> BackupResult:
    """Make a backup like `create_backup`, in a process that ends with this one. Raises DiscueError."""
    return msgspec.json.decode(await _result_of(_CREATE, plan), type=BackupResult)


async def newest_in_child(plan: BackupPlan) -> int | None:
    """Return like `newest_of` when the newest backup was made. Raises DiscueError."""
    return cast("int | None", msgspec.json.decode(await _result_of(_NEWEST, plan), type=int | None))


async def _result_of(task: str, plan: BackupPlan) -> bytes:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, task, stdin=PIPE, stdout=PIPE)
    orders, results = cast("asyncio.StreamWriter", process.stdin), cast("asyncio.StreamReader", process.stdout)
    try:
        orders.write(msgspec.json.encode(plan, enc_hook=str) + b"\n")
        output = await results.read()
        status = await process.wait()
    finally:
        orders.close()
        if process.returncode is None:
            process.kill()
            # A file system that does not respond keeps a process from ending.
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    if status == _REFUSED:
        raise DiscueError(output.decode())
    if status:
        raise DiscueError(f"The process of the backup ended with status {status}.")
    return output


def main() -> None:
    """Carry out a task for the plan on the standard input, and write the result to the standard output."""
    yield_processors()
    # A terminal sends it to this process, too. The parent decides whether the backup stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = sys.stdin.buffer.readline()
    plan = msgspec.json.decode(line, type=BackupPlan, dec_hook=lambda path, text: path(text))
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    status = 0
    try:
        output = msgspec.json.encode(_carried_out(sys.argv[1], plan))
    except DiscueError as error:
        output, status = error.detail.encode(), _REFUSED
    sys.stdout.buffer.write(output)
    sys.stdout.flush()
    # The thread still reads: the interpreter would wait for its lock on the input.
    os._exit(status)


def _carried_out(task: str, plan: BackupPlan) -> BackupResult | int | None:
    destination = destination_of(plan.destination, os.environ)
    if task == _NEWEST:
        return newest_of(plan.database, destination)
    return create_backup(plan, destination, SystemClock(), os.urandom)


def _end_with_the_parent() -> None:
    # The parent writes nothing after the plan: the input ends when the parent does.
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
