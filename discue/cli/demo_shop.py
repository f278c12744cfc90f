"""The shop of `discue demo`: its resources, its history, which is generated on a moved clock, and its live traffic."""

import asyncio
import math
import secrets
from contextlib import suppress
from functools import partial
from random import Random
from textwrap import dedent
from typing import Any, Final

from discue import __version__
from discue.cli.command import Invocation
from discue.cli.demo_endpoints import DOMAIN, HOUR_MS, REFUSED, ShopSender, resolve_loopback
from discue.cli.output import say
from discue.cli.serve import until_stopped
from discue.server.installation import Machine
from discue.server.signals import completed, stop_on_signal
from discue.testing.clock import MovableClock
from discue.testing.server import Timeline, running
from discue_client import APIError, AsyncDiscue

Fields = dict[str, Any]

ORDERS: Final = "orders"
INVOICES: Final = "invoices"
EMAILS: Final = "emails"
TOPIC: Final = "shop"
MERCHANTS: Final = ("acme", "acme", "globex")
"""The customers of the shop, in the order in which they get orders. Each has its own queue."""
CONSUMER: Final = "analytics"
"""The listener of the orders in pull mode."""
USERS: Final[Fields] = {
    f"olivia@{DOMAIN}": "owner",
    f"adam@{DOMAIN}": "admin",
    f"dana@{DOMAIN}": "developer",
    f"victor@{DOMAIN}": "viewer",
}
"""The users who can sign in: their roles by email."""

_OF_ACME, _OF_GLOBEX = "customers/acme", "customers/globex"
_ORDER_SCHEMA: Final = {
    "type": "object",
    "required": ["order", "state", "customer", "total", "currency"],
    "properties": {
        "order": {"type": "integer", "minimum": 1},
        "state": {"enum": ["created", "paid", "shipped"]},
        "customer": {"type": "string"},
        "country": {"type": "string", "pattern": "^[A-Z]{2}$", "examples": ["DE"]},
        "total": {"type": "number", "minimum": 0},
        "currency": {"enum": ["EUR", "CHF", "GBP"]},
        "items": {"type": "array", "items": {"type": "object", "required": ["sku", "quantity"]}},
    },
}
_QUEUES: Final[tuple[Fields, ...]] = (
    {"alias": ORDERS, "json_schema": _ORDER_SCHEMA},
    {"alias": INVOICES, "ordered": True},
    {"alias": EMAILS, "json_schema": {"type": "object", "required": ["to", "template"]}, "retention": 86_400},
    {"alias": "returns"},
    {"alias": "stock", "max_message_bytes": 65_536},
    {"alias": "audit"},
    {"alias": _OF_ACME, "customer": "acme", "json_schema": _ORDER_SCHEMA},
    {"alias": _OF_GLOBEX, "customer": "globex", "json_schema": _ORDER_SCHEMA},
)
_LISTENERS: Final[tuple[tuple[str, str, Fields], ...]] = (
    (ORDERS, "erp", {}),
    (ORDERS, "warehouse", {"max_in_flight": 20}),
    (ORDERS, "crm-sync", {}),
    (ORDERS, "search-index", {}),
    (ORDERS, "tax-report", {"retry": {"schedule": [30, 120], "attempts": 3, "final_statuses": [422]}}),
    (ORDERS, "fraud-check", {"timeout": 5}),
    (ORDERS, "vip-concierge", {"filter": {"data": {"total": {"$gte": 400}, "country": "DE"}}}),
    (ORDERS, "old-shop", {}),
    (INVOICES, "accounting", {}),
    (INVOICES, "archive", {}),
    (EMAILS, "mailer", {"rate_limit": {"per_second": 5}}),
    ("returns", "warehouse", {}),
    ("returns", "crm-sync", {}),
    ("stock", "pos-terminals", {}),
    (_OF_ACME, "acme-orders", {"retry": {"schedule": [60, 300], "attempts": 3}}),
    (_OF_GLOBEX, "globex-orders", {}),
)
"""Queue, alias, and other fields of each listener in push mode."""
_CHANNELS: Final[tuple[tuple[str, str, str, Fields], ...]] = (
    ("all-orders", ORDERS, "orders.>", {}),
    ("all-returns", "returns", "returns.>", {}),
    ("shipped", "stock", "*.*.shipped", {}),
    ("big-orders", "audit", "orders.>", {"filter": {"data": {"total": {"$gte": 300}}}}),
    ("for-acme", _OF_ACME, "orders.>", {"filter": {"data": {"merchant": "acme"}}}),
    ("for-globex", _OF_GLOBEX, "orders.>", {"filter": {"data": {"merchant": "globex"}}}),
)
"""Alias, queue, pattern, and other fields of each channel."""
_SCHEDULES: Final[tuple[tuple[str, Fields], ...]] = (
    ("stock", {"alias": "stock-sync", "cron": "*/15 * * * *", "data": {"job": "sync", "scope": "all"}}),
    ("stock", {"alias": "inventory", "cron": "30 2 * * *", "time_zone": "Europe/Berlin", "data": {"job": "inventory"}}),
    (EMAILS, {"alias": "weekly-digest", "cron": "0 9 * * MON", "data": {"to": f"all@{DOMAIN}", "template": "digest"}}),
)
_KEYS: Final[tuple[Fields, ...]] = (
    {"alias": "storefront", "scopes": {"topics": {"access": "read"}, "messages": {"access": "write"}}},
    {"alias": "reporting", "scopes": {"stats": {"access": "read"}, "messages": {"access": "read"}}},
    {"alias": "analytics-worker", "scopes": {"messages": {"access": "write"}, "listeners": {"access": "read"}}},
    {"alias": "old-integration", "scopes": {"queues": {"access": "read"}}, "status": "disabled"},
)
_BUSIEST_AN_HOUR: Final = 90
"""Messages of the past day in its busiest hour. At night there are a quarter of them."""
_BUSIEST_HOUR: Final = 19
_CUSTOMERS: Final = 40
_PULLED: Final = 100
_SKUS: Final = ("mug-blue", "poster-a2", "tee-m-black", "lamp-brass", "notebook", "tote-bag", "vase-green", "candle")
_COUNTRIES: Final = ("DE", "DE", "DE", "AT", "CH", "FR", "NL", "GB")
_CURRENCIES: Final = {"CH": "CHF", "GB": "GBP"}
_TEMPLATES: Final = ("order-confirmation", "parcel-shipped", "review-request", "password-reset")
_STATES: Final = ("created", "created", "created", "paid", "paid", "shipped")


