"""The world of a run: a worker, its users, its listeners, and the nemesis, on one simulated network and disk."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from discue.store.migrations import migrations
from discue.store.sqlite import schema
from discue.store.sqlite.connection import connect
from tests.faults.client import KEY, Client
from tests.faults.final_state import read_final_state
from tests.faults.history import Bounds, History
from tests.faults.load import Load
from tests.faults.receiver import Receiver
from tests.faults.running import TIMEOUT_SECONDS, run_under_load
from tests.simulation.cluster import ClusterEngine, Server
from tests.simulation.disk import Disk
from tests.simulation.loop import Host, SimLoop
from tests.simulation.machines import MAX_IN_FLIGHT, HostClock, SimWorker, machine_of
from tests.simulation.nemesis import Nemesis
from tests.simulation.network import CALM, Network
from tests.simulation.observed import TracingRecorder
from tests.simulation.plan import SimPlan
from tests.simulation.rhythm import Rhythm

MOST_OWED: Final = 500
PATIENCE_SECONDS: Final = 120.0
_CLIENT_PATIENCE_SECONDS: Final = 8.0
_LISTENER: Final = "listener.example"


def empty_database(folder: Path) -> bytes:
    """Return the content of a database that has tables only. Making them in each run would take as long as the run."""
    path = folder / "empty.db"
    connection = connect(path)
    schema.migrate(connection, migrations(schema.DIALECT))
    connection.close()
    return path.read_bytes()


class Entrance:
    """A way in: whichever worker serves when a client connects, as behind a balancer."""

    def __init__(self, machines: Sequence[SimWorker], choices: Random) -> None:
        self._machines = machines
        self._random = choices

    @property
    def port(self) -> int:
        serving = [machine for machine in self._machines if machine.serving.is_set()]
        return self._random.choice(serving or self._machines).port


class World:
    """Everything in a run. As a site under load, it is all its workers."""

    def __init__(self, plan: SimPlan, loop: SimLoop, *, network: Network, disk: Disk, folder: Path) -> None:
        # Resolving a name and connecting take two packets each, and a request is one more.
        slowest = plan.network.latency_seconds[1]
        self.history = History(
            Bounds(
                MAX_IN_FLIGHT,
                timeout_seconds=TIMEOUT_SECONDS,
                lateness_seconds=1.0 + 5 * slowest,
                old_owner_seconds=0.3 + 3 * slowest,
            )
        )
        self._plan = plan
        self._loop = loop
        self._network = network
        self._folder = folder
        self._program = Random(f"{plan.seed} program")  # noqa: S311 - choices that can be made again
        self.server = None if plan.is_on_sqlite else Server(network, folder, self._program)
        server = self.server
        self.workers = tuple(range(plan.workers))
        self.machines = [
            SimWorker(
                number,
                folder,
                loop,
                network,
                choices=self._program,
                connect=None if server is None else lambda: ClusterEngine(server),
            )
            for number in self.workers
        ]
        if plan.shares_file:
            for machine in self.machines:
                machine.siblings = self.machines
        self._somebody_serves = asyncio.Event()
        self._recorder = TracingRecorder(self.history, MOST_OWED, loop.trace)
        faults = Random(f"{plan.seed} faults")  # noqa: S311 - as above
        self._rhythm = Rhythm(plan.quiet_seconds, Random(f"{plan.seed} rhythm"))  # noqa: S311 - as above
        self._nemesis = Nemesis(
            plan,
            faults,
            self._recorder,
            machines=self.machines,
            network=network,
            disk=disk,
            server=server,
            rhythm=self._rhythm,
        )
        network.names[_LISTENER] = "127.0.0.1"
        network.on_fault = self._note_fault

    @property
    def serving(self) -> asyncio.Event:
        # Of several workers some serve, or soon will: clients try again.
        return self.machines[0].serving if len(self.machines) == 1 else self._somebody_serves

    @property
    def errors(self) -> list[str]:
        """The errors that workers have logged."""
        return [error for machine in self.machines for error in machine.errors]

    def client(self, key: str = KEY) -> Client:
        return Client(Entrance(self.machines, self._program), key=key, patience_seconds=_CLIENT_PATIENCE_SECONDS)

    def client_of(self, worker: int, key: str = KEY) -> Client:
        return Client(self.machines[worker], key=key, patience_seconds=_CLIENT_PATIENCE_SECONDS)

    def worker_at(self, source: str) -> int:
        return int(source.rpartition(".")[2]) - 11

    async def run(self) -> None:
        """Let it all happen, let everything come to rest, and take stock."""
        plan, trace = self._plan, self._loop.trace
        load = Load(plan.load, self, self._recorder, self._program)
        load.awake = self._rhythm.awake
        async with Receiver(load.respond, load.probed, keep=False) as receiver:
            if self.server is not None:
                await self.server.open()
            for machine in self.machines:
                machine.start()
            for machine in self.machines:
                await machine.until_serving()
            self._somebody_serves.set()
            await load.prepare(lambda name: f"http://{_LISTENER}:{receiver.port}/{name}")
            trace.add("users", "begin")
            await run_under_load(load, self._trouble(), PATIENCE_SECONDS if plan.heals else 0, *self._rhythm.tasks())
            if plan.heals:
                await load.until_nothing_waits(PATIENCE_SECONDS)
            trace.add("users", "end")
            if plan.heals:
                await asyncio.gather(*(machine.stop() for machine in self.machines))
        path = self._folder / "discue.db" if self.server is None else self.server.path
        clock = HostClock(self._loop, Host("reader", "127.0.0.1"))
        self.history.said = {machine.number: machine.said for machine in self.machines}
        reader = machine_of(self._loop, clock, self._program, self._network)
        await read_final_state(f"sqlite:///{path}", self.history, reader)
        if self.server is not None:
            await self.server.close()

    async def _trouble(self) -> None:
        """Make trouble for as long as planned, and if the plan says so, repair everything."""
        self._network.faults = self._plan.network
        if not self._plan.heals:
            await self._nemesis.strike_without_end(self._plan.seconds)
            return
        await self._nemesis.strike_for(self._plan.seconds)
        self._network.faults = CALM
        self._loop.trace.add("nemesis", "heals")

    def _note_fault(self, kind: str, hosts: Sequence[Host]) -> None:
        # A request whose response is lost may be made again, and one that is not answered times out. The fault begins
        # and ends now: the checker explains such repeats by the requests that are in flight at this moment.
        with self._recorder.fault(f"network: {kind}", [host.number for host in hosts]):
            pass
