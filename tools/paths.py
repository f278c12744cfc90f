"""Counts the files that common operations enter: `python -m tools.paths` lists them.

Runs the program in this process, without a network, on a SQLite file in a temporary folder. The numbers say how far
a reader has to jump to follow an operation.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import FrameType, coroutine
from typing import Any, Final, cast

import discue
from discue.config.settings import Settings
from discue.control.organizations import ensure_operator
from discue.domain.attempts import Outcome
from discue.domain.clock import SystemClock
from discue.observability.logs import Log
from discue.sending.sender import Sender
from discue.server.installation import open_installation
from discue.server.worker import Worker
from discue.store.engine import Appended
from discue.store.store import Store
from tests.simulation.api_server import Exchange, Scope
from tests.support.scripted_server import Received

GET: Final = "files entered by GET /queues/{id}"
PUBLISH: Final = "files entered by a publish until it waits for the commit"
DELIVERY: Final = "files entered by a delivery from the commit of its message to its request"

_PROGRAM: Final = f"{Path(discue.__file__).parent}/"
_KEY: Final = "dsk_" + "c" * 60
_PATIENCE_SECONDS: Final = 10.0


class Recorder:
    """Collects the files of the program that are entered while it is switched on, in the order of their entry."""

    def __init__(self) -> None:
        self.files: list[str] = []

    @contextmanager
    def on(self) -> Iterator[None]:
        """Record in this thread."""
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        file = frame.f_code.co_filename.removeprefix(_PROGRAM)
        if event == "call" and file != frame.f_code.co_filename and file not in self.files:
            self.files.append(file)


class _Sender:
    """Takes the requests to listeners, and sends nothing."""

    def __init__(self) -> None:
        self.on_send: Callable[[], None] = lambda: None

    def send(self, _request: object, done: Callable[[Outcome], None]) -> None:
        self.on_send()
        asyncio.get_running_loop().call_soon(done, Outcome(200, "", "", 1))

    async def close(self, grace_seconds: float) -> None:
        """Nothing to close."""


class _Exchange(Exchange):
    """Keeps the response."""

    def response_bytes(self, status: int, _headers: list[tuple[str, str]], body: bytes) -> None:
        assert status == 200, body
        self.response = json.loads(body)


class _Program:
    """A running worker, and its operator's requests."""

    def __init__(self, worker: Worker, store: Store, sender: _Sender) -> None:
        self._application = worker.application
        self._store = store
        self._sender = sender

    def request(self, method: str, path: str, body: object = None) -> tuple[Coroutine[Any, Any, None], _Exchange]:
        """Return the coroutine that responds to a request, and where its response will be."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"x-api-key": _KEY, "host": "127.0.0.1:3000", "accept": "application/json"}
        if content:
            headers |= {"content-type": "application/json", "content-length": str(len(content))}
        received = Received(0, f"{method} {path} HTTP/1.1", headers, content)
        gone = asyncio.get_running_loop().create_future()
        exchange = _Exchange(received, cast("Any", None), gone)
        return self._application.__rsgi__(Scope(received, "127.0.0.1:3000", "127.0.0.1:1"), exchange), exchange

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the body of the response."""
        work, exchange = self.request(method, path, body)
        await work
        return exchange.response

    async def deliver(self, path: str) -> Recorder:
        """Publish, and record from when the lanes hear of the stored message until its request is sent."""
        recorder, sent = Recorder(), asyncio.Event()
        followers = self._store.on_append

        def record(appended: Appended) -> None:
            with recorder.on():
                for follow in followers:
                    follow(appended)

        def end() -> None:
            sys.setprofile(None)
            sent.set()

        self._store.on_append, self._sender.on_send = [record], end
        await self.ask("POST", f"{path}/messages", {"data": {"order": 17}})
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await sent.wait()
        self._store.on_append, self._sender.on_send = followers, lambda: None
        return recorder


@asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[_Program]:
    settings = Settings(database=f"sqlite:///{folder}/discue.db", port=0, allow_private_targets=True)
    log, sender = Log("tools"), _Sender()
    async with open_installation(settings, SystemClock(), log) as control:
        await ensure_operator(control, "com.example.operator", _KEY)
        worker = Worker(control, log, sender=cast("Sender", sender))
        await worker.start()
        try:
            yield _Program(worker, control.store, sender)
        finally:
            await worker.hand_over()
            await worker.leave()


async def _measured(folder: Path) -> dict[str, list[str]]:
    async with _running(folder) as program:
        queue = (await program.ask("POST", "/queues", {"alias": "orders"}))["queue"]["id"]
        path = f"/queues/{queue}"
        urls = {"notify_url": "http://127.0.0.1:9/notify", "liveness_url": "http://127.0.0.1:9/live"}
        await program.ask("POST", f"{path}/listeners", urls)
        # Everything once before: what is kept in memory from then on is no part of an operation.
        await program.deliver(path)
        await program.ask("GET", path)
        delivery = await program.deliver(path)
        get, publish = Recorder(), Recorder()
        with get.on():
            await program.ask("GET", path)
        work, _ = program.request("POST", f"{path}/messages", {"data": {"order": 17}})
        await _recorded(work, publish)
        return {GET: get.files, PUBLISH: publish.files, DELIVERY: delivery.files}


@coroutine
def _recorded(work: Coroutine[Any, Any, None], recorder: Recorder) -> Generator[Any, None, None]:
    """Run a coroutine, and record until it first waits."""
    with suppress(StopIteration):
        with recorder.on():
            waits_for = work.send(None)
        while True:
            yield waits_for
            waits_for = work.send(None)


def measure(folder: Path) -> dict[str, list[str]]:
    """Measure with a database in a folder. Returns the files that each operation entered."""
    return asyncio.run(_measured(folder))


def main() -> None:
    """Print the files of each operation."""
    with tempfile.TemporaryDirectory() as folder:
        for operation, files in measure(Path(folder)).items():
            print(f"{len(files)} {operation}:", *files, sep="\n  ")


if __name__ == "__main__":
    main()
