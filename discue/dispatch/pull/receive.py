"""A round over a listener in pull mode: read a snapshot, decide, and store that, or start again.

Any worker may run a round at any time. Its changes are stored only if no other round has stored any since its snapshot.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from discue.control.pulls import Decision, DecisionResult, LeasedMessage, PullTarget
from discue.dispatch.pull.session import PullContext, PullSession
from discue.domain.errors import Conflict, NotFound, Unavailable
from discue.store import pull_leases
from discue.store.cursors import LaneRecord
from discue.store.engine import LogPage
from discue.store.pull_leases import OpenDelivery, PullSnapshot
from discue.store.store import Store

_TRIES: Final = 20
_PAGE_ROWS: Final = 128
_BODY_BYTES: Final = 1 << 20
"""Maximum size of the bodies of one round. The first message may be larger."""


class RoundResult(msgspec.Struct, frozen=True):
    """The result of a round."""

    messages: list[LeasedMessage]
    decisions: list[DecisionResult]
    has_more: bool
    """Whether another round may lease more messages at once."""
    next_at: int
    """If not: when a message is due next, in milliseconds since the epoch; 0 if none is."""
    head: int
    """The last `seq` of the queue that the round has seen."""
    makes_due: bool
    """Whether a decision made messages available to other waiting consumers."""
    refusal: Conflict | None = None
    """The error for consumers if nothing can be leased."""


async def run_round(context: PullContext, target: PullTarget, decisions: Sequence[Decision], most: int) -> RoundResult:
    """Store the decisions, and lease up to `most` messages.

    Raises NotFound if the listener is deleted, and Unavailable: then it is not known whether the changes were stored.
    """
    for _ in range(_TRIES):
        result = await _try_round(context, target, decisions, most)
        if result is not None:
            return result
    raise Unavailable("Too many consumers pull from this listener at the same time. Try again soon.")


async def _try_round(
    context: PullContext, target: PullTarget, decisions: Sequence[Decision], most: int
) -> RoundResult | None:
    """Run a round once. Returns None if another round was faster."""
    now, losses = context.clock.now(), context.losses
    seqs = sorted({decision.receipt.seq for decision in decisions})
    listener = (target.organization, target.listener)
    read = partial(pull_leases.read_snapshot, listener=listener, now=now, seqs=seqs)
    snapshot = await context.store.read(read)
    if snapshot is None:
        raise NotFound
    session = PullSession(snapshot, context, now=now)
    results = [session.decide(decision) for decision in decisions]
    is_enabled = snapshot.record.status == "enabled"
    leasing = _Leasing(context, snapshot, session)
    if most and is_enabled:
        await leasing.lease(most)
    settle = session.take()
    # The version guards against other rounds. A server with a shorter history, after a failover, may have the same
    # version of the cursor and other messages.
    if settle is not None and (context.losses != losses or not await context.store.settle(settle)):
        return None
    return RoundResult(
        messages=leasing.messages,
        decisions=results,
        has_more=leasing.has_more,
        next_at=leasing.next_at,
        head=snapshot.record.head,
        makes_due=session.makes_due,
        refusal=None if is_enabled else Conflict("The listener is disabled: its messages wait."),
    )


class _Leasing:
    """The part of a round that leases messages."""

    def __init__(self, context: PullContext, snapshot: PullSnapshot, session: PullSession) -> None:
        self._context = context
        self._snapshot = snapshot
        self._session = session
        self._bytes_left = _BODY_BYTES
        self.messages: list[LeasedMessage] = []
        # The messages behind deleted ones that blocked their keys are due now.
        self.has_more = bool(snapshot.gone)
        self.next_at = snapshot.next_at

    async def lease(self, most: int) -> None:
        session = self._session
        if self._snapshot.step is not None:
            if session.redeliver():
                self.has_more = True
            else:
                self._expect(session.redelivers_at)
        wanted = min(most, session.free_slots)
        if wanted:
            await self._lease_due(wanted)
            wanted -= len(self.messages)
        if wanted:
            await self._lease_new(wanted)

    async def _lease_due(self, wanted: int) -> None:
        chosen = self._choose(self._snapshot.due, wanted)
        if not chosen:
            return
        record = self._snapshot.record
        seqs = [found.seq for found in chosen if found.entry is not None]
        queue = (record.organization, record.queue)
        bodies = await self._context.store.read(partial(pull_leases.bodies, queue=queue, seqs=seqs))
        for found in chosen:
            message = self._session.lease_due(found, bodies.get(found.seq))
            if message is not None:
                self.messages.append(message)
        # The others were settled, and the messages behind them are due now.
        self.has_more = self.has_more or len(self.messages) < len(chosen)

    def _choose(self, due: Sequence[OpenDelivery], wanted: int) -> list[OpenDelivery]:
        """Return the first due deliveries whose bodies fit."""
        chosen = list[OpenDelivery]()
        for found in due[:wanted]:
            if chosen and found.size > self._bytes_left:
                self._bytes_left = 0
                break
            self._bytes_left -= found.size
            chosen.append(found)
        return chosen

    async def _lease_new(self, wanted: int) -> None:
        record, session = self._snapshot.record, self._session
        if record.head <= session.position or self._bytes_left <= 0:
            return
        if session.new_from:
            self._expect(session.new_from)
            return
        page = await read_new(self._context.store, session, record, max_bytes=max(1, self._bytes_left))
        self.messages += session.lease_new(page, 1 if session.is_throttled else wanted)
        self.has_more = self.has_more or session.position < page.head

    def _expect(self, due_at: int) -> None:
        self.next_at = min(self.next_at, due_at) if self.next_at else due_at


async def read_new(store: Store, session: PullSession, record: LaneRecord, *, max_bytes: int = _BODY_BYTES) -> LogPage:
    """Read the messages after the session's position, and tell the session which of their keys are held."""
    page = await store.page(record.organization, record.queue, session.position, _PAGE_ROWS, max_bytes=max_bytes)
    hashes = sorted({entry.key_hash for entry in page.entries if entry.key_hash is not None})
    if record.ordered and hashes:
        read = partial(pull_leases.keys_among, key=record.key, queue=record.queue, hashes=hashes)
        session.add_keys(await store.read(read))
    return page
