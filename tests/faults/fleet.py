"""Several workers on one PostgreSQL, each with a way to it of its own, and what clients reach them by."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.altered import WrongClock
from tests.faults.client import KEY, Client
from tests.faults.product import SERVE, Ended, Product
from tests.support.ports import HOST
from tests.support.postgres.server import USER
from tests.support.postgres.tapped import TappedProxy

LEASE_SECONDS = 2
CLIENT_PATIENCE_SECONDS = 4.0
RETRIES = "1,1,2,2,3,3,4,4"

_SUSPECTED_SECONDS = 0.5
_AGAIN_SECONDS = 0.1
_READY_SECONDS = 40.0
_START_SECONDS = 60.0
_LINES_TOLD = 40


class Worker:
    """A place in the fleet: whatever process is started there has its ways to the database, and its address."""

    def __init__(
        self, number: int, folder: Path, links: Sequence[TappedProxy], database: str, **settings: object
    ) -> None:
        self.number = number
        self.links = links
        self.source = f"127.0.0.{11 + number}"
        self.migrations = 0
        self.bug = ""
        self.alterations: Mapping[str, object] = {}
        self.clock = WrongClock(folder / f"clock-{number}")
        addresses = ",".join(f"{HOST}:{link.port}" for link in links)
        url = f"postgresql://{USER}@{addresses}/{database}?target_session_attrs=read-write"
        self.product = Product(folder, command=SERVE, **{**settings, "database": url})

    async def start(self) -> None:
        """Start the worker, as a process supervisor does: again if it exits because the database is unavailable.

        Returns when it serves.
        """
        async with self._within(_START_SECONDS, "does not start"):
            while True:
                with suppress(Ended):
                    await self.begin()
                    await self.product.ready()
                    return
                await self.product.kill()
                await asyncio.sleep(_AGAIN_SECONDS)

    async def begin(self) -> None:
        """Start a process, and do not wait for it. Another version of the program is not altered."""
        if self.product.program is not None:
            self.product.command = SERVE
            await self.product.begin()
            return
        alterations = {
            "source": self.source,
            "clock": str(self.clock.path),
            "retries": RETRIES,
            "migrations": str(self.migrations),
            "bug": self.bug,
            **self.alterations,
        }
        words = [f"{name}={value}" for name, value in alterations.items() if value]
        self.product.command = ("-m", "tests.faults.altered", *words)
        await self.product.begin()

    async def until_ready(self) -> None:
        """Returns when it says that it is. Raises AssertionError with its log when it does not in time."""
        with closing(Client(self.product, patience_seconds=1.0)) as client:
            async with self._within(_READY_SECONDS, "is not ready"):
                await client.until("/health/ready", 200, apart_seconds=_AGAIN_SECONDS)

    @asynccontextmanager
    async def _within(self, seconds: float, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            said = "".join(self.product.lines)
            raise AssertionError(f"worker {self.number} {what} within {seconds} s:\n{said}") from None


class Entrance:
    """A load balancer: directs each connection to a worker that serves, and not to the one that was just lost."""

    def __init__(self, fleet: "Fleet") -> None:
        self._fleet = fleet
        self._last: Worker | None = None

    @property
    def port(self) -> int:
        serving = [worker for worker in self._fleet.members if worker.product.serving.is_set()]
        now = time.monotonic()
        if self._last is not None:
            # A client that reconnects was lost or refused.
            self._fleet.suspected[self._last.number] = now + _SUSPECTED_SECONDS
        trusted = [worker for worker in serving if self._fleet.suspected.get(worker.number, 0.0) < now]
        if not serving:
            raise ConnectionRefusedError
        self._last = random.choice(trusted or serving)  # noqa: S311 - as a balancer would
        return self._last.product.port


class Fleet:
    """The workers. They begin at once, on an empty database."""

    def __init__(
        self, folder: Path, ports: Sequence[int], database: str, *, workers: int = 3, **settings: object
    ) -> None:
        """`ports` are those of the servers that hold the database between them."""
        self.members: list[Worker] = []
        self.suspected: dict[int, float] = {}
        self.bug = ""
        self.alterations: Mapping[str, object] = {}
        """Alterations of the workers, apart from a bug: names and values of `altered`."""
        self.program: Path | None = None
        """The folder with the version of the program that the workers run at first; None for this repository's."""
        self.workers = tuple(range(workers))
        # Somebody always does, or is being started: clients try again.
        self.serving = asyncio.Event()
        self.serving.set()
        self.folder = folder
        self._ports = ports
        self._database = database
        self._settings = settings
        self._clients: list[Client] = []
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            for number in self.workers:
                links = [await opening.enter_async_context(TappedProxy(HOST, port)) for port in self._ports]
                worker = Worker(number, self.folder, links, self._database, **self._settings)
                worker.bug, worker.alterations = self.bug, self.alterations
                worker.product.program = self.program
                opening.push_async_callback(worker.product.kill)
                self.members.append(worker)
            await asyncio.gather(*(worker.start() for worker in self.members))
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        await self._open.aclose()

    def client(self, key: str = KEY) -> Client:
        return self._closed_with_us(Client(Entrance(self), key=key, patience_seconds=CLIENT_PATIENCE_SECONDS))

    def client_of(self, worker: int, key: str = KEY) -> Client:
        served = self.members[worker].product
        return self._closed_with_us(Client(served, key=key, patience_seconds=CLIENT_PATIENCE_SECONDS))

    def _closed_with_us(self, client: Client) -> Client:
        self._clients.append(client)
        return client

    def worker_at(self, source: str) -> int:
        """No worker's number for 127.0.0.1, from which other versions of the program send."""
        return int(source.rpartition(".")[2]) - 11

    async def until_ready(self) -> None:
        await asyncio.gather(*(worker.until_ready() for worker in self.members))

    async def stop(self) -> None:
        """All of them at once, in good order."""
        codes = await asyncio.gather(*(worker.product.stop() for worker in self.members))
        assert set(codes) == {0}, self.said

    @property
    def said(self) -> str:
        """The ends of their logs."""
        ends = {each.number: list(each.product.lines)[-_LINES_TOLD:] for each in self.members}
        return "\n".join(f"worker {number}:\n{''.join(lines)}" for number, lines in ends.items())


@asynccontextmanager
async def fleet_of(fleet: Fleet) -> AsyncIterator[Fleet]:
    """Says what the workers logged when what is done with them fails."""
    async with fleet:
        try:
            yield fleet
        except Exception as error:
            error.add_note(fleet.said)
            raise
