"""One round over a listener whose messages are pulled: read how it stands, decide, store that, or begin anew.

Any worker may do so at any time: what it decided is stored only if nobody else has stored anything since it read.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from discue.control.pulls import Decision, DecisionResult, LeasedMessage, PullTarget
from discue.dispatch.pull.session import Ledger, Rules
from discue.domain.clock import Clock
from discue.domain.errors import Conflict, NotFound, Unavailable
from discue.domain.ids import RowIds
from discue.store import pull_leases
from discue.store.pull_leases import OpenDelivery, PullSnapshot
from discue.store.store import Store

_TRIES: Final = 20
_PAGE_ROWS: Final = 128
_BYTES: Final = 1 << 20
"""Of bodies that are handed out in one round, but for the first one."""


class Limits(msgspec.Struct, frozen=True):
    """What the settings say: messages handed out at once, for listeners that do not say it, and how long one waits."""

    max_in_flight: int
    deadline_ms: int


class Doubts:
    """How often connections to the store were lost: what was read before may be of another server."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Means(msgspec.Struct, frozen=True):
    """What a round needs."""

    store: Store
    clock: Clock
    row_ids: RowIds
    random: Callable[[], float]
    limits: Limits
    doubts: Doubts = msgspec.field(default_factory=Doubts)

    def rules(self) -> Rules:
        """Those of this moment."""
        limits = self.limits
        return Rules(self.clock.now(), self.row_ids, self.random, limits.max_in_flight, limits.deadline_ms)


class Brought(msgspec.Struct, frozen=True):
    """What a round brought. There may be `more` at once; else nothing before `next_at` (0: nothing by itself).

    `head` is that of the queue. It `makes_due` what others may wait for. `refusal` is why nothing was handed out.
    """

    handed: list[LeasedMessage]
    answered: list[DecisionResult]
    more: bool
    next_at: int
    head: int
    makes_due: bool
    refusal: Conflict | None = None


async def go_round(means: Means, place: PullTarget, decisions: Sequence[Decision], most: int) -> Brought:
    """Store the decisions, and hand out at most so many messages.

    Raises NotFound when the listener is gone, and Unavailable: then it is not known whether that was stored.
    """
    for _ in range(_TRIES):
        brought = await _try(means, place, decisions, most)
        if brought is not None:
            return brought
    raise Unavailable("Too many ask for messages of this listener at once. Try again soon.")


async def _try(means: Means, place: PullTarget, decisions: Sequence[Decision], most: int) -> Brought | None:
    """None when somebody else was faster."""
    rules, doubts = means.rules(), means.doubts.count
    seqs = sorted({decision.receipt.seq for decision in decisions})
    key = (place.organization, place.listener)
    look = await means.store.read(partial(pull_leases.read_snapshot, listener=key, now=rules.now, seqs=seqs))
    if look is None:
        raise NotFound
    ledger = Ledger(look, rules)
    answered = [ledger.answer(decision) for decision in decisions]
    is_on = look.record.status == "enabled"
    handing = _Handing(means, look, ledger)
    if most and is_on:
        await handing.hand_out(most)
    settle = ledger.take()
    # A server with a shorter history may have the same version of the cursor, and another log.
    if settle is not None and (means.doubts.count != doubts or not await means.store.settle(settle)):
        return None
    return Brought(
        handed=handing.handed,
        answered=answered,
        more=handing.more,
        next_at=handing.next_at,
        head=look.record.head,
        makes_due=ledger.makes_due,
        refusal=None if is_on else Conflict("The listener is disabled: its messages wait."),
    )


class _Handing:
    """The part of a round that hands messages out."""

    def __init__(self, means: Means, look: PullSnapshot, ledger: Ledger) -> None:
        self._means = means
        self._look = look
        self._ledger = ledger
        self._left = _BYTES
        self.handed: list[LeasedMessage] = []
        # What waited behind those is due now.
        self.more = bool(look.gone)
        self.next_at = look.next_at

    async def hand_out(self, most: int) -> None:
        ledger = self._ledger
        if self._look.step is not None:
            if ledger.redeliver():
                self.more = True
            else:
                self._look_at(ledger.redelivers_at)
        wanted = min(most, ledger.places)
        if wanted:
            await self._hand_out_due(wanted)
            wanted -= len(self.handed)
        if wanted:
            await self._hand_out_new(wanted)

    async def _hand_out_due(self, wanted: int) -> None:
        chosen = self._fitting(self._look.due, wanted)
        if not chosen:
            return
        record = self._look.record
        seqs = [found.seq for found in chosen if found.entry is not None]
        queue = (record.organization, record.queue)
        texts = await self._means.store.read(partial(pull_leases.bodies, queue=queue, seqs=seqs))
        for found in chosen:
            handed = self._ledger.hand_out_again(found, texts.get(found.seq))
            if handed is not None:
                self.handed.append(handed)
        # Others were settled, and what waited behind them is due now.
        self.more = self.more or len(self.handed) < len(chosen)

    def _fitting(self, due: Sequence[OpenDelivery], wanted: int) -> list[OpenDelivery]:
        """The first ones, as many as may be handed out, but for what is too large to come along."""
        chosen = list[OpenDelivery]()
        for found in due[:wanted]:
            if chosen and found.size > self._left:
                self._left = 0
                break
            self._left -= found.size
            chosen.append(found)
        return chosen

    async def _hand_out_new(self, wanted: int) -> None:
        record, ledger = self._look.record, self._ledger
        if record.head <= ledger.position or self._left <= 0:
            return
        if ledger.new_from:
            self._look_at(ledger.new_from)
            return
        page = await self._means.store.page(
            record.organization, record.queue, ledger.position, _PAGE_ROWS, max(1, self._left)
        )
        hashes = sorted({entry.key_hash for entry in page.entries if entry.key_hash is not None})
        if record.ordered and hashes:
            read = partial(pull_leases.keys_among, key=record.key, queue=record.queue, hashes=hashes)
            ledger.show(await self._means.store.read(read))
        self.handed += ledger.hand_out(page, 1 if ledger.is_held_back else wanted)
        self.more = self.more or ledger.position < page.head

    def _look_at(self, instant: int) -> None:
        self.next_at = min(self.next_at, instant) if self.next_at else instant
