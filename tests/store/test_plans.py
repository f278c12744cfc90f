"""No query of the control plane walks a table or sorts: each is served by a primary key or one index."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any, get_args

import msgspec
import pytest

from discue.dashboard import history, missed_mark
from discue.dashboard.pages.attempts import listeners_of
from discue.dashboard.portal import tables
from discue.dashboard.portal.rules import PortalGrant, PortalSession, PortalTheme
from discue.dashboard.users import identity_table, second_factor_table, session_table
from discue.dashboard.users.identity_table import UserIdentity
from discue.dashboard.users.second_factor_table import SecondFactor
from discue.domain.causes import Cause, plain
from discue.domain.ids import last_id_of
from discue.domain.lockout import FAILURES, LockoutSubject
from discue.domain.message_data import JSON_VALUE
from discue.domain.messages import MessageOptions, encode_options, hash_key
from discue.domain.model import Channel, Listener, MissedSelection, Queue, Topic
from discue.domain.quotas import RESOURCES
from discue.domain.schedule import ScheduleRun
from discue.domain.waiting import SendingDefaults
from discue.store import (
    aliases,
    api_keys,
    attempts,
    cursors,
    deliveries,
    delivery_rows,
    direct_appends,
    domains,
    encryption,
    erasures,
    events,
    feed,
    idempotency,
    listeners,
    lockouts,
    message_log,
    messages,
    missed,
    organizations,
    pull_leases,
    purge,
    queues,
    recipients,
    redeliveries,
    replays,
    schedules,
    tallies,
    topics,
    users,
    workers,
)
from discue.store.aliases import ANY_ORGANIZATION, NAMED_KINDS, OFFERED_KINDS, ListedKind
from discue.store.deliveries import FilterDecisions, MessageFacts
from discue.store.engine import (
    PULL_OWNER,
    DeliveryRow,
    IdempotencyRecord,
    MissedRange,
    NewEntry,
    Row,
    Transaction,
    Value,
)
from discue.store.erasures import ERASURE_TABLE, LATE_MS
from discue.store.events import EventQuery, EventTopic, Occurrence
from discue.store.listeners import HealthRecord, ListenerHealth, Sweep
from discue.store.missed_scan import position_of
from discue.store.pagination import FIRST_PAGE, Selection
from discue.store.postgres.commit import CLOSED_AT, KNOWN_KEYS, append_statement, settle_statement
from discue.store.postgres.engine import PAGE, POLL
from discue.store.purge import Job
from discue.store.redeliveries import REDELIVERY_TABLE
from discue.store.replays import REPLAY_TABLE
from discue.store.schedules import PlannedRun
from discue.store.sqlite import commit
from discue.store.sqlite import engine as sqlite
from discue.store.store import Store
from discue.store.tallies import ListenerTally, TallyEntry
from tests.dashboard.users.test_session_table import a_session
from tests.store.postgres_plans import index_conditions, slow_steps
from tests.store.prepared import Prepared, on_prepared, prepared_by
from tests.store.rows import (
    a_domain,
    a_redelivery,
    a_replay,
    a_schedule,
    a_settle,
    an_organization,
    public_id,
    publish,
    row_id,
    stored_listener,
    stored_queue,
)
from tests.store.test_users import a_user
from tests.support.clocks import NOON
from tests.support.messages import facts_of, read_deliveries
from tests.support.postgres.cluster import Cluster

OURS = row_id(1)

SELECTIONS = (Selection(), Selection(page=3), Selection(after=public_id(30)), Selection(before=public_id(30)))


class Explaining:
    """A transaction that also asks for the plan of each statement."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.heads = tx.heads
        self.inline_bytes = tx.inline_bytes
        self.has_intake = tx.has_intake
        self.plans: dict[str, list[str]] = {}

    async def row(self, sql: str, *values: Value) -> Row | None:
        await self._explain(sql, *values)
        return await self._tx.row(sql, *values)

    async def rows(self, sql: str, *values: Value) -> list[Row]:
        await self._explain(sql, *values)
        return await self._tx.rows(sql, *values)

    async def execute(self, sql: str, *values: Value) -> int:
        await self._explain(sql, *values)
        return await self._tx.execute(sql, *values)

    async def exclusive(self) -> None:
        await self._tx.exclusive()

    async def end_sessions(self, session_id: int) -> None:
        await self._tx.end_sessions(session_id)

    async def _explain(self, sql: str, *values: Value) -> None:
        plan = await self._tx.rows(f"EXPLAIN QUERY PLAN {sql}", *values)
        self.plans[sql] = [row[-1] for row in plan]


class ExplainingOnce(Explaining):
    """A transaction that explains each statement once: on PostgreSQL this takes a while."""

    def __init__(self, tx: Transaction, explain: Callable[[Transaction, str], Awaitable[Any]] = slow_steps) -> None:
        super().__init__(tx)
        self._explain_one = explain

    async def _explain(self, sql: str, *values: Value) -> None:
        if sql not in self.plans:
            self.plans[sql] = await self._explain_one(self._tx, sql)


_BOUNDED = re.compile(
    r"SCAN (new|step|counted|looked_at|owners|given|span|urgent|found|search"
    r"|(\d+ )?CONSTANT ROWS?|\d+-ROW VALUES CLAUSE)"
)
"""Reads of rows that a statement brings itself, of a subquery with a LIMIT, or of what was found so far."""


def _is_slow(step: str) -> bool:
    return (step.startswith("SCAN") and _BOUNDED.match(step) is None) or "TEMP B-TREE" in step


