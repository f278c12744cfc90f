"""Whether a bug that was put in comes to light. What a run meets differs: one of a few has to show it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.verdict import Verdict

_SEEDS = (7, 8, 9, 10)


def assert_caught(folder: Path, symptoms: Sequence[str], run: Callable[[Path, int], Verdict]) -> None:
    """`run` takes a folder of its own and a seed. `symptoms` are the words, one or others, in which the bug shows.

    Raises AssertionError with what all runs came to if none of them shows it.
    """
    seen = []
    for seed in _SEEDS:
        own = folder / str(seed)
        own.mkdir()
        verdict = run(own, seed)
        if any(symptom in sentence for sentence in verdict.broken for symptom in symptoms):
            return
        seen.append(f"{verdict.summary}: {verdict.broken}")
    raise AssertionError("\n".join(["the bug was not noticed:", *seen]))
