"""How long commits take lately."""

from hypothesis import given
from hypothesis import strategies as st

from discue.store.pace import Pace

SECONDS = st.floats(0.0, 100.0)


class Watch:
    def __init__(self) -> None:
        self.now = 7.0

    def __call__(self) -> float:
        return self.now


def a_pace(*took: float) -> tuple[Pace, Watch]:
    watch = Watch()
    pace = Pace(watch)
    for seconds in took:
        pace.begin()
        watch.now += seconds
        pace.end()
    return pace, watch


def test_before_the_first_commit_nothing_is_known_and_nothing_is_feared() -> None:
    pace, _ = a_pace()
    assert pace.seconds(1_000) == 0


@given(st.lists(SECONDS, min_size=1), st.integers(0, 100))
def test_what_is_expected_lies_within_what_was_seen(took: list[float], commits: int) -> None:
    pace, _ = a_pace(*took)
    assert 0 <= pace.seconds(commits) <= max(took) * commits * 1.001 + 0.001


@given(SECONDS, st.integers(1, 100))
def test_commits_that_always_take_the_same_are_expected_to(seconds: float, commits: int) -> None:
    pace, _ = a_pace(*[seconds] * 60)
    assert abs(pace.seconds(commits) - seconds * commits) <= 0.001 * commits


@given(st.lists(SECONDS), SECONDS, st.integers(0, 100))
def test_one_that_does_not_end_is_expected_to_go_on_and_the_next_ones_too(
    took: list[float], seconds: float, commits: int
) -> None:
    pace, watch = a_pace(*took)
    pace.begin()
    watch.now += seconds
    assert pace.seconds(commits) >= seconds * (commits + 1) * 0.999


@given(SECONDS, st.lists(st.just(0.0), min_size=40, max_size=40))
def test_a_stall_is_forgotten(stall: float, quick: list[float]) -> None:
    pace, _ = a_pace(stall, *quick)
    assert pace.seconds(8) < 0.01
