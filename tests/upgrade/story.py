"""Requests of the upgrade test: they furnish an installation, read all of it, and wait until it has delivered all.

The script that makes the fixtures runs this with the old program, the test with the present one: nothing of the
program is imported here.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import httpx

OPERATOR_KEY = "dsk_" + "c" * 60
PORT_IN_FIXTURES = 1
"""The port of all listeners in the fixtures. Nobody listens there; a test that loads one puts in the receiver's."""

CRASHED_AT = 1_750_000_020_000 - 3_000
"""When the old program was killed, in milliseconds since the Unix epoch: three seconds before a full minute."""
STARTED_AT = CRASHED_AT - 600_000
SENT_WITHIN_SECONDS = 40.0

Json = dict[str, Any]

_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
_CHANGING = frozenset({"last_used_at", "request_id"})
"""Fields that depend on the requests of the test itself."""


def statement_for_port(port: int) -> str:
    """Return the SQL that makes the listeners of a fixture those of a receiver at a port."""
    place, changed = f"'//127.0.0.1:{PORT_IN_FIXTURES}/'", f"'//127.0.0.1:{port}/'"
    columns = ", ".join(f"{name} = replace({name}, {place}, {changed})" for name in ("notify_url", "liveness_url"))
    return f"UPDATE listener SET {columns};"


