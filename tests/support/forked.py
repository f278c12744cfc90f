"""Python commands in processes forked from one that has imported the program.

Imports are nearly the whole cost of a start, a third of a second of CPU. In everything else the process is like one
that `python` starts: it has its own id, folder, environment and streams.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, NoReturn, TextIO, cast

from discue.cli.main import command_parser

_REPOSITORY = Path(__file__).parents[2]
_LONGEST_REQUEST = 1 << 17
_IMPORTED_LATER = (
    "anyio._backends._asyncio",
    "discue.cli.demo_shop",
    "discue.cli.user.listen_session",
    "discue.cli.user.profiles",
    "discue_client._async.client",
    "discue_client._sync.client",
    "discue_client.outbox",
    "encodings.ascii",
    "encodings.idna",
    "httpcore2",
    "httpx2",
)
"""Modules that a command imports only when it runs."""
_NUMBER = struct.Struct("i")

Command = Sequence[str]
"""The arguments of `python`: `-m` and a module, or `-c` and a program, and their arguments."""


class Forked:
    """A process with the interface of `subprocess.Popen`. Output goes to two pipes; input is empty or a pipe."""

    def __init__(
        self, command: Command, *, folder: Path, environment: Mapping[str, str], has_input: bool = False
    ) -> None:
        self.returncode: int | None = None
        self.stdin: IO[str] | None = None
        if has_input:
            given, self.stdin = _pipe_to()
        else:
            given = os.open(os.devnull, os.O_RDONLY)
        self.stdout, out = _pipe_from()
        self.stderr, error = _pipe_from()
        self._status, status = os.pipe()
        theirs = [given, out, error, status]
        asked = json.dumps([list(command), str(folder), dict(environment)])
        try:
            socket.send_fds(_forking(), [asked.encode()], theirs)
        finally:
            for each in theirs:
                os.close(each)
        self.pid = self._number()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        self._look(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process and return its exit code. Raises TimeoutExpired."""
        self._look(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """If it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> None:
        if self.returncode is not None:
            return
        ended = select.poll()
        ended.register(self._status, select.POLLIN)
        if ended.poll(None if timeout is None else timeout * 1_000):
            self.returncode = self._number()
            os.close(self._status)

    def _number(self) -> int:
        read = os.read(self._status, _NUMBER.size)
        assert read, "the process that forks others has ended"
        number: int = _NUMBER.unpack(read)[0]
        return number


def _pipe_to() -> tuple[int, IO[str]]:
    theirs, ours = os.pipe()
    return theirs, open(ours, "w")  # noqa: PTH123 - a descriptor is no path


def _pipe_from() -> tuple[IO[str], int]:
    ours, theirs = os.pipe()
    return open(ours), theirs  # noqa: PTH123 - a descriptor is no path


@cache
def _forking() -> socket.socket:
    """Leads to the process that has imported the program. It ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked", str(theirs.fileno())],
            cwd=_REPOSITORY,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _fork_for_each(asking: socket.socket) -> Command | None:
    """Returns a command in each process that was forked for one, and in this one nothing when nobody asks any more."""
    # An interrupt of the tests ends this process through the end of its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        asked, given, _, _ = socket.recv_fds(asking, _LONGEST_REQUEST, 4)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        if not asked:
            return None
        if os.fork() == 0:
            asking.close()
            return _fork_and_mind(json.loads(asked), given)
        for each in given:
            os.close(each)


def _fork_and_mind(asked: tuple[Command, str, dict[str, str]], given: list[int]) -> Command:
    """Returns in the new process. The one that minds it tells its id, and how it ended."""
    *streams, status = given
    child = os.fork()
    if child == 0:
        os.close(status)
        return _become(asked, streams)
    for each in streams:
        os.close(each)
    with suppress(BrokenPipeError):
        os.write(status, _NUMBER.pack(child))
        os.write(status, _NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    os._exit(0)


def _become(asked: tuple[Command, str, dict[str, str]], streams: list[int]) -> Command:
    command, folder, environment = asked
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # They remember what they were opened on.
    sys.stdin, sys.stdout, sys.stderr = (
        _stream(0, "r", "strict"),
        _stream(1, "w", "strict"),
        _stream(2, "w", "backslashreplace"),
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return command


def _stream(number: int, mode: str, errors: str) -> TextIO:
    return cast("TextIO", open(number, mode, 1 if number == 2 else -1, "utf-8", errors, closefd=False))


def _run(command: Command) -> None:
    """Run a command as `python` does, and end the process where it ends without an error."""
    kind, what, *arguments = command
    sys.argv = [kind, *arguments]
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - what the test wrote
    except SystemExit as ending:
        if not isinstance(ending.code, int | None):
            raise
        _exit(ending.code or 0)
    _exit(0)


def _exit(code: int) -> NoReturn:
    """End the process as Python does, but leave its memory to the system.

    Python visits every object of every module, and the system copies the pages of them: three quarters of the CPU time
    of a process that does nothing else.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if not stream.closed:
                stream.flush()
    except OSError:
        # Python has a message and an exit code for it.
        sys.exit(code)
    os._exit(code)


if __name__ == "__main__":
    # Imports all commands and what they import later, which those that are forked need not do.
    command_parser()
    for module in _IMPORTED_LATER:
        import_module(module)
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        received = _fork_for_each(asking)
    if received is not None:
        _run(received)
