"""A shop that has something for each page of the dashboard to show, and the pages."""

import re
from collections.abc import Sequence
from urllib.parse import unquote

from benchmarks.bench import Bench
from benchmarks.browser import Browser
from benchmarks.population import OPEN_MESSAGES, message_id
from benchmarks.product import Product
from tests.support.dashboard_paths import paths_of
from tests.support.dashboard_shop import Shop

_REFUSED = "http://127.0.0.1:1/"
_KEY = "customer-1"
_OLDER = re.compile(rb'href="[^"]*?(\?[^"]+)" rel="next"|rel="next" href="[^"]*?(\?[^"]+)"')
_ID = re.compile(r"[0-9A-Za-z]{21,}")
_ONLY_OF_DEV = "inbox"
_SECOND_PAGES = ("queue", "queues", "queue-listeners", "listeners", "missed", "listener-missed", "events")


def open_shop(bench: Bench, product: Product) -> Shop:
    """Make what each page needs to show something."""
    queue = product.queue(alias="orders", json_schema={"type": "object"})
    listeners = {
        "tax-report": product.listener(queue, bench.sink.url, alias="tax-report"),
        "crm-sync": product.listener(queue, _REFUSED, alias="crm-sync", retry={"schedule": [3_600], "attempts": 2}),
        "old-shop": product.listener(queue, bench.sink.url, alias="old-shop"),
    }
    product.change(listeners["old-shop"], status="disabled")
    ordered = product.queue(alias="invoices", ordered=True)
    product.listener(ordered, _REFUSED, alias="accounting")
    topic = product.made("/v1/topics", alias="shop")
    event_type = product.made("/v1/event_types", type="order.paid")
    channel = product.made(f"/v1/topics/{topic}/channels", alias="orders", queue_id=queue.id, pattern="orders.>")
    schedule = product.made(f"{queue.path}/schedules", alias="nightly", cron="@daily", data={"order": 1})
    keys = [_KEY, *[None] * (OPEN_MESSAGES - 1)]
    messages = [product.made(queue.messages, data={"order": 1}, key=key) for key in keys]
    blocked = [product.made(ordered.messages, data={"invoice": 1}, key=_KEY) for _ in range(2)]
    shop = Shop(
        queue=queue.id,
        listeners={name: each.id for name, each in listeners.items()},
        messages=messages,
        blocked=blocked[1],
        blocked_queue=ordered.id,
        user=product.made("/v1/users", email="ada@example.com", display_name="Ada", role="developer"),
        topic=topic,
        channel=channel,
        event_type=event_type,
        source=product.made("/v1/sources", alias="github", provider="github", queue_id=queue.id, secrets=["secret"]),
        schedule=schedule,
        key=product.made("/v1/api_keys", alias="storefront", scopes={"messages": {"access": "write"}}),
        domain=product.made("/v1/domains", alias="hooks", hostname="hooks.example.com"),
    )
    product.wait_settled(listeners["tax-report"])
    return shop


def name_of(path: str, shop: Shop) -> str:
    """The path with names in place of ids."""
    names = {shop.queue: "orders", shop.blocked_queue: "invoices", shop.user: "ada", shop.key: "storefront"}
    names |= {each: name for name, each in shop.listeners.items()} | {shop.topic: "shop", shop.domain: "hooks"}
    names |= {shop.channel: "orders", shop.schedule: "nightly"}
    for public_id, name in names.items():
        path = path.replace(public_id, name)
    return _ID.sub("…", unquote(path)) or "/"


def paths(browser: Browser, shop: Shop) -> Sequence[str]:
    """Every page, lists also filtered and further back, and searches of each kind."""
    large = message_id(1_000)
    pages = {
        name: path.replace(shop.listener("tax-report"), shop.listener("crm-sync"))
        for name, path in paths_of(shop).items()
        if name != _ONLY_OF_DEV
    }
    queue, missing = f"/queues/{shop.queue}", shop.listener("crm-sync")
    older = []
    for name in _SECOND_PAGES:
        link = _OLDER.search(browser.load(pages[name]).content)
        older += [] if link is None else [pages[name] + (link[1] or link[2]).decode().replace("&amp;", "&")]
    lists = [
        f"{queue}/messages/{large}",
        *(f"{queue}?{query}" for query in (f"key={_KEY}", f"alias={large}")),
        *(f"{missing}?{query}" for query in ("status=404", "outcome=failed", "status=2xx")),
        f"{missing}/missed?reason=expired",
        *(f"/missed?{query}" for query in ("reason=expired", f"queue={shop.queue}", "reason=no_retry")),
        f"/missed?listener={shop.listeners['tax-report']}",
        "/listeners?alias=listener-500",
    ]
    return [*pages.values(), *older, *lists, *(f"/search?q={text}" for text in _searches(shop, large))]


def _searches(shop: Shop, message: str) -> Sequence[str]:
    listener, queue = f"listener:{shop.listeners['crm-sync']}", "queue:orders"
    return [
        message,
        "listener-500",
        "queue-500",
        f"key:{_KEY}",
        "key:unknown",
        "key:unknown+since:1d",
        "since:1h",
        "since:1h+no-such-name",
        *(f"state:{state}" for state in ("pending", "retrying", "missed", "acknowledged", "no_listeners")),
        f"state:missed+key:{_KEY}",
        "queue:queue-500+state:missed",
        f"{queue}+state:missed+key:unknown",
        f"{queue}+state:no_listeners",
        f"{queue}+key:{_KEY}+since:1h",
        *(f"{listener}+state:{state}" for state in ("pending", "retrying", "missed", "acknowledged")),
        f"{listener}+state:missed+key:unknown",
        f"{listener}+since:1d",
        f"{listener}+status:503",
    ]
