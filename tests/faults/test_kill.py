"""`kill -9` of the server at random moments under load, and the proof that broken promises would be noticed."""

import asyncio
import sys
from functools import partial
from pathlib import Path

import msgspec
import pytest

from tests.faults.caught import assert_caught
from tests.faults.checker import CheckResult, check_history
from tests.faults.conftest import Tell
from tests.faults.load import LoadPlan
from tests.faults.product import SERVE
from tests.faults.seeds import new_seed
from tests.faults.torture import Plan, new_history, torture

_LONGEST_SECONDS = {"test": 240, "torture": 900}

_PULLED = {
    "hands_out_what_is_leased": ("was leased to somebody else",),
    "forgets_who_holds_keys_of_what_is_leased": ("was leased to somebody else", "before it in its key"),
    "forgets_acknowledgements": ("after it was acknowledged", "still wait"),
}
_SYMPTOMS = {
    "answers_before_the_commit": ("never got", "answered before it was created"),
    "starts_at_the_head": ("never got",),
    "gives_old_messages_to_new_listeners": ("before it was created",),
    "forgets_what_was_acknowledged": ("no fault explains", "do not add up"),
    "signs_with_another_key": ("wrong signature",),
    "lets_everything_through_its_filters": ("which its filter does not let through",),
}
_SYMPTOMS_OF_WHAT_COMES_AGAIN = {
    "leaves_some_out_of_replays": ("of its replay",),
    "replays_beyond_the_end": ("which is outside its replay",),
    "never_says_how_far_a_replay_is": ("do not add up to its",),
    "loses_what_is_redelivered": ("never got", "do not add up"),
}
_SYMPTOMS_IN_ORDERED_QUEUES = {
    "ignores_keys_in_replays": ("in the replay",),
    "lets_redelivered_messages_take_keys": ("was missed or acknowledged, which comes before it",),
    "lets_messages_pass_missed_ones": ("which comes before it in its key",),
}


def judge(folder: Path, plan: Plan, longest_seconds: int = _LONGEST_SECONDS["test"]) -> CheckResult:
    """Run and check_history. The history of a failure is kept, unless it was wanted."""
    history = new_history()
    try:
        asyncio.run(asyncio.wait_for(torture(folder, plan, history), longest_seconds))
    except BaseException as error:
        error.add_note(history.keep_for_later(plan.seed))
        raise
    result = check_history(history)
    if result.broken and plan.command == SERVE:
        result.broken.append(history.keep_for_later(plan.seed))
    return result


def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    plan = Plan(kills=3, seed=new_seed(), load=LoadPlan(pullers=1))
    print(f"seed {plan.seed}")
    result = judge(tmp_path, plan)
    print(result.summary)
    assert not result.broken, "\n".join(result.broken)
    assert result.messages > 100
    assert result.faults.total() >= plan.kills


@pytest.mark.torture
def test_kills_of_one_of_two_processes_and_of_their_parent_lose_nothing(tmp_path: Path, tell: Tell) -> None:
    result = judge_told(tmp_path, Plan(kills=20, seed=new_seed(), workers=2), tell)
    assert result.messages > 1_000


@pytest.mark.torture
def test_fifty_kills_lose_nothing(tmp_path: Path, tell: Tell) -> None:
    load = LoadPlan(ordered_producers=2, pullers=2)
    result = judge_told(tmp_path, Plan(kills=50, seed=new_seed(), load=load), tell)
    assert result.messages > 5_000


def judge_told(folder: Path, plan: Plan, tell: Tell) -> CheckResult:
    """A long run in which nothing may be broken, and what it came to."""
    tell(f"seed {plan.seed}")
    result = judge(folder, plan, _LONGEST_SECONDS["torture"])
    tell(f"{result.table}\n{result.summary}")
    assert not result.broken, "\n".join(result.broken)
    assert result.replays > 0
    return result


def judge_seeded(plan: Plan, folder: Path, seed: int) -> CheckResult:
    return judge(folder, msgspec.structs.replace(plan, seed=seed))


def broken_by(bug: str) -> tuple[str, ...]:
    """The command of a server with a bug."""
    return (sys.executable, "-m", "tests.faults.broken", bug)


@pytest.mark.torture
@pytest.mark.parametrize("bug", sorted(_PULLED))
def test_a_server_that_breaks_a_promise_to_those_who_pull_is_caught(tmp_path: Path, bug: str) -> None:
    load = LoadPlan(queues=1, producers=4, listeners=("steady",), ordered_producers=6, pullers=2)
    plan = Plan(kills=4, seed=0, load=load, patience_seconds=4, command=broken_by(bug))
    assert_caught(tmp_path, _PULLED[bug], partial(judge_seeded, plan))


@pytest.mark.torture
@pytest.mark.parametrize("bug", sorted(_SYMPTOMS))
def test_a_server_with_a_bug_is_caught(tmp_path: Path, bug: str) -> None:
    load = LoadPlan(queues=1, listeners=("steady", "slow", "picky"), asks_again=False)
    plan = Plan(kills=4, seed=0, load=load, patience_seconds=2, command=broken_by(bug))
    assert_caught(tmp_path, _SYMPTOMS[bug], partial(judge_seeded, plan))


@pytest.mark.torture
@pytest.mark.parametrize("bug", sorted(_SYMPTOMS_IN_ORDERED_QUEUES))
def test_bug_in_replays_or_redeliveries_of_ordered_queues_is_caught(tmp_path: Path, bug: str) -> None:
    load = LoadPlan(queues=1, producers=0, batch_producers=0, listeners=("steady",), ordered_producers=3)
    plan = Plan(kills=4, seed=0, load=load, patience_seconds=5, command=broken_by(bug))
    assert_caught(tmp_path, _SYMPTOMS_IN_ORDERED_QUEUES[bug], partial(judge_seeded, plan))


@pytest.mark.torture
@pytest.mark.parametrize("bug", sorted(_SYMPTOMS_OF_WHAT_COMES_AGAIN))
def test_a_server_that_breaks_a_promise_of_what_comes_again_is_caught(tmp_path: Path, bug: str) -> None:
    load = LoadPlan(queues=1, listeners=("steady", "slow", "lossy"))
    plan = Plan(kills=4, seed=0, load=load, patience_seconds=5, command=broken_by(bug))
    assert_caught(tmp_path, _SYMPTOMS_OF_WHAT_COMES_AGAIN[bug], partial(judge_seeded, plan))
