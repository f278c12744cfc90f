"""Requests of the upgrade test: they read all of an installation, and wait until it has delivered all.

The script that made the fixtures sent them to the old program, and the test sends them to the present one.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

from tests.faults.client import Client
from tests.faults.receiver import Delivered

OPERATOR_KEY = "dsk_" + "c" * 60
PORT_IN_FIXTURES = 1
"""The port of all listeners in the fixtures. Nobody listens there; a test that loads one puts in the receiver's."""

CRASHED_AT = 1_750_000_020_000 - 3_000
"""When the old program was killed, in milliseconds since the Unix epoch: three seconds before a full minute."""
SENT_WITHIN_SECONDS = 40.0

Json = dict[str, Any]

_ADDRESS = re.compile(r"http://127\.0\.0\.1(:\d+)?")
_CHANGING = frozenset({"last_used_at", "request_id"})
"""Fields that depend on the requests of the test itself."""


def statement_for_port(port: int) -> str:
    """Return the SQL that makes the listeners of a fixture those of a receiver at a port."""
    place, changed = f"'//127.0.0.1:{PORT_IN_FIXTURES}/'", f"'//127.0.0.1:{port}/'"
    columns = ", ".join(f"{name} = replace({name}, {place}, {changed})" for name in ("notify_url", "liveness_url"))
    return f"UPDATE listener SET {columns};"


Callers = Callable[[str], Client]
"""Makes a client with a key."""


async def everything_readable(caller: Callers, clients: Json) -> Json:
    """Read everything that the operator and the owner of the organization can read."""
    operator, owner = caller(OPERATOR_KEY), caller(clients["owner"])
    shown: Json = {}
    shown["organizations"] = await operator.get("/organizations?per_page=100")
    for path in ("/api_keys", "/users", "/domains", "/queues", "/topics", "/listeners", "/messages", "/events"):
        shown[path] = await owner.get(f"{path}?per_page=100")
    shown["/stats/messages"] = await owner.get("/stats/messages")
    for topic in shown["/topics"]["topics"]:
        path = f"/topics/{topic['id']}"
        shown[path] = [await owner.get(path), await owner.get(f"{path}/channels")]
    for queue in shown["/queues"]["queues"]:
        path = f"/queues/{queue['id']}"
        parts = ("", "/listeners", "/messages?per_page=100", "/schedules")
        shown[path] = [await owner.get(path + part) for part in parts]
        for listener in shown[path][1]["listeners"]:
            shown[f"{path}/listeners/{listener['id']}"] = await _listener_readable(owner, path, listener)
        for message in shown[path][2]["messages"]:
            place = f"{path}/messages/{message['id']}"
            shown[place] = [await owner.get(place + part) for part in ("", "/deliveries", "/attempts?per_page=100")]
    shown["locked"] = (await caller(clients["locked"]).ask("GET", "/queues")).status
    repeated = [await owner.post(one["path"], one["body"], idempotency_key=one["key"]) for one in clients["idempotent"]]
    shown["repeated"] = repeated
    everything: Json = masked(shown)
    return everything


async def _listener_readable(owner: Client, queue: str, listener: Json) -> list[Json]:
    path = f"{queue}/listeners/{listener['id']}"
    parts = ["", "/missed?per_page=100", "/attempts?per_page=100", "/redeliveries", "/replays"]
    if listener["mode"] == "push":
        parts.append("/secrets")
    shown = [await owner.get(path + part) for part in parts]
    details = [await owner.get(f"{path}/attempts/{attempt['id']}") for attempt in shown[2]["attempts"]]
    return [*shown, *details]


def masked(value: Any) -> Any:
    """Return JSON without addresses of this machine and without what the test's own requests change."""
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items() if key not in _CHANGING}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return _ADDRESS.sub("http://HOST", value) if isinstance(value, str) else value


def sent_to_listeners(requests: Iterable[Delivered], secrets: Mapping[str, str]) -> list[Json]:
    """Return what every program must send alike, in an order that does not depend on time."""
    return sorted((_sent(each, secrets) for each in requests), key=lambda one: json.dumps(one, sort_keys=True))