_WHOLE = re.compile(r"^SELECT (?!.* LIMIT )(?!.* FROM portal)", re.DOTALL)
"""Statements that would read all rows of an organization if they went by its column alone: `portal` has one of each."""


def _is_of_a_whole_organization(sql: str, plan: list[str]) -> bool:
    return _WHOLE.match(sql.strip()) is not None and any(step.endswith("(organization=?)") for step in plan)


CAUSE = Cause(1 << 62, "final_status", 422, "no")


async def _world(store: Store) -> tuple[Queue, Listener]:
    queue = await stored_queue(store, OURS, 10)
    listener = await stored_listener(store, queue, 11)
    await publish(store, queue, [public_id(number) for number in range(20, 60)])
    rows = (DeliveryRow(3, "retry", 1, NOON, ""), DeliveryRow(5, "missed", 12, NOON, "used up", cause=CAUSE.id))
    ranges = (MissedRange(8, 9, "too_old", NOON),)
    await store.settle(
        a_settle(
            listener,
            20,
            acknowledged=10,
            missed=3,
            retrying=1,
            delivery_rows=rows,
            missed_ranges=ranges,
            causes=(CAUSE, Cause((1 << 62) + 1, "no_retry")),
        )
    )
    return queue, listener


async def _run_everything(tx: Transaction, queue: Queue, listener: Listener) -> None:
    found = await messages.find(tx, OURS, queue.public_id, public_id(33))
    assert found is not None
    assert found[0] == queue
    message = found[1]
    await read_deliveries(tx, message)
    await deliveries.timeline_page(tx, MessageFacts(message, {}, FilterDecisions(), SendingDefaults()), Selection())
    await messages.set_alias(tx, message, "other", NOON)
    await messages.delete(tx, message)
    await _deliver_later(tx, queue)
    await _run_schedules(tx, queue)
    await _erase(tx, queue, listener)
    await organizations.get(tx, OURS)
    await organizations.by_public_id(tx, public_id(1))
    await organizations.by_alias(tx, "com.example")
    await organizations.operator(tx)
    await api_keys.by_public_id(tx, public_id(1))
    await api_keys.enabled_after(tx, OURS, 0, 10)
    await aliases.of_ids(tx, "api_key", OURS, [public_id(33)])
    await users.names_of(tx, OURS, [public_id(33)])
    await listeners.queues_of(tx, OURS, [public_id(33)])
    await api_keys.mark_used(tx, OURS, row_id(1), NOON)
    await _change_queue(tx, queue)
    await _look_at(tx, queue, listener)
    await feed.record(tx, "queue", OURS, queue.id)
    await feed.since(tx, 0, 10)
    await purge.next_after(tx)
    await _redeliver(tx, queue, listener)
    await _replay(tx, queue, listener)
    await _lock_out(tx)
    await _sign_in(tx)
    await _portal(tx)
    await _show_pages(tx)
    await _verify(tx)
    await _go_by_channels(tx, queue)
    await tallies.take_budgets(tx, [tallies.BudgetRequest(OURS, row_id(1), 29_000_000, 5, 100, returned=2)])
    for resource in RESOURCES:
        await tallies.count_resources(tx, OURS, resource, 10)
    await tallies.count_messages(tx, OURS, range(5, 10))
    await tallies.bytes_stored(tx, OURS)
    await idempotency.store_key(tx, OURS, IdempotencyRecord((1, 2), b"", b"", row_id(2)), NOON)
    await idempotency.read_response(tx, OURS, (1, 2))


async def _deliver_later(tx: Transaction, queue: Queue) -> None:
    await tx.execute("INSERT INTO scheduled VALUES ($1, $2, 5, $3, 9, 7)", OURS, queue.id, NOON)
    assert await schedules.next_publish_at(tx) is not None
    mine = direct_appends.DueMessage((OURS, queue.id), 5, 9)
    await direct_appends.due_messages(tx, NOON)
    await direct_appends.append_due(tx, [mine], NOON)
    assert tx.heads[mine.queue] == 41
    await direct_appends.cancel_delayed(tx, mine.queue, [6])


async def _erase(tx: Transaction, queue: Queue, listener: Listener) -> None:
    key = (OURS, queue.id)
    job = await erasures.begin(tx, key, row_id(97), key="customer-7", now=NOON)
    await ERASURE_TABLE.page(tx, OURS, queue.id, Selection())
    extra = encode_options(MessageOptions(key="customer-7"))
    entry = NewEntry(public_id(97), JSON_VALUE, b"1", key_hash=hash_key("customer-7"), extra=extra)
    await direct_appends.append_directly(tx, key, [entry], NOON)
    values = (OURS, row_id(98), listener.id, queue.id, tx.heads[key])
    await tx.execute("INSERT INTO attempt VALUES ($1, $2, $3, $4, $5, 1, 500, 'status', 1, '', NULL)", *values)
    await tx.execute("UPDATE erasure SET until_seq = 1000 WHERE organization = $1 AND id = $2", OURS, job.id)
    assert await erasures.step(tx, job, NOON)
    assert await erasures.erase_late_attempts(tx, NOON + LATE_MS + 1) == 1


