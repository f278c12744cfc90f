"""The nemesis: it kills, pauses and restarts workers, and breaks their disk, clocks, network and database."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from random import Random
from typing import Final

from discue.domain.errors import StoreUnavailable, StoreUnusable
from tests.faults.altered import know_more_migrations
from tests.faults.history import Fault
from tests.faults.recorder import Recorder
from tests.simulation.cluster import Server
from tests.simulation.disk import FAILURES, FULL, Disk
from tests.simulation.loop import Host
from tests.simulation.machines import SimWorker
from tests.simulation.network import Network
from tests.simulation.plan import SimPlan
from tests.simulation.rhythm import Rhythm

_CLOCK_ERROR_MS: Final = 20_000
"""The users wait until what it has put off is due."""
_START_SECONDS: Final = (0.2, 1.0)
"""How long a process takes to start."""
_DOWN_SECONDS: Final = (0.0, 6.0)
_LASTS_SECONDS: Final = (0.1, 6.0)
_IN_A_WRITE: Final = "power cut in a write"
_MOST_OPERATIONS: Final = 60
"""A power cut in a write comes within so many writes and syncs."""
_POWER_SECONDS: Final = 10.0
"""How long the nemesis waits for that write."""
_HANGS_SECONDS: Final = (1.0, 9.0)
"""How long a worker hangs with its locks: mostly longer than its lease, after which others take over."""
_LEASE_SECONDS: Final = 3.0
_OF_ALL: Final = {
    "connections lost",
    "database clock",
    "database crash",
    "failover",
    "full disk",
    "failing disk",
    "hang with locks",
}
"""The kinds of faults that touch what all workers share: there is one at a time."""
_UNCONFIRMED_SECONDS: Final = (0.1, 4.0)
"""How long a standby confirms nothing before it takes over."""


class Nemesis:
    """Makes one fault after another. Each is recorded, with the time in which its effects may show."""

    def __init__(
        self,
        plan: SimPlan,
        choices: Random,
        recorder: Recorder,
        *,
        machines: Sequence[SimWorker],
        network: Network,
        disk: Disk,
        server: Server | None,
        rhythm: Rhythm,
    ) -> None:
        self._plan = plan
        self._random = choices
        self._recorder = recorder
        self._machines = machines
        self._network = network
        self._disk = disk
        self._server = server
        self._rhythm = rhythm
        self._trace = network.loop.trace
        self._without_power = asyncio.Event()
        self._upgrades = 0
        disk.on_power_cut = self._on_power_cut
        self._strikes: Mapping[str, Callable[[SimWorker], Awaitable[None]]] = {
            "kill": lambda machine: self._kill(machine, power=True),
            "power cut": lambda machine: self._kill(machine, power=False),
            _IN_A_WRITE: self._cut_power_in_a_write,
            "restart": self._restart,
            "pause": self._pause,
            "clock": self._set_clock,
            FULL: lambda _machine: self._break_disk(FULL, FULL),
            "failing disk": lambda _machine: self._break_disk("failing disk", self._random.choice(FAILURES)),
            "cut off": self._cut_off,
            "cut off from the database": self._cut_off_from_database,
            "connections lost": self._lose_connections,
            "database crash": self._crash_database,
            "failover": self._fail_over,
            "database clock": self._set_database_clock,
            "hang with locks": self._hang_with_locks,
            "upgrade": self._upgrade,
        }

    async def strike_for(self, seconds: float) -> None:
        """Make the faults of the plan for so long. At the end, everything works and all workers serve."""
        await self._strike(seconds, self._plan.strikes, self._machines)

    async def strike_without_end(self, seconds: float) -> None:
        """Make faults of all machines at once, and at last kill them all."""
        of_all = [kind for kind in self._plan.strikes if kind in _OF_ALL]
        of_one = [kind for kind in self._plan.strikes if kind not in _OF_ALL]
        if len(self._machines) > 1 and _IN_A_WRITE in of_one:
            # It ends all processes at once, and another fault may be starting one. Their power is cut at the end.
            of_one.remove(_IN_A_WRITE)
        strikes = [self._strike(seconds, of_one, [machine]) for machine in self._machines]
        await asyncio.gather(self._strike(seconds, of_all, self._machines[:1]), *strikes)
        self._trace.reach("end without repair")
        with self._fault("kill", *self._machines):
            self._end_all(power=self._server is not None or self._random.random() < 0.5)

    async def _strike(self, seconds: float, kinds: Sequence[str], machines: Sequence[SimWorker]) -> None:
        """Make one fault after another, each of a kind and of a machine."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while True:
            pause = self._random.expovariate(1 / self._plan.strike_seconds)
            if not kinds or loop.time() + pause >= ends_at:
                break
            await asyncio.sleep(pause)
            await self._rhythm.before_a_fault()
            kind = self._random.choice(kinds)
            self._trace.reach(kind)
            await self._strikes[kind](self._random.choice(machines))
            self._rhythm.after_a_fault()
        await asyncio.sleep(max(0.0, ends_at - loop.time()))

    async def _kill(self, machine: SimWorker, *, power: bool) -> None:
        with self._fault("kill" if power else "power cut", machine) as fault:
            self._end(machine, power=power)
            await self._lasts(_DOWN_SECONDS)
            if self._random.random() < 0.2:
                fault.blows += 1
                await self._kill_while_starting(machine, power=power)
            await self._start(machine)

    async def _kill_while_starting(self, machine: SimWorker, *, power: bool) -> None:
        machine.start()
        await asyncio.sleep(self._random.uniform(0, 0.1))
        self._trace.reach("killed while starting")
        self._end(machine, power=power)

    def _end_all(self, *, power: bool) -> None:
        *others, last = self._machines
        for machine in others:
            # While a process has the file open, nothing that was written to it may get lost.
            self._end(machine, power=power, loses=False)
        self._end(last, power=power)

    async def _cut_power_in_a_write(self, machine: SimWorker) -> None:
        # All processes that share a file run on one machine.
        with self._fault("power cut", *self._machines):
            self._without_power.clear()
            self._disk.cut_power_after(machine.host, self._random.randint(1, _MOST_OPERATIONS))
            await asyncio.wait([asyncio.ensure_future(self._without_power.wait())], timeout=_POWER_SECONDS)
            self._end_all(power=False)
            await self._lasts(_DOWN_SECONDS)
            await asyncio.gather(*(self._start(each) for each in self._machines))

    def _on_power_cut(self, host: Host) -> None:
        # The current step goes on to its end, but nothing that it asks for happens.
        self._trace.reach(f"power cut of {'a process' if len(self._machines) == 1 else 'several processes'}")
        for machine in self._machines:
            machine.host.is_down = True
            machine.serving.clear()
        self._without_power.set()

    def _end(self, machine: SimWorker, *, power: bool, loses: bool = True) -> None:
        """End a worker's process, or with the power its machine, which `loses` what was not synced."""
        host = machine.host
        machine.killed()
        self._network.kill(host, power=power)
        if self._server is None:
            self._disk.crash(host, machine.folder, power=not power and loses)
        else:
            self._server.forget(host)
        self._trace.add(host.name, "is killed" if power else "has no power")

    async def _start(self, machine: SimWorker) -> None:
        while True:
            await self._lasts(_START_SECONDS)
            machine.start()
            try:
                return await machine.until_serving()
            except (StoreUnavailable, StoreUnusable) as error:
                # Only without an end there are faults of the disk while workers start. A supervisor starts them again.
                if self._plan.heals:
                    raise
                self._trace.reach("start that failed")
                self._trace.add(machine.host.name, "cannot start", str(error))
                self._end(machine, power=True)

    async def _restart(self, machine: SimWorker) -> None:
        """Restart in good order: nothing is repeated."""
        # A single worker delivers nothing meanwhile. Of several, the others take over, and nobody waits.
        with self._fault("restart") if len(self._machines) > 1 else nullcontext():
            await machine.stop()
            await self._start(machine)

    async def _upgrade(self, machine: SimWorker) -> None:
        """Restart as the next version, which migrates the schema under the others, and another lease."""
        self._upgrades += 1
        know_more_migrations(str(self._upgrades))
        machine.lease_seconds = 4 if machine.lease_seconds == 3 else 3
        await self._restart(machine)

    async def _pause(self, machine: SimWorker) -> None:
        with self._fault("pause", machine):
            machine.host.is_paused = True
            await self._lasts(_LASTS_SECONDS)
            self._network.loop.resume(machine.host)

    async def _hang_with_locks(self, machine: SimWorker) -> None:
        """Pause a worker in the middle of a transaction, or of its turn to write to the file that all share."""
        host, loop = machine.host, self._network.loop
        locks = self._server.locks if self._server is not None else None
        if locks is not None:
            # A worker renews its lease all the time: most transactions that hang would be that.
            locks.hang_next(host, works=self._random.random() < 0.5)
            self._rhythm.wake()
            await asyncio.wait([asyncio.ensure_future(locks.hangs.wait())], timeout=_LEASE_SECONDS)
            if not locks.hangs.is_set():
                # No such transaction has come.
                locks.release(commits=False)
                return
        # From the moment on in which it hangs: what it has signed before may arrive late.
        with self._fault("hang with locks", *([machine] if locks is not None else self._machines)):
            if locks is None:
                host.has_lock = host.is_paused = True
            # Others need what it has locked.
            self._rhythm.wake()
            await self._lasts(_HANGS_SECONDS)
            if locks is not None:
                locks.release(commits=True)
            host.has_lock = False
            loop.resume(host)

    async def _set_clock(self, machine: SimWorker) -> None:
        ahead = self._random.choice((-_CLOCK_ERROR_MS, _CLOCK_ERROR_MS))
        # On SQLite, the clock of the machine is that of the database, which decides about leases.
        touched = self._machines if self._server is None else []
        with self._fault("clock ahead" if ahead > 0 else "clock behind", *touched):
            self._clock_error(touched or [machine], ahead)
            await self._lasts(_LASTS_SECONDS)
            self._clock_error(touched or [machine], 0)

    def _clock_error(self, machines: Sequence[SimWorker], error_ms: int) -> None:
        for machine in machines:
            machine.host.clock_error_ms = error_ms

    async def _set_database_clock(self, machine: SimWorker) -> None:
        host = self._require_server().host
        with self._fault("database clock", *self._machines):
            host.clock_error_ms = self._random.choice((-_CLOCK_ERROR_MS, _CLOCK_ERROR_MS))
            await self._lasts(_LASTS_SECONDS)
            host.clock_error_ms = 0

    async def _break_disk(self, kind: str, fault: str) -> None:
        with self._fault(kind, *self._machines):
            self._disk.fault = fault
            await self._lasts(_LASTS_SECONDS)
            self._disk.fault = ""

    async def _cut_off(self, machine: SimWorker) -> None:
        with self._fault("cut off", machine):
            self._network.cut_off(machine.host)
            await self._lasts(_LASTS_SECONDS)
            self._network.heal(machine.host)

    async def _cut_off_from_database(self, machine: SimWorker) -> None:
        server = self._require_server()
        with self._fault("cut off from the database", machine):
            self._network.cut_off(machine.host, server.host)
            await self._lasts(_LASTS_SECONDS)
            self._network.heal(machine.host, server.host)

    async def _lose_connections(self, machine: SimWorker) -> None:
        """Cut the connections of all workers to the database at once."""
        with self._fault("connections lost", *self._machines):
            for engine in self._require_server().engines:
                engine.lose()

    async def _crash_database(self, machine: SimWorker) -> None:
        server = self._require_server()
        with self._fault("database crash", *self._machines):
            server.crash()
            await self._lasts(_DOWN_SECONDS)
            server.start()

    async def _fail_over(self, machine: SimWorker) -> None:
        """Promote a standby that has confirmed nothing for a while: nobody was told of the commits that it lacks."""
        server = self._require_server()
        with self._fault("failover after cancelling", *self._machines) as fault:
            # Commits are lost, and later the connections.
            fault.blows += 1
            content = server.snapshot()
            server.replicates = False
            await self._lasts(_UNCONFIRMED_SECONDS)
            server.crash()
            await self._lasts(_START_SECONDS)
            await server.fail_over(content)

    def _require_server(self) -> Server:
        assert self._server is not None, "this fault needs a database server"
        return self._server

    def _fault(self, kind: str, *machines: SimWorker) -> AbstractContextManager[Fault]:
        return self._recorder.fault(kind, [machine.number for machine in machines])

    async def _lasts(self, seconds: tuple[float, float]) -> None:
        await asyncio.sleep(self._random.uniform(*seconds) * self._plan.slowness)
