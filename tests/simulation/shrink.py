"""Smaller plans that still fail: without kinds of faults, without kinds of users, and shorter."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from tests.faults.plan import LoadPlan
from tests.simulation.network import CALM
from tests.simulation.plan import CLUSTER_STRIKES, SHARED_FILE_STRIKES, STRIKES, SimPlan

_SHORTEST_SECONDS: Final = 2.0

_USERS: Final[Mapping[str, Callable[[LoadPlan], LoadPlan]]] = {
    "topics": lambda load: replace(load, has_more=False),
    "retention": lambda load: replace(load, forgets=False),
    "replays": lambda load: replace(load, asks_again=False),
    "pulls": lambda load: replace(load, pullers=0),
    "order": lambda load: replace(load, ordered_producers=0),
    "deletions": lambda load: replace(load, deletes=False),
    "rate-limit": lambda load: replace(load, is_paced=False),
    "batches": lambda load: replace(load, batch_producers=0),
    "organizations": lambda load: replace(load, organizations=0),
    "listeners": lambda load: replace(load, listeners=load.listeners[:1], queues=1),
}
"""Kinds of users that a plan can do without."""

_STRIKES: Final = {kind.replace(" ", "-"): kind for kind in (*STRIKES, *CLUSTER_STRIKES, *SHARED_FILE_STRIKES)}

REDUCTIONS: Final[Sequence[str]] = ("network", "shuffling", *_STRIKES, *_USERS)
"""The names of everything that can be left out of a plan."""


def without(plan: SimPlan, name: str) -> SimPlan:
    """Return the plan without something. Raises ValueError for an unknown name."""
    if name == "network":
        return replace(plan, network=CALM, network_name="")
    if name == "shuffling":
        return replace(plan, shuffles=False)
    if name in _USERS:
        return replace(plan, load=_USERS[name](plan.load))
    if name not in REDUCTIONS:
        raise ValueError(f"a plan cannot be without {name}; it can be without {', '.join(REDUCTIONS)}")
    return replace(plan, strikes=tuple(kind for kind in plan.strikes if kind != _STRIKES[name]))


class Shrunk:
    """A plan that fails, and what was left out of it."""

    def __init__(self, plan: SimPlan) -> None:
        self.plan = plan
        self.left_out: list[str] = []
        self.is_shorter = False

    @property
    def command(self) -> str:
        """The command that runs it again."""
        words = [f"SEED={self.plan.seed}"]
        if self.left_out:
            words.append(f"WITHOUT={','.join(self.left_out)}")
        if self.is_shorter:
            words.append(f"SECONDS={self.plan.seconds:g}")
        if self.plan.bug:
            words.append(f"BUG={self.plan.bug}")
        return " ".join(["make simulate", *words])


def shrink(plan: SimPlan, fails: Callable[[SimPlan], bool]) -> Shrunk:
    """Leave out whatever a failing plan fails without, and halve its time while it fails."""
    shrunk = Shrunk(plan)
    for name in REDUCTIONS:
        smaller = without(shrunk.plan, name)
        if smaller != shrunk.plan and fails(smaller):
            shrunk.plan = smaller
            shrunk.left_out.append(name)
    for smaller in _shorter(shrunk.plan):
        if not fails(smaller):
            break
        shrunk.plan, shrunk.is_shorter = smaller, True
    return shrunk


def _shorter(plan: SimPlan) -> Iterator[SimPlan]:
    while plan.seconds / 2 > _SHORTEST_SECONDS:
        plan = replace(plan, seconds=round(plan.seconds / 2, 1))
        yield plan