async def _run_schedules(tx: Transaction, queue: Queue) -> None:
    await organizations.insert(tx, an_organization(1))
    made = a_schedule(queue, 60, next_run_at=NOON)
    await schedules.insert(tx, made)
    await schedules.count(tx, OURS, queue.id, 10)
    await schedules.update(tx, made)
    for selection in SELECTIONS:
        await schedules.page(tx, OURS, queue.id, selection)
        await schedules.page_of_organization(tx, OURS, selection)
    assert await schedules.get(tx, OURS, made.public_id) == made
    assert await schedules.next_publish_at(tx) is not None
    await schedules.due(tx, NOON)
    entry = NewEntry(public_id(61), JSON_VALUE, b"1")
    planned = PlannedRun(made, queue.config_version, (entry,), ScheduleRun(NOON, NOON, entry.id), None, (1, 2, 3))
    await schedules.run(tx, [planned], NOON)
    assert tx.heads[OURS, queue.id] == 42
    await schedules.delete(tx, made)


async def _look_at(tx: Transaction, queue: Queue, listener: Listener) -> None:
    await listeners.get(tx, OURS, listener.public_id)
    await listeners.by_id(tx, OURS, listener.id)
    await listeners.get_with_facts(tx, OURS, listener.public_id)
    await listeners.get_with_facts(tx, OURS, listener.public_id, "acme")
    await listeners.read_facts(tx, OURS, [listener])
    await missed.newest_ids(tx, listener)
    await queues.listeners_of(tx, OURS, [queue.id], 10)
    await listeners.update(tx, listener)


async def _change_queue(tx: Transaction, queue: Queue) -> None:
    await queues.head(tx, OURS, queue.id)
    await queues.get_with_head(tx, OURS, queue.public_id)
    await queues.get_with_count(tx, OURS, queue.public_id, counted=100)
    await queues.update(tx, queue)


async def _redeliver(tx: Transaction, queue: Queue, listener: Listener) -> None:
    """Run the statements for missed messages and redeliveries."""
    of = await recipients.find_recipient(tx, OURS, listener.public_id)
    assert of is not None
    selections = (
        MissedSelection((3, 5)),
        MissedSelection(reason="too_old"),
        MissedSelection(cause=CAUSE.id),
        MissedSelection(),
    )
    for number, chosen in enumerate(selections):
        made = a_redelivery(listener, 80 + number, chosen=chosen)
        await REDELIVERY_TABLE.insert(tx, made)
        await redeliveries.preview(tx, of, chosen, (0, 40))
        await redeliveries.next_batch(tx, (OURS, listener.id, 0), queue.id, ordered=True)
        await REDELIVERY_TABLE.get(tx, OURS, made.public_id)
        await REDELIVERY_TABLE.delete(tx, made, 0)
        for selection in SELECTIONS:
            await missed.page_of_listener(tx, of, msgspec.structs.replace(selection, reason=chosen.reason))
            await REDELIVERY_TABLE.page(tx, OURS, listener.id, selection)
            await REDELIVERY_TABLE.page_of_organization(tx, OURS, selection)
    position = position_of((listener.id + 1, 30))
    places: list[dict[str, Any]] = [{}, {"after": position}, {"before": position_of((0, 0))}]
    filtered: list[dict[str, Any]] = [{}, {"reason": "too_old"}, {"created_after": NOON}, {"queue": queue.public_id}]
    for place, filters in product(places, filtered):
        selection = Selection(**place, **filters)
        for only in (None, {listener.public_id, queue.public_id}):
            await missed.page(tx, OURS, selection, only)
    await missed.page(tx, OURS, Selection(listener=listener.public_id))
    for cause, place in product((CAUSE, plain("too_old")), places):
        await missed.page(tx, OURS, Selection(**place, group=position_of((listener.id, cause.id))))


async def _go_by_channels(tx: Transaction, queue: Queue) -> None:
    """Run the statements for topics, their channels, and shared bodies."""
    topic = Topic(OURS, row_id(85), public_id(85), "topic", 1, NOON, NOON)
    channel = Channel(
        OURS, row_id(86), public_id(86), topic.id, topic.public_id, queue.id, queue.public_id, "it", None, None, 0, 0
    )
    await topics.insert(tx, topic)
    await topics.insert_channel(tx, channel)
    for selection in SELECTIONS:
        for only in (None, {topic.public_id, public_id(33)}):
            await topics.page(tx, OURS, selection, only)
        for only in (None, {channel.public_id, public_id(33)}):
            await topics.channel_page(tx, topic, selection, only)
    for kind, scope in [*((kind, OURS) for kind in NAMED_KINDS), ("organization", ANY_ORGANIZATION)]:
        await aliases.find(tx, kind, scope, "any", parent=queue.public_id)
        await aliases.has_id(tx, kind, scope, queue.public_id)
    for kind in get_args(ListedKind):
        await aliases.neighbours(tx, kind, OURS, "any", parent=queue.public_id, most=25)
    for offered in ((kind,) for kind in OFFERED_KINDS):
        await aliases.beginning_with(tx, offered, OURS, "any", most=5)
    await aliases.beginning_with(tx, OFFERED_KINDS, OURS, "any", most=5)
    await aliases.with_id(tx, OFFERED_KINDS, OURS, queue.public_id)
    await topics.get(tx, OURS, topic.public_id)
    await topics.store_unrouted(tx, (OURS, topic.id, 1), None, NOON)
    await topics.update(tx, topic)
    await topics.reroute(tx, OURS, topic.id)
    await topics.get_channel(tx, OURS, channel.public_id)
    await topics.channels_of(tx, topic)
    await topics.channel_references(tx, OURS, [topic.id, 1])
    await topics.has_room(tx, channel)
    await topics.leads_into(tx, OURS, topic.id, queue.id)
    await topics.update_channel(tx, channel)
    await message_log.release_bodies(tx, OURS, [(1, 7), (1, None), (1, 8)])
    await topics.delete_channel(tx, OURS, channel.id)
    await topics.delete_channels_into(tx, OURS, queue.id)
    await topics.delete_channels_of(tx, OURS, topic.id)
    await topics.delete(tx, OURS, topic.id)


