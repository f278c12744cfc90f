"""No request of a tenant keeps the event loop from others for long, whatever the route and its input.

The application runs under the real server on a loop of plain asyncio, each of whose steps is measured, in time of its
processor: other processes do not count.
"""

import asyncio
import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import httpx
import pytest
from msgspec.structs import replace

from discue.api.route import Method, Route
from discue.domain.attempts import Timings, Trace
from discue.domain.model import DeliveryOptions
from discue.domain.window import Window
from discue.product import ROUTES
from discue.store import listeners, queues
from discue.store.engine import Transaction
from discue.store.recipients import LISTENERS_AT_MOST
from tests.security.hostile import hostile_copy, shared_folder
from tests.security.steps import MeasuredSteps, Step, shown
from tests.store.rows import a_listener
from tests.support.api_world import BODIES, World
from tests.support.served_api import Cast, cast_of, served

_LONGEST_SECONDS = 0.05

_PAGE = 100
_CHANNELS = 12
_MATCHING = 4

_LIMITED = ("secret_id", "replay_id", "redelivery_id", "channel_id", "attempt_id", "user_id", "domain_id")
"""Resources that must be made before there are as many as there may be."""

_MOST = {"per_page": 100, "max": 100, "limit": 1_000}
"""The largest values of parameters."""

_EVENTS = {"content-type": "application/cloudevents-batch+json"}
_KEY_ONCE = "idempotency-key"


class Watchdog(MeasuredSteps):
    """Measures the steps of the event loops in this process."""

    def __init__(self) -> None:
        self.longest = Step()
        super().__init__(self._compare)

    def _compare(self, seconds: float, handle: asyncio.Handle) -> None:
        if seconds > self.longest.seconds:
            self.longest = Step(seconds, shown(handle))

    def measure(self, ask: Callable[[], httpx.Response]) -> tuple[httpx.Response, Step]:
        self.longest = Step()
        answer = ask()
        return answer, self.longest


_IS_JSON = {"content-type": "application/json"}


class Request(NamedTuple):
    """An input of a route that may take long."""

    content: bytes
    headers: Mapping[str, str] = _IS_JSON


_NO_BODY = Request(b"", {})


def _json(body: Any, **headers: str) -> Request:
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Request(content, {**_IS_JSON, **headers})