class Caller:
    """A client of the API with a key."""

    def __init__(self, client: httpx.AsyncClient, url: str, key: str) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self.key = key

    def with_key(self, key: str) -> "Caller":
        return Caller(self._client, self._url, key)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        sent = {"x-api-key": self.key, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await self._client.request(method, self._url + path, json=body, headers=sent)

    async def get(self, path: str) -> Json:
        return understood(await self.ask("GET", path))

    async def post(self, path: str, body: object, **headers: str) -> Json:
        return understood(await self.ask("POST", path, body, **headers))


def understood(response: httpx.Response) -> Json:
    """Return the body of a response of 200."""
    assert response.status_code == 200, f"{response.request.method} {response.request.url}: {response.text}"
    body: Json = response.json()
    return body


Step = Callable[[int], Awaitable[None]]
"""Lets the old program's time pass, in milliseconds, and waits until it has done everything that is due."""


class Furnishing:
    """Fills an installation with data of every kind. The listeners' answers follow from the paths of their URLs."""

    def __init__(self, operator: Caller, step: Step) -> None:
        self._operator = operator
        self._step = step
        self.owner = operator
        self.secrets: dict[str, str] = {}
        """The first signing secret of each listener, by its alias."""
        self._queues: dict[str, str] = {}
        self.listeners: dict[str, str] = {}
        """The path of each listener, by its alias."""

    async def run(self) -> Json:
        """Furnish; returns what the clients know."""
        await self._make_organizations()
        await self._make_members()
        await self._make_missed_range()
        await self._step(CRASHED_AT - STARTED_AT - 120_000)
        await self._enable("ranged")
        await self._make_plain()
        await self._make_pulled()
        await self._make_ordered()
        await self._make_routed()
        await self._make_redelivered()
        await self._make_replayed()
        locked = await self._lock_a_key()
        await self._step(119_000)
        await self._make_retried()
        await self._make_timed()
        once = await self._make_idempotent()
        await self._make_moving()
        return {"owner": self.owner.key, "locked": locked, "secrets": self.secrets, "idempotent": once}

    async def _make_organizations(self) -> None:
        made = await self._operator.post("/organizations", {"alias": "org.example.alice"})
        self.owner = self._operator.with_key(made["api_key"]["key"])
        suspended = await self._operator.post("/organizations", {"alias": "org.example.suspended"})
        await self._operator.with_key(suspended["api_key"]["key"]).post("/queues", {"alias": "their-queue"})
        path = f"/organizations/{suspended['organization']['id']}"
        understood(await self._operator.ask("PUT", path, {"state": "suspended"}))

    async def _make_members(self) -> None:
        scopes = {"messages": {"access": "write"}, "queues": {"access": "read"}}
        await self.owner.post("/api_keys", {"alias": "producer", "scopes": scopes})
        await self.owner.post("/api_keys", {"alias": "switched-off", "status": "disabled", "scopes": scopes})
        await self.owner.post("/api_keys", {"alias": "ends-later", "expires_at": CRASHED_AT + 86_400_000})
        gone = await self.owner.post("/api_keys", {"alias": "gone"})
        understood(await self.owner.ask("DELETE", f"/api_keys/{gone['api_key']['id']}"))
        await self.owner.post("/users", {"email": "ada@example.com", "display_name": "Ada", "role": "owner"})
        grace = {"email": "grace@example.com", "role": "viewer", "password": "correct horse battery"}
        await self.owner.post("/users", grace)
        await self.owner.post("/domains", {"alias": "shop", "hostname": "localhost", "port": 1_031})

    async def _make_missed_range(self) -> None:
        """Messages that expire while their listener is disabled."""
        await self._queue("plain-queue")
        await self._listener("plain-queue", "ranged", status="disabled")
        await self._listener("plain-queue", "switched-off", status="disabled")
        for number in range(6):
            data = {"expired": number}
            await self._publish("plain-queue", data, expires_at=STARTED_AT + 60_000)
        await self._publish("plain-queue", {"kept": 1}, alias="kept-message")

    async def _enable(self, alias: str) -> None:
        understood(await self.owner.ask("PUT", self.listeners[alias], {"status": "enabled"}))
        # Its cursor is free: a worker looks for those once a second.
        for _ in range(8):
            await self._step(0)

    async def _make_plain(self) -> None:
        await self._listener("plain-queue", "plain-push")
        await self._listener("plain-queue", "missing", "fail", retry={"attempts": 1})
        await self._listener("plain-queue", "filtered", filter={"data": {"kind": ["wanted"]}})
        authentication = {"type": "basic", "username": "discue", "password": "s3cret"}
        await self._listener("plain-queue", "signed", authentication=authentication, headers={"x-custom": "yes"})
        for body in ({"expire_previous_in": 86_400}, {"type": "ed25519"}, {"expire_previous_in": 3_600}):
            await self.owner.post(f"{self.listeners['signed']}/secrets", body)
        await self._publish("plain-queue", {"kind": "wanted"}, headers={"x-of-message": "1"})
        await self._publish("plain-queue", "some text", alias="text-message")
        await self._publish("plain-queue", {"deleted": True}, alias="deleted-message")
        message = await self.owner.get("/messages?alias=deleted-message")
        understood(await self.owner.ask("DELETE", f"{self._queues['plain-queue']}/messages/{_only(message)['id']}"))
        await self._step(10)

    async def _make_pulled(self) -> None:
        await self._queue("pulled-queue", json_schema={"type": "object"})
        await self._listener("pulled-queue", "puller", mode="pull", lease_seconds=121)
        for number in range(5):
            await self._publish("pulled-queue", {"pulled": number})
        place = self.listeners["puller"]
        pulled = (await self.owner.get(f"{place}/messages?max=4"))["messages"]
        receipts = [each["receipt"] for each in pulled]
        body = {"acknowledge": receipts[:1], "reject": receipts[1:2], "release": receipts[2:3]}
        await self.owner.post(f"{place}/acknowledgements", body)
        await self._step(10)

    async def _make_ordered(self) -> None:
        """A key that waits for a retry, and one that a missed message blocks."""
        await self._queue("ordered-queue", ordered=True)
        await self._listener("ordered-queue", "ordered-push", "fail", retry=_retry(121))
        await self._queue("blocking-queue", ordered=True, on_missed="block")
        await self._listener("blocking-queue", "blocking-push", "fail", retry={"attempts": 1})
        for queue in ("ordered-queue", "blocking-queue"):
            for number in range(3):
                await self._publish(queue, {"ordered": number}, key="first")
            await self._publish(queue, {"ordered": "alone"}, key="second")

    async def _make_routed(self) -> None:
        topic = f"/topics/{(await self.owner.post('/topics', {'alias': 'shop-topic'}))['topic']['id']}"
        for name, pattern in (("left-queue", "orders.>"), ("right-queue", "orders.*.paid")):
            await self._queue(name)
            queue_id = self._queues[name].rpartition("/")[2]
            await self.owner.post(f"{topic}/channels", {"queue_id": queue_id, "pattern": pattern})
        await self._listener("left-queue", "left-push", "fail", retry=_retry(121))
        await self._listener("right-queue", "right-off", status="disabled")
        for subject in ("orders.eu.paid", "orders.eu.open", "parcels.eu"):
            body = {"subject": subject, "data": {"subject": subject, "filler": "x" * 40}}
            await self.owner.post(f"{topic}/messages", body)
            await self._step(10)

    async def _make_redelivered(self) -> None:
        await self._queue("redelivered-queue")
        await self._listener("redelivered-queue", "redelivered", "fail", retry={"attempts": 1})
        for number in range(4):
            await self._publish("redelivered-queue", {"redelivered": number})

    async def _make_replayed(self) -> None:
        await self._queue("replayed-queue")
        await self._listener("replayed-queue", "replayed")
        for number in range(4):
            await self._publish("replayed-queue", {"replayed": number})

    async def _lock_a_key(self) -> str:
        return str((await self.owner.post("/api_keys", {"alias": "attacked"}))["api_key"]["key"])

    async def _make_retried(self) -> None:
        """Work that is not finished: a retry that is due soon, a redelivery and a replay, and a key that is locked."""
        await self._listener("plain-queue", "failing", "fail", retry=_retry(2))
        await self._publish("plain-queue", {"kind": "unwanted"})
        await self.owner.post(f"{self.listeners['redelivered']}/redeliveries", {"all": True, "pace": 1})
        await self.owner.post(f"{self.listeners['replayed']}/replays", {"from_at": 0, "pace": 1})
        await self._step(10)
        attacked = _only(await self.owner.get("/api_keys?alias=attacked"))["id"]
        for _ in range(5):
            assert (await self._operator.with_key(f"dsk_{attacked}{'x' * 40}").ask("GET", "/queues")).status_code == 401
            await self._step(10)

    async def _make_timed(self) -> None:
        await self._queue("timed-queue")
        await self._listener("timed-queue", "timed-push")
        await self._publish("timed-queue", {"delayed": "a little"}, deliver_at=CRASHED_AT + 1_000)
        await self._publish(
            "timed-queue", {"delayed": "much"}, alias="much-delayed", deliver_at=CRASHED_AT + 86_400_000
        )
        schedules = f"{self._queues['timed-queue']}/schedules"
        await self.owner.post(schedules, {"alias": "each-minute", "cron": "* * * * *", "data": {"run": True}})
        await self.owner.post(schedules, {"alias": "switched-off", "cron": "@daily", "data": 1, "status": "disabled"})

    async def _make_idempotent(self) -> list[Json]:
        """Requests under a key that the upgraded program must know again, with their responses."""
        messages = f"{self._queues['replayed-queue']}/messages"
        requests = [
            (messages, {"data": {"once": 1}}),
            (messages, {"data": {"once": 2}}),
            ("/queues", {"alias": "once-q"}),
        ]
        made = []
        for number, (path, body) in enumerate(requests):
            key = f"idempotency-{number}"
            response = await self.owner.post(path, body, idempotency_key=key)
            await self._step(10)
            made.append({"key": key, "path": path, "body": body, "response": masked(response)})
        return made

    async def _make_moving(self) -> None:
        """Requests that do not end: the script hands their cursors over while they are in flight."""
        await self._queue("moved-queue")
        await self._listener("moved-queue", "sending", "hang")
        await self._listener("moved-queue", "ended", "hang")
        for number in range(2):
            await self._publish("moved-queue", {"moved": number})

    async def _queue(self, alias: str, **fields: object) -> None:
        made = await self.owner.post("/queues", {"alias": alias, **fields})
        self._queues[alias] = f"/queues/{made['queue']['id']}"

    async def _listener(self, queue: str, alias: str, answer: str = "ok", **fields: object) -> None:
        base = f"http://127.0.0.1:{PORT_IN_FIXTURES}"
        urls = {} if fields.get("mode") == "pull" else {"notify_url": f"{base}/{answer}/{alias}"}
        if urls:
            urls["liveness_url"] = f"{base}/live/{alias}"
        made = (await self.owner.post(f"{self._queues[queue]}/listeners", {**urls, "alias": alias, **fields}))[
            "listener"
        ]
        self.listeners[alias] = f"{self._queues[queue]}/listeners/{made['id']}"
        if made.get("secret"):
            self.secrets[alias] = made["secret"]
        await self._step(10)

    async def _publish(self, queue: str, data: object, **fields: object) -> None:
        await self.owner.post(f"{self._queues[queue]}/messages", {"data": data, **fields})
        await self._step(10)


def _retry(seconds: int) -> Json:
    return {"schedule": [seconds, 1, 1], "jitter": 0.0, "attempts": 4}


def _only(page: Json) -> Json:
    (items,) = [value for value in page.values() if isinstance(value, list)]
    (item,) = items
    found: Json = item
    return found


async def everything_readable(operator: Caller, clients: Json) -> Json:
    """Read everything that the operator and the owner of the organization can read."""
    owner = operator.with_key(clients["owner"])
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
    shown["locked"] = (await operator.with_key(clients["locked"]).ask("GET", "/queues")).status_code
    repeated = [await owner.post(one["path"], one["body"], idempotency_key=one["key"]) for one in clients["idempotent"]]
    shown["repeated"] = repeated
    everything: Json = masked(shown)
    return everything


async def _listener_readable(owner: Caller, queue: str, listener: Json) -> list[Json]:
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


class Delivered:
    """A request that a listener received."""

    def __init__(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self.listener = path.rpartition("/")[2]
        self._headers = headers
        self._body = body

    def shown(self, secrets: Mapping[str, str]) -> Json:
        """Return what every program must send alike."""
        signatures = self._headers["webhook-signature"].split()
        names = ("content-type", "discue-attempt", "authorization", "x-custom", "x-of-message", "discue-subject")
        return {
            "listener": self.listener,
            "body": self._body.decode(),
            "headers": {name: self._headers[name] for name in names if name in self._headers},
            "is_replay": "discue-replay" in self._headers,
            "signatures": sorted(signature.partition(",")[0] for signature in signatures),
            "is_signed_by_first_secret": self._signature(secrets[self.listener]) in signatures,
        }

    def _signature(self, secret: str) -> str:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self._headers['webhook-id']}.{self._headers['webhook-timestamp']}.".encode() + self._body
        return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def sent_to_listeners(requests: Iterable[Delivered], secrets: Mapping[str, str]) -> list[Json]:
    """Return what was sent, in an order that does not depend on time."""
    shown = [request.shown(secrets) for request in requests]
    return sorted(shown, key=lambda one: json.dumps(one, sort_keys=True))


async def finish(operator: Caller, clients: Json) -> Json:
    """Publish, redeliver and pull; wait until everything is delivered, and read how it ended."""
    owner = operator.with_key(clients["owner"])
    listeners = (await owner.get("/listeners?per_page=100"))["listeners"]
    by_alias = {listener["alias"]: listener for listener in listeners if listener["status"] == "enabled"}
    path = {alias: f"/queues/{each['queue_id']}/listeners/{each['id']}" for alias, each in by_alias.items()}
    await owner.post(f"{path['blocking-push']}/redeliveries", {"all": True})
    await owner.post(f"/queues/{by_alias['signed']['queue_id']}/messages", {"data": {"kind": "wanted", "new": True}})
    topic = _only(await owner.get("/topics"))["id"]
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


async def _pull_all(owner: Caller, listener: str, expected: int) -> list[Json]:
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


async def _unfinished(owner: Caller, listeners: Mapping[str, str]) -> str:
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


async def _ending(owner: Caller, listener: str) -> Json:
    counts = (await owner.get(listener))["listener"]["messages"]
    missed = (await owner.get(f"{listener}/missed?per_page=100"))["missed"]
    jobs = {
        kind: [
            {"state": job["state"], "counts": job["counts"]} for job in (await owner.get(f"{listener}/{kind}"))[kind]
        ]
        for kind in ("redeliveries", "replays")
    }
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
