# How an ordered queue keeps the order of each key with little state:
#
# - A key is held by its oldest message that is not settled: in flight, about to be, or waiting for a retry. Where a
#   missed message blocks its key (`on_missed: block`), a missed message holds it, too.
# - While the holder has no row, the messages behind it wait in memory and stay unsettled.
# - Once the holder has a row, the cursor passes the messages behind it. The row has the key and counts them.
# - When the holder is settled, its row moves on to the next blocked message. A key costs one row, however many messages
#   wait behind it and for however long.
"""The keys of an ordered lane: which message holds each, and what waits behind it."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import msgspec

from discue.dispatch.lane.context import BodyBudget, memory_of
from discue.domain.messages import Entry
from discue.domain.waiting import DUE_NOW
from discue.domain.window import Window
from discue.store.delivery_rows import DueRetry, KeyRow
from discue.store.engine import DeliveryRow


@dataclass(slots=True)
class HeldKey:
    """A key and the message that holds it."""

    key_hash: int
    seq: int
    blocked: int = 0
    """How many messages of the key the cursor has passed."""
    row: DeliveryRow | None = None
    """The holder's row as stored, or about to be; None if it has none, or if another worker writes it."""
    next_seq: int | None = None
    """The first of the blocked messages; None if unknown."""


class WaitingByKey:
    """Messages that wait in memory for their keys, in the order of the log.

    They are taken from the front of `new`, the messages to be sent next, and return to its front.
    """

    __slots__ = ("_budget", "_by_key", "_new", "count")

    def __init__(self, new: deque[Entry], budget: BodyBudget) -> None:
        self._new = new
        self._budget = budget
        self._by_key: dict[int, deque[Entry]] = {}
        self.count = 0

    @property
    def first_seqs(self) -> list[int]:
        """The first waiting message of each key."""
        return [entries[0].seq for entries in self._by_key.values()]

    def add_next(self, key_hash: int) -> None:
        """Let the next new message wait for its key."""
        self._by_key.setdefault(key_hash, deque()).append(self._new.popleft())
        self.count += 1

    def free(self, key_hash: int) -> None:
        """Put the first message that waits for the key in front of the new messages."""
        entries = self._by_key.get(key_hash)
        if entries is not None:
            self._new.appendleft(entries.popleft())
            self.count -= 1
            if not entries:
                del self._by_key[key_hash]

    def remove(self, key_hash: int) -> list[int]:
        """Remove the messages that wait for the key from memory, and return their seqs."""
        entries = self._by_key.pop(key_hash, ())
        self._give_back(entries)
        self.count -= len(entries)
        return [entry.seq for entry in entries]

    def clear(self) -> None:
        self._give_back(chain(*self._by_key.values()))
        self._by_key.clear()
        self.count = 0

    def busiest_key(self) -> int | None:
        """Return the key that most messages wait for; None if none waits."""
        return max(self._by_key, key=lambda key: len(self._by_key[key]), default=None)

    def _give_back(self, entries: Iterable[Entry]) -> None:
        self._budget.give_back(sum(memory_of(entry) for entry in entries))


