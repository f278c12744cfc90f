"""Notifications between worker processes on one SQLite file, over their sockets."""

import asyncio
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from discue.store.engine import Notification
from discue.store.sqlite import engine
from discue.store.sqlite.engine import SqliteEngine
from discue.store.sqlite.siblings import SiblingSockets
from tests.support.memory import folder_in_memory

PATIENCE_SECONDS = 10.0
ANYTHING = Notification(anything=True)
CURSORS = Notification(cursors=True)
LARGEST = (1 << 63) - 1


class Sibling:
    """A worker, and what it hears."""

    def __init__(self, folder: Path, number: int, count: int = 2) -> None:
        self.sockets = SiblingSockets(folder, number, count)
        self.heard: asyncio.Queue[Notification] = asyncio.Queue()
        self.sockets.listen(self.heard.put_nowait)

    async def hears(self) -> Notification:
        return await asyncio.wait_for(self.heard.get(), PATIENCE_SECONDS)

    def close(self) -> None:
        self.sockets.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="discue-", dir=folder_in_memory()) as path:
        yield Path(path)


async def test_notification_reaches_all_other_workers_and_not_its_sender(folder: Path) -> None:
    first, second, third = (Sibling(folder, number, 3) for number in (1, 2, 3))
    with closing(first), closing(second), closing(third):
        first.sockets.notify(CURSORS)
        assert await second.hears() == await third.hears() == CURSORS
        third.sockets.notify(Notification(feed=True))
        assert await first.hears() == Notification(feed=True)
        assert first.heard.empty()


async def test_notifications_of_one_moment_are_merged(folder: Path) -> None:
    with closing(Sibling(folder, 1)) as one, closing(Sibling(folder, 2)) as other:
        for seq in (3, 9, 6):
            one.sockets.notify(Notification(heads=(((1, 1), seq),)))
        one.sockets.notify(CURSORS)
        assert await other.hears() == Notification(cursors=True, heads=(((1, 1), 9),))
        assert other.heard.empty()


@pytest.mark.parametrize(("queues", "parts"), [(64, 1), (65, 2), (640, 10), (641, 1)])
async def test_many_heads_are_sent_in_parts_or_as_an_unspecific_notification(
    folder: Path, queues: int, parts: int
) -> None:
    heads = tuple(((LARGEST, LARGEST - each), LARGEST) for each in range(queues))
    with closing(Sibling(folder, 1)) as one, closing(Sibling(folder, 2)) as other:
        one.sockets.notify(Notification(heads=heads))
        heard = [await other.hears() for _ in range(parts)]
        assert heard == [ANYTHING] if queues > 640 else [head for hint in heard for head in hint.heads] == [*heads]


async def test_worker_without_room_gets_an_unspecific_notification_once_it_has_room(folder: Path) -> None:
    with (
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as halted,
        closing(Sibling(folder, 1, 3)) as one,
        closing(Sibling(folder, 3, 3)) as third,
    ):
        halted.bind(str(folder / "notify-2"))
        halted.setblocking(False)
        while not one.sockets._behind:
            one.sockets.notify(CURSORS)
            # A worker that is halted holds up no other worker.
            assert await third.hears() == CURSORS
        # Nothing but the halted worker is waited for now. Another notification reaches the others at once.
        await _until(lambda: one.sockets._is_only_behind)
        one.sockets.notify(CURSORS)
        assert not one.sockets._is_only_behind
        assert await third.hears() == CURSORS
        received = [CURSORS]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while received[-1] == CURSORS:
                received.append(await _received(halted))
        assert received[-1] == ANYTHING


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(0)


async def _received(halted: socket.socket) -> Notification:
    content = await asyncio.get_running_loop().sock_recv(halted, 4_096)
    return msgspec.msgpack.decode(content, type=Notification)


async def test_notification_to_workers_that_do_not_run_is_dropped(folder: Path) -> None:
    Sibling(folder, 2, 3).close()
    with closing(Sibling(folder, 1, 3)) as one:
        one.sockets.notify(CURSORS)
        await asyncio.sleep(0)
        assert not one.sockets._behind
        # The socket of the worker that has ended is still there.
        with closing(Sibling(folder, 2, 3)) as again:
            one.sockets.notify(CURSORS)
            assert await again.hears() == CURSORS


async def test_closing_sends_pending_notifications(folder: Path) -> None:
    with closing(Sibling(folder, 2)) as other:
        with closing(Sibling(folder, 1)) as one:
            one.sockets.notify(CURSORS)
        assert await other.hears() == CURSORS


async def test_engine_hears_of_commits_through_its_notifier(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_WATCH_SECONDS", 3_600.0)
    heard: asyncio.Queue[Notification] = asyncio.Queue()
    one, other = (
        SqliteEngine(folder / "discue.db", report=unexpected, siblings=True, notifier=SiblingSockets(folder, number, 2))
        for number in (1, 2)
    )
    for each in (one, other):
        await each.open()
        each.listen(heard.put_nowait if each is other else unheard, on_loss=unexpected_loss)
    one.notify(CURSORS)
    assert await asyncio.wait_for(heard.get(), PATIENCE_SECONDS) == CURSORS
    for each in (one, other):
        await each.close()


def unexpected(place: str, error: BaseException) -> None:
    raise AssertionError(place) from error


def unexpected_loss() -> None:
    raise AssertionError


def unheard(hint: Notification) -> None:
    raise AssertionError(hint)