async def _replay(tx: Transaction, queue: Queue, listener: Listener) -> None:
    made = a_replay(listener, 84)
    await REPLAY_TABLE.insert(tx, made)
    await replays.ends_of(tx, OURS, queue.id, 1, last=9)
    await replays.count_of(tx, OURS, queue.id, 1, last=9)
    await REPLAY_TABLE.get(tx, OURS, made.public_id)
    await REPLAY_TABLE.list_open(tx, OURS, listener.id, 10)
    for selection in SELECTIONS:
        await REPLAY_TABLE.page(tx, OURS, listener.id, selection)
        await REPLAY_TABLE.page_of_organization(tx, OURS, selection)
    await replays.end(tx, (OURS, listener.id, made.id), 1, 0, now=NOON)
    await REPLAY_TABLE.delete(tx, made, row_id(85))
    for count in (3, 0):
        await replays.hold_slots(tx, 1, OURS, count)


async def _lock_out(tx: Transaction) -> None:
    subject = LockoutSubject.api_key(public_id(7), "192.0.2.1")
    for _ in range(FAILURES):
        await lockouts.count_failure(tx, subject, NOON, Occurrence(row_id(900), ""))
    await lockouts.locks_of(tx, [subject.number, 1])
    await lockouts.active(tx, NOON, 10)
    await lockouts.of_name(tx, subject.kind, subject.name, 10)
    await lockouts.of_address(tx, subject.address, 10)
    await lockouts.release(tx, subject)


async def _show_pages(tx: Transaction) -> None:
    """Run the statements that only pages of the dashboard execute."""
    await missed_mark.count(tx, OURS)
    await history.read(tx, OURS, 1, range(1, 2))
    found = await attempts.of_organization(tx, OURS, FIRST_PAGE)
    await attempts.of_organization(tx, OURS, Selection(outcome="failed", status="5xx"))
    await listeners_of(tx, OURS, found.items)


async def _portal(tx: Transaction) -> None:
    """Run the statements of the portal: for its sessions, and for what a customer may see."""
    session = PortalSession(OURS, row_id(91), public_id(91), "acme", PortalGrant(), NOON, 0, NOON, code_hash=b"code")
    await tables.keep_theme(tx, OURS, PortalTheme("#4a41d8"))
    await tables.insert(tx, session)
    await tables.delete_oldest(tx, OURS, "acme")
    await tables.by_code(tx, b"code")
    await tables.open_session(tx, session, b"token", NOON)
    await tables.find(tx, b"token")
    await tables.get(tx, OURS, session.public_id)
    await tables.page(tx, OURS, FIRST_PAGE)
    await tables.delete_ended(tx, NOON)
    await tables.delete(tx, OURS, session.id)
    await tables.set_frame_ancestors(tx, OURS, ["https://app.example.com"], NOON)
    await tables.frame_ancestors(tx, OURS)
    await tables.resolve_queues(tx, OURS, ["orders"])
    await tables.resolve_topics(tx, OURS, ["shop"])
    await tables.queues_of_topics(tx, OURS, [public_id(92)])
    await tables.queues_of_customer(tx, OURS, "acme")
    await tables.queues_of_ids(tx, OURS, [public_id(92)])
    message = (await messages.page(tx, OURS, Selection(per_page=1))).items[0]
    await deliveries.settings_of_customer(tx, message, "acme", FilterDecisions())
    await deliveries.page_of_message(tx, await facts_of(tx, message), Selection(customer="acme"))
    await attempts.rows_of_message(tx, message)
    await attempts.rows_of_message(tx, message, "acme")
    await listeners.get(tx, OURS, public_id(93), "acme")
    await listeners.count_of_customer(tx, OURS, "acme")
    await listeners.page(tx, OURS, Selection(customer="acme"))
    await queues.page(tx, OURS, Selection(customer="acme"))


async def _sign_in(tx: Transaction) -> None:
    """Run the statements for sessions, one-time codes, second factors and accounts at providers."""
    user, session = a_user(87), a_session(88, row_id(87))
    await users.insert(tx, user)
    await users.by_id(tx, OURS, user.id)
    await users.with_email(tx, user.email, limit=2)
    await session_table.insert(tx, session)
    await session_table.find(tx, session.token_hash)
    await session_table.get(tx, OURS, session.public_id)
    await session_table.of_user(tx, OURS, user.id, limit=10)
    await session_table.saw(tx, session, NOON + 1, NOON + 2)
    await session_table.delete_oldest(tx, OURS, user.id, kept=3)
    await session_table.delete_ended(tx, NOON)
    await session_table.delete_by_token(tx, b"token")
    await session_table.delete(tx, OURS, 1)
    await session_table.delete_of_user(tx, OURS, user.id)
    await session_table.delete_unfinished(tx, OURS, user.id)
    await session_table.insert_code(tx, session_table.SignInCode(OURS, row_id(89), b"code", user.id, "", NOON))
    await session_table.has_code(tx, b"code")
    await session_table.redeem_code(tx, b"code")
    await session_table.delete_expired_codes(tx, NOON)
    factor = SecondFactor(OURS, user.id, b"secret")
    await second_factor_table.put(tx, factor)
    await second_factor_table.get(tx, OURS, user.id)
    await second_factor_table.use_step(tx, factor, 1)
    await second_factor_table.use_recovery_code(tx, factor, ("code",))
    await second_factor_table.count_failure(tx, factor, NOON)
    await second_factor_table.reset_failures(tx, OURS, user.id)
    await second_factor_table.refused(tx, NOON, (OURS, 0), 10)
    await second_factor_table.users_with(tx, OURS, [user.id, 1])
    await second_factor_table.delete(tx, OURS, user.id)
    await identity_table.insert(tx, UserIdentity(OURS, row_id(90), user.id, "https://id.example.com", "17", NOON))
    await identity_table.find_user(tx, OURS, "https://id.example.com", "17")
    await identity_table.of_user(tx, OURS, user.id)
    await identity_table.delete_of_user(tx, OURS, user.id)
    await encryption.rows_after(tx, None, 10)


