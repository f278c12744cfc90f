"""Whether a seeded bug is found. Runs differ in what they meet, so one of a few runs has to show the symptom."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.checker import CheckResult

_SEEDS = (7, 8, 9, 10)


def assert_caught(folder: Path, symptoms: Sequence[str], run: Callable[[Path, int], CheckResult]) -> None:
    """`run` takes a folder of its own and a seed. `symptoms` are the words, one or others, in which the bug shows.

    Raises AssertionError with what all runs came to if none of them shows it.
    """
    seen = []
    for seed in _SEEDS:
        own = folder / str(seed)
        own.mkdir()
        result = run(own, seed)
        if any(symptom in sentence for sentence in result.broken for symptom in symptoms):
            return
        seen.append(f"{result.summary}: {result.broken}")
    raise AssertionError("\n".join(["the bug was not noticed:", *seen]))