def _sent(request: Delivered, secrets: Mapping[str, str]) -> Json:
    listener, body, headers = request.path.rpartition("/")[2], request.body.decode(), request.headers
    names = ("content-type", "discue-attempt", "authorization", "x-custom", "x-of-message", "discue-subject")
    signatures = headers["webhook-signature"].split()
    signed_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    return {
        "listener": listener,
        "body": body,
        "headers": {name: headers[name] for name in names if name in headers},
        "is_replay": "discue-replay" in headers,
        "signatures": sorted(signature.partition(",")[0] for signature in signatures),
        "is_signed_by_first_secret": Webhook(secrets[listener]).sign(request.message, signed_at, body) in signatures,
    }


async def finish(owner: Client) -> Json:
    """Publish, redeliver and pull; wait until everything is delivered, and read how it ended."""
    listeners = (await owner.get("/listeners?per_page=100"))["listeners"]
    by_alias = {listener["alias"]: listener for listener in listeners if listener["status"] == "enabled"}
    path = {alias: f"/queues/{each['queue_id']}/listeners/{each['id']}" for alias, each in by_alias.items()}
    await owner.post(f"{path['blocking-push']}/redeliveries", {"all": True})
    await owner.post(f"/queues/{by_alias['signed']['queue_id']}/messages", {"data": {"kind": "wanted", "new": True}})
    (topic,) = [each["id"] for each in (await owner.get("/topics"))["topics"]]
    await owner.post(f"/topics/{topic}/messages", {"subject": "orders.eu.paid", "data": {"new": True}})
    pulled = await _pull_all(owner, path["puller"], 4)
    ends_at = time.monotonic() + SENT_WITHIN_SECONDS
    while unfinished := await _unfinished(owner, path):
        assert time.monotonic() < ends_at, unfinished
        await asyncio.sleep(0.1)
    return {
        "pulled": pulled,
        "listeners": {alias: await _ending(owner, place) for alias, place in sorted(path.items())},
        "counts": _totals(await owner.get("/stats/messages")),
    }


async def _pull_all(owner: Client, listener: str, expected: int) -> list[Json]:
    pulled: list[Json] = []
    async with asyncio.timeout(SENT_WITHIN_SECONDS):
        while len(pulled) < expected:
            messages = (await owner.get(f"{listener}/messages?max=10&wait=1"))["messages"]
            pulled += [{"data": each["data"], "attempt": each["attempt"]} for each in messages]
            if messages:
                await owner.post(
                    f"{listener}/acknowledgements", {"acknowledge": [each["receipt"] for each in messages]}
                )
    return sorted(pulled, key=lambda each: str(each["data"]))


async def _unfinished(owner: Client, listeners: Mapping[str, str]) -> str:
    """Return what is due and not settled, or "" when that is nothing, all jobs are done, and the schedule has run."""
    for alias in ("redelivered", "replayed", "blocking-push"):
        for kind in ("redeliveries", "replays"):
            if any(job["state"] != "done" for job in (await owner.get(f"{listeners[alias]}/{kind}"))[kind]):
                return f"{kind} of {alias}"
    for alias, place in listeners.items():
        queue, _, listener = place.partition("/listeners/")
        for state in ("pending", "retrying"):
            waiting = (await owner.get(f"{queue}/messages?listener={listener}&state={state}"))["messages"]
            if any(message["alias"] != "much-delayed" for message in waiting):
                return f"{state} messages of {alias}"
    # The short delayed message, and the first run of the schedule.
    timed = (await owner.get(listeners["timed-push"]))["listener"]
    return "" if timed["messages"]["acknowledged_count"] >= 2 else "the run of the schedule"


async def _ending(owner: Client, listener: str) -> Json:
    counts = (await owner.get(listener))["listener"]["messages"]
    missed = (await owner.get(f"{listener}/missed?per_page=100"))["missed"]
    jobs = {kind: (await owner.get(f"{listener}/{kind}"))[kind] for kind in ("redeliveries", "replays")}
    return {
        "messages": {name: count for name, count in counts.items() if name.endswith("_count")},
        "missed": [[each["id"], each["reason"], each["attempts"]] for each in missed],
        **{kind: [{"state": job["state"], "counts": job["counts"]} for job in of] for kind, of in jobs.items()},
    }


def _totals(statistics: Json) -> Json:
    """Sum the numbers of statistics over their periods, by the names of the fields."""
    totals: dict[str, int] = {}

    def add(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                add(item, key)
        elif isinstance(value, list):
            for item in value:
                add(item, name)
        elif isinstance(value, int) and not isinstance(value, bool) and value < 1_000_000_000_000:
            totals[name] = totals.get(name, 0) + value

    add({key: value for key, value in statistics.items() if key != "_links"}, "")
    return dict(sorted(totals.items()))
