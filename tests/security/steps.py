"""Measures the steps of plain asyncio event loops in processor time, so that other processes do not count."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

_WRITTEN_SECONDS = 0.01
_HANDLE_CHARACTERS = 300


class Step(NamedTuple):
    """A step of an event loop."""

    seconds: float = 0.0
    handle: str = ""


class MeasuredSteps:
    """Calls `note` after each step of the event loops of this process, within a block."""

    def __init__(self, note: Callable[[float, asyncio.Handle], None]) -> None:
        self._note = note
        self._run = asyncio.Handle._run

    def __enter__(self) -> Self:
        run, note, clock = self._run, self._note, time.thread_time

        def measured(handle: asyncio.Handle) -> None:
            started = clock()
            run(handle)
            note(clock() - started, handle)

        asyncio.Handle._run = measured  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.Handle._run = self._run  # type: ignore[method-assign]


def shown(handle: asyncio.Handle) -> str:
    return repr(handle)[:_HANDLE_CHARACTERS]


def write_long_steps(path: Path) -> None:
    """Write the long steps of this process to a file until the process ends."""
    file = path.open("a", buffering=1)

    def note(seconds: float, handle: asyncio.Handle) -> None:
        if seconds >= _WRITTEN_SECONDS:
            file.write(json.dumps([seconds, shown(handle)]) + "\n")

    MeasuredSteps(note).__enter__()


class WrittenSteps:
    """The long steps that another process writes to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._from = 0

    def forget(self) -> None:
        """Forget the previous steps."""
        self._from = self._path.stat().st_size

    def longest(self) -> Step:
        """Return the longest step since `forget`; an empty step if all were short."""
        with self._path.open() as file:
            file.seek(self._from)
            # The last line may be incomplete.
            lines = file.read().split("\n")[:-1]
        return max((Step(*json.loads(line)) for line in lines), default=Step())
