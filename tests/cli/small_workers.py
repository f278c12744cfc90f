"""Workers that serve nothing, to see what their parent does: `python -m tests.cli.small_workers BEHAVIOUR`."""

import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Final

from discue.cli.command import exit_code_of
from discue.config.settings import Settings
from discue.domain.clock import SystemClock
from discue.domain.errors import StoreUnusable
from discue.observability import logs
from discue.observability.logs import Log
from discue.server import processes
from discue.server.processes import WorkerPipe, WorkerProcesses
from discue.server.sd_notify import ServiceManager

log = Log()


def obedient(place: WorkerPipe) -> int:
    """Log the number and the predecessors, and serve until told to end."""
    log.info("began", worker=place.number, predecessors=place.predecessors)
    place.report_session_id(os.getpid())
    place.report_serving()
    return until_told(place)


def until_told(place: WorkerPipe) -> int:
    select.select([place.parent_pipe], [], [])
    return 0


def never_begins(place: WorkerPipe) -> int:
    raise StoreUnusable("There is no database.")


def second_never_begins(place: WorkerPipe) -> int:
    if place.number == 2:
        log.info("began", worker=2)
        return 3
    return obedient(place)


def second_ends_again_and_again(place: WorkerPipe) -> int:
    if place.number == 2:
        log.info("began", worker=2)
        place.report_serving()
        return 7
    return obedient(place)


def second_joins_afresh_and_is_killed_before_it_serves(place: WorkerPipe) -> int:
    """The second worker serves once it has two predecessors."""
    if place.number == 2 and len(place.predecessors) < 2:
        log.info("began", worker=2, predecessors=place.predecessors)
        place.report_session_id(21)
        place.report_session_id(22)
        os.kill(os.getpid(), signal.SIGKILL)
    return obedient(place)


def second_halts(place: WorkerPipe) -> int:
    """The second worker halts unless it replaces one."""
    place.report_session_id(os.getpid())
    place.report_serving()
    if place.number == 2 and not place.predecessors:
        os.kill(os.getpid(), signal.SIGSTOP)
    return until_told(place)


def second_pauses_for_a_moment(place: WorkerPipe) -> int:
    """The second worker halts until a test continues it."""
    if place.number == 2:
        place.report_serving()
        log.info("stopping", pid=os.getpid())
        os.kill(os.getpid(), signal.SIGSTOP)
        log.info("goes_on")
        return until_told(place)
    return obedient(place)


def second_hangs(place: WorkerPipe) -> int:
    """The second worker reports no beat unless it replaces one."""
    place.report_session_id(os.getpid())
    place.report_serving()
    if place.number == 2 and not place.predecessors:
        return until_told(place)
    while not select.select([place.parent_pipe], [], [], place.beat_seconds)[0]:
        place.report_beat()
    return 0


def deaf(place: WorkerPipe) -> int:
    place.report_serving()
    while True:
        signal.pause()


def fails_at_its_end(place: WorkerPipe) -> int:
    place.report_serving()
    until_told(place)
    return 5 if place.number == 2 else 0


def main(behaviour: str) -> int:
    logs.configure("text", "info", SystemClock(), sys.stderr)
    settings = Settings(workers=3, drain_timeout_seconds=0)
    serve: Callable[[WorkerPipe], int] = globals()[behaviour]
    manager = ServiceManager(os.environ, log)
    workers = WorkerProcesses(
        lambda place: exit_code_of(lambda: serve(place)), settings, SystemClock(), log, manager=manager
    )
    return workers.run()


TIMES: Final = {
    "deaf": {"_DRAIN_MARGIN_SECONDS": 0.5},
    "second_halts": {"_HALTED_SECONDS": 0.5},
    # As long as between two beats of the parent, which tell that a worker is missing.
    "second_hangs": {"_FIRST_PAUSE_SECONDS": 1.0},
    # Any time: a busy machine lets a test wait for longer than half a second.
    "second_pauses_for_a_moment": {"_HALTED_SECONDS": 60.0},
}
"""Times of the parent that differ for a behaviour."""


if __name__ == "__main__":
    vars(processes).update(TIMES.get(sys.argv[1], {}))
    sys.exit(main(sys.argv[1]))
