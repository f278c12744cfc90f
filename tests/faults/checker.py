"""The history checker: `python -m tests.faults.checker FILE` checks the promises in a stored history."""

import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import msgspec

from tests.faults.history import History, kept_in
from tests.faults.promises import (
    access,
    attempts,
    counts,
    delays,
    deletions,
    deliveries,
    due,
    effects,
    expiry,
    filters,
    inactive,
    logs,
    order,
    pace,
    pulls,
    repeats,
    replays,
    retention,
    routes,
    runs,
)

_NAMED_FAULTS = 10
_PROMISES = (
    deliveries.missing,
    deliveries.unfounded,
    deliveries.late,
    deliveries.forged,
    repeats.repeated,
    repeats.contested,
    attempts.recorded,
    counts.logged,
    counts.counted,
    order.published,
    order.kept,
    effects.once,
    expiry.expired,
    expiry.missed,
    filters.let_through,
    pace.kept,
    access.requested,
    access.published_to_deleted,
    delays.waited,
    deletions.known,
    deletions.logged,
    deletions.sent,
    deletions.counted,
    pulls.missing,
    pulls.unfounded,
    pulls.settled,
    pulls.leased,
    pulls.ordered,
    pulls.counted,
    replays.received,
    replays.outside,
    replays.counted,
    replays.ordered,
    replays.late,
    replays.known,
    replays.nothing_missed,
    due.early,
    routes.whole,
    runs.published,
    inactive.spared,
    retention.early,
    retention.gone,
    retention.counted,
    logs.explained,
)


_LIVENESS = frozenset(
    {
        deliveries.missing,
        counts.counted,
        delays.waited,
        expiry.missed,
        retention.gone,
        retention.counted,
        pulls.missing,
        pulls.counted,
        replays.received,
        replays.nothing_missed,
    }
)
"""Promises that are kept only once everything has come to rest."""


class CheckResult(msgspec.Struct):
    """`broken` are sentences, one for each place where a promise was broken: some of each kind."""

    messages: int
    undecided: int
    receipts: int
    handed_out: int
    resource_requests: int
    replays: int
    runs: int
    seen_inactive: int
    duplicates: int
    allowed_duplicates: int
    faults: Counter[str]
    duplicates_after: Counter[str]
    longest_delays: dict[str, float]
    broken: list[str]

    @property
    def summary(self) -> str:
        kept = "every promise was kept" if not self.broken else f"{len(self.broken)} BROKEN: {self.broken[0]}"
        return (
            f"{self.messages} messages confirmed, {self.undecided} undecided, {self.receipts} receipts, "
            f"{self.handed_out} handed out, {self.resource_requests} requests for resources, {self.replays} replays, "
            f"{self.runs} runs of schedules, {self.seen_inactive} requests for inactive listeners, "
            f"{self.faults.total()} faults, "
            f"{self.duplicates} duplicates (at most {self.allowed_duplicates}): {kept}"
        )

    @property
    def table(self) -> str:
        """For each kind of fault: how many, what was repeated, and the longest time to a first attempt."""
        lines = [f"{'fault':<24}{'times':>7}{'duplicates':>12}{'longest delay':>16}"]
        for kind in (delays.QUIET, *sorted(self.faults)):
            delay = self.longest_delays.get(kind, 0.0)
            lines.append(f"{kind:<24}{self.faults[kind]:>7}{self.duplicates_after[kind]:>12}{delay:>14.2f} s")
        return "\n".join(lines)


def check_history(history: History, *, is_at_rest: bool = True) -> CheckResult:
    """Whether every message answered 200 arrived, nothing came that should not, and duplicates stayed within bounds.

    Without `is_at_rest`, the run was ended in the middle of everything: messages may still be on their way.
    """
    promises = [each for each in _PROMISES if is_at_rest or each not in _LIVENESS]
    found = repeats.repeats(history)
    confirmed = [published for published in history.publishes if published.answered]
    return CheckResult(
        messages=sum(len(published.ids) for published in confirmed),
        undecided=sum(len(published.bodies) for published in history.publishes if not published.answered),
        receipts=len(history.receipts),
        handed_out=len(history.handed_out),
        resource_requests=len(history.resource_requests),
        replays=sum(1 for replay in history.replays if replay.answered),
        runs=sum(len(log.runs) for log in history.logs.values()),
        seen_inactive=len(history.inactive),
        duplicates=found.count,
        allowed_duplicates=found.allowed,
        faults=Counter(fault.kind for fault in history.faults),
        duplicates_after=found.by_kind,
        longest_delays=delays.longest_delays(history, history.bounds.lateness_seconds),
        # A thousand of one kind must not hide the others.
        broken=[sentence for promise in promises for sentence in islice(promise(history), _NAMED_FAULTS)],
    )


if __name__ == "__main__":
    result = check_history(kept_in(Path(sys.argv[1])))
    print(result.table, result.summary, *result.broken, sep="\n")
    sys.exit(bool(result.broken))
