"""`discue serve` as a real process: started, watched, signalled and killed by its id."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.faults.client import KEY, Client
from tests.support.forked import Forked

SERVE = ("-m", "discue")
"""The arguments of `python` before those of the command line."""
PATIENCE_SECONDS = 60.0

_REPOSITORY = Path(__file__).parents[2]
_LINES_KEPT = 4_000
_LONGEST_LINE = 1 << 20


class Ended(AssertionError):
    """The process ended where it should have gone on."""


class Product:
    """An installation and the process that serves it. The port may differ after each start.

    As a site under load it is one worker, however many processes it has.
    """

    workers = (0,)

    def __init__(self, folder: Path, *, command: Sequence[str] = SERVE, **settings: object) -> None:
        self.database = folder / "discue.db"
        self.port = 0
        self.serving = asyncio.Event()
        self.lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._clients: list[Client] = []
        self.command = command
        self.program: Path | None = None
        """The folder with another version of the program, which the next process runs; None for this repository's."""
        self._settings: Mapping[str, object] = {
            "database": f"sqlite:///{self.database}",
            "port": 0,
            "bootstrap_key": KEY,
            "allow_private_targets": "true",
            "show_private_responses": "true",
            "log_format": "json",
            # Tests wait for attempts, which succeed at this level.
            "log_level": "debug",
            # A fast machine would reach the default within a minute.
            "rate_limit": 0,
            **settings,
        }
        self._process: Forked | subprocess.Popen[str] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._awaited: list[tuple[str, asyncio.Future[str]]] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        await self.kill()

    def client(self, key: str = KEY, *, address: str = "") -> Client:
        """A client of whatever process serves then, closed with the product."""
        client = Client(self, key=key, address=address)
        self._clients.append(client)
        return client

    def client_of(self, _worker: int, key: str = KEY) -> Client:
        return self.client(key)

    def worker_at(self, _source: str) -> int:
        return 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def resident_bytes(self) -> int:
        """How much memory the process holds now."""
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return int(fields["VmRSS"].split()[0]) * 1_024

    async def start(self) -> None:
        """Returns when it serves. Raises Ended with what it said if it ends instead."""
        await self.begin()
        await self.ready()

    async def begin(self) -> None:
        """Start the process, and do not wait for it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DISCUE_")}
        given = {f"DISCUE_{name.upper()}": str(value) for name, value in self._settings.items()}
        # On PostgreSQL, there is no key by default.
        if "postgresql" in given.get("DISCUE_DATABASE", "") and "DISCUE_ENCRYPTION_KEY" not in given:
            given["DISCUE_ENCRYPTION"] = "none"
        self._process = process = self._process_with({**inherited, **given})
        assert process.stderr is not None
        reader = asyncio.StreamReader(_LONGEST_LINE)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stderr)
        self._listening = loop.create_task(self._listen(reader))
        self._url = self.says('"event":"server_started"')
        self._all_serve = self.says('"event":"workers_started"') if self._settings.get("workers", 1) != 1 else None

    def _process_with(self, environment: Mapping[str, str]) -> "Forked | subprocess.Popen[str]":
        command = (*self.command, "serve")
        if self.program is None:
            return Forked(command, folder=_REPOSITORY, environment=environment)
        # Processes are forked from one that has imported this repository's program: another one starts from nothing.
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.program,
            env={**environment, "PYTHONPATH": str(self.program)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def ready(self) -> None:
        """Returns when the process that was begun serves, with all its workers."""
        self.port = urlsplit(str(json.loads(await self._within(self._url))["url"])).port or 0
        if self._all_serve is not None:
            await self._within(self._all_serve)
        self.serving.set()

    def says(self, text: str) -> "asyncio.Future[str]":
        """The next line of its log that contains a text; Ended if it ends before."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._awaited.append((text.replace(" ", ""), future))
        return future

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL, if it runs. Returns when it is gone."""
        self.serving.clear()
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.send(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for the end of the process; its exit code, negative for a signal."""
        if self._process is None or self._listening is None:
            return 0
        code: int = await self._within(asyncio.to_thread(self._process.wait, PATIENCE_SECONDS))
        await self._within(self._listening)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def limit_files(self, most_bytes: int | None) -> None:
        """From now on no file can be written beyond so many bytes: what a full disk is to the process."""
        hard = resource.RLIM_INFINITY
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard if most_bytes is None else most_bytes, hard))

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        while line := (await stream.readline()).decode("utf-8", "replace"):
            self._hear(line)
        self.serving.clear()
        for _, future in self._awaited:
            if not future.done():
                future.set_exception(Ended("".join(self.lines)))
                # Nobody may be waiting any more: then it is nobody's error.
                future.exception()
        self._awaited.clear()

    def _hear(self, line: str) -> None:
        if '"event":"attempt"' not in line:
            self.lines.append(line)
        if not self._awaited:
            return
        packed = line.replace(" ", "")
        heard = [entry for entry in self._awaited if entry[0] in packed]
        for entry in heard:
            self._awaited.remove(entry)
            if not entry[1].done():
                entry[1].set_result(line)

    async def _within(self, work: Any) -> Any:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await work
        except TimeoutError:
            raise Ended(f"nothing within {PATIENCE_SECONDS} s; it said:\n{''.join(self.lines)}") from None
