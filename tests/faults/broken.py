"""Bugs for a server, to see that the tests of faults find them: `python -m tests.faults.altered bug=NAME serve …`."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import isfunction
from typing import Any

import msgspec

from discue.auth.control_plane_cache import ControlPlaneCache
from discue.crypto import signing
from discue.dispatch.delivery_rules import SKIP, DeliveryRules
from discue.dispatch.jobs import scheduler
from discue.dispatch.lane import breaker, endpoint, limits
from discue.dispatch.lane.context import WorkerSession
from discue.dispatch.lane.cursor_state import CursorState
from discue.dispatch.lane.endpoint import InFlightAttempt
from discue.dispatch.lane.handover import InheritedRequests
from discue.dispatch.lane.lane import Lane
from discue.dispatch.lane.limits import FairShare
from discue.dispatch.lane.ordering import Ordering
from discue.dispatch.lane.states import DeliveryState
from discue.dispatch.pull.session import PullSession
from discue.dispatch.registry import LaneRegistry
from discue.domain.messages import Entry, MessageOptions
from discue.domain.rate import TokenBucket
from discue.domain.schedule import DueRuns, MissedRunPolicy, Schedule, due_runs
from discue.domain.window import Window
from discue.sending.connection import Connection
from discue.sending.sender import Sender
from discue.store import cursors, direct_appends, erasures, pull_leases, workers
from discue.store import listeners as store_listeners
from discue.store.engine import Append, Appended, CursorKey, Row, Settle, TopicAppend, Transaction
from discue.store.postgres.pool import ServerConnection
from discue.store.store import Store

_LATE_SECONDS = 0.05
_LEASES_MS = 60_000
_EARLY_MS = 500


def put(place: object, name: str, value: object) -> None:
    """Replace an existing attribute of a module or a class."""
    assert hasattr(place, name), f"{place} has no {name}: the bug would be none"
    setattr(place, name, value)


def answers_before_the_commit() -> None:
    store = Store.append
    tasks = set()

    async def late(self: Store, append: Append) -> None:
        await asyncio.sleep(_LATE_SECONDS)
        await store(self, append)

    async def append(self: Store, append: Append) -> Appended:
        task = asyncio.get_running_loop().create_task(late(self, append))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        entries = tuple(Entry(0, new.id, append.now, new.codec, new.body) for new in append.entries)
        return Appended(append.organization, append.queue, entries)

    put(Store, "append", append)


def starts_at_the_head() -> None:
    claim = cursors.claim

    async def claim_at_head(tx: Transaction, owner: int, keys: Sequence[CursorKey]) -> list[CursorKey]:
        won = await claim(tx, owner, keys)
        await tx.execute(
            "UPDATE cursor SET ahead = NULL, position = (SELECT head FROM queue_head h WHERE "
            "h.organization = cursor.organization AND h.queue = cursor.queue) WHERE owner = $1",
            owner,
        )
        return won

    put(workers, "claim", claim_at_head)


def gives_old_messages_to_new_listeners() -> None:
    insert = store_listeners.insert

    async def from_the_beginning(tx: Transaction, listener: Any, _head: int) -> None:
        await insert(tx, listener, 0)

    put(store_listeners, "insert", from_the_beginning)


def forgets_what_was_acknowledged() -> None:
    take = CursorState.take

    def forgetful(self: CursorState, *, releases: bool = False) -> Settle:
        position, self.window.position = self.window.position, self._record.position
        try:
            return take(self, releases=releases)
        finally:
            self.window.position = position

    put(CursorState, "take", forgetful)


def stores_a_message_of_a_topic_queue_by_queue() -> None:
    async def one_after_another(self: Store, routed: TopicAppend) -> tuple[Appended, ...]:
        appended: list[Appended] = []
        for append in routed.appends:
            if appended:
                # Long enough that one of a few kills comes in between: few publishes go to topics.
                await asyncio.sleep(20 * _LATE_SECONDS)
            entries = tuple(msgspec.structs.replace(entry, body_id=None) for entry in append.entries)
            appended.append(await self.append(msgspec.structs.replace(append, entries=entries)))
        return tuple(appended)

    put(Store, "append_to_topic", one_after_another)


def forgets_what_is_settled_ahead() -> None:
    decode = Window.decode
    put(Window, "decode", lambda position, _ahead: decode(position, None))


def never_follows_the_feed() -> None:
    async def catch_up(_self: ControlPlaneCache) -> None:
        """Follow no change."""

    put(ControlPlaneCache, "catch_up", catch_up)


def believes_what_it_read_before_an_outage() -> None:
    async def reset(self: LaneRegistry) -> None:
        for lane in self._lanes:
            lane.pump()

    put(LaneRegistry, "invalidate", lambda _self: None)
    put(LaneRegistry, "reset", reset)


def hands_over_without_its_flights() -> None:
    def detach(self: CursorState, seq: int, *_others: object) -> None:
        self.enter(seq, DeliveryState.DETACHED)
        self.window.settle(seq)
        self.dirty = True

    put(CursorState, "detach", detach)


def forgets_keys_at_a_takeover() -> None:
    def add_rows(self: Ordering, _rows: object, _owner_may_write: object, *, complete: bool) -> None:
        self.is_known |= complete

    put(Ordering, "add_rows", add_rows)


def hands_out_what_is_leased() -> None:
    read_snapshot = pull_leases.read_snapshot

    async def later(tx: Transaction, listener: tuple[int, int], now: int, seqs: Sequence[int], **options: bool) -> Any:
        return await read_snapshot(tx, listener, now + _LEASES_MS, seqs, **options)

    put(pull_leases, "read_snapshot", later)


def forgets_who_holds_keys_of_what_is_leased() -> None:
    async def nobody(*_of: object, **_named: object) -> list[object]:
        return []

    put(pull_leases, "keys_among", nobody)
    put(pull_leases, "keys_at", nobody)


def forgets_acknowledgements() -> None:
    def decide(self: PullSession, decision: Any, found: Any) -> str:
        return "acknowledged" if decision.action == "acknowledge" else str(do(self, decision, found))

    do = PullSession._apply
    put(PullSession, "_apply", decide)


def leaves_some_out_of_replays() -> None:
    decide_new = DeliveryRules.decide_new

    def decide(self: DeliveryRules, entry: Entry, now: int) -> str:
        return SKIP if self._waits_since_at_least and entry.seq % 7 == 0 else decide_new(self, entry, now)

    put(DeliveryRules, "decide_new", decide)


def replays_beyond_the_end() -> None:
    plan = cursors._plan

    def longer(row: Row) -> cursors.ReplayPlan:
        found = plan(row)
        return msgspec.structs.replace(found, until_seq=found.until_seq + 5)

    put(cursors, "_plan", longer)


def sends_replays_beside_the_limits() -> None:
    def may_start(self: FairShare, lane: limits.Limits) -> bool:
        self._waiting.pop(lane, None)
        return True

    put(FairShare, "may_start", may_start)


def loses_what_is_redelivered() -> None:
    redeliver = CursorState.redeliver

    def lose(self: CursorState, step: Any, now: int) -> None:
        redeliver(self, msgspec.structs.replace(step, apart=(), lost=(*step.lost, *step.apart)), now)

    put(CursorState, "redeliver", lose)


def ignores_keys_in_replays() -> None:
    init = Lane.__init__

    def unordered(self: Lane, record: cursors.LaneRecord, *others: Any) -> None:
        is_ordered = record.ordered and record.replay is None
        init(self, msgspec.structs.replace(record, ordered=is_ordered), *others)

    put(Lane, "__init__", unordered)


def lets_redelivered_messages_take_keys() -> None:
    send = Lane._send

    def begin(self: Lane, attempt: InFlightAttempt) -> None:
        if attempt.is_retry and self.cursor.ordering is not None:
            self.cursor.ordering.begin(attempt.entry)
        send(self, attempt)

    put(Lane, "_send", begin)


def lets_messages_pass_missed_ones() -> None:
    record = cursors._record

    put(cursors, "_record", lambda row: msgspec.structs.replace(record(row), blocks=False))


def writes_again_what_a_reused_connection_lost() -> None:
    lost = Sender.on_lost

    def on_lost(self: Sender, connection: Connection, error: Exception | None) -> None:
        exchange = connection.exchange
        if exchange is None or exchange.dial is not None or connection.response.received:
            lost(self, connection, error)
            return
        connection.detach()
        connection.abort()
        self._dial(exchange, connection.origin, self._clock.monotonic())

    put(Sender, "on_lost", on_lost)


def delivers_delayed_messages_early() -> None:
    due = direct_appends.due_messages

    async def early(tx: Transaction, now: int) -> list[direct_appends.DueMessage]:
        return await due(tx, now + _EARLY_MS)

    put(direct_appends, "due_messages", early)


def forgets_missed_runs() -> None:
    def newest(schedule: Schedule, now: int) -> DueRuns:
        return due_runs(msgspec.structs.replace(schedule, missed=MissedRunPolicy()), now)

    put(scheduler, "due_runs", newest)


def never_expires() -> None:
    put(DeliveryRules, "_drop_reason", lambda *_of: "")
    put(Sender, "_is_expired", lambda *_of: False)


_REPLACED: Mapping[str, tuple[object, str, object]] = {
    "signs_with_another_key": (
        endpoint,
        "signing_key_of",
        lambda secret: signing.HmacKey(signing.decode_secret(secret.text)[::-1]),
    ),
    "ignores_its_lease": (WorkerSession, "is_held_at", lambda _self, _monotonic: True),
    "ignores_the_warning_of_a_commit": (ServerConnection, "_notice", lambda _self, _connection, _message: None),
    "takes_guests_for_gone": (
        InheritedRequests,
        "_is_in_flight",
        lambda _self, _request, _here, _waited_seconds: False,
    ),
    "takes_over_with_a_full_bucket": (
        limits,
        "TokenBucket",
        lambda limit, now, **_named: TokenBucket(limit, now, is_full=True),
    ),
    "never_says_how_far_a_replay_is": (CursorState, "_take_replay_step", lambda _self: None),
    "erases_nothing": (erasures, "decode_options", lambda _extra: MessageOptions()),
    "sends_to_inactive_listeners": (breaker, "breaker_state", lambda _liveness: "closed"),
    "lets_everything_through_its_filters": (DeliveryRules, "_accepts", lambda _self, _entry: True),
}
"""Bugs that take the place of one function: where it is, its name, and what is done instead."""

BUGS: Mapping[str, Callable[[], None]] = {
    name: bug for name, bug in list(vars().items()) if isfunction(bug) and bug.__module__ == __name__ and bug is not put
} | {name: partial(put, *replaced) for name, replaced in _REPLACED.items()}
"""Every function above but `put`, and every replacement, by its name."""