class Traffic:
    """Publishes what a shop publishes, and consumes what its listener in pull mode gets."""

    def __init__(self, client: AsyncDiscue, timeline: Timeline) -> None:
        self._client = client
        self._timeline = timeline
        self._random = Random(14)  # noqa: S311 - no secret: it chooses orders
        self._order = 48_100

    async def live_until(self, end: int) -> None:
        """Publish, deliver and consume until a time in milliseconds since the epoch."""
        while (at := (now := await self._timeline.now()) + self._pause_ms(now)) < end:
            await self._timeline.pass_until(at)
            await self.publish()
            if self._random.random() < 0.1:
                await self.consume()
        await self._timeline.pass_until(end)

    async def go_on(self, per_second: float) -> None:
        """Publish messages at an average rate of `per_second`, and process orders as they come."""
        while per_second:
            await asyncio.sleep(self._random.expovariate(per_second))
            # A user may have changed or deleted what the traffic needs: the rest of the traffic continues.
            with suppress(APIError):
                await self.publish()
                await self.consume()

    async def consume(self) -> None:
        """Process the orders that wait for the consumer."""
        pulled = await self._client.listeners.pull(ORDERS, CONSUMER, max=_PULLED)
        if pulled:
            receipts = [each.receipt for each in pulled]
            rejected = [receipts.pop()] if self._random.random() < 0.1 else []
            await self._client.listeners.settle(ORDERS, CONSUMER, acknowledge=receipts, reject=rejected)

    async def publish(self) -> None:
        """Publish one message."""
        draw, customer = self._random.random(), f"customer-{self._random.randrange(1, _CUSTOMERS)}"
        if draw < 0.55:
            await self._publish_order(customer)
        elif draw < 0.75:
            number, days = self._random.randrange(100_000, 999_999), self._random.choice((14, 30))
            invoice = {"invoice": f"R-2026-{number}", "customer": customer, "amount": self._amount(), "due_days": days}
            await self._client.publish(INVOICES, invoice, key=customer)
        elif draw < 0.94:
            template = self._random.choice(_TEMPLATES)
            email = {"to": f"{customer}@mail.example", "template": template, "locale": "de"}
            delay: dict[str, Any] = {"delay": 2 * 3_600} if template == "review-request" else {}
            await self._client.publish(EMAILS, email, **delay)
        else:
            reason = self._random.choice(("size", "damaged", "changed-mind"))
            returned = {"order": self._order - self._random.randrange(1, 90), "reason": reason}
            await self._client.topics.publish(TOPIC, type="returns.de.created", data=returned)

    async def _publish_order(self, customer: str) -> None:
        choice = self._random.choice
        self._order += 1
        country, state = choice(_COUNTRIES), choice(_STATES)
        data = {
            "order": self._order,
            "state": state,
            "customer": customer,
            "merchant": MERCHANTS[self._order % len(MERCHANTS)],
            "country": country,
            "total": self._amount(),
            "currency": _CURRENCIES.get(country, "EUR"),
            "items": [{"sku": choice(_SKUS), "quantity": choice((1, 2, 3))} for _ in range(choice((1, 1, 2, 3)))],
        }
        fields: dict[str, Any] = {"alias": f"order-{self._order}"} if state == "created" else {}
        event_type = f"orders.{country.lower()}.{state}"
        await self._client.topics.publish(TOPIC, type=event_type, data=data, key=customer, **fields)

    def _amount(self) -> float:
        return round(14.9 + self._random.expovariate(1 / 120), 2)

    def _pause_ms(self, now: int) -> int:
        """Return the time from one message of the past day to the next."""
        share = 0.625 + 0.375 * math.cos((now / HOUR_MS % 24 - _BUSIEST_HOUR) / 24 * 2 * math.pi)
        return round(HOUR_MS * self._random.expovariate(_BUSIEST_AN_HOUR * share))


