"""The database's clock, as a worker knows it from what it reads."""

from discue.domain.clock import DatabaseClock
from tests.support.clocks import StandingClock

HOUR_MS = 3_600_000


def test_machine_that_is_an_hour_ahead_follows_the_database_from_its_first_reading_on() -> None:
    machine = StandingClock()
    clock = DatabaseClock(machine)
    machine.set_by(HOUR_MS)
    assert clock.now() == machine.now()
    clock.adjust(machine.now() - HOUR_MS, clock.monotonic())
    assert clock.now() == machine.now() - HOUR_MS
    machine.set_by(HOUR_MS)
    machine.advance(500)
    assert clock.now() == machine.now() - 2 * HOUR_MS


def test_reading_that_took_long_moves_the_clock_only_as_far_as_it_must_be_wrong() -> None:
    machine = StandingClock()
    clock = DatabaseClock(machine)
    clock.adjust(machine.now(), clock.monotonic())
    sent_at = clock.monotonic()
    machine.advance(9_000)
    clock.adjust(machine.now() - 5_000, sent_at)
    assert clock.now() == machine.now()
    clock.adjust(machine.now() + 1_000, sent_at)
    assert clock.now() == machine.now() + 1_000
    clock.adjust(machine.now() - 20_000, sent_at)
    assert clock.now() == machine.now() - 11_000
