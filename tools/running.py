"""Runs the program in this process for measures: without a network, on a SQLite file, with a sender that sends nothing.

It runs the program of earlier versions, too, whose names differ.
"""

import asyncio
import importlib
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

PROGRAM: Final = "discue"
_KEY: Final = "dsk_" + "c" * 60


def use_tree(tree: Path) -> None:
    """Run the program of another folder. Called before anything of the program is imported."""
    assert PROGRAM not in sys.modules
    sys.path.insert(0, str(tree.resolve()))
    importlib.import_module(PROGRAM)


def find(name: str) -> Any:
    """Return a class or function of the program, wherever it is defined. Raises ImportError."""
    root = Path(str(importlib.import_module(PROGRAM).__file__)).parent
    definition = re.compile(rf"^(?:class|def|async def) {name}\b", re.MULTILINE)
    for path in sorted(root.rglob("*.py")):
        if definition.search(path.read_text(encoding="utf-8")):
            module = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
            return getattr(importlib.import_module(module), name)
    raise ImportError(f"{PROGRAM} does not define {name}")


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


class Exchange:
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


class Sender:
    """Takes requests instead of the sender; the first one that comes while recording ends the recording."""

    def __init__(self) -> None:
        self.on_send: Callable[[], None] = lambda: None
        self._outcome = find("Outcome")

    def send(self, _request: object, done: Callable[[object], None]) -> None:
        self.on_send()
        asyncio.get_running_loop().call_soon(done, self._outcome(200, "", "", 1))

    async def close(self, grace_seconds: float) -> None:
        """Nothing to close."""


class Program:
    """A running program and its operator."""

    def __init__(self, worker: Any, installation: Any, sender: Sender) -> None:
        self.installation = installation
        self.sender = sender
        self._application = worker.application

    def request(self, method: str, path: str, body: object = None) -> tuple[Any, Exchange]:
        """Return the coroutine that responds to a request, and where its response will be."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"x-api-key": _KEY, "host": "127.0.0.1:3000", "accept": "application/json"}
        if body is not None:
            headers |= {"content-type": "application/json", "content-length": str(len(content))}
        exchange = Exchange(content)
        return self._application.__rsgi__(_Scope(method, path, headers), exchange), exchange

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the body of a response of 200."""
        work, exchange = self.request(method, path, body)
        await work
        status, content = exchange.response
        assert status == 200, content
        return json.loads(content)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Program]:
    """Run the program with a database in a folder."""
    settings = find("Settings")(database=f"sqlite:///{folder}/discue.db", port=0, allow_private_targets=True)
    log, sender = find("Log")("tools"), Sender()
    try:
        opened = find("open_installation")
    except ImportError:
        opened = sys.modules[find("Installation").__module__].opened
    async with opened(settings, find("SystemClock")(), log) as installation:
        control = getattr(installation, "control", installation)
        await find("ensure_operator")(control, "com.example.operator", _KEY)
        worker = find("Worker")(installation, log, sender=sender)
        await worker.start()
        try:
            yield Program(worker, installation, sender)
        finally:
            if hasattr(worker, "drain"):
                await worker.drain()
            else:
                await worker.hand_over()
                await worker.leave()