def _padded(body: dict[str, Any], size: int) -> Request:
    """A body of that size, most of which is searched for duplicates."""
    length = size - len(json.dumps(body, ensure_ascii=False).encode()) - 40
    return _json({**body, "id": [{}] * (length // 3)})


def _options() -> dict[str, Any]:
    return {
        "headers": {f"x-{number}": "value" for number in range(10)},
        "key": "k" * 60,
        "alias": "a" * 40,
        "delay": 600,
        "expires_at": int(time.time() * 1_000) + 86_400_000,
        "retry": {"schedule": [10] * 5},
    }


def _batches(more: dict[str, Any]) -> list[Request]:
    """Batches that are large in different ways."""
    large = [{"data": "x" * 250_000, **more}] * 32
    objects = [{"data": {"names": ["y" * 50] * 140}, **more}] * 1_000
    options = [{"data": {"order": number}, **_options(), **more} for number in range(1_000)]
    wide = [{"data": "\U0001f600" * 1_700, **more}] * 1_000
    spaced = json.dumps({"messages": objects}).encode()[:8_388_608]
    return [
        _json({"messages": large}, **{_KEY_ONCE: "large"}),
        _json({"messages": objects}),
        _json({"messages": options}),
        _json({"messages": wide}),
        _json({"messages": [{"data": 1, **more}] * 1_000}),
        _json({"messages": [{"data": "\\u00e9\n" * 700, **more}] * 1_000}),
        _json({"messages": [{"data": [[], {}] * 1_000, "id": [{}] * 100, **more}] * 1_000}),
        Request(spaced),
        Request(b"[" * 8_388_608),
    ]


def _events(**more: Any) -> list[Request]:
    event = {"specversion": "1.0", "id": "1", "source": "/orders", "type": "paid", **more}
    extended = {f"extension{number}": "v" * 20 for number in range(8)}
    many = [{**event, **extended, "data": {"names": ["y" * 50] * 40}}] * 1_000
    large = [{**event, "data": "z" * 240_000}] * 32
    return [Request(json.dumps(each, separators=(",", ":")).encode()[:8_388_608], _EVENTS) for each in (many, large)]


_FILTER = {"data": {f"field{number}.inner.deep": {"$contains": "x" * 40} for number in range(90)}}
_HEADERS = {f"x-header-{number}": "v" * 100 for number in range(20)}
_CRON = "0 0 29 2 1"
_SCHEMA = {f"field{number}": {"type": "string"} for number in range(900)}
_JSON_SCHEMA = {"properties": {f"field{number}": {"type": "string", "maxLength": 5} for number in range(900)}}

_SCHEMAS: dict[str, dict[str, Any]] = {
    "rules": {"schema": _SCHEMA},
    "properties": {"json_schema": _JSON_SCHEMA},
    "enumeration": {"json_schema": {"enum": [[number, {}] for number in range(5_000)]}},
}

_WORST: dict[str, Callable[[], list[Request]]] = {
    "BatchBody": lambda: [*_batches({"type": "orders.eu.paid"}), *_events(type="orders.eu.paid")],
    "MessageBody": lambda: [
        _json({"data": "é" * 120_000, "type": "a." * 120 + "a", **_options()}),
        _json({"data": "\\u00e9" * 40_000}),
        _json({"data": [[], {}] * 20_000}),
        _padded({"data": 1}, 60_000),
    ],
    "QueueBody": lambda: [
        *(_json(schema) for schema in _SCHEMAS.values()),
        _padded({}, 65_000),
    ],
    "ListenerBody": lambda: [
        _json({**BODIES["ListenerBody"], "headers": _HEADERS, "filter": _FILTER}),
        _json({**BODIES["ListenerBody"], "transform": "||".join(["a"] * 1_300)}),
        _padded(BODIES["ListenerBody"], 65_536),
    ],
    "ChannelBody": lambda: [_json({"pattern": "a.*." * 60 + ">", "filter": _FILTER}), _padded({}, 65_536)],
    "ApiKeyBody": lambda: [
        _json({"scopes": {"queues": {"access": "write", "targets": [f"{number:021}" for number in range(300)]}}}),
        _padded({}, 65_536),
    ],
    "AcknowledgementsBody": lambda: [
        _json({"acknowledge": [f"{number:022}" for number in range(1_000)]}),
    ],
    "RedeliveryBody": lambda: [_json({"messages": [f"{number:021}" for number in range(100)]}), _padded({}, 65_536)],
    "ReplayBody": lambda: [_json({"from_at": 0, "filter": _FILTER}), _padded({"from_at": 0}, 65_536)],
    "ScheduleBody": lambda: [
        _json({"cron": _CRON, "data": "é" * 120_000, "headers": _HEADERS, "time_zone": "Europe/Berlin"}),
        _json({"cron": ",".join(["0-59"] * 40) + " * * * *", "data": 1}),
        _padded({"cron": "@daily", "data": 1}, 60_000),
    ],
    "FilterTestBody": lambda: [
        _json({"filter": _FILTER, "data": {f"field{number}": {"inner": {"deep": "y" * 300}} for number in range(90)}}),
        _json({"filter": {"data": {"a": {"$regex": "(x|y)+z"}}}, "data": {"a": "xy" * 30_000}}),
    ],
    "TransformTestBody": lambda: [
        _json({"transform": "[data, data, data]", "limit": 1_000}),
        _json({"transform": "||".join(["to_string(data)"] * 70), "limit": 1_000}),
        _json({"transform": "[" * 4_000}),
    ],
    "EventTypeBody": lambda: [
        _json({"type": "order.paid", "json_schema": _JSON_SCHEMA, "example": {"a": "x" * 20_000}}),
        _padded({"type": "order.paid"}, 65_536),
    ],
    "InvitationBody": lambda: [_padded({"token": "x" * 40, "password": "p" * 100}, 65_536)],
}


class Crowd:
    """An organization with a page of everything, as large as each may be."""

    def __init__(self, cast: Cast) -> None:
        self.world = world = World(cast)
        self.cast = cast
        queue, listener = world["queue_id"], world["listener_id"]
        message = world["message_id"]
        listeners = f"/queues/{queue}/listeners"
        trace = _trace()
        for name in _LIMITED:
            assert world[name]
        for number in range(_PAGE):
            other = cast.create("/queues", {} if number < _MATCHING else {"schema": _SCHEMA})
            cast.listener(queue, headers=_HEADERS, filter=_FILTER)
            cast.create("/api_keys", {"scopes": {"queues": {"access": "write", "targets": [queue] * 300}}})
            cast.create(f"/queues/{queue}/schedules", {"cron": _CRON, "data": "x", "time_zone": "Asia/Kathmandu"})
            cast.create("/topics", {})
            if number < _CHANNELS:
                matching = {} if number < _MATCHING else {"filter": _FILTER}
                cast.channel(world["topic_id"], other, pattern="orders.*.>", **matching)
            if number:
                cast.domain(2_000 + number)
            cast.attempt(listener, message, trace, number=number + 1)
        batch = {"messages": [{"data": "x" * 80_000, **_options(), "delay": 0}] * _PAGE}
        cast.alice.post(f"/queues/{queue}/messages/batch", json=batch).raise_for_status()
        for _ in range(10):
            cast.alice.post(f"{listeners}/{listener}/redeliveries", json={"all": True, "dry_run": True})
        assert world["puller_id"]
        cast.alice.post(f"/queues/{queue}/messages/batch", json=batch).raise_for_status()


def _trace() -> Trace:
    headers = tuple((f"x-header-{number}".encode(), b"v" * 200) for number in range(20))
    lines = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in headers)
    head = f"POST / HTTP/1.1\r\n{lines}\r\n".encode()
    return Trace(head, headers, b"\xff\x00e" * 1_000, 3_000, "127.0.0.2:9", False, Timings(12, None, None, None, 12))


@pytest.fixture(scope="module", params=["new", "hostile"])
def crowd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    """A crowd in a database of its own, or in one that a hostile tenant has filled."""
    with ExitStack() as stack:
        folder, operator = tmp_path_factory.mktemp("loop"), None
        if request.param == "hostile":
            copy = stack.enter_context(hostile_copy(shared_folder(tmp_path_factory), folder))
            operator = copy.operator
        service = stack.enter_context(served(folder, rate_limit=0, max_message_bytes=262_144))
        service.operator = operator or service.operator
        made = Crowd(cast_of(service))
        # As the program does: these objects live as long as it does.
        gc.collect()
        gc.freeze()
        yield made
        gc.unfreeze()


@pytest.fixture(scope="module")
def watchdog() -> Iterator[Watchdog]:
    with Watchdog() as watching:
        yield watching


CASES = [(route, method) for route in ROUTES for method in route.methods]


@pytest.mark.parametrize(("route", "method"), CASES, ids=[f"{method} {route.path}" for route, method in CASES])
def test_no_request_keeps_the_event_loop_for_long(
    crowd: Crowd, watchdog: Watchdog, route: Route, method: Method
) -> None:
    # Resources that are deleted or get a schema must not be those of other tests.
    world = World(cast_of(crowd.cast.service)) if method == "DELETE" else crowd.world
    if (method, route.path) == ("PUT", "/queues/{queue_id}") or "{schema_id}" in route.path:
        world = World(crowd.cast)
    path = world.path(route.path)
    client = world.cast.nobody if route.needs is None else world.cast.alice
    names = {parameter.name for parameter in route.query}
    path += "?" + "&".join(f"{name}={most}" for name, most in _MOST.items() if name in names)
    slow = []
    for number, (content, headers) in enumerate(_requests(world, route)):
        ask = partial(client.request, method, path, content=content, headers=headers)
        answer, longest = watchdog.measure(ask)
        assert not answer.is_server_error, answer.text
        if longest.seconds > _LONGEST_SECONDS:
            # Once more: the garbage collector and other threads of this process may have been to blame.
            answer, longest = watchdog.measure(ask)
        if longest.seconds > _LONGEST_SECONDS:
            slow.append((number, answer.status_code, longest))
    assert not slow


@pytest.mark.parametrize("schema", _SCHEMAS)
def test_publish_to_a_queue_with_a_long_schema_keeps_the_event_loop_from_nobody(
    crowd: Crowd, watchdog: Watchdog, schema: str
) -> None:
    queue = crowd.cast.create("/queues", _SCHEMAS[schema])
    body = {"data": {f"field{number}": "x" for number in range(900)}}
    ask = partial(crowd.cast.alice.post, f"/queues/{queue}/messages", json=body)
    answer, longest = watchdog.measure(ask)
    assert answer.status_code in {200, 413, 422}
    assert longest.seconds <= _LONGEST_SECONDS, longest


def test_publish_to_a_topic_with_long_filters_keeps_the_event_loop_from_nobody(
    crowd: Crowd, watchdog: Watchdog
) -> None:
    longest = []
    # Each topic is read once. The garbage collector may be to blame for one of them.
    for number in range(2):
        topic = crowd.cast.topic()
        for queue in [crowd.cast.queue() for _ in range(50)]:
            conditions = [{"data": {"$contains": f"{number} {queue} {each}"}} for each in range(98)]
            crowd.cast.channel(topic, queue, filter={"$or": conditions})
        ask = partial(crowd.cast.alice.post, f"/topics/{topic}/messages", json={"data": [1] * 1_000})
        answer, step = watchdog.measure(ask)
        assert answer.status_code == 200, answer.text
        longest.append(step)
    assert min(longest).seconds <= _LONGEST_SECONDS, longest


@pytest.fixture(scope="module")
def searched(crowd: Crowd) -> str:
    """A queue with nearly as many listeners as lists of a state may have, and large messages that wait for all."""
    queue = crowd.cast.queue()
    for _ in range(90):
        crowd.cast.listener(queue, status="disabled")
    batch = {"messages": [{"data": "x" * 20_000, **_options(), "delay": 0}] * 4 * _PAGE}
    for _ in range(3):
        crowd.cast.alice.post(f"/queues/{queue}/messages/batch", json=batch).raise_for_status()
    return queue


@pytest.mark.parametrize("query", ["state=missed", "state=no_listeners&key=none", "key=" + "k" * 60, "header=x-none"])
def test_search_for_messages_keeps_the_event_loop_from_nobody(
    crowd: Crowd, watchdog: Watchdog, searched: str, query: str
) -> None:
    for path in ("/messages", f"/queues/{searched}/messages"):
        ask = partial(crowd.cast.alice.get, f"{path}?per_page=100&{query}")
        answer, longest = watchdog.measure(ask)
        if longest.seconds > _LONGEST_SECONDS:
            answer, longest = watchdog.measure(ask)
        assert answer.status_code == 200, answer.text
        assert longest.seconds <= _LONGEST_SECONDS, (path, longest)


@pytest.fixture(scope="module")
def crowded(crowd: Crowd) -> str:
    """A queue with as many listeners as lists show states of. All of them have settled all messages but the first."""
    public_id = crowd.cast.queue()
    crowd.cast.alice.post(f"/queues/{public_id}/messages/batch", json={"messages": [{"data": 1}] * _PAGE})
    ahead = Window(0, (1 << _PAGE) - 2).encode()

    async def add_listeners(tx: Transaction) -> None:
        found = await tx.row("SELECT organization FROM queue WHERE public_id = $1", public_id)
        assert found is not None
        queue = await queues.get(tx, found[0], public_id)
        assert queue is not None
        for number in range(LISTENERS_AT_MOST):
            listener = replace(a_listener(queue, number + 1), status="disabled")
            await listeners.insert(tx, listener, 0)
        await tx.execute("UPDATE cursor SET ahead = $1 WHERE queue = $2", ahead, queue.id)

    service = crowd.cast.service
    service.run(service.installation.store.write(add_listeners))
    return public_id


def test_states_of_a_queue_with_many_listeners_keep_the_event_loop_from_nobody(
    crowd: Crowd, watchdog: Watchdog, crowded: str
) -> None:
    ask = partial(crowd.cast.alice.get, f"/queues/{crowded}/messages?per_page=100")
    answer, longest = watchdog.measure(ask)
    if longest.seconds > _LONGEST_SECONDS:
        answer, longest = watchdog.measure(ask)
    states = [message["state"] for message in answer.json()["messages"]]
    assert states == ["acknowledged"] * (_PAGE - 1) + ["pending"]
    assert longest.seconds <= _LONGEST_SECONDS, longest


@pytest.fixture(scope="module")
def filtered(crowd: Crowd) -> str:
    """A message that the slow filters of many listeners have rejected; its path."""
    public_id = crowd.cast.queue()
    message = {"data": [1] * 120_000}
    answer = crowd.cast.alice.post(f"/queues/{public_id}/messages", json=message).raise_for_status()

    async def add_listeners(tx: Transaction) -> None:
        found = await tx.row("SELECT organization FROM queue WHERE public_id = $1", public_id)
        assert found is not None
        queue = await queues.get(tx, found[0], public_id)
        assert queue is not None
        for number in range(_PAGE):
            conditions = [{"data": {"$contains": f"{number}-{each}"}} for each in range(98)]
            options = DeliveryOptions(filter=json.dumps({"$or": conditions}))
            listener = replace(a_listener(queue, LISTENERS_AT_MOST + number + 1), status="disabled", options=options)
            await listeners.insert(tx, listener, 0)
        await tx.execute("UPDATE cursor SET position = 1 WHERE queue = $1", queue.id)

    service = crowd.cast.service
    service.run(service.installation.store.write(add_listeners))
    return f"/queues/{public_id}/messages/{answer.json()['message']['id']}"


@pytest.mark.parametrize("what", ["", "/deliveries?per_page=100", "/deliveries?per_page=100&state=filtered"])
def test_filters_that_have_rejected_a_message_keep_the_event_loop_from_nobody(
    crowd: Crowd, watchdog: Watchdog, filtered: str, what: str
) -> None:
    ask = partial(crowd.cast.alice.get, filtered + what)
    answer, longest = watchdog.measure(ask)
    if longest.seconds > _LONGEST_SECONDS:
        answer, longest = watchdog.measure(ask)
    content = answer.json()
    shown = content["deliveries"] if what else content["message"]["deliveries"]
    assert {each["state"] for each in shown} == {"filtered"}
    assert longest.seconds <= _LONGEST_SECONDS, longest


def _requests(world: World, route: Route) -> list[Request]:
    if not route.takes_body:
        return [_NO_BODY]
    body, name = world.filled(BODIES[route.request.__name__]), route.request.__name__
    return [_json(body), *(_WORST[name]() if name in _WORST else [_padded(body, 65_536)])]
