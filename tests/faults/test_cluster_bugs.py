"""Bugs that are put into a cluster: the checker of histories sees each of them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from tests.faults.cluster_torture import LOAD, ClusterPlan, judge
from tests.faults.nemesis import database, workers
from tests.faults.nemesis.schedule import Strike, nothing
from tests.faults.running import assert_caught


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


@pytest.mark.torture
@pytest.mark.parametrize("bug", sorted(_CAUGHT))
def test_a_cluster_with_a_bug_is_caught(tmp_path: Path, bug: str) -> None:
    caught = _CAUGHT[bug]
    load = msgspec.structs.replace(LOAD, listeners=caught.listeners, paced_share=caught.paced_share)
    plan = ClusterPlan(seconds=0, seed=0, kinds=caught.kinds, load=load, patience_seconds=4, bug=bug)
    assert_caught(
        tmp_path, caught.symptoms, lambda folder, seed: judge(folder, msgspec.structs.replace(plan, seed=seed))
    )
