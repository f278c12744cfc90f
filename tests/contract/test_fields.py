"""Every row of the tables of fields: what requests take, and what responses show."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from discue.domain.quotas import NAMES
from tests.contract.caller import Caller, fresh, pointers, problem, resource
from tests.contract.reference import OPERATIONS, Operation, Row, for_every, rows
from tests.contract.test_erasures import erased
from tests.contract.test_sources import refused_request
from tests.contract.world import NOWHERE, World, one_missed, stopped_redelivery
from tests.support.authority import client_pair

# On PostgreSQL and by other workers than wrote it, each field is read back.
SETTINGS_MEANT = ("three workers",)

WRONG = 1.5
"""A value of the wrong type for every field."""

RETRY = {"schedule": [10, 60], "jitter": 0.5, "attempts": 4, "final_statuses": [422, "3xx"]}
AUTHENTICATION: dict[str, dict[str, Any]] = {
    "basic": {"type": "basic", "username": "ada", "password": "s3cr3t"},
    "oauth2": {
        "type": "oauth2",
        "token_url": "https://login.example.com/token",
        "client_id": "ada",
        "client_secret": "s3cr3t",
        "scope": "a",
        "audience": "b",
    },
    "certificate": dict(zip(("type", "certificate", "private_key"), ("certificate", *client_pair()), strict=True)),
}
LISTENER_OPTIONS = {
    "headers": {"x-shop": "north"},
    "timeout": 5,
    "max_in_flight": 7,
    "rate_limit": {"per_second": 2.5, "burst": 3},
    "retry": RETRY,
    "customer": "acme",
    "description": "Books paid orders",
    "format": "cloudevents_structured",
    "trace": "none",
    "authentication": AUTHENTICATION["oauth2"],
    "types": ["order.*"],
    "filter": {"data": {"order.state": "paid"}},
    "transform": "data.order",
}
MESSAGE_OPTIONS = {
    "type": "order.paid",
    "key": "customer-9",
    "headers": {"x-trace": "7"},
    "expires_at": 253_402_300_799_999,
    "retry": RETRY,
}

REQUEST_ROWS = [row for row in rows() if row.kind == "request" and "[]" not in row.cells[0]]
RESPONSE_ROWS = [row for row in rows() if row.kind == "response"]
_ELSEWHERE = {
    "EventView": {"address", "user_id", "session", "second_factor"},
    "DeliveryTestView": {"status", "detail", "took_ms", "connection", "timings", "response"},
}
ELSEWHERE = {str(row) for row in RESPONSE_ROWS if row.cells[0].partition(".")[0] in _ELSEWHERE.get(row.name, set())}
"""Shown to the operator alone, of what users do in the dashboard, and of tests that went to a public address."""
PICTURE = {"data_base64": "iVBORw0KGgo=", "content_type": "image/png"}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LATER = "schedules.md: last_run"
"""Shown when a minute has passed."""


def _creating(component: str) -> Operation:
    """Return the operation that creates with this component. Some components have a variant with required fields."""
    names = {component, f"New{component.removesuffix('Body')}"}
    return next(each for each in OPERATIONS if each.method == "POST" and _form_of(each) in names)


def _form_of(operation: Operation) -> str:
    if not operation.takes_body:
        return ""
    schema = operation.described["requestBody"]["content"]["application/json"]["schema"]
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _asked(world: World, operation: Operation, content: dict[str, Any]) -> httpx.Response:
    caller = world.owner if operation.has_key else world.owner.with_key(None)
    return caller.ask("POST", world.path(operation.path), content)


def _with(content: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {**content, first: _with({}, rest, value) if rest else value}


def _is_a_language(row: Row) -> bool:
    """Whether what a field holds is read by rules of its own."""
    return row.cells[0] in {"schema", "json_schema", "filter"} and row.page != "redeliveries.md"


@for_every("row", REQUEST_ROWS, str)
def test_a_field_of_a_request_has_a_type(world: World, row: Row) -> None:
    name, operation = row.cells[0], _creating(row.name)
    if str(row) in {"tests.md: data", "event_types.md: example"}:
        own = {} if name == "data" else {"type": f"order.{fresh()}"}
        assert _asked(world, operation, {name: WRONG, **own}).status_code == 200
        return
    if name == "data":
        assert pointers(problem(_asked(world, operation, {}), 400)) == ["/data"]
        return
    expected = 422 if _is_a_language(row) or name == "data_base64" else 400
    answer = _asked(world, operation, _with(operation.example, name, WRONG))
    assert pointers(problem(answer, expected))[0] == "/" + name.replace(".", "/")


@for_every("row", [row for row in REQUEST_ROWS if row.cells[2] == "yes"], lambda row: f"{row} required")
def test_a_field_that_is_required_is_missed(world: World, row: Row) -> None:
    operation = _creating(row.name)
    content = {name: value for name, value in operation.example.items() if name != row.cells[0]}
    problem(_asked(world, operation, content), 400)


def _of_listener(name: str, *bodies: dict[str, Any]) -> Callable[[World], Iterable[dict[str, Any]]]:
    """Return a maker of the resources that requests with these bodies create below a listener."""
    path = f"/queues/{{queue_id}}/listeners/{{listener_id}}/{name}"
    return lambda world: [resource(world.owner.ask("POST", world.path(path), body)) for body in bodies]


def _tried_transforms(world: World) -> Iterable[dict[str, Any]]:
    """Return the results of a transform for two messages, one of which has no body."""
    path = f"/queues/{world.owner.create('/queues')['id']}"
    listener = world.owner.create(f"{path}/listeners", **NOWHERE, transform="data.order")
    for data in ({"order": 17}, {}):
        world.owner.create(f"{path}/messages", data=data, type="order.paid")
    return [resource(world.owner.ask("POST", f"{path}/listeners/{listener['id']}/transform-tests", {}))]


SIMPLE: dict[str, Callable[[World], Iterable[dict[str, Any]]]] = {
    "ApiKeyView": lambda world: [world.owner.create("/api_keys")],
    "DeliveryTestView": _of_listener("tests", {"data": 1}),
    "DomainView": lambda world: [world.owner.create("/domains", hostname="example.com")],
    "ErasureView": lambda world: [erased(world.owner)],
    "EventCountsView": lambda world: world.owner.get("/stats/messages")["aggregated_api_usage_events"].values(),
    "TransformTestView": _tried_transforms,
    "FilterTestView": _of_listener("filter-tests", {"filter": {"key": "x"}, "data": 1}),
    "InvitationView": lambda world: [world.owner.ask("POST", "/users", _a_user()).json()["invitation"]],
    "LimitsView": lambda world: [world.owner.shown("/limits")],
    "MissedMessageView": lambda world: world.owner.get(f"{one_missed(world.owner)}/missed")["missed"],
    "MissedGroupView": lambda world: (one_missed(world.owner), world.owner.get("/missed/groups")["groups"])[1],
    "PortalSessionView": lambda world: [
        world.owner.create(world.path("/organizations/{organization_id}/portal_sessions"), customer=customer)
        for customer in ("acme", "without-queues")
    ],
    "PortalSettingsView": lambda world: [world.owner.shown(world.path("/organizations/{organization_id}/portal"))],
    "Problem": lambda world: [world.owner.refused(422, "POST", "/queues", {"alias": "x!"})],
    "QueueSchemaResponse": lambda world: [world.owner.get(world.path("/queues/{queue_id}/schemas/{schema_id}"))],
    "RedeliveryView": lambda world: [
        *_of_listener("redeliveries", {"all": True}, {"all": True, "pace": 10})(world),
        stopped_redelivery(world.owner),
    ],
    "ReplayView": _of_listener(
        "replays", {"from_at": 0}, {"from_at": 0, "until_at": 100_000_000_000, "pace": 10, "filter": {"key": "x"}}
    ),
    "RefusalView": lambda world: [refused_request(world.owner)],
    "SecretView": _of_listener("secrets", {}, {"type": "ed25519"}),
    "UserView": lambda world: [world.owner.create("/users", **_a_user())],
}


def _a_user() -> dict[str, str]:
    return {"email": f"{fresh()}@example.com", "role": "viewer"}


class Samples:
    """Real things of every form that a response shows, some with all that they can have."""

    def __init__(self, world: World) -> None:
        self._owner = world.owner
        self._world = world
        self._made: dict[str, list[dict[str, Any]]] = {}

    def of(self, component: str) -> list[dict[str, Any]]:
        if component not in self._made:
            simple = SIMPLE.get(component)
            self._made[component] = list(simple(self._world) if simple else getattr(self, f"_{component}")())
        return self._made[component]

    def _QueueView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        yield self._owner.create("/queues")
        made = self._owner.create(
            "/queues", retention=1, max_message_bytes=10, retry=RETRY, schema={"n": {"type": "number"}}, customer="acme"
        )
        self._owner.create(f"/queues/{made['id']}/listeners", **NOWHERE)
        yield self._owner.shown(f"/queues/{made['id']}")
        yield self._owner.create("/queues", json_schema={})

    def _ListenerView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        queue = self._owner.create("/queues")["id"]
        made = self._owner.create(f"/queues/{queue}/listeners", **NOWHERE, **LISTENER_OPTIONS)
        yield made
        yield self._owner.shown(f"/queues/{queue}/listeners/{made['id']}")
        urls = {**NOWHERE, "notify_url": "https://127.0.0.1:9/"}
        for kind in ("basic", "certificate"):
            yield self._owner.create(f"/queues/{queue}/listeners", authentication=AUTHENTICATION[kind], **urls)

        yield self._owner.create(f"/queues/{queue}/listeners", mode="pull", lease_seconds=60)

    def _PulledMessageView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        yield from self._pulled()[1]

    def _ReceiptView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        path, pulled = self._pulled()
        content = {"acknowledge": [each["receipt"] for each in pulled]}
        yield from self._owner.ask("POST", f"{path}/acknowledgements", content).json()["receipts"]

    def _pulled(self) -> tuple[str, list[dict[str, Any]]]:
        """Pull messages. Returns the path and the leased messages."""
        queue = f"/queues/{self._owner.create('/queues')['id']}"
        path = f"{queue}/listeners/{self._owner.create(f'{queue}/listeners', mode='pull')['id']}"
        self._owner.create(f"{queue}/messages", data="x", **MESSAGE_OPTIONS)
        self._owner.create(f"{queue}/messages", headers={"traceparent": TRACEPARENT}, **PICTURE)
        return path, self._owner.get(f"{path}/messages")["messages"]

    def _MessageView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        queue = self._owner.create("/queues")["id"]
        self._owner.create(f"/queues/{queue}/listeners", status="disabled", **NOWHERE)
        made = self._owner.create(f"/queues/{queue}/messages", data="x", delay=60, **MESSAGE_OPTIONS)
        yield made
        yield self._owner.shown(f"/queues/{queue}/messages/{made['id']}")
        picture = self._owner.create(f"/queues/{queue}/messages", **PICTURE)
        yield self._owner.shown(f"/queues/{queue}/messages/{picture['id']}")
        yield from map(self._owner.shown, (*self._tried(), self._blocked()))

    def _DeliveryView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        for path in self._tried():
            yield from self._owner.get(f"{path}/deliveries")["deliveries"]
        path = self._blocked()
        yield from self._owner.get(f"{path}/deliveries")["deliveries"]

    def _blocked(self) -> str:
        """A message that waits behind another one of its key."""
        queue = f"/queues/{self._owner.create('/queues', ordered=True)['id']}"
        place = f"http://{urlsplit(self._owner.installation.urls[0]).netloc}/"
        self._owner.create(f"{queue}/listeners", notify_url=place, liveness_url=place)
        _, behind = [self._owner.create(f"{queue}/messages", data="x")["id"] for _ in range(2)]
        path = f"{queue}/messages/{behind}"
        self._owner.until(path, lambda shown: "blocked_by" in shown["deliveries"][0])
        return path

    def _AttemptView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        for path in self._tried():
            attempts = self._owner.get(f"{path}/attempts")["attempts"]
            for attempt in attempts:
                yield self._owner.shown(f"{path}/attempts/{attempt['id']}")
            yield self._replayed(path, attempts[0]["listener_id"])

    def _replayed(self, path: str, listener: str) -> dict[str, Any]:
        """An attempt of a replay."""
        queue, _, message = path.partition("/messages/")
        replays = f"{queue}/listeners/{listener}/replays"
        made = self._owner.create(replays, from_message=message, until_message=message)
        self._owner.until(f"{replays}/{made['id']}", lambda shown: shown["state"] != "waiting")
        attempts = self._owner.get(f"{path}/attempts?listener={listener}")["attempts"]
        return next(each for each in attempts if each.get("replay_id") == made["id"])

    def _tried(self) -> Iterator[str]:
        """Messages to this very service, which answers badly, with TLS that it may not speak: one is tried again."""
        queue = self._owner.create("/queues")["id"]
        place = urlsplit(self._owner.installation.urls[0]).netloc
        for scheme in ("http", "https"):
            urls = dict.fromkeys(("notify_url", "liveness_url"), f"{scheme}://{place}/")
            self._owner.create(f"/queues/{queue}/listeners", **urls)
        for options in ({}, {"retry": {"attempts": 1}}):
            made = self._owner.create(f"/queues/{queue}/messages", data="x", **options)
            path = f"/queues/{queue}/messages/{made['id']}"
            self._owner.until(path, lambda shown: all(each["attempts"] for each in shown["deliveries"]))
            yield path

    def _ScheduleView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        path = f"/queues/{self._owner.create('/queues')['id']}/schedules"
        options = {name: value for name, value in MESSAGE_OPTIONS.items() if name != "expires_at"}
        span = {"starts_at": 100_000_000_000, "ends_at": 253_402_300_799_999, "expires_in": 60}
        yield self._owner.create(path, cron="* * * * *", data="x", **span, **options)
        yield self._owner.create(path, cron="* * * * *", **PICTURE)

    def _TopicView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        yield self._owner.create("/topics")
        self._world.path("{channel_id}")
        yield self._owner.shown(self._world.path("/topics/{topic_id}"))

    def _ChannelView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        path = self._world.path("/topics/{topic_id}/channels")
        queue = self._owner.create("/queues")["id"]
        yield self._owner.create(path, queue_id=queue, pattern="orders.>", filter={"key": "x"})

    def _TopicMessageView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        self._world.path("{channel_id}")
        for options in ({}, {"delay": 60}):
            yield self._owner.create(self._world.path("/topics/{topic_id}/messages"), data={"n": 1}, **options)

    def _OrganizationView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        quotas = dict.fromkeys(NAMES, 1)
        limits: dict[str, Any] = {"rate_limit": 9, "retention": 1, "quotas": quotas, "retry": RETRY}
        yield self._world.operator.create("/organizations", alias=f"org.example.{fresh()}")
        yield self._world.operator.create("/organizations", alias=f"org.example.{fresh()}", **limits)

    def _EventView(self) -> Iterator[dict[str, Any]]:  # noqa: N802
        alias = f"org.example.{fresh()}"
        self._owner.change(self._world.path("/organizations/{organization_id}"), alias=alias)
        for name in ("domain", "user", "api_key", "source", "event_type", "channel", "listener", "message"):
            self._world.path(f"{{{name}_id}}")
        self._owner.create("/portal_sessions", customer="acme")
        yield from self._owner.get("/events?limit=1000")["events"]


@pytest.fixture
def samples(world: World) -> Samples:
    return _SAMPLES.setdefault(id(world), Samples(world))


_SAMPLES: dict[int, Samples] = {}


def _found(thing: Any, path: str) -> bool:
    """Whether there is something at the path of a row, such as `listeners[].id`."""
    first, _, rest = path.partition(".")
    name = first.removesuffix("[]")
    if not isinstance(thing, dict) or name not in thing:
        return False
    within = thing[name]
    if first.endswith("[]"):
        return all(_found(each, rest) for each in within)
    return _found(within, rest) if rest else True


@for_every("row", RESPONSE_ROWS, str)
def test_a_field_of_a_response_is_there(samples: Samples, row: Row) -> None:
    path, is_always = row.cells[0], row.cells[2] == "yes"
    found = [_found(sample, path) for sample in samples.of(row.name)]
    if is_always and "." not in path:
        assert all(found)
    elif str(row) not in ELSEWHERE and not str(row).startswith(LATER):
        assert any(found)


def test_client_sees_its_own_key_and_organization(owner: Caller) -> None:
    """A key sees its own organization alone, and nothing in it that it did not make."""
    assert len(owner.get("/organizations")["organizations"]) == 1
    assert all(owner.get(f"/{name}")[name] == [] for name in ("listeners", "messages", "domains"))
    assert [queue["alias"] for queue in owner.get("/queues")["queues"]] == ["system/events"]


@pytest.mark.parametrize(
    ("path", "content", "pointer"),
    [
        ("/queues/{queue_id}/messages", {"data": "x"}, "/deliver_at"),
        ("/queues/{queue_id}/messages", {"data": "x"}, "/expires_at"),
        ("/queues/{queue_id}/schedules", {"data": "x", "cron": "* * * * *"}, "/starts_at"),
        ("/queues/{queue_id}/schedules", {"data": "x", "cron": "* * * * *"}, "/ends_at"),
        ("/queues/{queue_id}/listeners/{listener_id}/replays", {}, "/from_at"),
        ("/queues/{queue_id}/listeners/{listener_id}/replays", {"from_at": 0}, "/until_at"),
        ("/queues/{queue_id}/listeners/{listener_id}/redeliveries", {}, "/filter/created_after"),
        ("/queues/{queue_id}/listeners/{listener_id}/redeliveries", {}, "/filter/created_before"),
        ("/topics/{topic_id}/messages", {"data": "x"}, "/deliver_at"),
        ("/topics/{topic_id}/messages", {"data": "x"}, "/expires_at"),
        ("/api_keys", {}, "/expires_at"),
    ],
)
@pytest.mark.parametrize("seconds", [1, 1_796_200_000, 99_999_999_999])
def test_time_in_seconds_is_refused(
    world: World, path: str, content: dict[str, Any], pointer: str, seconds: int
) -> None:
    sent: dict[str, Any] = {pointer.rpartition("/")[2]: seconds}
    sent = {"filter": sent} if pointer.startswith("/filter/") else {**content, **sent}
    refused = world.owner.refused(422, "POST", world.path(path), sent)
    rule = "must be milliseconds since the epoch; this looks like seconds: multiply it by 1,000"
    assert refused["errors"] == [{"pointer": pointer, "detail": rule}]


@pytest.mark.parametrize(
    ("path", "content", "unit"),
    [
        ("/queues", {"retention": -1}, "seconds"),
        ("/queues", {"max_message_bytes": 0}, "bytes"),
        ("/queues", {"retry": [-1]}, "seconds"),
        ("/queues/{queue_id}/listeners", {**NOWHERE, "timeout": 0}, "seconds"),
        ("/queues/{queue_id}/listeners", {**NOWHERE, "rate_limit": {"per_second": 0}}, "requests per second"),
        ("/queues/{queue_id}/listeners", {"mode": "pull", "lease_seconds": 0}, "seconds"),
        ("/queues/{queue_id}/listeners/{listener_id}/replays", {"from_at": 0, "pace": 0}, "messages per second"),
        ("/queues/{queue_id}/listeners/{listener_id}/secrets", {"expire_previous_in": -1}, "seconds"),
        ("/queues/{queue_id}/schedules", {"data": 1, "cron": "* * * * *", "expires_in": 0}, "seconds"),
    ],
)
def test_error_about_a_range_has_its_unit(world: World, path: str, content: dict[str, Any], unit: str) -> None:
    [fault] = world.owner.refused(422, "POST", world.path(path), content)["errors"]
    assert re.fullmatch(rf"must be from [0-9.]+ to [0-9]+ {unit}", fault["detail"])
