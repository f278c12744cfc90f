"""An installation with rows of every kind, made by the control plane and the store as a server makes them."""

import msgspec

from discue.control import api_keys, domains, listeners, messages, organizations, queues
from discue.control.api_keys import KeyFields
from discue.control.domains import DomainFields
from discue.control.listener_fields import ListenerFields
from discue.control.organizations import OrganizationFields
from discue.control.queues import QueueFields
from discue.dashboard.users import users
from discue.dashboard.users.users import UserFields
from discue.domain.aliases import NameFields
from discue.domain.attempts import Attempt
from discue.domain.listener_health import FailureStreak, Liveness
from discue.domain.model import Listener, Queue
from discue.domain.scopes import Principal
from discue.store.engine import Append, DeliveryRow, MissedRange, NewEntry, Settle, Transaction, Value
from discue.store.listeners import HealthRecord, ListenerHealth, Sweep, write_health
from discue.store.store import Store
from discue.store.tables import TABLES, insert_rows
from tests.support.cast import control_of, present
from tests.support.clocks import NOON, StandingClock

OWNER = 4_711
"""The session that owns the cursors and has requests in flight."""

MESSAGES = 40
ACKNOWLEDGED = 30


class Furnished(msgspec.Struct, frozen=True):
    """The ids and keys that a client of the installation knows."""

    key: str
    queue: Queue
    listener: Listener


async def furnish(store: Store, notify_url: str = "https://example.com/notify") -> Furnished:
    """Fill an empty database."""
    control = control_of(store, StandingClock())
    _, key = await organizations.ensure_operator(control, "com.example.operator", None)
    assert key is not None
    olga = (await present(control, key)).principal
    await _other_organizations(store, olga)
    fields = QueueFields(alias="orders", retention_seconds=3_600)
    queue = (await queues.create(control, olga, fields)).queue
    urls = ListenerFields(notify_url=notify_url, liveness_url="https://example.com/live")
    listener = (await listeners.create(control, olga, queue.public_id, urls)).listener
    unwanted = (await listeners.create(control, olga, queue.public_id, urls)).listener
    await listeners.delete(control, olga, queue.public_id, unwanted.public_id)
    await domains.create(control, olga, DomainFields("shop", hostname="shop.example.com"))
    await users.create(control, olga, UserFields("ada@example.com", role="owner"))
    extra = await api_keys.create(control, olga, KeyFields(alias="extra"))
    await api_keys.delete(control, olga, extra.key.public_id)
    ids = await _publish(store, queue)
    await messages.change(control, olga, queue.public_id, ids[5], fields=NameFields(alias="renamed"))
    await messages.delete(control, olga, queue.public_id, ids[7])
    await _deliver(store, listener)
    await _write_rows(store, queue.organization)
    return Furnished(key, queue, listener)


async def _other_organizations(store: Store, olga: Principal) -> None:
    control = control_of(store, StandingClock(NOON + 1_000))
    suspended, deleted = [
        await organizations.create(control, olga, OrganizationFields(alias))
        for alias in ("com.example.suspended", "com.example.deleted")
    ]
    for created in (suspended, deleted):
        owner = (await present(control, created.first_key.text)).principal
        await queues.create(control, owner, QueueFields())
    await organizations.set_state(control, suspended.organization.alias, "suspended")
    await organizations.delete(control, olga, deleted.organization.public_id)


