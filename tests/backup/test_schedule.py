"""When a server makes backups, and what it logs."""

from pathlib import Path

import pytest

from discue.backup.create import BackupPlan, BackupResult, newest_of
from discue.backup.destination import destination_of
from discue.backup.schedule import BackupSchedule
from discue.dispatch.lease import Leadership
from discue.observability.logs import Log
from tests.backup.plans import folder_of, made, new_plan
from tests.support.clocks import StandingClock

_HOUR_MS = 3_600_000


class Lines(Log):
    """A log that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, dict[str, object]]] = []

    def _write(self, level: int, event: str, fields: dict[str, object], error: BaseException | None) -> None:
        self.events.append((event, fields))


@pytest.fixture
def plan(tmp_path: Path) -> BackupPlan:
    return new_plan(tmp_path)


def hourly(plan: BackupPlan, clock: StandingClock, log: Lines, leadership: Leadership | None = None) -> BackupSchedule:
    async def create(plan: BackupPlan) -> BackupResult:
        return made(plan, clock.now())

    leadership = leadership or Leadership(is_held=True)
    return BackupSchedule(plan, 3_600.0, clock, create=create, newest=newest, log=log, leadership=leadership)


async def newest(plan: BackupPlan) -> int | None:
    return newest_of(plan.database, destination_of(plan.destination, {}))


async def test_backup_is_made_when_the_newest_is_an_interval_old_also_after_a_restart(plan: BackupPlan) -> None:
    clock, log = StandingClock(), Lines()
    backups = hourly(plan, clock, log)
    for minutes in (0, 59, 1, 30):
        clock.advance(minutes * 60_000)
        await backups.round()
    after_a_restart = hourly(plan, clock, log)
    await after_a_restart.round()
    clock.advance(30 * 60_000)
    await after_a_restart.round()

    assert [event for event, _ in log.events] == ["backup_made"] * 3
    assert len(list(folder_of(plan).iterdir())) == 3
    assert log.events[0][1]["database_bytes"] == plan.database.stat().st_size


async def test_only_the_leader_makes_backups(plan: BackupPlan) -> None:
    await hourly(plan, StandingClock(), log := Lines(), Leadership()).round()

    assert log.events == []
    assert list(folder_of(plan).iterdir()) == []


async def test_failed_backup_is_logged_and_tried_again_after_a_minute(plan: BackupPlan) -> None:
    clock, log = StandingClock(), Lines()
    backups = hourly(plan, clock, log)
    folder_of(plan).rmdir()
    await backups.round()
    clock.advance(59_000)
    await backups.round()
    folder_of(plan).mkdir()
    clock.advance(1_000)
    await backups.round()

    assert [event for event, _ in log.events] == ["backup_failed", "backup_made"]
    assert log.events[0][1]["reason"] == f"{folder_of(plan)} cannot be read: No such file or directory."


async def test_age_is_that_of_the_newest_backup_and_grows_while_none_is_made(plan: BackupPlan) -> None:
    clock, log, leadership = StandingClock(), Lines(), Leadership(is_held=True)
    backups = hourly(plan, clock, log, leadership)
    ages = [backups.age_seconds]
    await backups.round()
    clock.advance(60_000)
    ages.append(backups.age_seconds)
    after_a_restart = hourly(plan, clock, log, leadership)
    await after_a_restart.round()
    ages.append(after_a_restart.age_seconds)
    leadership.is_held = False
    await after_a_restart.round()
    ages.append(after_a_restart.age_seconds)
    folder_of(plan).rename(folder_of(plan).with_name("gone"))
    leadership.is_held = True
    await after_a_restart.round()
    clock.advance(30_000)
    ages.append(after_a_restart.age_seconds)

    assert ages == [None, 60.0, 60.0, None, 30.0]


async def test_clock_that_is_set_back_does_not_stop_backups(plan: BackupPlan) -> None:
    clock, log = StandingClock(), Lines()
    backups = hourly(plan, clock, log)
    await backups.round()
    clock.set_by(-100 * _HOUR_MS)
    await backups.round()
    clock.advance(_HOUR_MS)
    await backups.round()

    assert [event for event, _ in log.events] == ["backup_made", "backup_made"]


async def test_backup_that_cannot_be_deleted_is_reported(plan: BackupPlan) -> None:
    clock, log = StandingClock(), Lines()
    backups = hourly(plan._replace(keep_seconds=3_600.0), clock, log)
    await backups.round()
    (old,) = folder_of(plan).iterdir()
    old.write_bytes(old.read_bytes()[:-1])
    clock.advance(2 * _HOUR_MS)
    await backups.round()

    assert [event for event, _ in log.events] == ["backup_made", "backup_made", "backup_kept"]
    assert str(old) in str(log.events[-1][1]["reason"])
