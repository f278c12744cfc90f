"""A round over a listener in pull mode: read a snapshot, decide, and store that, or start again.

Any worker may run a round at any time. Its changes are stored only if no other round has stored any since its snapshot.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

import msgspec

from discue.control.pulls import Decision, DecisionResult, LeasedMessage, PullTarget
from discue.dispatch.pull.session import BODY_BYTES, PullContext, PullSession
from discue.dispatch.spans import record_pulled
from discue.domain.errors import Conflict, NotFound, Overloaded
from discue.domain.message_data import LONGEST_ESCAPE, bytes_as_string
from discue.store import message_log, pull_leases
from discue.store.cursors import LaneRecord
from discue.store.engine import LogPage
from discue.store.ledger import Reservation
from discue.store.store import Store

_TRIES: Final = 20
_PAGE_ROWS: Final = 128
_COPIES: Final = 2
"""Before a round reads, it reserves its bodies and a response of about the same size."""
_FIELDS_BYTES: Final = 512
"""The size of a message in a response without its data and its options."""
_NO_ROOM_MS: Final = 250
"""How long after a round that found no memory the next one begins."""


class RoundResult(msgspec.Struct, frozen=True):
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
    reservation: Reservation | None = None
    """The memory reserved for the messages. The caller must release it."""
    needed: int = 0
    """The memory that the next round needs, if this round lacked memory for the messages that it has read."""


def size_of(messages: Iterable[LeasedMessage]) -> int:
    """Return the memory that messages and their response hold."""
    return sum(
        len(entry.body) + bytes_as_string(entry.body, entry.codec) + LONGEST_ESCAPE * len(entry.extra) + _FIELDS_BYTES
        for entry in (message.entry for message in messages)
    )


async def run_round(
    context: PullContext, target: PullTarget, decisions: Sequence[Decision], most: int, *, needed: int = 0
) -> RoundResult:
    """Store the decisions, and lease up to `most` messages.

    `needed` is what the last round for the target has returned. Raises NotFound if the listener is deleted, and
    Unavailable if it is unknown whether the changes were stored.
    """
    for _ in range(_TRIES):
        result = await _try_round(context, target, decisions, most, needed=needed)
        if result is not None:
            return result
    raise Overloaded("Too many consumers pull from this listener at the same time. Try again soon.")


async def _try_round(
    context: PullContext, target: PullTarget, decisions: Sequence[Decision], most: int, *, needed: int
) -> RoundResult | None:
    """Run a round once. Returns None if another round was faster."""
    listener, ledger = (target.organization, target.listener), context.store.ledger
    seqs = sorted({decision.receipt.seq for decision in decisions})
    with ExitStack() as on_failure:
        async with context.rounds.hold(target.organization):
            now, losses = context.clock.now(), context.losses
            started_at = context.clock.monotonic()
            read = partial(pull_leases.read_snapshot, listener=listener, now=now, seqs=seqs, leases=bool(most))
            snapshot = await context.store.read(read)
            if snapshot is None:
                raise NotFound
            session = PullSession(snapshot, context, now=now)
            results = [session.decide(decision) for decision in decisions]
            is_enabled = snapshot.record.status == "enabled"
            messages, has_room, held = list[LeasedMessage](), True, None
            if most and is_enabled:
                size = max(needed, _COPIES * session.most_bytes(most))
                held = ledger.reserve_now(target.organization, size)
                has_room = held is not None
            if held is not None:
                on_failure.enter_context(held)
                messages, needed = await _lease(context.store, session, snapshot.record, most), 0
                size = size_of(messages)
                has_room = held.extend(ledger.counted(size))
                if not has_room:
                    # JSON escapes so much of these messages that their response would not fit. They are not leased yet.
                    messages, needed, size = [], size, 0
                    session = PullSession(snapshot, context, now=now)
                    results = [session.decide(decision) for decision in decisions]
                held.keep(size)
            # The reads of SQLite let nothing else run. A message wakes the consumers of all listeners of its queue, and
            # the rounds of hundreds of them must not follow each other without a pause.
            await asyncio.sleep(0)
        if not await store_changes(context, session, losses):
            return None
        if context.tracer is not None:
            for message in messages:
                record_pulled(context.tracer, snapshot.record, message, started_at)
            for record_span in session.spans:
                record_span(started_at=started_at)
        on_failure.pop_all()
    return RoundResult(
        messages=messages,
        decisions=results,
        has_more=has_room and session.has_more,
        next_at=session.next_at if has_room else now + _NO_ROOM_MS,
        head=snapshot.record.head,
        makes_due=session.makes_due,
        refusal=None if is_enabled else Conflict(code="listener_disabled"),
        reservation=held,
        needed=needed,
    )


async def has_work(context: PullContext, listener: tuple[int, int]) -> bool:
    """Return whether a message of an enabled listener, by organization and row id, is leased or can be leased now.

    Leases nothing. Messages that are not for the listener are settled on the way.
    """
    while True:
        now, losses = context.clock.now(), context.losses
        read = partial(pull_leases.read_snapshot, listener=listener, now=now, seqs=())
        snapshot = await context.store.read(read)
        if snapshot is None or snapshot.record.status != "enabled":
            return False
        session = PullSession(snapshot, context, now=now)
        if snapshot.handed_out or await _lease(context.store, session, snapshot.record, 1):
            return True
        if await store_changes(context, session, losses) and not session.has_more:
            return False


async def store_changes(context: PullContext, session: PullSession, losses: int) -> bool:
    """Store the changes of a session, if there are any. Returns False if another round was faster."""
    settle = session.take()
    if settle is None:
        return True
    # The version guards against other rounds. A server with a shorter history, after a failover, may have the same
    # version of the cursor and other messages.
    if context.losses != losses or not await context.store.settle(settle):
        return False
    if settle.new_misses is not None:
        context.on_missed()
    session.count_transform_failures()
    return True


async def _lease(store: Store, session: PullSession, record: LaneRecord, most: int) -> list[LeasedMessage]:
    """Lease up to `most` messages: those that are due, then new ones."""
    session.redeliver()
    wanted, queue = min(most, session.free_slots), (record.organization, record.queue)
    messages = list[LeasedMessage]()
    chosen = session.choose_due(wanted)
    if chosen:
        seqs = [found.seq for found in chosen if found.entry is not None]
        bodies = await store.read(partial(message_log.bodies_by_seq, queue=queue, seqs=seqs))
        messages = session.lease_due(chosen, bodies)
    if wanted > len(messages) and session.may_lease_new(is_first=not chosen):
        page = await read_new(store, session, record, max_bytes=max(1, session.bytes_left))
        messages += session.lease_new(page, 1 if session.is_throttled else wanted - len(messages))
    return messages


async def read_new(store: Store, session: PullSession, record: LaneRecord, *, max_bytes: int = BODY_BYTES) -> LogPage:
    """Read the messages after the session's position, and tell the session which of their keys are held."""
    page = await store.page(record.organization, record.queue, session.position, _PAGE_ROWS, max_bytes=max_bytes)
    hashes = sorted({entry.key_hash for entry in page.entries if entry.key_hash is not None})
    if record.ordered and hashes:
        read = partial(pull_leases.keys_among, key=record.key, queue=record.queue, hashes=hashes)
        session.add_keys(await store.read(read))
    return page
