"""Time slices, with a clock that only the test moves."""

import asyncio
import threading

import pytest

from discue.store.time_slice import ON_THREAD_BYTES, SLICE_SECONDS, SharedSlice, TimeSlice, on_thread_if_large


class Watch:
    def __init__(self) -> None:
        self.now = 3.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


async def _turns_during(time_slice: TimeSlice, *, rests: bool = False) -> int:
    """Pause if the slice is over, and return how many turns of the event loop that took."""
    turns, ended = 0, asyncio.ensure_future(time_slice.pause_if_over(rests=rests))
    while not ended.done():
        await asyncio.sleep(0)
        turns += 1
    return turns


async def test_work_within_its_slice_does_not_pause(watch: Watch) -> None:
    time_slice = TimeSlice(watch)
    usual = await _turns_during(time_slice)
    watch.now += SLICE_SECONDS / 2
    assert await _turns_during(time_slice) == usual


async def test_work_beyond_its_slice_lets_others_run_and_begins_a_new_one(watch: Watch) -> None:
    time_slice = TimeSlice(watch)
    usual = await _turns_during(time_slice)
    watch.now += SLICE_SECONDS * 2
    assert await _turns_during(time_slice) == usual + 1
    assert await _turns_during(time_slice) == usual


async def test_work_that_rests_lets_others_run_for_as_long_as_it_took(watch: Watch) -> None:
    time_slice = TimeSlice(watch)
    watch.now += 0.05
    began_at = asyncio.get_running_loop().time()
    await time_slice.pause_if_over(rests=True)
    assert asyncio.get_running_loop().time() - began_at >= 0.045


async def test_callbacks_add_up_to_a_slice(watch: Watch) -> None:
    time_slice, called = TimeSlice(watch), asyncio.Event()
    time_slice.spent += SLICE_SECONDS / 2
    states = [time_slice.is_over]
    time_slice.spent += SLICE_SECONDS / 2
    states.append(time_slice.is_over)
    began_at = asyncio.get_running_loop().time()
    time_slice.call_after_rest(called.set)
    await called.wait()
    assert asyncio.get_running_loop().time() - began_at >= SLICE_SECONDS * 0.9
    time_slice.begin()
    assert [*states, time_slice.is_over] == [False, True, False]


@pytest.mark.parametrize("size", [ON_THREAD_BYTES, ON_THREAD_BYTES + 1])
async def test_only_work_on_large_data_runs_on_a_thread(size: int) -> None:
    is_here = await on_thread_if_large(size, lambda: threading.current_thread() is threading.main_thread())
    assert is_here == (size <= ON_THREAD_BYTES)


async def _works(name: str, shared: SharedSlice, watch: Watch, parts: int, done: list[str]) -> None:
    """Work in parts that each fill a slice."""
    for part in range(parts):
        await shared.wait(is_new=part == 0)
        watch.now += SLICE_SECONDS
        shared.add(SLICE_SECONDS)
        done.append(name)


async def test_tasks_that_share_a_slice_work_in_different_turns_of_the_event_loop(watch: Watch) -> None:
    shared, done, turns = SharedSlice(watch), list[str](), list[int]()
    tasks = asyncio.gather(*(_works(name, shared, watch, 3, done) for name in "abc"))
    while not tasks.done():
        before = len(done)
        await asyncio.sleep(0)
        turns.append(len(done) - before)
    assert max(turns) == 1
    assert sorted(done) == sorted("abc" * 3)


async def test_new_task_goes_first(watch: Watch) -> None:
    shared, done = SharedSlice(watch), list[str]()
    long = [asyncio.ensure_future(_works(name, shared, watch, 20, done)) for name in "abcd"]
    for _ in range(20):
        await asyncio.sleep(0)
    before = len(done)
    assert before > len(long)
    await _works("new", shared, watch, 1, done)
    assert done.index("new") <= before + 1
    await asyncio.gather(*long)


async def test_cancelled_task_gives_up_its_turn(watch: Watch) -> None:
    shared, done = SharedSlice(watch), list[str]()
    first, cancelled, last = (asyncio.ensure_future(_works(name, shared, watch, 2, done)) for name in "abc")
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait_for(asyncio.gather(first, last), 5)
    assert done.count("b") == 0
    assert sorted(done) == ["a", "a", "c", "c"]