async def _verify(tx: Transaction) -> None:
    """Run the statements for domains."""
    domain = a_domain(70)
    await domains.insert(tx, domain)
    await domains.get(tx, OURS, domain.public_id)
    await domains.by_id(tx, OURS, domain.id)
    await domains.due(tx, NOON, 10)
    await domains.is_verified(tx, OURS, domain.host_key, domain.port)
    await domains.update(tx, domain)
    await domains.delete(tx, OURS, domain.id)


async def _look_back(tx: Transaction, queue: Queue, listener: Listener) -> None:
    """Events of every choice, and counts."""
    ours = queue.organization
    await events.record(tx, Occurrence(row_id(60), ""), "queue_added", ours, ref=queue.public_id, name=queue.alias)
    only = (None, {public_id(33), listener.public_id, queue.public_id})
    for topic, chosen, oldest_first in product(get_args(EventTopic), only, (False, True)):
        choice: EventTopic = topic
        await events.find(tx, EventQuery(ours, last_id_of(NOON), 10, choice, chosen, oldest_first, public_id(50)))
    await tallies.add(tx, [TallyEntry(ours, tallies.CURRENT, tallies.BYTES_STORED, 1)])
    await tallies.since(tx, ours, 1)
    await tallies.bytes_stored(tx, ours)
    await tallies.delete_old(tx, ours, 10, 2)
    await purge.delete_old(tx, "event", ours, NOON)


async def _purge_everything(tx: Transaction, queue: Queue, listener: Listener) -> None:
    await queues.close_some(tx, OURS, 0, 10, now=NOON)
    for job in (
        Job(OURS, row_id(89), "purge_replay", listener=listener.id, stream=5),
        Job(OURS, row_id(90), "purge_listener", listener=listener.id),
        Job(OURS, row_id(91), "purge_queue", queue=queue.id),
        Job(OURS, row_id(92), "purge_organization"),
    ):
        while not await purge.step(tx, job):
            pass


async def _pull(tx: Transaction, queue: Queue, listener: Listener) -> None:
    """Run the statements for pulling, in an ordered queue and in others, and for counts of listeners."""
    key, seqs = (OURS, listener.id, 0), [3, 4, 5]
    await organizations.insert(tx, an_organization(1))
    await tx.execute(
        "UPDATE cursor SET owner = $1, retrying = 1 WHERE organization = $2 AND listener = $3", PULL_OWNER, *key[:2]
    )
    assert await pull_leases.read_snapshot(tx, key[:2], NOON, seqs) is not None
    await pull_leases.count_open_rows(tx, key)
    await pull_leases.keys_at(tx, key, seqs)
    await pull_leases.keys_among(tx, key, queue.id, [7, 8])
    await message_log.bodies_by_seq(tx, (OURS, queue.id), seqs)
    await cursors.lanes_after(tx, PULL_OWNER, (0, 0, 0), 10)
    await pull_leases.backlogs_after(tx, (0, 0, 0), 10, now=NOON)
    counted = [((OURS, listener.id, period), ListenerTally(1)) for period in (5, 6)]
    await tallies.add_of_listeners(tx, counted)
    await tallies.of_listener(tx, OURS, listener.id, 5)
    await tallies.sums_of_listeners(tx, OURS, [listener.id, 3], 5)
    await tallies.delete_old_of_listeners(tx, 5)
    await history.move_old(tx, NOON)
    await history.delete_old(tx, NOON)
    await tx.execute("UPDATE cursor SET owner = NULL WHERE organization = $1 AND listener = $2", *key[:2])


