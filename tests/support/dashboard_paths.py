"""The paths of all pages of a shop, by what they are."""

from collections.abc import Mapping

from tests.support.dashboard_shop import Shop


def paths_of(shop: Shop) -> Mapping[str, str]:
    """Return a path of every page, below `/dashboard`."""
    queue, listener, user = f"/queues/{shop.queue}", shop.listener("tax-report"), f"/users/{shop.user}"
    return {
        "overview": "",
        "missed": "/missed",
        "listeners": "/listeners",
        "queues": "/queues",
        "search": "/search?q=nothing-has-this-name",
        "search-messages": "/search?q=key:customer-1%20since:1d%20queue:orders",
        "queue-new": "/queues/new",
        "queue": queue,
        "queue-listeners": f"{queue}/listeners",
        "queue-settings": f"{queue}/settings",
        "publish": f"{queue}/publish",
        "listener-new": f"{queue}/listeners/new",
        "message": shop.message(),
        "message-early": shop.message(2),
        "message-blocked": f"/queues/{shop.blocked_queue}/messages/{shop.blocked}",
        "listener": shop.listener("crm-sync"),
        "listener-paused": shop.listener("old-shop"),
        "listener-missed": f"{listener}/missed",
        "listener-jobs": f"{listener}/jobs",
        "listener-settings": f"{listener}/settings",
        "pause": f"{listener}/pause",
        "listener-delete": f"{listener}/delete",
        "queue-delete": f"{queue}/delete",
        "rotate": f"{listener}/rotate",
        "test": f"{listener}/test",
        "redeliver": f"{listener}/redeliver",
        "replay": f"{listener}/replay?from=2020-01-01T00:00",
        "users": "/users",
        "user-new": "/users/new",
        "user": user,
        "user-invite": f"{user}/invite",
        "user-second-factor": f"{user}/second-factor",
        "user-sign-out": f"{user}/sign-out",
        "user-delete": f"{user}/delete",
        "account": "/account",
        "jobs": "/jobs",
        "replays": "/jobs/replays",
        "events": "/events",
        "inbox": "/inbox",
        "schedules": "/schedules",
        "schemas": "/schemas",
        "topics": "/topics",
        "topic": f"/topics/{shop.topic}",
        "topic-tried": f"/topics/{shop.topic}?subject=orders.de.paid&data=%7B%22total%22%3A2000%7D",
        "keys": "/keys",
        "key-new": "/keys/new",
        "key": f"/keys/{shop.key}",
        "domains": "/domains",
        "domain-new": "/domains/new",
        "domain": f"/domains/{shop.domain}",
        "workers": "/workers",
        "settings": "/settings",
    }
