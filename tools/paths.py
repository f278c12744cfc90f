"""Measures how many files and classes common operations go through: `python -m tools.paths [--list]`.

Runs the program in this process, without a network, on a SQLite file in a temporary folder. The numbers say how far
a reader has to jump to follow an operation; the measures of the program before it was restructured stand next to
them. It runs on that program, too: `PYTHONPATH=BASE python tools/paths.py`.
"""

import asyncio
import importlib
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

_PROGRAM: Final = "discue"
_KEY: Final = "dsk_" + "c" * 60
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
        root = Path(str(importlib.import_module(_PROGRAM).__file__)).parent
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


def find(name: str) -> Any:
    """Return a class or function of the program, wherever it is defined. Raises ImportError."""
    root = Path(str(importlib.import_module(_PROGRAM).__file__)).parent
    definition = re.compile(rf"^(?:class|def|async def) {name}\b", re.MULTILINE)
    for path in sorted(root.rglob("*.py")):
        if definition.search(path.read_text(encoding="utf-8")):
            module = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
            return getattr(importlib.import_module(module), name)
    raise ImportError(f"{_PROGRAM} does not define {name}")


class _Headers(dict[str, str]):
    """Headers as the HTTP server hands them over."""

    def get_all(self, name: str) -> list[str]:
        return [self[name]] if name in self else []

    # The server's are lists.
    def keys(self) -> list[str]:  # type: ignore[override]
        return list(super().keys())

    def values(self) -> list[str]:  # type: ignore[override]
        return list(super().values())


class _Scope:
    """One request."""

    proto, http_version, client, server, scheme = "http", "1.1", "127.0.0.1:1", "127.0.0.1:3000", "http"
    query_string, authority = "", None

    def __init__(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        self.method, self.path, self.headers = method, path, _Headers(headers)


class _Exchange:
    """The body of a request, and what the application responds."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.response: tuple[int, bytes] = (0, b"")

    async def __call__(self) -> bytes:
        return self._body

    async def client_disconnect(self) -> None:
        await asyncio.Event().wait()

    def response_empty(self, status: int, _headers: list[tuple[str, str]]) -> None:
        self.response = (status, b"")

    def response_bytes(self, status: int, _headers: list[tuple[str, str]], body: bytes) -> None:
        self.response = (status, body)


class _Sender:
    """Takes requests instead of the sender; the first one that comes while recording ends the recording."""

    def __init__(self) -> None:
        self.on_send: Callable[[], None] = lambda: None
        self._outcome = find("Outcome")

    def send(self, _request: object, done: Callable[[object], None]) -> None:
        self.on_send()
        asyncio.get_running_loop().call_soon(done, self._outcome(200, "", "", 1))

    async def close(self, grace_seconds: float) -> None:
        """Nothing to close."""


class _Program:
    """A running program and its operator."""

    def __init__(self, worker: Any, installation: Any, sender: _Sender) -> None:
        self.installation = installation
        self.sender = sender
        self._application = worker.application

    def request(self, method: str, path: str, body: object = None) -> tuple[Any, _Exchange]:
        """Return the coroutine that responds to a request, and where its response will be."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"x-api-key": _KEY, "host": "127.0.0.1:3000", "accept": "application/json"}
        if body is not None:
            headers |= {"content-type": "application/json", "content-length": str(len(content))}
        exchange = _Exchange(content)
        return self._application.__rsgi__(_Scope(method, path, headers), exchange), exchange

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the body of a response of 200."""
        work, exchange = self.request(method, path, body)
        await work
        status, content = exchange.response
        assert status == 200, content
        return json.loads(content)


def measure(folder: Path) -> dict[Measure, list[str]]:
    """Measure with a database in a folder; returns the files or classes that each operation entered."""
    return asyncio.run(_measure(folder))


async def _measure(folder: Path) -> dict[Measure, list[str]]:
    settings = find("Settings")(database=f"sqlite:///{folder}/discue.db", port=0, allow_private_targets=True)
    log, sender = find("Log")("paths"), _Sender()
    module = sys.modules[find("Installation").__module__]
    opened = getattr(module, "open_installation", None) or module.opened
    async with opened(settings, find("SystemClock")(), log) as installation:
        await find("ensure_operator")(installation.control, "com.example.operator", _KEY)
        worker = find("Worker")(installation, log, sender=sender)
        await worker.start()
        try:
            return await _measured(_Program(worker, installation, sender))
        finally:
            await worker.drain()


async def _measured(program: _Program) -> dict[Measure, list[str]]:
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


async def _one_get(program: _Program, path: str) -> Recorder:
    recorder = Recorder()
    work, exchange = program.request("GET", path)
    with recorder.on():
        await work
    assert exchange.response[0] == 200
    return recorder


async def _one_publish(program: _Program, path: str) -> Recorder:
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


async def _delivery(program: _Program, path: str) -> tuple[Recorder, list[str]]:
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
    """Print the figures, with --list what they count."""
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder))
    for operation, found in measured.items():
        stated = f"; stated: {operation.stated}" if operation.stated not in (None, operation.base) else ""
        print(f"{len(found):3}  {operation.name} (before: {operation.base}{stated})")
        if "--list" in arguments:
            print("".join(f"       {name}\n" for name in found), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
