"""The nemesis: it kills, pauses and restarts the worker, and breaks its disk, its clock and its network."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Final

from tests.faults.recorder import Recorder
from tests.simulation.disk import Disk
from tests.simulation.loop import Host
from tests.simulation.machines import SimWorker
from tests.simulation.network import Network
from tests.simulation.plan import SimPlan

_CLOCK_ERROR_MS: Final = 20_000
"""The users wait until what it has put off is due."""
_START_SECONDS: Final = (0.2, 1.0)
"""How long a process takes to start."""
_DOWN_SECONDS: Final = (0.0, 6.0)
_LASTS_SECONDS: Final = (0.1, 6.0)
_MOST_OPERATIONS: Final = 60
"""A power cut in a write comes within so many writes and syncs."""
_POWER_SECONDS: Final = 10.0
"""How long the nemesis waits for that write."""


class Nemesis:
    """Makes one fault after another. Each is recorded, with the time in which its effects may show."""

    def __init__(
        self, plan: SimPlan, choices: Random, recorder: Recorder, *, worker: SimWorker, network: Network, disk: Disk
    ) -> None:
        self._plan = plan
        self._random = choices
        self._recorder = recorder
        self._worker = worker
        self._network = network
        self._disk = disk
        self._trace = network.loop.trace
        self._without_power = asyncio.Event()
        disk.on_power_cut = self._on_power_cut
        self._strikes: Mapping[str, Callable[[], Awaitable[None]]] = {
            "kill": lambda: self._kill(power=True),
            "power cut": lambda: self._kill(power=False),
            "power cut in a write": self._cut_power_in_a_write,
            "restart": self._restart,
            "pause": self._pause,
            "clock": self._set_clock,
            "full disk": lambda: self._break_disk("full disk", self._disk.full),
            "failing disk": lambda: self._break_disk(
                "failing disk", self._random.choice((self._disk.failing_writes, self._disk.failing_syncs))
            ),
            "cut off": self._cut_off,
        }

    async def strike_for(self, seconds: float) -> None:
        """Make the faults of the plan for so long. At the end, everything works and the worker serves."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while True:
            pause = self._random.expovariate(1 / self._plan.strike_seconds)
            if not self._plan.strikes or loop.time() + pause >= ends_at:
                break
            await asyncio.sleep(pause)
            kind = self._random.choice(self._plan.strikes)
            self._trace.add("nemesis", kind)
            self._trace.reach(kind)
            await self._strikes[kind]()
        await asyncio.sleep(max(0.0, ends_at - loop.time()))

    async def _kill(self, *, power: bool) -> None:
        with self._recorder.fault("kill" if power else "power cut"):
            self._end(power=power)
            await self._lasts(_DOWN_SECONDS)
            if self._random.random() < 0.2:
                await self._kill_while_starting(power=power)
            await self._start()

    async def _kill_while_starting(self, *, power: bool) -> None:
        self._worker.start()
        await asyncio.sleep(self._random.uniform(0, 0.1))
        self._trace.reach("killed while starting")
        self._end(power=power)

    async def _cut_power_in_a_write(self) -> None:
        with self._recorder.fault("power cut"):
            self._without_power.clear()
            self._disk.cut_power_after(self._worker.host, self._random.randint(1, _MOST_OPERATIONS))
            await asyncio.wait([asyncio.ensure_future(self._without_power.wait())], timeout=_POWER_SECONDS)
            self._end(power=False)
            await self._lasts(_DOWN_SECONDS)
            await self._start()

    def _on_power_cut(self, host: Host) -> None:
        # The current step goes on to its end, but nothing that it asks for happens.
        host.is_down = True
        self._worker.serving.clear()
        self._without_power.set()

    def _end(self, *, power: bool) -> None:
        """End the worker's process, or with the power its machine."""
        host = self._worker.host
        self._worker.killed()
        self._network.kill(host, power=power)
        self._disk.crash(host, self._worker.folder, power=not power)
        self._trace.add(host.name, "is killed" if power else "has no power")

    async def _start(self) -> None:
        await self._lasts(_START_SECONDS)
        self._worker.start()
        await self._worker.until_serving()

    async def _restart(self) -> None:
        """Restart in good order: nothing is repeated."""
        with self._recorder.fault("restart", ()):
            await self._worker.stop()
            await self._start()

    async def _pause(self) -> None:
        host = self._worker.host
        with self._recorder.fault("pause"):
            host.is_paused = True
            await self._lasts(_LASTS_SECONDS)
            self._network.loop.resume(host)
            self._trace.add(host.name, "goes on")

    async def _set_clock(self) -> None:
        host = self._worker.host
        ahead = self._random.choice((-_CLOCK_ERROR_MS, _CLOCK_ERROR_MS))
        kind = "clock ahead" if ahead > 0 else "clock behind"
        with self._recorder.fault(kind, ()):
            host.clock_error_ms = ahead
            await self._lasts(_LASTS_SECONDS)
            host.clock_error_ms = 0

    async def _break_disk(self, kind: str, broken: set[Host]) -> None:
        with self._recorder.fault(kind):
            broken.add(self._worker.host)
            await self._lasts(_LASTS_SECONDS)
            broken.discard(self._worker.host)
            self._trace.add("disk", "works again")

    async def _cut_off(self) -> None:
        host = self._worker.host
        with self._recorder.fault("network: cut off"):
            self._network.cut_off(host)
            await self._lasts(_LASTS_SECONDS)
            self._network.heal(host)

    async def _lasts(self, seconds: tuple[float, float]) -> None:
        await asyncio.sleep(self._random.uniform(*seconds))
