"""The simulation itself: one seed is one history, in every process, and what breaks a promise is found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.plan import draw
from tests.simulation.run import Prepared, prepare, run_apart

_REPOSITORY = Path(__file__).parents[2]
_TRACE = """
from tests.simulation.plan import draw
from tests.simulation.run import prepare, run_apart
outcome = run_apart(draw({seed}), prepare())
print("\\n".join(outcome.lines))
"""


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare()


@pytest.mark.parametrize("seed", [2])
def test_seed_has_one_trace_also_in_another_process_with_other_hashes(prepared: Prepared, seed: int) -> None:
    once, again = run_apart(draw(seed), prepared), run_apart(draw(seed), prepared)
    assert once.lines == again.lines
    assert once.digest == again.digest
    found = subprocess.run(
        [sys.executable, "-c", _TRACE.format(seed=seed)],
        cwd=_REPOSITORY,
        env={**os.environ, "PYTHONHASHSEED": str(seed + 1)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.splitlines() == once.lines
