"""The simulation itself: one seed is one history, in every process, and what breaks a promise is found."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from tests.simulation import run
from tests.simulation.plan import CLUSTER_STRIKES, STRIKES, SimPlan, draw
from tests.simulation.run import Prepared, Started, prepare, run_apart

_REPOSITORY = Path(__file__).parents[2]
_TRACE = """
import msgspec, sys
from tests.simulation.plan import SimPlan
from tests.simulation.run import prepare, run_apart
outcome = run_apart(msgspec.json.decode(sys.argv[1], type=SimPlan), prepare())
print("\\n".join(outcome.lines))
"""


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare()


def _short(workers: int) -> SimPlan:
    """Return a plan with few users and all faults. A single worker has topics and schedules as well."""
    plan = draw(1)
    load = replace(
        plan.load, organizations=0, queues=1, ordered_producers=1, pullers=1, deletes=False, has_more=workers == 1
    )
    strikes = STRIKES if workers == 1 else CLUSTER_STRIKES
    return replace(plan, load=load, workers=workers, seconds=4, shuffles=True, strikes=strikes, strike_seconds=1.0)


@pytest.mark.parametrize("workers", [1, 2])
def test_seed_has_one_trace_also_in_another_process_with_other_hashes(prepared: Prepared, workers: int) -> None:
    plan = _short(workers)
    once = run_apart(plan, prepared)
    assert run_apart(plan, prepared).digest == once.digest
    found = subprocess.run(
        [sys.executable, "-c", _TRACE, msgspec.json.encode(plan).decode()],
        cwd=_REPOSITORY,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines() == once.lines


@pytest.mark.parametrize(
    ("bug", "workers", "sentence"),
    [
        ("signs_with_another_key", 1, "with a wrong signature"),
        ("takes_over_without_a_new_token", 2, "its owner has changed, and not its token"),
    ],
)
def test_bug_is_found_and_told_with_its_history(prepared: Prepared, bug: str, workers: int, sentence: str) -> None:
    outcome = run_apart(replace(_short(workers), bug=bug, strikes=()), prepared)
    assert any(sentence in broken for broken in outcome.broken)
    assert any(" listener " in line for line in outcome.lines)


def test_worker_that_is_busy_for_ever_is_found(prepared: Prepared) -> None:
    outcome = run_apart(replace(_short(1), bug="polls_without_a_pause", strikes=()), prepared)
    assert outcome.broken[0].startswith("BusyLoop: 50,000 steps at one moment")


@pytest.mark.parametrize("ends", [Started.end, Started.outcome])
def test_run_leaves_no_files(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: Callable[[Started], object]
) -> None:
    monkeypatch.setattr(run, "_MEMORY", tmp_path)
    started = Started(replace(_short(1), seconds=0.1), prepared)
    assert [*tmp_path.iterdir()]
    ends(started)
    assert not [*tmp_path.iterdir()]
