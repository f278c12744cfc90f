"""Situations that a night of runs must reach: what is never reached is not tested."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from tests.faults.history import History
from tests.simulation.plan import CLUSTER_STRIKES, SHARED_FILE_STRIKES, STRIKES

MANY_SEEDS: Final = 1_000
"""A run of so many seeds fails if it has not reached everything."""

_OF_HISTORIES: Final = (
    "message that was sent again",
    "ordered message that failed",
    "message that was deleted",
    "replay that was cancelled",
    "lease that ran out",
    "publish of unknown outcome that was stored",
    "message that was forgotten",
    "duplicate of an effect",
)
EVERYTHING: Final = (
    *dict.fromkeys((*STRIKES, *CLUSTER_STRIKES, *SHARED_FILE_STRIKES)),
    *("reset", "silent", "lost response", "drip", "failed lookup"),
    *("failed write", "failed sync", "torn write", "lost write", "killed while starting"),
    *("power cut of a process", "power cut of several processes"),
    *("unknown commit that was stored", "request to the database that timed out", "settle of a former owner"),
    *("transaction that hangs with its locks", "hanging transaction that was ended", "wait for a row lock"),
    *("work that hangs with its locks", "wait of a work for a lock"),
    *("wait for the lock of a file", "notification of another process on a file", "database_migrated"),
    *("end without repair", "start that failed"),
    *("checked cursor", "checked queue_head", "checked worker"),
    *("cursors_claimed", "cursors_released", "lane_lost", "peer_expired", "worker_expired", "leader_lost"),
    *("listener_inactive", "listener_recovered", "messages_missed", "store_failed", "lockout_started"),
    *_OF_HISTORIES,
)
"""Faults, events of the service's log, and situations, by name."""


def reached_by(history: History) -> Counter[str]:
    """Return how often users and listeners saw each situation."""
    deliveries = Counter((each.name, each.message, each.replay) for each in history.receipts)
    ordered = {name for name, listener in history.listeners.items() if listener.queue in history.ordered}
    counts = (
        sum(times > 1 for times in deliveries.values()),
        sum(each.name in ordered and each.status != 200 for each in history.receipts),
        sum(bool(deletion.answered) for each in history.publishes for deletion in each.deletions.values()),
        sum(bool(each.deleted_at) for each in history.replays),
        sum(not each.said for each in history.handed_out),
        _stored_without_an_answer(history),
        sum(not each.is_there for each in history.message_requests),
        sum(deliveries[name, message, ""] > 1 for name, message in map(str.split, history.effects)),
    )
    return +Counter(dict(zip(_OF_HISTORIES, counts, strict=True)))


def _stored_without_an_answer(history: History) -> int:
    unanswered = {body for each in history.publishes if not each.answered for body in each.bodies}
    return len(unanswered & {each.body for each in history.receipts})


def never_reached(reached: Mapping[str, int]) -> list[str]:
    """Return what a night of runs must reach, and these did not."""
    return [name for name in EVERYTHING if not reached.get(name)]
