"""The resources of the shop: queues, listeners, a topic, schedules, keys, users and domains."""

from typing import Any, Final, NamedTuple

from discue.cli.demonstration.endpoints import DOMAIN, REFUSED
from discue_client import AsyncDiscue
from discue_client.wire import path_of

Fields = dict[str, Any]

ORDERS: Final = "orders"
INVOICES: Final = "invoices"
EMAILS: Final = "emails"
RETURNS: Final = "returns"
STOCK: Final = "stock"
TOPIC: Final = "shop"
MERCHANTS: Final = ("acme", "acme", "globex")
"""The customers of the shop, in the order in which they get orders. Each has its own queue."""
CONSUMER: Final = "analytics"
"""The listener of the orders in pull mode."""

_OF_ACME, _OF_GLOBEX = "customers/acme", "customers/globex"
_ORDER_SCHEMA: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "An order of the shop",
    "type": "object",
    "required": ["order", "state", "customer", "total", "currency"],
    "properties": {
        "order": {"type": "integer", "minimum": 1},
        "state": {"enum": ["created", "paid", "shipped"]},
        "customer": {"type": "string"},
        "merchant": {"enum": sorted({*MERCHANTS})},
        "country": {"type": "string", "pattern": "^[A-Z]{2}$", "examples": ["DE"]},
        "total": {"type": "number", "minimum": 0},
        "currency": {"enum": ["EUR", "CHF", "GBP"]},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["sku", "quantity"],
                "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer", "minimum": 1}},
            },
        },
    },
}
_EMAIL_SCHEMA: Final = {
    "type": "object",
    "required": ["to", "template"],
    "properties": {"to": {"type": "string"}, "template": {"type": "string"}},
}
_QUEUES: Final[tuple[Fields, ...]] = (
    {"alias": ORDERS, "json_schema": _ORDER_SCHEMA},
    {"alias": INVOICES, "ordered": True},
    {"alias": EMAILS, "json_schema": _EMAIL_SCHEMA, "retention": 86_400},
    {"alias": RETURNS},
    {"alias": STOCK, "max_message_bytes": 65_536},
    {"alias": "audit"},
    {"alias": _OF_ACME, "customer": "acme", "json_schema": _ORDER_SCHEMA},
    {"alias": _OF_GLOBEX, "customer": "globex", "json_schema": _ORDER_SCHEMA},
)
_LISTENERS: Final[dict[str, tuple[Fields, ...]]] = {
    ORDERS: (
        {"alias": "erp", "host": "erp", "path": "hooks/orders"},
        {"alias": "warehouse", "host": "warehouse", "path": "v2/orders", "max_in_flight": 20},
        {"alias": "crm-sync", "host": "crm", "path": "webhooks/discue"},
        {"alias": "search-index", "host": "search", "path": "orders"},
        {
            "alias": "tax-report",
            "host": "tax",
            "path": "transactions",
            "retry": {"schedule": [30, 120], "attempts": 3, "final_statuses": [422]},
        },
        {"alias": "fraud-check", "host": "fraud", "path": "score", "timeout": 5},
        {
            "alias": "vip-concierge",
            "host": "erp",
            "path": "vip",
            "filter": {"data": {"total": {"$gte": 400}, "country": "DE"}},
        },
        {"alias": "old-shop", "host": "old", "path": "webhook"},
        {"alias": CONSUMER, "mode": "pull", "lease_seconds": 60},
    ),
    INVOICES: (
        {"alias": "accounting", "host": "accounting", "path": "ledger/invoices"},
        {"alias": "archive", "host": "archive", "path": "documents"},
    ),
    EMAILS: ({"alias": "mailer", "url": "https://api.mailer.example/v3/send", "rate_limit": {"per_second": 5}},),
    RETURNS: (
        {"alias": "warehouse", "host": "warehouse", "path": "v2/returns"},
        {"alias": "crm-sync", "host": "crm", "path": "webhooks/returns"},
    ),
    STOCK: ({"alias": "pos-terminals", "host": "pos", "path": "stock"},),
    _OF_ACME: (
        {
            "alias": "order-feed",
            "url": "https://hooks.acme.example/inbound/shop",
            "retry": {"schedule": [60, 300], "attempts": 3},
        },
    ),
    _OF_GLOBEX: ({"alias": "order-feed", "url": "https://api.globex.example/webhooks/orders"},),
}
_CHANNELS: Final[tuple[Fields, ...]] = (
    {"alias": "all-orders", "queue": ORDERS, "pattern": "orders.>"},
    {"alias": "all-returns", "queue": RETURNS, "pattern": "returns.>"},
    {"alias": "shipped", "queue": STOCK, "pattern": "*.*.shipped"},
    {"alias": "big-orders", "queue": "audit", "pattern": "orders.>", "filter": {"data": {"total": {"$gte": 300}}}},
    {"alias": "for-acme", "queue": _OF_ACME, "pattern": "orders.>", "filter": {"data": {"merchant": "acme"}}},
    {"alias": "for-globex", "queue": _OF_GLOBEX, "pattern": "orders.>", "filter": {"data": {"merchant": "globex"}}},
)
_SCHEDULES: Final[dict[str, tuple[Fields, ...]]] = {
    STOCK: (
        {"alias": "stock-sync", "cron": "*/15 * * * *", "data": {"job": "sync", "scope": "all"}},
        {
            "alias": "inventory",
            "cron": "30 2 * * *",
            "time_zone": "Europe/Berlin",
            "data": {"job": "inventory"},
        },
    ),
    EMAILS: (
        {
            "alias": "weekly-digest",
            "cron": "0 9 * * MON",
            "time_zone": "Europe/Berlin",
            "data": {"to": f"subscribers@{DOMAIN}", "template": "digest"},
        },
    ),
}
_KEYS: Final[tuple[Fields, ...]] = (
    {"alias": "storefront", "scopes": {"topics": {"access": "read"}, "messages": {"access": "write"}}},
    {"alias": "reporting", "scopes": {"stats": {"access": "read"}, "messages": {"access": "read"}}},
    {"alias": "analytics-worker", "scopes": {"messages": {"access": "write"}, "listeners": {"access": "read"}}},
    {"alias": "old-integration", "scopes": {"queues": {"access": "read"}}, "status": "disabled"},
)
_USERS: Final = (
    ("olivia", "Olivia Owens", "owner"),
    ("adam", "Adam Adeyemi", "admin"),
    ("dana", "Dana Duarte", "developer"),
    ("victor", "Victor Vance", "viewer"),
)
INVITED: Final = f"ines@{DOMAIN}"
_DOMAINS: Final = (DOMAIN, f"erp.{DOMAIN}")


