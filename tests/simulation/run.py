"""A run of the simulation, in a process of its own: no run can change the next one."""

import asyncio
import logging
import os
import pickle
import select
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from discue.sending.dialer import system_tls_context
from tests.faults.checker import check_history
from tests.simulation.bugs import BUGS
from tests.simulation.disk import Disk
from tests.simulation.guard import guard, guard_poll
from tests.simulation.invariants import Invariants
from tests.simulation.loop import SimLoop
from tests.simulation.network import Network, SimPoll
from tests.simulation.plan import SimPlan
from tests.simulation.reached import reached_by
from tests.simulation.rhythm import make_sparse
from tests.simulation.trace import Trace
from tests.simulation.world import World, empty_database

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only folders with random names in it are used
_LONGEST_SECONDS: Final = 1_800.0


class Outcome(msgspec.Struct):
    """The outcome of a run. `broken` are the promises that it broke, as sentences; none if all is well."""

    plan: SimPlan
    broken: list[str]
    virtual_seconds: float
    real_seconds: float
    steps: int
    digest: str
    messages: int
    receipts: int
    reached: Counter[str]
    lines: list[str]

    @property
    def summary(self) -> str:
        """A line for a person."""
        verdict = "every promise was kept" if not self.broken else f"{len(self.broken)} BROKEN: {self.broken[0]}"
        return (
            f"seed {self.plan.seed}: {self.virtual_seconds:.0f} virtual seconds in {self.real_seconds:.2f} s, "
            f"{self.steps:,} steps, {self.messages} messages, {self.receipts} receipts: {verdict}"
        )


class Prepared(msgspec.Struct, frozen=True):
    """The state from which all runs start."""

    database: bytes


def prepare() -> Prepared:
    """Make the state from which all runs start. Call it once, before any run."""
    # Loading the system's certificates takes 40 ms. Forked runs share the context.
    system_tls_context()
    with tempfile.TemporaryDirectory(prefix="discue-simulation-", dir=_MEMORY) as folder:
        return Prepared(empty_database(Path(folder)))


class Started:
    """A run in a child process."""

    def __init__(self, plan: SimPlan, prepared: Prepared) -> None:
        self._plan = plan
        # Made here: a child that is killed leaves its files.
        self._folder = tempfile.TemporaryDirectory(prefix="discue-simulation-", dir=_MEMORY)
        self._reading, writing = os.pipe()
        self._child = os.fork()
        if self._child:
            os.close(writing)
            return
        # Whatever happens, the child must not go on with what its parent does.
        try:
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(run_here(plan, prepared, Path(self._folder.name)), pipe)
        except BaseException:  # noqa: BLE001 - it is printed, and shows in the exit code
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    @staticmethod
    def first_of(running: "Sequence[Started]") -> "Started":
        """Wait until one of them has something to say, and return it."""
        ready, _, _ = select.select([each._reading for each in running], [], [])
        return next(each for each in running if each._reading in ready)

    def end(self) -> None:
        """End the run, whose outcome nobody wants any more."""
        os.close(self._reading)
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        self._folder.cleanup()

    def outcome(self) -> Outcome:
        """Wait for the outcome. Raises ChildProcessError if there is none."""
        with os.fdopen(self._reading, "rb") as pipe:
            content = pipe.read()
        _, status = os.waitpid(self._child, 0)
        self._folder.cleanup()
        if status or not content:
            raise ChildProcessError(f"the run of seed {self._plan.seed} has ended with status {status}")
        outcome: Outcome = pickle.loads(content)  # noqa: S301 - our child wrote it
        return outcome


def run_apart(plan: SimPlan, prepared: Prepared) -> Outcome:
    """Run a plan in a child process."""
    return Started(plan, prepared).outcome()


def run_here(plan: SimPlan, prepared: Prepared, folder: Path) -> Outcome:
    """Run a plan in this process, which cannot do anything else afterwards: it has no clock and no threads."""
    # The time of the processor: other processes must not make a run slow.
    real_clock = time.process_time
    started_at = real_clock()
    outcome = _simulate(plan, prepared, folder)
    outcome.real_seconds = real_clock() - started_at
    return outcome


def _simulate(plan: SimPlan, prepared: Prepared, folder: Path) -> Outcome:
    trace = Trace()
    loop = SimLoop(Random(f"{plan.seed} order"), trace, shuffles=plan.shuffles)  # noqa: S311 - to be made again
    trace.now = lambda: (loop.time(), loop.steps)
    loop.ends_at = _LONGEST_SECONDS
    trace.add("plan", "", plan.summary)
    network = Network(loop, Random(f"{plan.seed} network"))  # noqa: S311 - as above
    network.install()
    disk = Disk(loop, Random(f"{plan.seed} disk"))  # noqa: S311 - as above
    (folder / "discue.db").write_bytes(prepared.database)
    make_sparse(plan)
    if plan.bug:
        BUGS[plan.bug]()
    invariants = Invariants(trace, has_peers=not plan.is_on_sqlite)
    invariants.install()
    logging.getLogger().handlers[:] = [_Unexpected(loop)]
    guard(loop.time, Random(f"{plan.seed} guard"))  # noqa: S311 - as above
    guard_poll(lambda: SimPoll(network))
    asyncio.set_event_loop(loop)
    world = World(plan, loop, network=network, disk=disk, folder=folder)
    if (server := world.server) is not None:
        invariants.holder = lambda: server.locks.session_id
    broken = invariants.broken
    try:
        loop.run_until_complete(world.run())
    except Exception as error:  # noqa: BLE001 - whatever ends a run breaks a promise
        broken += _told(error)
    else:
        broken += check_history(world.history, is_at_rest=plan.heals).broken
    history = world.history
    trace.reached += reached_by(history)
    broken += loop.unhandled
    broken += world.errors
    return Outcome(
        plan=plan,
        broken=broken,
        virtual_seconds=loop.time(),
        real_seconds=0.0,
        steps=loop.steps,
        digest=trace.digest,
        messages=sum(len(published.ids) for published in history.publishes),
        receipts=len(history.receipts),
        reached=trace.reached,
        lines=trace.lines,
    )


def _told(error: Exception) -> list[str]:
    return [f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)).strip()]


class _Unexpected(logging.Handler):
    """Takes what libraries and the product's own loggers report as errors."""

    def __init__(self, loop: SimLoop) -> None:
        super().__init__(logging.ERROR)
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        shown = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            shown += f": {record.exc_info[1]!r}"
        self._loop.unhandled.append(shown)
