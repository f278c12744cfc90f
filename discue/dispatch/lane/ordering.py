"""Messages of one key one after the other: which keys are taken, and what waits behind what."""

import msgspec

from discue.dispatch.lane.waiting import WaitingByKey
from discue.domain.messages import Entry
from discue.domain.window import Window
from discue.store.delivery_rows import DueRetry, KeyRow
from discue.store.engine import DeliveryRow

WAITING_HELD = 256
"""At most so many messages of a lane wait in memory behind others of their keys."""

MISSED = frozenset({"missed"})

_AT_ONCE = 1
"""A due time that has come whatever the clock says."""


class HeldKey:
    """A key that is taken, by the message `seq`: under way, about to be, or waiting for its next attempt.

    `row` is its exception as it was last stored or is about to be; None while there is none, or while somebody else
    says what becomes of it. `blocked` messages of the key, the first of them `next_seq` (None: not known), were passed
    by the cursor and wait behind it.
    """

    __slots__ = ("blocked", "key_hash", "next_seq", "row", "seq")

    def __init__(self, key_hash: int, seq: int, blocked: int = 0) -> None:
        self.key_hash = key_hash
        self.seq = seq
        self.blocked = blocked
        self.next_seq: int | None = None
        self.row: DeliveryRow | None = None


class Ordering:
    """One lane's keys. What waits behind a request under way stays in memory, and unsettled.

    What waits behind an exception is passed by the cursor: the exception's row has its key, and counts it. When that
    message is settled, its row goes on to the next one that waits, so that a key costs one row, however many messages
    wait for it and for however long. Where the order `blocks`, a message that is missed is such an exception, too.
    """

    def __init__(self, window: Window, waiting: WaitingByKey, *, is_known: bool, blocks: bool = False) -> None:
        self._window = window
        self._waiting = waiting
        self._by_key: dict[int, HeldKey] = {}
        self._by_seq: dict[int, HeldKey] = {}
        self.blocks = blocks
        """Whether a message that is missed keeps its key."""
        self.is_known = is_known
        """Whether the keys that the store shows as taken were read."""
        self.blocked = 0
        """How many messages the cursor has passed that wait, without rows, behind the keys that are known."""

    def __len__(self) -> int:
        return len(self._by_key)

    def show(self, rows: list[KeyRow], owner_may_write: frozenset[str], *, complete: bool) -> None:
        """Take over rows that hold keys. Rows in a state outside `owner_may_write` belong to another worker.

        `complete` rows are all that the store has; with them the keys are known.
        """
        for row in rows:
            held = self._by_seq.get(row.seq)
            if held is None:
                held = self._take(row.key_hash, row.seq, row.blocked)
                held.next_seq = row.next_seq
            if row.state in owner_may_write and held.row is None:
                held.row = DeliveryRow(row.seq, row.state, row.attempts, row.due_at, row.reason, token=row.token)
        self.is_known |= complete

    def holder(self, entry: Entry) -> HeldKey | None:
        """Who holds the key of a message that has not begun; None when it may begin."""
        held = self._by_key.get(entry.key_hash or 0)
        return None if held is None or held.seq == entry.seq else held

    def begins(self, entry: Entry) -> None:
        """A message is sent for the first time: its key is taken."""
        if entry.seq not in self._by_seq:
            self._take(entry.key_hash or 0, entry.seq)

    def passes(self, entry: Entry) -> None:
        """A message is settled and never began: the first one that waits in memory behind it comes next."""
        self._waiting.free(entry.key_hash or 0)

    def resumes(self, retry: DueRetry) -> bool:
        """The message of an exception is to be sent. Whether for the first time: it has waited behind its key."""
        held = self._by_seq.get(retry.seq)
        if held is not None:
            if held.row is None:
                held.row = DeliveryRow(retry.seq, "retry", retry.attempts, _AT_ONCE, "")
            if held.blocked and held.next_seq is None:
                held.next_seq = retry.next_seq
        return held is not None and retry.attempts == 0

    def keyed(self, row: DeliveryRow) -> DeliveryRow:
        """An exception that is about to be stored, with what its key says."""
        held = self._by_seq.get(row.seq)
        if held is None or (row.state == "missed" and not self.blocks):
            return row
        held.row = msgspec.structs.replace(row, key_hash=held.key_hash, blocked=held.blocked)
        return held.row

    def block(self, held: HeldKey, seqs: list[int]) -> DeliveryRow:
        """Messages of a key that has a row are passed by the cursor: the row, which counts them."""
        if not held.blocked:
            held.next_seq = seqs[0]
        held.blocked += len(seqs)
        self.blocked += len(seqs)
        if held.row is None:
            raise ValueError("a key without a row blocks nothing")
        return self.keyed(held.row)

    def waiting_for(self, seq: int) -> tuple[HeldKey, list[int]] | None:
        """The key of a message that has its row now, and those that waited for it in memory: they wait no more."""
        held = self._by_seq.get(seq)
        if held is None or held.row is None:
            return None
        seqs = self._waiting.forget(held.key_hash)
        return (held, seqs) if seqs else None

    def settled(self, seq: int) -> tuple[DeliveryRow | None, int]:
        """A message is settled: the row of the next one that was blocked, and how many waited that are not there.

        Without a row its key is free, and the first one that waits in memory is sent.
        """
        held = self._by_seq.pop(seq, None)
        if held is None:
            return None, 0
        if held.blocked and held.next_seq is not None and self._window.is_settled(held.next_seq):
            held.seq, held.next_seq = held.next_seq, None
            held.blocked -= 1
            self.blocked -= 1
            self._by_seq[held.seq] = held
            return self.keyed(DeliveryRow(held.seq, "retry", 0, _AT_ONCE, "")), 0
        del self._by_key[held.key_hash]
        self.blocked -= held.blocked
        self._waiting.free(held.key_hash)
        return None, held.blocked

    def stops(self, row: KeyRow) -> bool:
        """Whether a message that the store shows as missed still is, and holds its key. What waits for it is known."""
        self.show([row], MISSED, complete=False)
        held = self._by_seq.get(row.seq)
        if held is None or held.row is None or held.row.state != "missed":
            return False
        if held.blocked and held.next_seq is None:
            held.next_seq = row.next_seq
        return True

    def most_waited_for(self) -> int | None:
        """The message that most others wait for in memory, if other keys would go on without it."""
        key = self._waiting.longest()
        return None if key is None or len(self._by_key) == 1 else self._by_key[key].seq

    def _take(self, key_hash: int, seq: int, blocked: int = 0) -> HeldKey:
        held = HeldKey(key_hash, seq, blocked)
        self._by_key[key_hash] = self._by_seq[seq] = held
        self.blocked += blocked
        return held
