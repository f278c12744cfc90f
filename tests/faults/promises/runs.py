"""Schedules: each run publishes one message, and none after the schedule is deleted."""

from collections import Counter
from collections.abc import Iterator

from tests.faults.history import History, Run, Scheduled
from tests.faults.promises.calm import clock_was_wrong, taking_back


def published(history: History) -> Iterator[str]:
    found = Counter(run for log in history.logs.values() for run in log.runs)
    for run, count in found.items():
        if count > 1:
            yield f"{run.schedule} has {count} messages of its run at {run.run_at}"
    for schedule in history.schedules:
        if schedule.id:
            yield from _of(history, schedule, found)


def _of(history: History, schedule: Scheduled, found: "Counter[Run]") -> Iterator[str]:
    end_at = schedule.deleted_at or max(schedule.sent_at, schedule.looked_at)
    if clock_was_wrong(history, schedule.sent_at, end_at):
        return
    for run_at in range(schedule.first_run, _reached(history, schedule), schedule.apart_ms):
        if not found[Run(schedule.id, run_at)]:
            yield f"{schedule.id} has no message of its run at {run_at}, and went on to {schedule.reached}"
    for run in found:
        if run.schedule != schedule.id:
            continue
        if (run.run_at - schedule.first_run) % schedule.apart_ms or run.run_at < schedule.first_run:
            yield f"{schedule.id} has a message of {run.run_at}, which is not one of its runs"
        if schedule.deleted_at and run.run_at > (schedule.deleted_at + history.epoch) * 1_000:
            yield f"{schedule.id} has a message of its run at {run.run_at}, after its deletion was answered"


def _reached(history: History, schedule: Scheduled) -> int:
    """Return the run up to which the log must be complete: the last request showed it and no failover undid it."""
    lateness = history.bounds.lateness_seconds
    lost = [
        # A run is published a little after its time, and waits for the standby.
        int((fault.began_at + history.epoch - lateness) * 1_000)
        for fault in taking_back(history, schedule.looked_at, schedule.looked_at + lateness)
    ]
    return min([schedule.reached, *lost])
