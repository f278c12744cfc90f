"""How long commits take lately, and whose appends they take first."""

import asyncio
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from discue.domain.message_data import JSON_VALUE
from discue.store.engine import Append, NewEntry
from discue.store.group_commit import CommitTime, FairQueue, Sized, WaitingAppends

SECONDS = st.floats(0.0, 100.0)


class Watch:
    def __init__(self) -> None:
        self.now = 7.0

    def __call__(self) -> float:
        return self.now


def a_commit_time(*took: float) -> tuple[CommitTime, Watch]:
    watch = Watch()
    commit_time = CommitTime(watch)
    for seconds in took:
        commit_time.begin()
        watch.now += seconds
        commit_time.end()
    return commit_time, watch


def test_expected_time_is_zero_before_the_first_commit() -> None:
    commit_time, _ = a_commit_time()
    assert commit_time.seconds(1_000) == 0


@given(st.lists(SECONDS, min_size=1), st.integers(0, 100))
def test_expected_commit_time_lies_within_the_observed_times(took: list[float], commits: int) -> None:
    commit_time, _ = a_commit_time(*took)
    assert 0 <= commit_time.seconds(commits) <= max(took) * commits * 1.001 + 0.001


@given(SECONDS, st.integers(1, 100))
def test_commits_of_constant_duration_are_expected_to_take_that_long(seconds: float, commits: int) -> None:
    commit_time, _ = a_commit_time(*[seconds] * 60)
    assert abs(commit_time.seconds(commits) - seconds * commits) <= 0.001 * commits


@given(st.lists(SECONDS), SECONDS, st.integers(0, 100))
def test_commit_that_hangs_raises_the_expectation_for_the_next_ones(
    took: list[float], seconds: float, commits: int
) -> None:
    commit_time, watch = a_commit_time(*took)
    commit_time.begin()
    watch.now += seconds
    assert commit_time.seconds(commits) >= (seconds - 1e-9) * (commits + 1)


@given(SECONDS, st.lists(st.just(0.0), min_size=40, max_size=40))
def test_stall_stops_affecting_the_expected_time(stall: float, quick: list[float]) -> None:
    commit_time, _ = a_commit_time(stall, *quick)
    assert commit_time.seconds(8) < 0.01


OURS, THEIRS = 1, 2
_BIG = 1_000_000


def _append(organization: int, number: int, size: int = 100) -> Append:
    return Append(organization, organization, 1, number, (NewEntry(f"{number:021}", JSON_VALUE, b"x" * size),))


def _sized(append: Append) -> Sized[Append]:
    return Sized.of(append, WaitingAppends(append.organization))


def _order(*appends: Append) -> list[tuple[int, int]]:
    """The organizations and numbers of appends in the order in which they are taken."""
    with closing(asyncio.new_event_loop()) as loop:
        queue: FairQueue[Append] = FairQueue()
        for append in appends:
            queue.append((_sized(append), loop.create_future()))
        taken = [queue.popleft()[0].append for _ in appends]
    return [(append.organization, append.now) for append in taken]


def test_appends_of_one_organization_keep_their_order() -> None:
    sizes = [_BIG, 1, _BIG, 50, 1]
    order = _order(*(_append(OURS, number, size) for number, size in enumerate(sizes)))
    assert order == [(OURS, number) for number in range(5)]


def test_small_append_waits_behind_one_large_append_of_another_organization() -> None:
    large = [_append(THEIRS, number, _BIG) for number in range(8)]
    assert _order(*large, _append(OURS, 0))[:3] == [(THEIRS, 0), (OURS, 0), (THEIRS, 1)]


def test_many_small_appends_cost_as_much_as_a_large_one() -> None:
    large = [_append(THEIRS, number, _BIG) for number in range(3)]
    order = _order(*large, *(_append(OURS, number) for number in range(1_000)))
    # A row without data costs as much as 2,048 bytes.
    between = order.index((THEIRS, 2)) - order.index((THEIRS, 1)) - 1
    assert 400 < between < 500


def test_order_is_fair_again_after_an_organization_was_alone() -> None:
    with closing(asyncio.new_event_loop()) as loop:
        queue: FairQueue[Append] = FairQueue()
        for number in range(3):
            queue.append((_sized(_append(THEIRS, number, _BIG)), loop.create_future()))
        for _ in range(3):
            queue.popleft()
        queue.append((_sized(_append(THEIRS, 3)), loop.create_future()))
        queue.append((_sized(_append(OURS, 0)), loop.create_future()))
        assert [queue.popleft()[0].append.organization for _ in range(2)] == [THEIRS, OURS]
        assert not queue
