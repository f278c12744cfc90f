"""The plan of a run: its users and its faults. The same seed draws the same plan."""

from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec
from msgspec.structs import replace

from tests.faults.plan import LoadPlan
from tests.simulation.network import CALM, NetworkFaults

STRIKES: Final = (
    "kill",
    "power cut",
    "power cut in a write",
    "restart",
    "pause",
    "clock",
    "full disk",
    "failing disk",
    "cut off",
    "upgrade",
)
"""The kinds of faults of a single worker that come and go, in addition to those of the network."""

CLUSTER_STRIKES: Final = (
    "kill",
    "restart",
    "pause",
    "clock",
    "cut off",
    "cut off from the database",
    "connections lost",
    "database crash",
    "failover",
    "database clock",
    "hang with locks",
    "upgrade",
)
"""The kinds of faults of several workers on a shared database."""
_SLOW_SHARE: Final = 0.3
_SLOWNESS: Final = 8.0
_FORGETTING_SHARE: Final = 0.15
_INBOX_SHARE: Final = 0.3
_BUSY_SHARE: Final = 0.06
_QUIET_SECONDS: Final = (60.0, 120.0)

_ENDLESS_SHARE: Final = 0.1
_KINDS: Final = ("steady", "slow", "flaky", "lossy", "picky", "straggling")
_NETWORKS: Final = {
    "pieces": NetworkFaults(cut_pieces=0.5),
    "drips": NetworkFaults(drips=0.1),
    "resets": NetworkFaults(resets=0.05),
    "lost responses": NetworkFaults(lost_responses=0.05),
    "silence": NetworkFaults(silences=0.02),
    "slow": NetworkFaults(latency_seconds=(0.01, 0.4)),
    "names": NetworkFaults(failed_lookups=0.1),
    "all": NetworkFaults((0.000_1, 0.05), 0.2, 0.02, 0.02, 0.02, 0.01, 0.02),
}


SHARED_FILE_STRIKES: Final = (
    "kill",
    "power cut in a write",
    "restart",
    "pause",
    "clock",
    "full disk",
    "failing disk",
    "hang with locks",
    "upgrade",
)
"""The kinds of faults of several processes on one SQLite file."""


class SimPlan(msgspec.Struct, frozen=True):
    """The plan of a run."""

    seed: int
    load: LoadPlan
    seconds: float
    """How long the load and the faults go on, in virtual time, before everything must come to rest."""
    workers: int = 1
    """A single worker has a SQLite file; several share a database server, unless they share such a file."""
    shares_file: bool = False
    shuffles: bool = False
    network: NetworkFaults = CALM
    network_name: str = ""
    strikes: Sequence[str] = ()
    """The kinds of faults that happen, again and again."""
    heals: bool = True
    """Whether everything is repaired at the end. Otherwise faults happen to all workers at once, until all are killed,
    and nothing has to arrive: only what is stored, and what has arrived, is checked."""
    strike_seconds: float = 8.0
    """The average time from the end of a fault to the next one."""
    slowness: float = 1.0
    """How many times longer pauses and faults are: leases, retries and idle connections end meanwhile."""
    quiet_seconds: float = 0.0
    """How long users rest between two bursts, on average; 0: they never do."""
    bug: str = ""
    """A seeded bug of `tests.faults.broken`."""

    @property
    def is_on_sqlite(self) -> bool:
        return self.workers == 1 or self.shares_file

    @property
    def summary(self) -> str:
        """A line for a person: what is special about this run."""
        load = self.load
        extras = [
            name
            for name, is_there in (
                ("order", load.ordered_producers),
                ("pulls", load.pullers),
                ("deletions", load.deletes),
                ("rate limit", load.is_paced),
                ("replays", load.asks_again),
                ("topics and schedules", load.has_more),
                ("retention", load.forgets),
                (f"network: {self.network_name}", self.network_name),
                ("shuffled steps", self.shuffles),
                ("slow users and long faults", self.slowness > 1),
                ("users that rest", self.quiet_seconds > 0),
            )
            if is_there
        ]
        extras[:0] = [f"{self.workers} workers on {'SQLite' if self.is_on_sqlite else 'a server'}"]
        faults = (", ".join(self.strikes) or "none") + ("" if self.heals else ", without an end")
        users = f"listeners {', '.join(load.listeners)}; {', '.join(extras)}"
        return f"{self.seconds:.0f} s of load; {users}; faults: {faults}"


def draw(seed: int, bug: str = "") -> SimPlan:
    """Draw the plan of a seed. Some runs have no faults, some one kind, some all: each kind hides others."""
    choices = Random(f"{seed} plan")  # noqa: S311 - choices that can be made again
    listeners = tuple(choices.sample(_KINDS, choices.choice((1, 1, 2, 2, 3))))
    load = LoadPlan(
        organizations=choices.choice((0, 0, 0, 0, 0, 2)),
        queues=choices.choice((1, 1, 2)),
        producers=choices.randint(1, 2),
        batch_producers=choices.choice((0, 0, 1)),
        listeners=listeners,
        pause_seconds=choices.choice((0.7, 4.0)),
        brief_listeners=2,
        ordered_producers=choices.choice((0, 1)),
        pullers=choices.choice((0, 0, 1)),
        deletes=choices.random() < 0.3,
        is_paced=choices.random() < 0.2,
        asks_again=choices.random() < 0.4,
        replays_apart_seconds=5.0,
        paced_share=0.5,
        has_more=choices.random() < 0.15,
    )
    network_name = choices.choice(("", "", "", *_NETWORKS))
    workers = choices.choice((1, 1, 2, 3))
    shares_file = workers > 1 and choices.random() < 0.25
    kinds = STRIKES if workers == 1 else SHARED_FILE_STRIKES if shares_file else CLUSTER_STRIKES
    how_many = choices.choice((0, 1, 1, 2, len(kinds)))
    plan = SimPlan(
        seed,
        load,
        seconds=choices.uniform(15, 45),
        workers=workers,
        shares_file=shares_file,
        shuffles=choices.random() < 0.5,
        network=_NETWORKS.get(network_name, CALM),
        network_name=network_name,
        strikes=tuple(choices.sample(kinds, how_many)),
        strike_seconds=choices.choice((4.0, 8.0)),
        heals=choices.random() >= _ENDLESS_SHARE,
        bug=bug,
    )
    if choices.random() >= _BUSY_SHARE:
        plan = replace(plan, quiet_seconds=choices.choice(_QUIET_SECONDS))
        plan = slowed(plan, _SLOWNESS) if choices.random() < _SLOW_SHARE else stretched(plan, _SLOWNESS)
    load = replace(plan.load, forgets=choices.random() < _FORGETTING_SHARE)
    if choices.random() < _INBOX_SHARE:
        load = replace(load, listeners=(*load.listeners, "once"))
    return replace(plan, load=load)


def stretched(plan: SimPlan, times: float) -> SimPlan:
    """Return a plan that takes longer, with as many faults."""
    return replace(plan, seconds=plan.seconds * times, strike_seconds=plan.strike_seconds * times)


def slowed(plan: SimPlan, slowness: float) -> SimPlan:
    """Return a plan in which as much happens in a longer time."""
    load = replace(
        plan.load,
        pause_seconds=plan.load.pause_seconds * slowness,
        replays_apart_seconds=plan.load.replays_apart_seconds * slowness,
    )
    return replace(stretched(plan, slowness), load=load, slowness=slowness)