async def _lead_and_clean_up(tx: Transaction, queue: Queue, listener: Listener) -> None:
    """Run the statements of lanes and retention."""
    key = (OURS, listener.id, 0)
    await cursors.claim(tx, 7, [key, (OURS, listener.id, 1)])
    await cursors.lanes_after(tx, 7, (0, 0, 0), 10)
    await cursors.lanes_after(tx, 7, (0, 0, 0), 10, last=key)
    await cursors.renew_tokens(tx, 7)
    await cursors.lanes_of(tx, 7, OURS, listener.id)
    place = (OURS, listener.queue)
    await delivery_rows.read_due(tx, place, key, NOON, limit=10, max_bytes=1_000, known=())
    await delivery_rows.read_sweep(tx, place, key, Sweep(0, 40), limit=10, max_bytes=1_000, known=())
    standing = HealthRecord(OURS, listener.id, 7, listener.liveness_url, listener.config_version, ListenerHealth())
    await listeners.write_health(tx, [standing, standing])
    await delivery_rows.read_open_keys(tx, key)
    await delivery_rows.blocking_rows(tx, key)
    await delivery_rows.deleted_blocking_rows(tx, key)
    await delivery_rows.blocking_rows_among(tx, key, [3, 5])
    await delivery_rows.retries_up_to(tx, key, 100, NOON, limit=10)
    await message_log.last_seq_stored_before(tx, OURS, queue.id, (0, 40), before=NOON + 1)
    await cursors.release(tx, 7, [key])
    await delivery_rows.read_inherited_requests(tx, key)
    await workers.release_cursors(tx, 7, 10)
    await workers.missing_owner_after(tx, 0)
    await workers.delete(tx, 7)
    log = purge.LogToTrim(OURS, queue.id, 0, 40, None)
    await purge.logs_after(tx, (0, 0), 10)
    await purge.oldest_messages(tx, [log, log])
    await purge.trim_log(tx, log, 0, NOON + 1)
    await purge.delete_missed(tx, NOON + 5)
    await purge.delete_unused_causes(tx, (0, 0, 0))
    await purge.delete_ended(tx, "redelivery", NOON)
    await purge.delete_ended(tx, "replay", NOON)
    await purge.delete_ended(tx, "erasure", NOON)
    await purge.delete_old(tx, "attempt", OURS, NOON)
    await purge.delete_old(tx, "attempt_detail", OURS, NOON)
    await purge.next_organization(tx, 0)
    await lockouts.delete_old(tx, NOON)
    await tallies.delete_old_budgets(tx, 29_000_000)
    await idempotency.store_key(tx, OURS, IdempotencyRecord((3, 4), b"", b"", row_id(3)), NOON)
    assert await idempotency.delete_old_keys(tx, (0, 9), NOON + 60_000) is None
    await idempotency.delete_old_responses(tx, OURS, NOON + 60_000)


