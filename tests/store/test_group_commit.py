"""How long commits take lately."""

from hypothesis import given
from hypothesis import strategies as st

from discue.store.group_commit import CommitTime

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
