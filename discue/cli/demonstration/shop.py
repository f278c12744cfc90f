"""The resources of the shop: queues, listeners, a topic, schedules, keys, users and domains."""

from typing import Any, Final

from discue.cli.demonstration.endpoints import DOMAIN, REFUSED
from discue_client import AsyncDiscue
from discue_client.wire import path_of

Fields = dict[str, Any]

ORDERS: Final = "orders"
INVOICES: Final = "invoices"
EMAILS: Final = "emails"
TOPIC: Final = "shop"
MERCHANTS: Final = ("acme", "acme", "globex")
"""The customers of the shop, in the order in which they get orders. Each has its own queue."""
CONSUMER: Final = "analytics"
"""The listener of the orders in pull mode."""
USERS: Final = {
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
_LISTENERS: Final[tuple[tuple[str, str, str, Fields], ...]] = (
    (ORDERS, "erp", f"erp.{DOMAIN}/hooks/orders", {}),
    (ORDERS, "warehouse", f"warehouse.{DOMAIN}/v2/orders", {"max_in_flight": 20}),
    (ORDERS, "crm-sync", f"crm.{DOMAIN}/webhooks/discue", {}),
    (ORDERS, "search-index", f"search.{DOMAIN}/orders", {}),
    (
        ORDERS,
        "tax-report",
        f"tax.{DOMAIN}/transactions",
        {"retry": {"schedule": [30, 120], "attempts": 3, "final_statuses": [422]}},
    ),
    (ORDERS, "fraud-check", f"fraud.{DOMAIN}/score", {"timeout": 5}),
    (ORDERS, "vip-concierge", f"erp.{DOMAIN}/vip", {"filter": {"data": {"total": {"$gte": 400}, "country": "DE"}}}),
    (ORDERS, "old-shop", f"old.{DOMAIN}/webhook", {}),
    (INVOICES, "accounting", f"accounting.{DOMAIN}/ledger/invoices", {}),
    (INVOICES, "archive", f"archive.{DOMAIN}/documents", {}),
    (EMAILS, "mailer", "api.mailer.example/v3/send", {"rate_limit": {"per_second": 5}}),
    ("returns", "warehouse", f"warehouse.{DOMAIN}/v2/returns", {}),
    ("returns", "crm-sync", f"crm.{DOMAIN}/webhooks/returns", {}),
    ("stock", "pos-terminals", f"pos.{DOMAIN}/stock", {}),
    (_OF_ACME, "order-feed", "hooks.acme.example/inbound", {"retry": {"schedule": [60, 300], "attempts": 3}}),
    (_OF_GLOBEX, "order-feed", "api.globex.example/webhooks/orders", {}),
)
"""Queue, alias, URL without its scheme, and other fields of each listener in push mode."""
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


async def open_shop(client: AsyncDiscue) -> None:
    """Create the queues, listeners, topics and schedules of the shop."""
    for fields in _QUEUES:
        await client.request("POST", "/queues", body=fields)
    for queue, alias, place, fields in _LISTENERS:
        body = {"alias": alias, "notify_url": f"https://{place}", **fields}
        await client.request("POST", path_of("queues", queue, "listeners"), body=body)
    await client.listeners.create(ORDERS, alias=CONSUMER, mode="pull", lease_seconds=60)
    await client.topics.create(alias=TOPIC)
    for alias, queue, pattern, fields in _CHANNELS:
        body = {"alias": alias, "queue_id": queue, "pattern": pattern, **fields}
        await client.request("POST", path_of("topics", TOPIC, "channels"), body=body)
    for queue, fields in _SCHEDULES:
        await client.request("POST", path_of("queues", queue, "schedules"), body=fields)


async def let_people_in(client: AsyncDiscue, password: str) -> None:
    """Create the keys, users and domains of the shop. `password` is that of the users."""
    for fields in _KEYS:
        await client.request("POST", "/api_keys", body=fields)
    for email, role in USERS.items():
        name = email.partition("@")[0].title()
        body = {"email": email, "display_name": name, "role": role, "password": password}
        await client.request("POST", "/users", body=body)
    await client.request("POST", "/users", body={"email": f"ines@{DOMAIN}", "role": "developer"})
    for hostname in (DOMAIN, f"erp.{DOMAIN}"):
        await client.request("POST", "/domains", body={"alias": hostname, "hostname": hostname})


async def redeliver_rejected(client: AsyncDiscue) -> None:
    """Send the transactions again that were rejected, in vain."""
    await client.request("POST", f"/queues/{ORDERS}/listeners/tax-report/redeliveries", body={"all": True})


async def publish_blocked_invoices(client: AsyncDiscue) -> None:
    """Publish an invoice that the accounting refuses, and two more of that customer, which wait for it."""
    for number in (1, 2, 3):
        data = {"invoice": f"R-2026-90{number}", "customer": REFUSED, "amount": 118.4 * number, "due_days": 14}
        await client.publish(INVOICES, data, key=REFUSED)


async def begin_long_jobs(client: AsyncDiscue, redelivered_from: int, replayed_from: int) -> None:
    """Start a redelivery and a replay that take a minute. The times are in milliseconds since the epoch."""
    # Each of these messages fails three more times. The messages of the whole outage would dominate the charts.
    redelivery = {"filter": {"created_after": redelivered_from}, "pace": 1}
    feed = path_of("queues", _OF_ACME, "listeners", "order-feed", "redeliveries")
    await client.request("POST", feed, body=redelivery)
    replay = {"from_at": replayed_from, "pace": 2}
    await client.request("POST", f"/queues/{INVOICES}/listeners/archive/replays", body=replay)