class ShopUser(NamedTuple):
    """A user of the shop who can sign in."""

    email: str
    role: str


USERS: Final = tuple(ShopUser(f"{name}@{DOMAIN}", role) for name, _, role in _USERS)


async def open_shop(client: AsyncDiscue) -> None:
    """Create the queues, listeners, topics and schedules of the shop."""
    for fields in _QUEUES:
        await client.request("POST", "/queues", body=fields)
    for queue, listeners in _LISTENERS.items():
        for fields in listeners:
            await client.request("POST", path_of("queues", queue, "listeners"), body=_with_url(fields))
    await client.request("POST", "/topics", body={"alias": TOPIC})
    for fields in _CHANNELS:
        found = await client.queues.get(fields["queue"])
        kept = {name: value for name, value in fields.items() if name != "queue"}
        await client.request("POST", f"/topics/{TOPIC}/channels", body={**kept, "queue_id": found.id})
    for queue, schedules in _SCHEDULES.items():
        for fields in schedules:
            await client.request("POST", f"/queues/{queue}/schedules", body=fields)


async def let_people_in(client: AsyncDiscue, password: str) -> None:
    """Create the keys, users and domains of the shop. `password` is that of the users."""
    for fields in _KEYS:
        await client.request("POST", "/api_keys", body=fields)
    for name, display_name, role in _USERS:
        fields = {"email": f"{name}@{DOMAIN}", "display_name": display_name, "role": role, "password": password}
        await client.request("POST", "/users", body=fields)
    await client.request("POST", "/users", body={"email": INVITED, "role": "developer"})
    for hostname in _DOMAINS:
        await client.request("POST", "/domains", body={"alias": hostname, "hostname": hostname})


async def redeliver_rejected(client: AsyncDiscue) -> None:
    """Send the transactions again that were rejected, in vain."""
    await client.request("POST", f"/queues/{ORDERS}/listeners/tax-report/redeliveries", body={"all": True})


async def publish_blocked_invoices(client: AsyncDiscue) -> None:
    """Publish an invoice that the accounting refuses, and two more of that customer, which wait for it."""
    for number in (1, 2, 3):
        data = {"invoice": f"R-2026-90{number}", "customer": REFUSED, "amount": 118.4 * number, "due_days": 14}
        await client.publish(INVOICES, data, key=REFUSED)


async def begin_long_jobs(client: AsyncDiscue, *, redelivered_from: int, replayed_from: int) -> None:
    """Start a redelivery and a replay that take a minute. The times are in milliseconds since the epoch."""
    # Each of these messages fails three more times. The messages of the whole outage would dominate the charts.
    redelivery = {"filter": {"created_after": redelivered_from}, "pace": 1}
    feed = path_of("queues", _OF_ACME, "listeners", "order-feed", "redeliveries")
    await client.request("POST", feed, body=redelivery)
    replay = {"from_at": replayed_from, "pace": 2}
    await client.request("POST", f"/queues/{INVOICES}/listeners/archive/replays", body=replay)


def _with_url(fields: Fields) -> Fields:
    """Return the fields of a listener, with its URL in place of the host and path."""
    kept = {name: value for name, value in fields.items() if name not in {"host", "path", "url"}}
    if "url" in fields:
        kept["notify_url"] = fields["url"]
    elif "host" in fields:
        kept["notify_url"] = f"https://{fields['host']}.{DOMAIN}/{fields['path']}"
    return kept
