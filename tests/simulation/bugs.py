"""Bugs that only the simulation can have, in addition to those of `tests.faults.broken`."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import apsw

from discue.dispatch.poller import Poller
from discue.store.sqlite import engine
from discue.store.sqlite.connection import connect
from tests.faults import broken
from tests.faults.broken import put


def commits_without_a_sync() -> None:
    def fast(path: Path, **settings: Any) -> apsw.Connection:
        connection = connect(path, **settings)
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    put(engine, "connect", fast)


def polls_without_a_pause() -> None:
    async def wait(self: Poller) -> None:
        self._is_polling = True
        await asyncio.sleep(0)

    put(Poller, "_wait", wait)


BUGS: Final[Mapping[str, Callable[[], None]]] = {
    **broken.BUGS,
    "commits_without_a_sync": commits_without_a_sync,
    "polls_without_a_pause": polls_without_a_pause,
}
"""All bugs, by name."""