class Ordering:
    """The keys of one cursor that are held."""

    def __init__(self, window: Window, waiting: WaitingByKey, *, is_known: bool, blocks: bool = False) -> None:
        self._window = window
        self._waiting = waiting
        self._by_key: dict[int, HeldKey] = {}
        self._by_seq: dict[int, HeldKey] = {}
        self.blocks = blocks
        """Whether a missed message keeps its key."""
        self.is_known = is_known
        """Whether the keys that rows in the store hold are known. Until then nothing may be sent."""
        self.blocked = 0
        """How many messages the cursor has passed that wait, without rows, behind the known keys."""

    @property
    def may_hold_keys(self) -> bool:
        """Whether a key is held, or the keys are not known."""
        return not self.is_known or bool(self._by_key)

    def add_rows(self, rows: Iterable[KeyRow], owner_may_write: frozenset[str], *, complete: bool) -> None:
        """Take over rows that hold keys. Rows in a state outside `owner_may_write` are another worker's to write.

        `complete` rows are all that the store has; with them the keys are known.
        """
        for row in rows:
            held = self._by_seq.get(row.seq)
            if held is None:
                held = self._hold(row.key_hash, row.seq, row.blocked)
                held.next_seq = row.next_seq
            if row.state in owner_may_write and held.row is None:
                held.row = DeliveryRow(row.seq, row.state, row.attempts, row.due_at, row.reason, token=row.token)
        self.is_known |= complete

    def holder(self, entry: Entry) -> HeldKey | None:
        """Return the key of a new message if another message holds it; None if the message may be sent."""
        held = self._by_key.get(entry.key_hash or 0)
        return None if held is None or held.seq == entry.seq else held

    def begin(self, entry: Entry) -> None:
        """Give the key to a message that is sent for the first time."""
        if entry.seq not in self._by_seq:
            self._hold(entry.key_hash or 0, entry.seq)

    def skip(self, entry: Entry) -> None:
        """Free the message that waits in memory behind a new one that was settled without an attempt."""
        self._waiting.free(entry.key_hash or 0)

    def resume(self, retry: DueRetry) -> bool:
        """Prepare the retry of a message with a row. True if it was blocked until now: it had no attempt yet."""
        held = self._by_seq.get(retry.seq)
        if held is not None:
            if held.row is None:
                held.row = DeliveryRow(retry.seq, "retry", retry.attempts, DUE_NOW, "")
            if held.blocked and held.next_seq is None:
                held.next_seq = retry.next_seq
        return held is not None and retry.attempts == 0

    def with_key(self, row: DeliveryRow) -> DeliveryRow:
        """Return the row with its key and the count of blocked messages, if its message holds the key."""
        held = self._by_seq.get(row.seq)
        if held is None or (row.state == "missed" and not self.blocks):
            return row
        held.row = msgspec.structs.replace(row, key_hash=held.key_hash, blocked=held.blocked)
        return held.row

    def block(self, held: HeldKey, seqs: list[int]) -> DeliveryRow:
        """Count messages that the cursor passes behind a key, and return the key's row, which it must have."""
        if not held.blocked:
            held.next_seq = seqs[0]
        held.blocked += len(seqs)
        self.blocked += len(seqs)
        if held.row is None:
            raise ValueError("a key without a row blocks nothing")
        return self.with_key(held.row)

    def take_waiting(self, seq: int) -> tuple[HeldKey, list[int]] | None:
        """If a message has a row and holds a key, remove the messages that wait for it from memory and return them."""
        held = self._by_seq.get(seq)
        if held is None or held.row is None:
            return None
        seqs = self._waiting.remove(held.key_hash)
        return (held, seqs) if seqs else None

    def settle(self, seq: int) -> tuple[DeliveryRow | None, int]:
        """Free the key of a settled message, and return the row of the next blocked one, or None.

        Without a blocked message the first one that waits in memory is sent next. The second value is how many
        messages were counted as blocked but are gone.
        """
        held = self._by_seq.pop(seq, None)
        if held is None:
            return None, 0
        if held.blocked and held.next_seq is not None and self._window.is_settled(held.next_seq):
            held.seq, held.next_seq = held.next_seq, None
            held.blocked -= 1
            self.blocked -= 1
            self._by_seq[held.seq] = held
            return self.with_key(DeliveryRow(held.seq, "retry", 0, DUE_NOW, "")), 0
        del self._by_key[held.key_hash]
        self.blocked -= held.blocked
        self._waiting.free(held.key_hash)
        return None, held.blocked

    def prepare_release(self, row: KeyRow) -> bool:
        """Prepare `settle` for a missed message that was deleted. False if it no longer blocks its key."""
        # A key that is not held any more was freed since the row was read.
        held = self._by_seq.get(row.seq)
        if held is None or held.row is None or held.row.state != "missed":
            return False
        if held.blocked and held.next_seq is None:
            held.next_seq = row.next_seq
        return True

    def holds(self, seq: int) -> bool:
        return seq in self._by_seq

    def busiest_seq(self) -> int | None:
        """Return the message that most others wait for in memory, if passing it would let other keys go on."""
        key = self._waiting.busiest_key()
        return None if key is None or len(self._by_key) == 1 else self._by_key[key].seq

    def _hold(self, key_hash: int, seq: int, blocked: int = 0) -> HeldKey:
        held = HeldKey(key_hash, seq, blocked)
        self._by_key[key_hash] = self._by_seq[seq] = held
        self.blocked += blocked
        return held