async def show(invocation: Invocation, place: str) -> None:
    """Serve a shop until a signal comes. `place` says where its data is. Raises SettingsInvalid for a used database."""
    arguments, log = invocation.arguments, invocation.log
    stop = stop_on_signal(log)
    started_at, length_ms = invocation.clock.now(), arguments.hours * HOUR_MS
    clock = MovableClock(-length_ms)
    clock.freeze()
    make_sender = partial(ShopSender, started_at=started_at)
    machine = Machine(resolve=resolve_loopback)
    async with (
        running(invocation.settings, log, clock=clock, make_sender=make_sender, machine=machine) as server,
        AsyncDiscue(server.url, server.key) as client,
    ):
        say(f"discue {__version__} lives through {arguments.hours} hours of a shop …")
        password = secrets.token_urlsafe(9)
        traffic = Traffic(client, server.timeline)
        if not await completed(_live_through(client, traffic, started_at, password=password), stop):
            return
        await server.timeline.pass_until(invocation.clock.now())
        clock.unfreeze()
        await begin_long_jobs(client, started_at - HOUR_MS, started_at - length_ms // 2)
        dashboard = f"{server.url}/dashboard/open?code={await server.sign_in_code()}"
        say(_welcome(server.url, server.key, dashboard, place=place, password=password))
        async with asyncio.TaskGroup() as group:
            going_on = group.create_task(traffic.go_on(arguments.speed))
            await until_stopped(stop, server.ended())
            going_on.cancel()
        say("Stopping.")


async def _live_through(client: AsyncDiscue, traffic: Traffic, until: int, *, password: str) -> None:
    """Create the shop and generate its history up to a time in milliseconds since the epoch."""
    await open_shop(client)
    await traffic.live_until(until - HOUR_MS)
    await let_people_in(client, password)
    # The rejected transactions are redelivered, and rejected again.
    await client.redeliveries.create(ORDERS, "tax-report", all=True)
    await traffic.live_until(until - HOUR_MS // 2)
    for number in (1, 2, 3):
        # Accounting rejects the first invoice; the later invoices of that customer wait for it.
        data = {"invoice": f"R-2026-90{number}", "customer": REFUSED, "amount": 118.4 * number, "due_days": 14}
        await client.publish(INVOICES, data, key=REFUSED)
    await traffic.live_until(until)


def _welcome(url: str, key: str, dashboard: str, *, place: str, password: str) -> str:
    """Return the text that is shown when the history is complete."""
    start = dedent(f"""
        The shop is open at {url}. {place}. Press Ctrl-C to stop.

        Dashboard: {dashboard}

        The link signs in once, within a minute. Afterwards, sign in with the
        password {password} as one of these users:

        """)
    users = "\n".join(f"  {email:<22} {role}" for email, role in USERS.items())
    return f"{start}{users}\n\nAPI key: {key}\n"


async def open_shop(client: AsyncDiscue) -> None:
    """Create the queues, listeners, topics and schedules of the shop."""
    for fields in _QUEUES:
        await client.queues.create(**fields)
    for queue, alias, fields in _LISTENERS:
        url = f"https://{alias}.{DOMAIN}/webhooks/{queue}"
        await client.listeners.create(queue, alias=alias, notify_url=url, **fields)
    await client.listeners.create(ORDERS, alias=CONSUMER, mode="pull", lease_seconds=60)
    await client.topics.create(alias=TOPIC)
    for alias, queue, pattern, fields in _CHANNELS:
        await client.channels.create(TOPIC, alias=alias, queue_id=queue, pattern=pattern, **fields)
    for queue, fields in _SCHEDULES:
        await client.schedules.create(queue, **fields)


async def let_people_in(client: AsyncDiscue, password: str) -> None:
    """Create the keys, users and domains of the shop. `password` is that of the users."""
    for fields in _KEYS:
        await client.api_keys.create(**fields)
    for email, role in USERS.items():
        name = email.partition("@")[0].title()
        await client.users.create(email=email, display_name=name, role=role, password=password)
    await client.users.create(email=f"ines@{DOMAIN}", role="developer")
    for hostname in (DOMAIN, f"erp.{DOMAIN}"):
        await client.domains.create(alias=hostname, hostname=hostname)


async def begin_long_jobs(client: AsyncDiscue, redelivered_from: int, replayed_from: int) -> None:
    """Start a redelivery and a replay that take a minute. The times are in milliseconds since the epoch."""
    # Each of these messages fails three more times. The messages of the whole outage would dominate the charts.
    await client.redeliveries.create(_OF_ACME, "acme-orders", filter={"created_after": redelivered_from}, pace=1)
    await client.replays.create(INVOICES, "archive", from_at=replayed_from, pace=2)
