"""Everything that can go wrong with a cluster, for as long as `make torture` is told to."""

import os
from pathlib import Path

import msgspec
import pytest

from tests.faults.cluster_torture import LOAD, ClusterPlan, judge
from tests.faults.conftest import Tell
from tests.faults.nemesis.schedule import EVERY_KIND
from tests.faults.running import new_seed

_MINUTES = float(os.environ.get("TORTURE_MINUTES") or 3)


@pytest.mark.torture
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
