import time

from discue.domain.clock import SystemClock


def test_now_is_the_wall_clock_in_milliseconds() -> None:
    before = time.time()
    now = SystemClock().now()
    after = time.time()

    assert isinstance(now, int)
    assert int(before * 1000) <= now <= after * 1000


def test_monotonic_counts_seconds_and_never_goes_back() -> None:
    clock = SystemClock()
    readings = [clock.monotonic() for _ in range(1000)]

    assert readings == sorted(readings)
    assert readings[-1] - readings[0] < 60