_ROWS: dict[str, tuple[Value, ...]] = {
    "missed_cause": (9, 1 << 62, "attempts_used_up", 500, "Out of order"),
    "missed_report": (9, 6, 1, 0, 0, 0, 5, 0, NOON, NOON),
    "listener_tally": (9, 5_984_000, 3, 2, 1),
    "listener_history": (9, 5_983_992, 3, 2),
    "event": (3, "queue_updated", "k" * 21, "q" * 21, "orders", "u" * 21, "name,retention"),
    "idempotency_key": (12,),
    "idempotency_response": (12, NOON, 3, b"\x01\x00\x02"),
    "scheduled": (12, 3, NOON, 7, None),
    "topic": (4, "t" * 21, "news", 3, NOON, NOON),
    "channel": (5, "c" * 21, 4, 6, "all", "news.>", '{"key": "x"}', NOON, NOON),
    "source": (
        *(17, "S" * 21, "payments", "hmac", 6, '{"header":"x-signature"}', NOON, NOON, 1, NOON, b'["secret"]'),
        msgspec.msgpack.encode({"newest": [], "reasons": {"signature_wrong": 1}, "last_at": NOON, "reported_at": 0}),
    ),
    "event_type": (16, "e" * 21, "order.paid", "enabled", 20, NOON, NOON, "Paid.", "true", '{"order": 1}'),
    "body": (6, 4, 2, b"\x00abc"),
    "schedule": (9, "s" * 21, 12, "daily", "enabled", '{"timing":{"cron":"@daily"}}', 1, 1, 1, None, None, 1, 1, b"1"),
    "session": (
        *(7, "s" * 21, b"\x02" * 32, 0, "owner", "active", "password", "", "192.0.2.1", "a browser"),
        *(NOON, NOON, NOON + 1, NOON + 2),
    ),
    "sign_in_code": (7, b"\x03" * 32, 0, "owner", NOON),
    "second_factor": (7, b"\x01secrets", NOON, 3, '["00"]', 2, NOON),
    "user_identity": (7, 8, "https://id.example.com", "17", NOON),
    "portal": ('["https://app.example.com"]', NOON),
    "portal_theme": (17, '{"accent":"#4a41d8"}'),
    "portal_session": (7, "p" * 21, "acme", None, b"\x04" * 32, '{"queues":["q"]}', NOON, NOON, NOON + 1, 17),
    "lockout": ("unknown_key", "", "192.0.2.1", "[1]", 1, NOON, NOON),
    "redelivery": (9, "r" * 21, 8, "done", '{"reason":"too_old"}', 10, 3, 4, 2, 1, 1, NOON, NOON, NOON, 5, 5, 0, ""),
    "erasure": (17, "E" * 21, 6, "done", "customer-7", 10, 3, '{"l":2}', NOON, NOON, NOON),
    "erased_message": (6, 4, 17, NOON),
    "replay": (15, "R" * 21, 8, "done", "{}", 10, 1, 4, 4, 4, 2, 1, 1, 0, 0, NOON, NOON, NOON),
}
"""A row of each table that has none yet, without its organization, or the number that stands in its place."""


async def _write_rows(store: Store, organization: int) -> None:
    async def work(tx: Transaction) -> None:
        for table in TABLES:
            if table.name in _ROWS:
                before = (organization,) if table.key[0] == "organization" else (11,)
                await insert_rows(tx, table, [(*before, *_ROWS[table.name])])

    await store.write(work)


async def _publish(store: Store, queue: Queue) -> list[str]:
    ids = [f"{number:021}" for number in range(MESSAGES)]
    bodies = (b"", b'"\\u0000"', b"\x00\xff", "\N{SNOWMAN}".encode(), b"x" * 5_000)
    entries = tuple(
        NewEntry(each, number % 2 == 0, bodies[number % len(bodies)], f"name-{number}" if number % 3 else None)
        for number, each in enumerate(ids)
    )
    await store.append(Append(queue.organization, queue.id, queue.config_version, NOON, entries))
    return ids


async def _deliver(store: Store, listener: Listener) -> None:
    """Store deliveries as lanes leave them: acknowledged, two retrying, two in flight, one ended, and missed ones."""

    async def work(tx: Transaction) -> None:
        await tx.execute("UPDATE cursor SET owner = $1, token = token + 1", OWNER)

    await store.write(work)
    settled = Settle(
        organization=listener.organization,
        listener=listener.id,
        stream=0,
        queue=listener.queue,
        token=1,
        version=0,
        position=ACKNOWLEDGED,
        ahead=b"\x05",
        acknowledged=ACKNOWLEDGED - 12,
        missed=6,
        retrying=5,
        last_success_at=NOON + 1,
        last_failure_at=NOON + 2,
        attempts=tuple(_attempt(listener, seq) for seq in range(1, ACKNOWLEDGED)),
        details=tuple((_attempt(listener, seq).id, b"detail") for seq in range(1, ACKNOWLEDGED)),
        delivery_rows=(
            DeliveryRow(10, "retry", 3, NOON + 60_000, ""),
            DeliveryRow(11, "retry", 1, NOON + 70_000, ""),
            DeliveryRow(12, "sending", 2, NOON + 80_000, "", OWNER),
            DeliveryRow(13, "sending", 1, NOON + 90_000, "", OWNER),
            DeliveryRow(14, "ended", 2, NOON, "", OWNER),
            DeliveryRow(15, "missed", 12, NOON, "failed"),
        ),
        missed_ranges=(MissedRange(16, 20, "too_old", NOON),),
    )
    assert await store.settle(settled)
    known = ListenerHealth(
        Liveness("inactive", 3, 4, NOON, NOON + 1, 503, "answered 503", -3), FailureStreak(NOON + 1, NOON), Sweep(1, 9)
    )
    standing = HealthRecord(
        listener.organization, listener.id, 1, listener.liveness_url, listener.config_version, known
    )
    assert await store.write(lambda tx: write_health(tx, [standing]))


def _attempt(listener: Listener, seq: int) -> Attempt:
    detail = "" if seq % 7 else "the response was “no”"
    made = (NOON << 22) + seq
    return Attempt(
        made, listener.organization, listener.id, listener.queue, seq, 1, 200 if seq % 7 else 500, "", 3, detail
    )
