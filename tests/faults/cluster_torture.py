"""Workers over PostgreSQL with a synchronous standby, under load, and everything that can go wrong with them."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.faults.checker import CheckResult
from tests.faults.final_state import read_final_state
from tests.faults.fleet import LEASE_SECONDS, Fleet, fleet_of
from tests.faults.history import History
from tests.faults.load import Load
from tests.faults.nemesis.field import Field
from tests.faults.nemesis.schedule import EVERY_KIND, Strike, strike_for
from tests.faults.plan import LoadPlan
from tests.faults.receiver import Receiver
from tests.faults.recorder import Recorder
from tests.faults.running import ALTERATIONS, MAX_IN_FLIGHT, TIMEOUT_SECONDS, checked, run_under_load, watch_the_machine
from tests.support.postgres.standby import Pair

_MOST_OWED = 3_000
_DRAIN_SECONDS = 10
_BESIDE_SECONDS = 300
_DATABASE = "torture"
QUICK = {"wal_retrieve_retry_interval": "200ms"}
"""Settings of the servers: after a crash the standby is there again before all else has waited for it."""

LOAD = LoadPlan(
    organizations=2,
    queues=1,
    producers=4,
    batch_producers=1,
    listeners=("steady", "slow", "flaky", "straggling", "lossy", "picky"),
    pause_seconds=0.1,
    brief_listeners=2,
    ordered_producers=2,
    pullers=2,
    deletes=True,
    is_paced=True,
    replays_apart_seconds=2.0,
    has_more=True,
)


class ClusterPlan(msgspec.Struct, frozen=True):
    """How a run goes. The same seed makes the same choices; what they meet differs."""

    seconds: float
    seed: int
    kinds: Sequence[Strike] = EVERY_KIND
    workers: int = 3
    load: LoadPlan = LOAD
    patience_seconds: float = 60.0
    bug: str = ""


async def torture(folder: Path, pair: Pair, plan: ClusterPlan, history: History) -> None:
    """Let it all happen, let everything arrive, and end in good order; `history` tells all of it."""
    pair.primary.create_database(_DATABASE)
    choices = random.Random(plan.seed)  # noqa: S311 - choices that can be made again
    fleet = Fleet(
        folder,
        pair.ports,
        _DATABASE,
        workers=plan.workers,
        lease_seconds=LEASE_SECONDS,
        listener_max_in_flight=MAX_IN_FLIGHT,
        delivery_timeout_seconds=TIMEOUT_SECONDS,
        drain_timeout_seconds=_DRAIN_SECONDS,
    )
    fleet.bug, fleet.alterations = plan.bug, ALTERATIONS
    recorder = Recorder(history, _MOST_OWED)
    load = Load(plan.load, fleet, recorder, choices)
    async with Receiver(load.respond, load.probed, keep=False) as receiver, fleet_of(fleet):
        await load.prepare(receiver.url)
        field = Field(fleet, pair, load, choices)
        watching = asyncio.ensure_future(watch_the_machine(recorder, fleet.workers))
        strikes = strike_for(field, plan.seconds, plan.kinds)
        try:
            await run_under_load(load, strikes, plan.patience_seconds, watching)
            await load.until_nothing_waits(plan.patience_seconds)
            await fleet.stop()
        finally:
            history.said = {worker.number: list(worker.product.lines) for worker in fleet.members}
    await read_final_state(pair.primary.dsn(_DATABASE), history)


def judge(folder: Path, plan: ClusterPlan) -> CheckResult:
    """Run a plan over a pair of database servers of its own, and check what happened."""
    with Pair(settings=QUICK) as pair:
        return checked(
            lambda history: torture(folder, pair, plan, history),
            plan.seed,
            plan.seconds + _BESIDE_SECONDS,
            is_broken=bool(plan.bug),
        )
