"""Everything that can go wrong with a cluster, for as long as `make torture` is told to."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from tests.faults.checker import CheckResult
from tests.faults.cluster_torture import LOAD, QUICK, ClusterPlan, torture
from tests.faults.conftest import Tell
from tests.faults.nemesis import database, workers
from tests.faults.nemesis.schedule import EVERY_KIND, Strike, nothing
from tests.faults.running import assert_caught, checked, new_seed
from tests.support.postgres.standby import Pair

_MINUTES = float(os.environ.get("TORTURE_MINUTES") or 3)
_BESIDE_SECONDS = 300


class Caught(msgspec.Struct, frozen=True):
    """How a seeded bug is found, and the words of the checker that show it."""

    kinds: Sequence[Strike]
    symptoms: Sequence[str]
    listeners: tuple[str, ...] = ("steady", "slow", "straggling")
    paced_share: float = 0.1


_CAUGHT = {
    "answers_before_the_commit": Caught([database.crash] * 3, ["lacks", "answered before it was created", "not known"]),
    "ignores_its_lease": Caught([workers.long_pause] * 8, ["no fault explains", "by turns"]),
    "forgets_what_is_settled_ahead": Caught(
        [workers.kill_two] * 3, ["no fault explains", "was counted otherwise"], ("straggling",) * 6
    ),
    "ignores_the_warning_of_a_commit": Caught([database.fail_over_after_cancelling], ["lacks"]),
    "believes_what_it_read_before_an_outage": Caught(
        [database.fail_over_after_cancelling] * 5, ["in the log", "no fault explains"]
    ),
    "never_follows_the_feed": Caught([nothing], ["still took /api_keys/", "is not done"]),
    "takes_guests_for_gone": Caught([workers.rolling_restart], ["no fault explains"]),
    "hands_over_without_its_flights": Caught([workers.rolling_restart], ["do not add up"]),
    "forgets_keys_at_a_takeover": Caught([workers.rolling_restart], ["comes before it in its key"]),
    "never_expires": Caught([nothing], ["after it had expired"]),
    "writes_again_what_a_reused_connection_lost": Caught([nothing], ["requests of attempt"], ("flaky",)),
    "sends_to_inactive_listeners": Caught([nothing] * 2, ["after it was shown as inactive"], ("steady",)),
    "sends_replays_beside_the_limits": Caught([nothing], ["faster than its rate"], paced_share=0.9),
    "takes_over_with_a_full_bucket": Caught([workers.rolling_restart] * 3, ["faster than its rate"]),
}


def judge(folder: Path, plan: ClusterPlan) -> CheckResult:
    with Pair(settings=QUICK) as pair:
        return checked(
            lambda history: torture(folder, pair, plan, history),
            plan.seed,
            plan.seconds + _BESIDE_SECONDS,
            is_broken=bool(plan.bug),
        )


@pytest.mark.torture
@pytest.mark.xdist_group("cluster")
def test_cluster_keeps_its_promises_under_every_fault(tmp_path: Path, tell: Tell) -> None:
    # With more load than the machine can take, everything is late, and a fault that delays messages is not seen.
    load = msgspec.structs.replace(LOAD, pause_seconds=0.4)
    plan = ClusterPlan(seconds=_MINUTES * 60, seed=new_seed(), load=load)
    tell(f"seed {plan.seed}, {_MINUTES:g} minutes")
    result = judge(tmp_path, plan)
    tell(f"{result.table}\n{result.summary}")
    assert not result.broken, "\n".join(result.broken)
    assert result.faults.total() >= len(EVERY_KIND)
    assert result.messages > 20 * plan.seconds
    assert result.replays > 0
    assert result.runs > plan.seconds / 2
    assert result.seen_inactive > 0


@pytest.mark.torture
@pytest.mark.parametrize("bug", sorted(_CAUGHT))
def test_a_cluster_with_a_bug_is_caught(tmp_path: Path, bug: str) -> None:
    caught = _CAUGHT[bug]
    load = msgspec.structs.replace(LOAD, listeners=caught.listeners, paced_share=caught.paced_share)
    plan = ClusterPlan(seconds=0, seed=0, kinds=caught.kinds, load=load, patience_seconds=4, bug=bug)
    assert_caught(
        tmp_path, caught.symptoms, lambda folder, seed: judge(folder, msgspec.structs.replace(plan, seed=seed))
    )
