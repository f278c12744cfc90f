"""Measures how many files and classes common operations go through: `python -m tools.paths [--list] [--tree FOLDER]`.

Runs the program in this process, without a network, on a SQLite file in a temporary folder. The numbers say how far
a reader has to jump to follow an operation; the measures of the program before it was restructured stand next to
them. `--tree` measures the program in another folder, that one for example.
"""

import argparse
import asyncio
import importlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

from tools.running import PROGRAM, Program, running, use_tree

_PATIENCE_SECONDS: Final = 10.0


class Measure(NamedTuple):
    """An operation, and its figures on commit 3ae712a."""

    name: str
    base: int
    """Measured by this program."""
    stated: int | None = None
    """Stated in the review that led to the restructuring, if it was; counted in another way."""


GET: Final = Measure("files that one GET /queues/{id} enters", 27, 29)
PUBLISH: Final = Measure("files that a publish enters until it is queued for commit", 27, 27)
DELIVERY: Final = Measure("classes and modules that the starter of a delivery calls directly", 12, 11)
ROUTE: Final = Measure("classes and modules from hearing of a message to its request", 22)


class Recorder:
    """Collects the functions of the program that are entered while it is switched on, in the order of their entry."""

    def __init__(self) -> None:
        root = Path(str(importlib.import_module(PROGRAM).__file__)).parent
        self._prefix = f"{root}/"
        self.entered: dict[CodeType, None] = {}
        self._calls: dict[tuple[CodeType, CodeType], None] = {}

    @contextmanager
    def on(self) -> Iterator[None]:
        """Record in this thread."""
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)

    def off(self) -> None:
        """Stop recording before the end of `on`."""
        sys.setprofile(None)

    def files(self) -> list[str]:
        """Return the files entered, relative to the program."""
        return list(dict.fromkeys(self._file(code) for code in self.entered))

    def owners(self) -> list[str]:
        """Return the classes entered, and the modules of functions outside of classes."""
        return list(dict.fromkeys(self._owner(code) for code in self.entered))

    def called_by(self, owner: str) -> list[str]:
        """Return the other classes and modules that a class or module called itself."""
        called = [self._owner(code) for caller, code in self._calls if self._owner(caller) == owner]
        return [name for name in dict.fromkeys(called) if name != owner]

    def called_by_starter(self, frame: FrameType | None) -> list[str]:
        """Return what the starter of a request called itself, if this frame sends the request.

        Of the classes on the stack the starter is the one that calls the most others, so that the figure stays when
        an object that only forwards is put between it and the sender.
        """
        starters = dict[str, None]()
        while frame is not None:
            if frame.f_code.co_filename.startswith(self._prefix):
                starters[self._owner(frame.f_code)] = None
            frame = frame.f_back
        return max((self.called_by(starter) for starter in reversed(starters)), key=len)

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(self._prefix):
            return
        self.entered.setdefault(frame.f_code)
        caller = frame.f_back
        # A call by way of the standard library, of a property or a partial function, is the caller's.
        while caller is not None and not caller.f_code.co_filename.startswith(self._prefix):
            caller = caller.f_back
        if caller is not None:
            self._calls.setdefault((caller.f_code, frame.f_code))

    def _file(self, code: CodeType) -> str:
        return code.co_filename.removeprefix(self._prefix)

    def _owner(self, code: CodeType) -> str:
        outer, dot, _ = code.co_qualname.partition(".")
        is_method = dot and outer.lstrip("_")[:1].isupper()
        return f"{self._file(code)}:{outer}" if is_method else self._file(code)


def measure(folder: Path) -> dict[Measure, list[str]]:
    """Measure with a database in a folder; returns the files or classes that each operation entered."""
    return asyncio.run(_measure(folder))


async def _measure(folder: Path) -> dict[Measure, list[str]]:
    async with running(folder) as program:
        return await _measured(program)


async def _measured(program: Program) -> dict[Measure, list[str]]:
    queue = (await program.ask("POST", "/queues", {"alias": "orders"}))["queue"]["id"]
    path = f"/queues/{queue}"
    urls = {"notify_url": "http://127.0.0.1:9/notify", "liveness_url": "http://127.0.0.1:9/live"}
    await program.ask("POST", f"{path}/listeners", urls)
    # Everything once before: what is kept in memory from then on is no part of an operation.
    await _delivery(program, path)
    await program.ask("GET", path)
    delivery, called = await _delivery(program, path)
    return {
        GET: (await _one_get(program, path)).files(),
        PUBLISH: (await _one_publish(program, path)).files(),
        DELIVERY: called,
        ROUTE: delivery.owners(),
    }


async def _one_get(program: Program, path: str) -> Recorder:
    recorder = Recorder()
    work, exchange = program.request("GET", path)
    with recorder.on():
        await work
    assert exchange.response[0] == 200
    return recorder


async def _one_publish(program: Program, path: str) -> Recorder:
    """Record until the request first waits, which is for the commit."""
    recorder = Recorder()
    work, exchange = program.request("POST", f"{path}/messages", {"data": {"order": 17}})
    with recorder.on():
        waits_for = work.send(None)
    await _go_on(work, waits_for)
    assert exchange.response[0] == 200
    return recorder


async def _go_on(work: Any, waits_for: Any) -> None:
    """Run a coroutine that was begun by hand to its end."""
    while True:
        while not waits_for.done():  # noqa: ASYNC110 - the coroutine is no task that could wait for it
            await asyncio.sleep(0)
        try:
            waits_for = work.send(None)
        except StopIteration:
            return


async def _delivery(program: Program, path: str) -> tuple[Recorder, list[str]]:
    """Record from when the lanes hear of a stored message until its request is sent.

    Returns what the starter of the request called, too.
    """
    recorder, sent = Recorder(), asyncio.get_running_loop().create_future()
    store = program.installation.store
    # The program before the restructuring has another name for it.
    name = "on_append" if hasattr(store, "on_append") else "appended"
    deliver = getattr(store, name)

    def on_append(event: object) -> None:
        with recorder.on():
            deliver(event)

    def on_send() -> None:
        recorder.off()
        if not sent.done():
            sent.set_result(recorder.called_by_starter(sys._getframe()))

    setattr(store, name, on_append)
    program.sender.on_send = on_send
    try:
        await program.ask("POST", f"{path}/messages", {"data": {"order": 17}})
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return recorder, await sent
    finally:
        setattr(store, name, deliver)
        program.sender.on_send = lambda: None


def main(arguments: list[str]) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.paths", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print what the figures count")
    parser.add_argument("--tree", type=Path, help="folder with another version of the program")
    options = parser.parse_args(arguments)
    if options.tree is not None:
        use_tree(options.tree)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder))
    for operation, found in measured.items():
        stated = f"; stated: {operation.stated}" if operation.stated not in (None, operation.base) else ""
        print(f"{len(found):3}  {operation.name} (before: {operation.base}{stated})")
        if options.list:
            print("".join(f"       {name}\n" for name in found), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
