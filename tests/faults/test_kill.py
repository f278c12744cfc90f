"""`kill -9` of the server at random moments under load, and the proof that broken promises would be noticed."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest

from tests.faults.checker import CheckResult
from tests.faults.conftest import Tell
from tests.faults.plan import LoadPlan
from tests.faults.running import assert_caught, checked, new_seed
from tests.faults.torture import SOON, Plan, torture

_LONGEST_SECONDS = {"test": 240, "torture": 900}


class Caught(msgspec.Struct, frozen=True):
    """How a seeded bug is found, and the words of the checker that show it."""

    load: LoadPlan
    patience_seconds: float
    symptoms: Sequence[str]
    down_seconds: float = 0.0


_PLAIN = partial(Caught, LoadPlan(queues=1, listeners=("steady", "slow", "picky"), asks_again=False), 2)
_PULLED = partial(Caught, LoadPlan(queues=1, producers=4, listeners=("steady",), ordered_producers=6, pullers=2), 4)
_AGAIN = partial(Caught, LoadPlan(queues=1, listeners=("steady", "slow", "lossy")), 5)
_ORDERED = partial(
    Caught, LoadPlan(queues=1, producers=0, batch_producers=0, listeners=("steady",), ordered_producers=3), 5
)
_MORE = partial(Caught, LoadPlan(queues=1, listeners=("steady",), asks_again=False, has_more=True), 5)
_CAUGHT = {
    "answers_before_the_commit": _PLAIN(["never got", "answered before it was created"]),
    "starts_at_the_head": _PLAIN(["never got"]),
    "gives_old_messages_to_new_listeners": _PLAIN(["before it was created"]),
    "forgets_what_was_acknowledged": _PLAIN(["no fault explains", "do not add up"]),
    "signs_with_another_key": _PLAIN(["wrong signature"]),
    "lets_everything_through_its_filters": _PLAIN(["which its filter does not let through"]),
    "hands_out_what_is_leased": _PULLED(["was leased to somebody else"]),
    "forgets_who_holds_keys_of_what_is_leased": _PULLED(["was leased to somebody else", "before it in its key"]),
    "forgets_acknowledgements": _PULLED(["after it was acknowledged", "still wait"]),
    "leaves_some_out_of_replays": _AGAIN(["of its replay"]),
    "replays_beyond_the_end": _AGAIN(["which is outside its replay"]),
    "never_says_how_far_a_replay_is": _AGAIN(["do not add up to its"]),
    "loses_what_is_redelivered": _AGAIN(["never got", "do not add up"]),
    "ignores_keys_in_replays": _ORDERED(["in the replay"]),
    "lets_redelivered_messages_take_keys": _ORDERED(["was missed or acknowledged, which comes before it"]),
    "stores_a_message_of_a_topic_queue_by_queue": _MORE(["and its topic leads to"]),
    "delivers_delayed_messages_early": _MORE(["before it was due"]),
    # Schedules run every second.
    "forgets_missed_runs": _MORE(["has no message of its run"], down_seconds=2.5),
    "lets_messages_pass_missed_ones": _ORDERED(["which comes before it in its key"]),
}


def judge(folder: Path, plan: Plan, longest_seconds: int = _LONGEST_SECONDS["test"]) -> CheckResult:
    return checked(partial(torture, folder, plan), plan.seed, longest_seconds, is_broken=bool(plan.bug))


def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    plan = Plan(kills=3, seed=new_seed(), load=LoadPlan(pullers=1, deletes=True, has_more=True), moments=SOON)
    print(f"seed {plan.seed}")
    result = judge(tmp_path, plan)
    print(result.summary)
    assert not result.broken, "\n".join(result.broken)
    assert result.messages > 10
    assert result.faults.total() >= plan.kills


@pytest.mark.torture
@pytest.mark.parametrize(
    ("plan", "messages"),
    [
        pytest.param(Plan(kills=20, seed=0, workers=2), 1_000, id="one of two processes, or their parent"),
        pytest.param(
            Plan(kills=50, seed=0, load=LoadPlan(ordered_producers=2, pullers=2, deletes=True, has_more=True)),
            5_000,
            id="one process",
        ),
    ],
)
def test_many_kills_lose_nothing(tmp_path: Path, tell: Tell, plan: Plan, messages: int) -> None:
    plan = msgspec.structs.replace(plan, seed=new_seed())
    tell(f"seed {plan.seed}")
    result = judge(tmp_path, plan, _LONGEST_SECONDS["torture"])
    tell(f"{result.table}\n{result.summary}")
    assert not result.broken, "\n".join(result.broken)
    assert result.replays > 0
    assert result.messages > messages


@pytest.mark.torture
@pytest.mark.parametrize("bug", sorted(_CAUGHT))
def test_a_server_with_a_bug_is_caught(tmp_path: Path, bug: str) -> None:
    caught = _CAUGHT[bug]
    plan = Plan(4, 0, caught.load, patience_seconds=caught.patience_seconds, down_seconds=caught.down_seconds, bug=bug)
    assert_caught(
        tmp_path, caught.symptoms, lambda folder, seed: judge(folder, msgspec.structs.replace(plan, seed=seed))
    )
