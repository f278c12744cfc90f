"""The traffic of a small shop: its listeners are well, slow, failing, hanging and disabled, each for a reason."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
from msgspec.structs import replace

from discue.domain.attempts import Outcome, Timings, Trace
from discue.sending.request import AttemptRequest, attempt_head
from discue.sending.response import classify_response
from discue.testing.server import KitSender
from tests.support.dashboards import DashboardService

_BROKEN_FROM: Final = 4_780
_REFUSED_FROM: Final = 1_000
_FAILURES: Final = 2
HOSTS: Final = "hooks.example.com"


@dataclass(frozen=True)
class Answer:
    """The response of a listener of the shop, and how long each stage takes."""

    status: int
    body: bytes = b""
    stages: tuple[int | None, int | None, int | None, int] = (None, None, None, 41)
    after_ms: int = 3
    headers: Sequence[tuple[bytes, bytes]] = ((b"server", b"nginx"), (b"x-request-id", b"9f3c1d77"))
    is_withheld: bool = False


Behaviour = Callable[[AttemptRequest], Answer | None]


class ShopSender(KitSender):
    """Answers requests to the listeners of the shop without a socket. Others are sent."""

    behaviours: Mapping[int, Behaviour] = {}
    """By the port of the URL."""

    def send(self, request: AttemptRequest, done: Callable[[Outcome], None]) -> None:
        target = request.destination.target
        behaviour = self.behaviours.get(target.port) if target.host == HOSTS else None
        if behaviour is None:
            super().send(request, done)
            return
        answer = behaviour(request)
        if answer is None:
            return
        *before, first_byte = answer.stages
        total = sum(filter(None, before)) + first_byte + answer.after_ms
        head = attempt_head(request, self._clock.now() // 1_000)
        outcome = classify_response(answer.status, answer.body, total, now=self._clock.now())
        headers = ((b"content-type", b"application/json"), *answer.headers)
        timings = Timings(answer.stages[0], answer.stages[1], answer.stages[2], first_byte, total)
        trace = Trace(head, headers, answer.body, len(answer.body), "203.0.113.24:443", before == [None] * 3, timings)
        asyncio.get_running_loop().call_soon(done, replace(outcome, trace=trace, withheld=answer.is_withheld))


def _well(request: AttemptRequest) -> Answer:
    first = sum(request.message_id.encode()) % 60 + 22
    return Answer(200, b'{"accepted":true}', (None, None, None, first) if first % 4 else (4, 11, 23, first))


def _slow(request: AttemptRequest) -> Answer:
    return Answer(202, b"", (3, 12, 31, sum(request.message_id.encode()) % 900 + 640), 12)


def _failing(request: AttemptRequest) -> Answer:
    if json.loads(request.body)["order"] < _BROKEN_FROM:
        return _well(request)
    return Answer(503, b'{"error":"upstream connect error","retry":true}', (5, 14, 27, 118 + 40 * request.number), 4)


def _recovering(request: AttemptRequest) -> Answer:
    if sum(request.message_id.encode()) % 3:
        return _well(request)
    if request.number <= _FAILURES:
        return Answer(500, b"Internal Server Error", (4, 12, 25, 61), 2)
    return Answer(200, b'{"ok":true}', (4, 10, 22, 88), 6)


def _refusing(request: AttemptRequest) -> Answer:
    # Tests also publish messages of their own.
    if json.loads(request.body).get("total", 0) < _REFUSED_FROM:
        return _well(request)
    return Answer(422, b'{"error":"currency must be EUR"}', (3, 9, 20, 35), 2)


def _large(request: AttemptRequest) -> Answer:
    quotes = [(f"x-{number}".encode(), b'"' * 1_000) for number in range(8)]
    return Answer(503, b"&" * 16_384, (5, 14, 27, 118 + 40 * request.number), 4, quotes)


BEHAVIOURS: Final[Mapping[int, Behaviour]] = {
    9001: _well,
    9002: _slow,
    9003: _failing,
    9004: _recovering,
    9005: _refusing,
    9006: lambda request: None,
    9007: _large,
    9008: lambda request: Answer(503, is_withheld=True),
}


@dataclass
class Shop:
    """The ids of what a test opens."""

    queue: str
    listeners: Mapping[str, str]
    """By name."""
    messages: Sequence[str]
    """The oldest first."""
    blocked: str
    """A message that waits for another one of its key."""
    blocked_queue: str
    user: str
    topic: str
    channel: str
    event_type: str
    source: str
    schedule: str
    key: str
    domain: str

    def listener(self, name: str) -> str:
        return f"/queues/{self.queue}/listeners/{self.listeners[name]}"

    def message(self, index: int = -1) -> str:
        return f"/queues/{self.queue}/messages/{self.messages[index]}"


_SCHEMA: Final = {
    "type": "object",
    "required": ["order"],
    "properties": {"order": {"type": "integer"}, "total": {"type": "number", "minimum": 0}},
}


def open_shop(service: DashboardService) -> Shop:
    """Create the queues, the listeners and some hours of traffic."""
    with service.api() as api:
        queue = _made(api, "/queues", alias="orders", json_schema=_SCHEMA)
        path = f"/queues/{queue}/listeners"
        listeners = {
            "billing": _listener(api, path, "billing", 9001),
            "warehouse": _listener(api, path, "warehouse", 9002),
            "crm-sync": _listener(api, path, "crm-sync", 9003),
            "search-index": _listener(api, path, "search-index", 9004),
            "tax-report": _listener(
                api, path, "tax-report", 9005, retry={"schedule": [60], "attempts": 2, "final_statuses": [422]}
            ),
            "newsletter": _listener(api, path, "newsletter", 9001, filter={"data": {"total": {"$gte": 1_000}}}),
        }
        messages = []
        for hour in range(5):
            for number in range(4 + hour):
                data = {"order": 4_711 + hour * 20 + number, "state": "paid", "total": 120 + 250 * number, "items": 3}
                messages.append(_made(api, f"/queues/{queue}/messages", data=data, key=f"customer-{number}"))
                service.settle()
                service.advance(97)
            service.advance(2_100)
        disabled = _listener(api, path, "old-shop", 9001)
        api.put(f"{path}/{disabled}", json={"status": "disabled"}).raise_for_status()
        listeners["old-shop"] = disabled
        data = {"order": 4_999, "state": "paid", "total": 1_250, "items": 1}
        messages += [_made(api, f"/queues/{queue}/messages", data=data, key="customer-7") for _ in range(3)]
        service.settle()
        service.advance(400)
        ordered = _made(api, "/queues", alias="invoices", ordered=True)
        _listener(api, f"/queues/{ordered}/listeners", "accounting", 9006)
        _made(api, f"/queues/{ordered}/messages", data={"invoice": 1}, key="customer-7")
        blocked = _made(api, f"/queues/{ordered}/messages", data={"invoice": 2}, key="customer-7")
        service.settle()
        returns = _made(api, "/queues", alias="returns")
        topic = _made(api, "/topics", alias="shop")
        channels = f"/topics/{topic}/channels"
        channel = _made(
            api, channels, alias="orders", queue_id=queue, pattern="orders.>", filter={"data": {"total": {"$gte": 9}}}
        )
        _made(api, channels, alias="returns", queue_id=returns, pattern="returns.>")
        event_type = _made(
            api, "/event_types", type="order.paid", description="An order was paid.", json_schema=_SCHEMA
        )
        source = _made(api, "/sources", alias="github", provider="github", queue_id=returns, secrets=["secret"])
        schedule = _made(api, f"/queues/{queue}/schedules", alias="nightly", cron="@daily", data={"order": 1})
        _made(api, f"{path}/{listeners['warehouse']}/replays", from_message=messages[0])
        service.settle()
        key = _made(api, "/api_keys", alias="storefront", scopes={"messages": {"access": "write"}})
        domain = _made(api, "/domains", alias="hooks", hostname="hooks.example.com")
        user = _made(api, "/users", email="ada@example.com", display_name="Ada", role="developer")
        _made(api, "/users", email="grace.hopper@example.com", role="admin", password="correct horse")
    sent = [("discue-queue", queue), ("discue-listener", listeners["billing"]), ("webhook-id", messages[0])]
    service.run(service.inbox.receive([*sent, ("discue-attempt", "1")], b'{"order": 4711}'))
    things = (topic, channel, event_type, source, schedule, key, domain)
    return Shop(queue, listeners, messages, blocked, ordered, user, *things)


def _listener(api: httpx.Client, path: str, name: str, port: int, **fields: Any) -> str:
    return _made(api, path, alias=name, notify_url=f"http://{HOSTS}:{port}/{name}", **fields)


def _made(api: httpx.Client, path: str, **fields: Any) -> str:
    answer = api.post(path, json=fields)
    assert answer.status_code == 200, answer.text
    return next(str(value["id"]) for name, value in answer.json().items() if name != "_links")
