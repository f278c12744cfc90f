"""A replay brings its part of the log, all of it and nothing else; missed messages that are redelivered arrive."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from tests.faults.history import History, Log, Replayed
from tests.faults.promises.calm import could_know
from tests.faults.promises.filters import Wanted
from tests.faults.promises.options import options_by_id, placed
from tests.faults.promises.order import arrivals_of, by_key, out_of_order


class Part(NamedTuple):
    """Places in a log: what must come, and up to where something may."""

    first: int
    last: int
    at_most: int


class _Logs:
    """The positions of messages, and the part of the log each replay covers."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._wanted = Wanted(history)
        self._places = {queue: _places(log) for queue, log in history.logs.items()}
        self._answered: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self._sent: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for public_id, published, _ in placed(history):
            place = self._places.get(published.queue, {}).get(public_id)
            if place is not None:
                self._sent[published.queue].append((published.sent, place))
                if published.answered:
                    self._answered[published.queue].append((published.answered, place))

    def place(self, replay: Replayed, message: str) -> int | None:
        return self._places.get(self._queue(replay), {}).get(message)

    def ids(self, replay: Replayed, part: Part) -> list[str]:
        """Return the ids that must arrive, in order."""
        return self._wanted.of(replay.name, self._history.logs[self._queue(replay)].ids[part.first : part.last + 1])

    def part(self, replay: Replayed) -> Part | None:
        """None where its ends stand in no log that is there in the end."""
        first = self.place(replay, replay.first)
        if replay.last:
            last = self.place(replay, replay.last)
            return None if first is None or last is None else Part(first, last, last)
        if first is None:
            return None
        queue = self._queue(replay)
        before = [place for answered, place in self._answered[queue] if answered < replay.sent]
        after = [place for sent, place in self._sent[queue] if 0 < replay.answered < sent]
        return Part(first, max([first, *before]), min([len(self._places[queue]), *after]) - 1)

    def _queue(self, replay: Replayed) -> str:
        return self._history.listeners[replay.name].queue


def received(history: History) -> Iterator[str]:
    """Every message of it, but for as many as it counted to have failed, or expired."""
    logs = _Logs(history)
    got = _acknowledged(history)
    for replay in _finished(history):
        counts, part = history.replay_counts.get(replay.id), logs.part(replay)
        if counts is None or counts.state != "done":
            yield f"the replay {replay.id} to {replay.name} is not done: {counts}"
        elif part is not None:
            lost = set(logs.ids(replay, part)) - got[replay.id]
            if len(lost) > counts.failed + counts.expired:
                yield f"{replay.name} never got {min(lost)} of its replay {replay.id}: {counts}"


def known(history: History) -> Iterator[str]:
    """Check that a replay whose creation was answered can be cancelled."""
    for replay in history.replays:
        if replay.was_unknown:
            yield f"the replay {replay.id} was confirmed, and not known when it was to be cancelled"


def outside(history: History) -> Iterator[str]:
    """Find receipts of an unknown replay, at the wrong listener, or from outside the replay's part."""
    logs = _Logs(history)
    known = {replay.id: replay for replay in history.replays if replay.answered}
    parts = {public_id: logs.part(replay) for public_id, replay in known.items()}
    unanswered = {replay.name for replay in history.replays if not replay.answered}
    for receipt in history.receipts:
        replay = known.get(receipt.replay)
        if not receipt.replay or (replay is None and receipt.name in unanswered):
            continue
        if replay is None or replay.name != receipt.name or receipt.tick < replay.sent:
            yield f"{receipt.name} got {receipt.message} of the replay {receipt.replay}, which it was not asked for"
            continue
        part, place = parts[replay.id], logs.place(replay, receipt.message)
        # A message in the log of a server that was lost may be in no log.
        if part is not None and place is not None and not part.first <= place <= part.at_most:
            yield f"{receipt.name} got {receipt.message}, which is outside its replay {replay.id}"


def counted(history: History) -> Iterator[str]:
    """Check that each message of an exactly known part is counted once."""
    logs = _Logs(history)
    got = _acknowledged(history)
    for replay in _finished(history):
        counts, part = history.replay_counts.get(replay.id), logs.part(replay)
        if counts is None or counts.state != "done" or part is None:
            continue
        size = len(logs.ids(replay, part))
        if replay.last and counts.delivered + counts.failed + counts.expired != size:
            yield f"the counts of the replay {replay.id} do not add up to its {size} messages: {counts}"
        if counts.delivered > len(got[replay.id]):
            yield f"{replay.name} acknowledged {len(got[replay.id])} messages of its replay {replay.id}: {counts}"


def ordered(history: History) -> Iterator[str]:
    """Check that a replay of an ordered queue sends the messages of a key one after the other."""
    logs = _Logs(history)
    options = options_by_id(history)
    keys = {public_id: each.key for public_id, each in options.items()}
    for replay in _finished(history):
        part = logs.part(replay)
        if part is not None and history.listeners[replay.name].queue in history.ordered:
            receipts = [receipt for receipt in history.receipts if receipt.replay == replay.id]
            arrivals = arrivals_of(receipts)[replay.name]
            for in_order in by_key(logs.ids(replay, part), keys):
                expiries = [(each, options[each].expires_at) for each in in_order]
                for sentence in out_of_order(history, replay.name, expiries, arrivals):
                    yield f"in the replay {replay.id} {sentence}"


def late(history: History) -> Iterator[str]:
    """Requests after it was cancelled: those begun when the worker could know of it."""
    cancelled = {replay.id: replay.deleted_at for replay in history.replays if replay.deleted_at}
    for receipt in history.receipts:
        deleted_at = cancelled.get(receipt.replay, 0.0)
        begun_at = receipt.came_at - history.bounds.timeout_seconds
        if deleted_at and could_know(history, receipt.worker, deleted_at, begun_at):
            after = receipt.came_at - deleted_at
            yield f"{receipt.name} got {receipt.message} of a replay {after:.1f} s after that was cancelled"


def nothing_missed(history: History) -> Iterator[str]:
    """Check that no message is missed after all were redelivered. Other promises check that they arrived."""
    for name in history.redelivered:
        counts = history.counts.get(name)
        if counts is not None and counts.missed:
            yield f"{name} has missed {counts.missed} messages, which were all redelivered"


def _finished(history: History) -> Iterator[Replayed]:
    """Yield the confirmed replays that were not cancelled and whose listener exists at the end."""
    for replay in history.replays:
        if replay.answered and not replay.delete_sent and replay.name in history.counts:
            yield replay


def _acknowledged(history: History) -> "defaultdict[str, set[str]]":
    found: defaultdict[str, set[str]] = defaultdict(set)
    for receipt in history.receipts:
        if receipt.replay and receipt.status == 200:
            found[receipt.replay].add(receipt.message)
    return found


def _places(log: Log) -> dict[str, int]:
    return {public_id: place for place, public_id in enumerate(log.ids)}