@pytest.fixture
def prepared(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Iterator[Prepared]:
    with prepared_by(runner, request.param, _world) as made:
        yield made


def name_of(value: Callable[..., object]) -> str:
    return f"postgres{value.__name__}"


def _without_statistics(cluster: Cluster, database: str) -> None:
    """Leave the tables as after an installation: none was analysed."""
    analysed = "SELECT count(*) FROM pg_class WHERE relname = 'log' AND reltuples >= 0"
    assert cluster.run_sql(analysed, database) == [("0",)]


def _with_those_of_few_rows(cluster: Cluster, database: str) -> None:
    """Analyse the tables while they are empty or have a row or two."""
    cluster.run_sql("VACUUM ANALYZE", database)


def _with_those_of_many_rows(cluster: Cluster, database: str) -> None:
    for sql in _MANY_ROWS:
        cluster.run_sql(sql, database)
    cluster.run_sql("VACUUM ANALYZE", database)


_MANY_ROWS = (
    """INSERT INTO organization
        (id, public_id, alias, state, is_operator, settings, created_at, updated_at, deleted_at)
    SELECT o, 'o' || o, 'com.example.o' || o, 'active', 0, '{}', 0, 0, NULL FROM generate_series(1, 300) o""",
    """INSERT INTO queue
        (organization, id, public_id, alias, ordered, settings, schema, config_version, created_at, updated_at,
        deleted_at)
    SELECT o, q, 'q' || o || '-' || q, 'queue-' || q, 0, '{}', NULL, 1, 0, 0, NULL
    FROM generate_series(1, 20) o, generate_series(1, 100) q""",
    """INSERT INTO queue_head (organization, queue, head, tail, last_stored_at, config_version, closed_at)
    SELECT organization, id, 100, 0, 0, 1, NULL FROM queue WHERE id <= 100""",
    """INSERT INTO listener
        (organization, id, public_id, queue, alias, mode, status, notify_url, liveness_url, settings, secrets,
        config_version, created_at, updated_at, deleted_at)
    SELECT organization, id, 'l' || organization || '-' || id, id, 'listener', 'push', 'enabled', '', '', '{}', '[]', 1,
        0, 0, NULL
    FROM queue WHERE id <= 100""",
    """INSERT INTO cursor
        (organization, listener, stream, queue, owner, token, version, start_seq, until_seq, position, ahead,
        acknowledged, missed, retrying, last_success_at, last_failure_at)
    SELECT organization, id, 0, id, CASE WHEN id % 50 > 0 THEN id % 5 END, 0, 0, 0, NULL, 0, NULL, 0, 0, 0, 0, 0
    FROM queue WHERE id <= 100""",
    """INSERT INTO domain
        (organization, id, public_id, alias, hostname, host_key, port, context_path, file_name, file_content,
        challenge_created_at, challenge_expires_at, verified, verified_at, failures, failed_since, last_error,
        tried_at, checked_at, due_at, config_version, created_at, updated_at)
    SELECT o, d, 'd' || o || '-' || d, 'domain-' || d, '', 'host-' || d % 50, 443, '', '', '', 0, 0, d % 2, 0, 0, 0, '',
        0, 0, CASE WHEN d % 3 > 0 THEN d * o END, 1, 0, 0
    FROM generate_series(1, 20) o, generate_series(1, 100) d""",
    """INSERT INTO delivery
        (organization, listener, stream, seq, queue, state, attempts, due_at, token, key_hash, blocked, reason,
        sender)
    SELECT organization, id, 0, s, id, CASE s % 3 WHEN 0 THEN 'retry' ELSE 'missed' END, 1, s, NULL, NULL, 0, '',
        NULL
    FROM queue, generate_series(1, 10) s WHERE id <= 100""",
    """INSERT INTO log
        (organization, queue, seq, id, stored_at, updated_at, kind, origin_seq, key_hash, alias, expires_at, size,
        codec, body_id, extra, body)
    SELECT organization, id, s, 'm' || id || '-' || s, s, NULL, 0, NULL, NULL, NULL, NULL, 2, 1, NULL, NULL, '{}'
    FROM queue, generate_series(1, 10) s WHERE id <= 100""",
    """INSERT INTO topic (organization, id, public_id, alias, routes_version, created_at, updated_at)
    SELECT o, t, 't' || o || '-' || t, 'topic-' || t, 1, 0, 0
    FROM generate_series(1, 20) o, generate_series(1, 100) t""",
    """INSERT INTO channel (organization, id, public_id, topic, queue, alias, pattern, filter, created_at, updated_at)
    SELECT o, t * 100 + q, 'c' || o || '-' || t || '-' || q, t, q, 'channel-' || q, NULL, NULL, 0, 0
    FROM generate_series(1, 20) o, generate_series(1, 100) t, generate_series(1, 10) q""",
    """INSERT INTO body (organization, id, size, uses, bytes)
    SELECT o, o * 1000 + b, 1, 2, 'x' FROM generate_series(1, 20) o, generate_series(1, 1000) b""",
    """INSERT INTO scheduled (organization, queue, origin_seq, due_at, size, key_hash)
    SELECT organization, id, s, id * s, 1, NULL
    FROM queue, generate_series(1, 10) s WHERE id <= 100""",
    """INSERT INTO schedule
        (organization, id, public_id, queue, alias, status, settings, codec, size, body, config_version, next_run_at,
        last_run, created_at, updated_at)
    SELECT organization, id * 100 + s, 's' || organization || '-' || id || '-' || s, id, 's' || s, 'enabled',
        '{"timing":{"cron":"@daily"}}', 1, 1, 'x', 1, CASE WHEN s % 3 > 0 THEN id * s END, NULL, 0, 0
    FROM queue, generate_series(1, 10) s WHERE id <= 100""",
    """INSERT INTO attempt (organization, id, listener, queue, seq, number, status, error, took_ms, detail)
    SELECT organization, id * 100 + s, id, id, s, 1, 200, '', 1, ''
    FROM queue, generate_series(1, 10) s WHERE id <= 100""",
    """INSERT INTO attempt_detail (organization, id, listener, size, content)
    SELECT organization, id * 100 + s, id, 1, 'x'
    FROM queue, generate_series(1, 10) s WHERE id <= 100""",
    """INSERT INTO missed_range (organization, listener, seq_from, queue, seq_to, reason, missed_at)
    SELECT organization, id, s * 10, id, s * 10 + 1, '', s
    FROM queue, generate_series(1, 10) s WHERE id <= 100""",
    """INSERT INTO missed_cause (organization, listener, cause, reason, status, text)
    SELECT organization, id, s, '', 0, ''
    FROM queue, generate_series(1, 10) s WHERE id <= 100""",
    """INSERT INTO redelivery
        (organization, id, public_id, listener, state, spec, pace, position, until_seq, selected, redelivered, gone,
        created_at, updated_at, ended_at)
    SELECT organization, id * 100 + s, 'r' || organization || '-' || id || '-' || s, id, 'done', '{}', NULL, 0, 0, 0, 0,
        0, 0, 0, CASE WHEN s > 2 THEN s END
    FROM queue, generate_series(1, 10) s WHERE id <= 100""",
    """INSERT INTO idempotency_key (key, response)
    SELECT k, k FROM generate_series(-10000, 10000) k""",
    """INSERT INTO idempotency_response (organization, id, stored_at, size, content)
    SELECT organization, id * 100 + s, s, 1, 'x'
    FROM queue, generate_series(1, 10) s WHERE id <= 100""",
    """INSERT INTO replay
        (organization, id, public_id, listener, state, spec, pace, from_seq, until_seq, position, selected, delivered,
        failed, expired, filtered, retrying, created_at, updated_at, ended_at)
    SELECT organization, id * 100 + s, 'R' || organization || '-' || id || '-' || s, id, 'done', '{}', NULL, 1, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, CASE WHEN s > 2 THEN s END
    FROM queue, generate_series(1, 10) s WHERE id <= 100""",
    """INSERT INTO replay_slot (organization, number, owner)
    SELECT o, n, n FROM generate_series(10, 5000) o, generate_series(1, 3) n""",
    """INSERT INTO allowance (organization, caller, minute, taken)
    SELECT o, q, m, 1
    FROM generate_series(1, 20) o, generate_series(1, 50) q, generate_series(1, 5) m""",
    """INSERT INTO tally (organization, period, kind, slot, n)
    SELECT o, p, k, s, 1
    FROM generate_series(1, 20) o, generate_series(0, 50) p, generate_series(1, 4) k, generate_series(1, 3) s""",
    """INSERT INTO event (organization, id, kind, client, ref, name)
    SELECT o, e, 'queue_added', '', 'r' || e % 100, ''
    FROM generate_series(1, 20) o, generate_series(1, 1000) e""",
    """INSERT INTO listener_tally (organization, listener, period, acknowledged, failed, missed)
    SELECT organization, id, s, 1, 1, 1
    FROM queue, generate_series(1, 20) s WHERE id <= 100""",
    """INSERT INTO listener_history (organization, listener, period, acknowledged, failed)
    SELECT organization, id, s, 1, 1
    FROM queue, generate_series(1, 20) s WHERE id <= 100""",
    """INSERT INTO lockout (subject, kind, name, address, failed_at, locks, locked_until, updated_at)
    SELECT s, 'api_key', 'k' || s % 10000, 'a' || s / 2, '[]', 0, s, s FROM generate_series(1, 20000) s""",
    """INSERT INTO worker (session_id, lease_until, dead, role, slot, lease_ms, is_leaving)
    SELECT w, 0, w % 2, 'all', w, 1000, 0 FROM generate_series(1, 8) w""",
)


@contextmanager
def _no_slow_plans(explaining: Explaining, is_slow: Callable[[str], bool]) -> Iterator[None]:
    yield
    slow = {
        sql: plan
        for sql, plan in explaining.plans.items()
        if any(map(is_slow, plan)) or _is_of_a_whole_organization(sql, plan)
    }
    assert len(explaining.plans) > 10
    assert slow == {}


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize("everything", [_run_everything, _purge_everything, _look_back, _pull, _lead_and_clean_up])
async def test_every_statement_goes_by_an_index_and_sorts_nothing(store: Store, everything: Any) -> None:
    queue, listener = await _world(store)

    async def work(tx: Transaction) -> None:
        explaining = Explaining(tx)
        with _no_slow_plans(explaining, _is_slow):
            await everything(explaining, queue, listener)

    await store.write(work)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
async def test_hot_statements_of_a_file_go_by_a_key(store: Store) -> None:
    statements = [sqlite._PAGE]
    for module in (commit,):
        rendered = [value for name, value in vars(module).items() if name[1:].isupper() and callable(value)]
        statements += [render(count) for render in rendered for count in (1, 64)]
    statements += [render(count) for _, render in commit._CHANGES for count in (1, 64)]

    async def work(tx: Transaction) -> None:
        explaining = Explaining(tx)
        with _no_slow_plans(explaining, _is_slow):
            for sql in statements:
                values = [None] * max(int(number) for number in re.findall(r"[$?](\d+)", sql))
                await explaining._explain(sql, *values)

    await store.read(work)


@on_prepared
@pytest.mark.parametrize(
    ("prepared", "everything"),
    [
        *product((_without_statistics, _with_those_of_many_rows), (_run_everything, _purge_everything, _look_back)),
        (_with_those_of_few_rows, _run_everything),
        # A table of which it is known that it is tiny may be walked by what cleans up.
        *product((_without_statistics, _with_those_of_many_rows), (_lead_and_clean_up, _pull)),
    ],
    indirect=["prepared"],
    ids=name_of,
)
async def test_every_statement_does_so_on_a_server_whatever_its_statistics_say(
    prepared: Prepared, everything: Any
) -> None:
    async def work(tx: Transaction) -> None:
        explaining = ExplainingOnce(tx)
        with _no_slow_plans(explaining, bool):
            await everything(explaining, prepared.queue, prepared.listener)

    await prepared.try_out(work)


_KEYS = {
    "cursor_pkey": ("organization = ANY", "listener =", "stream ="),
    "delivery_pkey": ("organization = ANY", "listener =", "stream =", "seq ="),
    "idempotency_key_pkey": ("key =",),
    "log_pkey": ("organization =", "queue =", "seq >"),
    "missed_range_pkey": ("organization = ANY", "listener =", "seq_from ="),
    "redelivery_pkey": ("organization = ANY", "id ="),
    "replay_pkey": ("organization = ANY", "id ="),
    "queue_head_pkey": ("organization =", "queue ="),
    "body_pkey": ("id =",),
    "topic_pkey": ("organization = ANY", "id ="),
}


@on_prepared
@pytest.mark.parametrize(
    "prepared", [_without_statistics, _with_those_of_few_rows, _with_those_of_many_rows], indirect=True, ids=name_of
)
async def test_the_hot_statements_go_by_whole_primary_keys_on_a_server(prepared: Prepared) -> None:
    store = prepared.store
    rare = ((False, False, False), (True, True, True))
    settles = [
        settle_statement((*parts[:4], ranges, parts[4], parts[4], *steps, parts[5]))
        for parts in product((False, True), repeat=6)
        for ranges, *steps in rare
    ]
    appends = [
        append_statement(has_keys=has_keys, has_delayed=has_delayed)
        for has_keys, has_delayed in product((False, True), repeat=2)
    ]
    topics = append_statement(has_keys=True, has_delayed=True, is_topic=True)
    for sql in (*settles, *appends, topics, KNOWN_KEYS, CLOSED_AT, PAGE, POLL):
        found = await store.read(lambda tx, sql=sql: index_conditions(tx, sql))  # type: ignore[misc]
        assert found or sql in settles
        for index, condition in found.items():
            parts = _KEYS.get(index, ())
            assert all(part in condition.replace("= ANY", "= ANY =") for part in parts), (index, condition)
        assert set(found) <= {*_KEYS, *_OF_POLL}, found


_OF_POLL = (
    "meta_pkey",
    "feed_head_pkey",
    "job_state",
    "worker_pkey",
    "cursor_free",
    "scheduled_due",
    "schedule_due",
    "intake_waiting",
)


@pytest.mark.parametrize("step", ["SCAN log", "USE TEMP B-TREE FOR ORDER BY", "SCAN queue USING INDEX queue_alias"])
def test_a_slow_plan_would_be_seen(step: str) -> None:
    assert _is_slow(step)


def test_a_statement_that_reads_a_whole_organization_would_be_seen() -> None:
    plan = ["SEARCH log USING PRIMARY KEY (organization=?)"]
    assert _is_of_a_whole_organization("SELECT seq FROM log WHERE organization = $1 AND id = $2", plan)
