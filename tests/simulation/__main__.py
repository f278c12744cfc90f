"""The runner: runs seeds and stops at the first that fails, or replays one and prints its history.

`make simulate SEEDS=200` runs the seeds that have failed before and the seeds 1 to 200; `make simulate SEED=17` replays
one.
"""

import argparse
import os
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from tests.simulation.bugs import BUGS
from tests.simulation.plan import SimPlan, draw
from tests.simulation.reached import MANY_SEEDS, never_reached
from tests.simulation.run import Outcome, Prepared, Started, prepare, run_apart
from tests.simulation.shrink import shrink, without
from tests.simulation.trace import timeline

SEEDS_FILE: Final = Path(__file__).with_name("seeds.txt")
_LINES: Final = 60
_SENTENCES: Final = 10
_ID: Final = re.compile(r"\b[0-9A-Za-z]{21}\b")
_NAME: Final = re.compile(r"\b[a-z]+(?:-[a-z]+)?-\d+\b")
"""The name of a listener."""


def kept_plans() -> list[SimPlan]:
    """Return the plans that have found something: they are run for ever."""
    lines = SEEDS_FILE.read_text().splitlines()
    return [msgspec.json.decode(line, type=SimPlan) for line in lines if line and not line.startswith("#")]


def run_all(plans: Iterable[SimPlan], prepared: Prepared, jobs: int) -> Generator[Outcome, None, None]:
    """Run plans, several at a time, and yield their outcomes as they come."""
    waiting, running = iter(plans), list[Started]()
    try:
        while True:
            while len(running) < jobs and (plan := next(waiting, None)) is not None:
                running.append(Started(plan, prepared))
            if not running:
                return
            done = Started.first_of(running)
            running.remove(done)
            yield done.outcome()
    finally:
        for each in running:
            each.end()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="replay one seed and print its history")
    parser.add_argument("--without", default="", help="leave these out of its plan, separated by commas")
    parser.add_argument("--seconds", type=float, help="how long its load and its faults go on")
    parser.add_argument("--bug", default="", help="seed a bug of tests/simulation/bugs.py or tests/faults/broken.py")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="how many runs at a time")
    parser.add_argument("--lines", type=int, default=_LINES, help="print so many of the last lines of the history")
    parser.add_argument("--hunt", action="store_true", help="seed each bug in turn, and run seeds until one fails")
    parser.add_argument("--keep-going", action="store_true", help="run all seeds, and only name those that fail")
    given = parser.parse_args(arguments)
    if given.bug and given.bug not in BUGS:
        parser.error(f"there is no bug {given.bug}; there are {', '.join(sorted(BUGS))}")
    prepared = prepare()
    if given.hunt:
        return _hunt(given, prepared)
    if given.seed is None:
        return _run_seeds(given, prepared)
    plan = draw(given.seed, given.bug)
    for name in filter(None, given.without.split(",")):
        plan = without(plan, name)
    if given.seconds is not None:
        plan = replace(plan, seconds=given.seconds)
    outcome = run_apart(plan, prepared)
    _report(outcome, given.lines)
    print(outcome.summary, f"trace {outcome.digest}", sep="\n")
    return bool(outcome.broken)


def _run_seeds(given: argparse.Namespace, prepared: Prepared) -> int:
    started_at = time.monotonic()
    drawn = [draw(seed, given.bug) for seed in range(given.first, given.first + given.seeds)]
    kept = [] if given.bug else kept_plans()
    reached: Counter[str] = Counter()
    times: list[tuple[float, float]] = []
    failed = 0
    for outcome in run_all([*kept, *drawn], prepared, given.jobs):
        times.append((outcome.virtual_seconds, outcome.real_seconds))
        reached += outcome.reached
        if outcome.broken:
            failed += 1
            print(outcome.summary, flush=True)
            if given.keep_going:
                continue
            print("Shrinking …", flush=True)
            shrunk = shrink(outcome.plan, lambda plan: bool(run_apart(plan, prepared).broken))
            _report(run_apart(shrunk.plan, prepared), given.lines)
            print("Again:", f"  {shrunk.command}", "", f"For {SEEDS_FILE.name}:", sep="\n")
            print(msgspec.json.encode(shrunk.plan).decode())
            return 1
    print(_speed(times, time.monotonic() - started_at))
    print("Reached: " + ", ".join(f"{name} {times}" for name, times in sorted(reached.items())))
    missing = never_reached(reached) if given.seeds >= MANY_SEEDS and not given.bug else []
    if missing:
        print(f"Never reached: {', '.join(missing)}. Nothing has tested them.")
    return bool(failed or missing)


def _speed(times: Sequence[tuple[float, float]], took: float) -> str:
    """Return two lines for a person. `times` are the virtual and the real seconds of each run."""
    virtual, real = sum(each[0] for each in times), sum(each[1] for each in times)
    median = statistics.median(each / took for each, took in times)
    return (
        f"{len(times)} seeds in {took:.0f} s: {virtual / 3_600:.1f} virtual hours in {real:.0f} s of a processor.\n"
        f"Virtual seconds per second of a processor: {median:,.0f} in the median run, {virtual / real:,.0f} in total."
    )


def _hunt(given: argparse.Namespace, prepared: Prepared) -> int:
    """Seed each bug, and run seeds until one fails. Returns 1 if a bug is not caught."""
    escaped = 0
    for bug in [given.bug] if given.bug else sorted(BUGS):
        count, found = 0, ""
        plans = (draw(seed, bug) for seed in range(given.first, given.first + given.seeds))
        with closing(run_all(plans, prepared, given.jobs)) as outcomes:
            for outcome in outcomes:
                count += 1
                if outcome.broken:
                    found = f"seed {outcome.plan.seed}: {outcome.broken[0].splitlines()[0]}"
                    break
        escaped += not found
        print(f"{bug}: {count} seeds, {found or 'NOT CAUGHT'}", flush=True)
    return bool(escaped)


def _report(outcome: Outcome, lines: int) -> None:
    """Print the plan, the history, and the promises that were broken."""
    broken = [f"  {sentence}" for sentence in outcome.broken[:_SENTENCES]]
    print(f"Plan: {outcome.plan.summary}", "", _told(outcome, lines), "", sep="\n")
    if broken:
        print("Broken:", *broken, "", sep="\n")


def _told(outcome: Outcome, last: int) -> str:
    """Return the lines of the history that a reader needs: of what a broken promise names, and all faults.

    Who asks for another number of lines gets the last ones of all.
    """
    named = next((found for sentence in outcome.broken if (found := _named(sentence))), set())
    if not named or last != _LINES:
        return timeline(outcome.lines, last)
    chosen = [line for line in outcome.lines if " nemesis " in line or any(name in line for name in named)]
    return timeline(chosen, last)


def _named(sentence: str) -> set[str]:
    """Return the ids in a sentence, or if there are none the listeners."""
    return set(_ID.findall(sentence) or _NAME.findall(sentence))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
