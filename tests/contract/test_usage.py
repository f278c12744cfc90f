"""Statistics, usage events and limits."""

import re
from typing import Any

import pytest

from tests.contract.caller import Caller, body, fresh, pointers, problem, resource
from tests.contract.reference import covers
from tests.contract.world import NOWHERE
from tests.support.receiver import Receiver, Reply

# The counts of workers are added up, and a quota applies to all of them together.
SETTINGS_MEANT = ("three workers",)

WINDOWS = ("last_24_hours", "last_1_hours", "today_so_far")


def counts(owner: Caller) -> dict[str, Any]:
    shown: dict[str, Any] = owner.get("/stats/messages")["aggregated_api_usage_events"]
    return shown


def types_of(owner: Caller, query: str = "") -> list[str]:
    return [event["type"] for event in owner.get(f"/events{query}")["events"]]


@covers("statistics.md# Meaning of the counts")
def test_usage_is_counted_in_three_windows(owner: Caller) -> None:
    queue = f"/queues/{owner.create('/queues')['id']}"
    owner.change(queue, retention=1)
    listener = f"{queue}/listeners/{owner.create(f'{queue}/listeners', **NOWHERE)['id']}"
    owner.change(listener, status="disabled")
    key = f"/api_keys/{owner.create('/api_keys')['id']}"
    owner.change(key, status="disabled")
    owner.ask("POST", f"{queue}/messages/batch", {"messages": [{"data": 1}, {"data": 2}]})
    for path in (key, listener, queue):
        owner.delete(path)
    shown = counts(owner)
    assert set(shown) == set(WINDOWS)
    expected = {f"{name}_{verb}": 1 for name in ("queue", "listener", "api_key") for verb in ("updated", "deleted")}
    expected |= {"queue_added": 1, "listener_added": 1, "api_key_added": 2, "message_added": 2}
    for window in WINDOWS[:2]:
        assert {name: count for name, count in shown[window].items() if count} == expected


@covers("events.md: created_after")
def test_events_begin_at_a_given_time(owner: Caller) -> None:
    made = owner.create("/queues")
    for page in ("", "&per_page=100"):
        for created_after, is_listed in ((0, True), (made["created_at"] - 1_000, True), (253_402_300_799_999, False)):
            found = owner.get(f"/events?events=queues&created_after={created_after}{page}")["events"]
            assert (made["id"] in {each["queue"]["id"] for each in found}) is is_listed
    assert pointers(owner.refused(400, "GET", "/events?created_after=yesterday")) == ["?created_after"]


@covers("events.md: message_published_ok, message_published_not_ok")
def test_attempts_are_counted_and_are_events_of_their_messages(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(500, (("webhook-no-retry", "true"),)), Reply(200))
    queue = f"/queues/{owner.create('/queues')['id']}"
    listener = owner.create(f"{queue}/listeners", notify_url=endpoint.url, liveness_url=endpoint.url)["id"]
    messages = {owner.create(f"{queue}/messages", data="x")["id"] for _ in range(2)}
    endpoint.until(2)
    owner.until(f"{queue}/listeners/{listener}", lambda shown: shown["messages"]["pending_count"] == 0)
    shown = counts(owner)["last_1_hours"]
    assert (shown["message_published_ok"], shown["message_published_not_ok"]) == (1, 1)
    told = [event for event in owner.get("/events?events=messages")["events"] if event["type"] != "message_added"]
    assert {event["type"] for event in told} == {"message_published_ok", "message_published_not_ok"}
    assert ({event["message"]["id"] for event in told}, told[0]["listener"]["id"]) == (messages, listener)


@covers(*(f"events.md: {name}_added, _updated, _deleted" for name in ("api_key", "queue", "listener", "organization")))
@covers("events.md# The resource", "events.md: message_added", "events.md: domain_added, … user_added, …")
@covers("events.md: topic_added, … channel_added, …", "events.md: event_type_added, … source_added, …")
def test_events_are_listed_newest_first(owner: Caller) -> None:
    queue = owner.create("/queues", alias="orders")
    listener = owner.create(f"/queues/{queue['id']}/listeners", **NOWHERE)
    message = owner.create(f"/queues/{queue['id']}/messages", data="x")
    key = owner.create("/api_keys")
    domain = owner.create("/domains", hostname="example.com")
    user = owner.create("/users", email="ada@example.com", role="viewer")
    topic = owner.create("/topics")
    channel = owner.create(f"/topics/{topic['id']}/channels", queue_id=queue["id"])
    event_type = owner.create("/event_types", type=fresh("type"))
    source = owner.create("/sources", provider="github", queue_id=queue["id"], secrets=["secret"])
    owner.delete(f"/queues/{queue['id']}/listeners/{listener['id']}")
    events = owner.get("/events?limit=1000")["events"]
    by_type = {event["type"]: event for event in events}
    for name, made in (
        ("queue", queue),
        ("listener", listener),
        ("message", message),
        ("api_key", key),
        ("domain", domain),
        ("user", user),
        ("topic", topic),
        ("channel", channel),
        ("event_type", {**event_type, "name": event_type["type"]}),
        ("source", source),
    ):
        event = by_type[f"{name}_added"]
        if name != "api_key":
            assert event[name] == {"id": made["id"], "name": made["name"]}
        assert event["client"]["id"] == owner.get("/organizations")["organizations"][0]["id"]
    times = [event["stored_at"] for event in events]
    assert times == sorted(times, reverse=True)
    assert events[0]["type"] == "listener_deleted"


@covers("GET /events parameters", "events.md: events")
@pytest.mark.parametrize("topic", ["api_keys", "listeners", "messages", "queues"])
def test_events_are_chosen_by_their_topic(owner: Caller, topic: str) -> None:
    queue = owner.create("/queues")["id"]
    owner.create(f"/queues/{queue}/listeners", **NOWHERE)
    owner.create(f"/queues/{queue}/messages", data="x")
    owner.create("/api_keys")
    shown = types_of(owner, f"?events={topic}")
    assert shown
    assert all(each.startswith(topic.removesuffix("s")) for each in shown)


@covers("events.md: limit", "events.md: startAfter", "events.md: startAfterId", "events.md# Follow events")
def test_events_go_on_after_one_oldest_first(owner: Caller) -> None:
    for _ in range(4):
        owner.create("/queues")
    newest = owner.get("/events?events=queues&limit=3")["events"]
    assert len(newest) == 3
    oldest = newest[-1]
    place = f"startAfter={oldest['stored_at']}&startAfterId={oldest['id']}"
    following = owner.get(f"/events?events=queues&{place}")["events"]
    assert [event["id"] for event in following] == [event["id"] for event in reversed(newest[:-1])]
    assert "next" in owner.get("/events")["_links"]
    assert types_of(owner, "?events=all") == types_of(owner, "?events=") == types_of(owner)


@covers(*(f"events.md: {name}" for name in ("page", "per_page", "after", "before")), "events.md# Pages")
def test_events_are_read_in_pages_newest_first(owner: Caller) -> None:
    for _ in range(3):
        owner.create("/queues")
    newest = [event["id"] for event in owner.get("/events?events=queues&limit=5")["events"]]
    first = owner.get("/events?events=queues&per_page=2")
    assert [event["id"] for event in first["events"]] == newest[:2]
    second = owner.get(first["_links"]["next"]["href"])
    assert [event["id"] for event in second["events"]] == newest[2:4]
    assert owner.get(second["_links"]["prev"]["href"])["events"] == first["events"]
    assert owner.get("/events?events=queues&per_page=2&page=2")["events"] == second["events"]
    after = owner.get(f"/events?events=queues&after={newest[0]}")["events"]
    assert [event["id"] for event in after[:2]] == newest[1:3]
    before = owner.get(f"/events?events=queues&before={newest[2]}")["events"]
    assert [event["id"] for event in before] == newest[:2]


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "per_page=101",
        "after=short",
        "limit=5&page=1",
        "events=unicorns",
        "events=queues&events=all",
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "startAfter=soon",
        "startAfter=-1",
        "startAfter=253402300800000",
        "startAfterId=short&startAfter=1",
    ],
)
def test_a_wrong_selection_of_events_is_refused_by_name(owner: Caller, query: str) -> None:
    assert pointers(owner.refused(400, "GET", f"/events?{query}")) == [f"?{query.partition('=')[0]}"]


@covers("events.md: lockout")
def test_lockout_is_an_event(owner: Caller, stranger: Caller) -> None:
    key = owner.create("/api_keys")
    wrong = key["key"][:-1] + ("a" if key["key"][-1] != "a" else "b")
    for _ in range(5):
        stranger.with_key(wrong).ask("GET", "/queues")
    stranger.with_key(wrong).until_status(403, "/queues")
    event = next(each for each in owner.get("/events")["events"] if each["type"] == "lockout")
    assert event["api_key"]["id"] == key["id"]


@covers("limits.md: X-RateLimit-Limit", "limits.md: X-RateLimit-Remaining", "limits.md: X-RateLimit-Reset")
@covers("limits.md# Rate limits", "limits.md: requests of a key", "limits.md: rate_limit")
def test_requests_of_a_key_are_limited(owner: Caller, operator: Caller) -> None:
    organization = owner.get("/organizations")["organizations"][0]["id"]
    operator.change(f"/organizations/{organization}", rate_limit=5)
    answer = owner.until_status(429, "/queues")
    assert problem(answer, 429)["title"] == "Too Many Requests"
    assert answer.headers["x-ratelimit-limit"] == "5"
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert int(answer.headers["x-ratelimit-reset"]) % 60 == 0


@covers("limits.md: requests of all keys of an organization together")
def test_requests_of_all_keys_of_an_organization_are_limited_together(owner: Caller, operator: Caller) -> None:
    keys = [owner.with_key(owner.create("/api_keys")["key"]) for _ in range(9)]
    organization = owner.get("/organizations")["organizations"][0]["id"]
    operator.change(f"/organizations/{organization}", rate_limit=1)
    owner.until_status(429, "/queues")
    answers = [key.ask("GET", "/queues").status_code for key in keys]
    assert answers.count(200) <= 4 * 2, "four times the limit of a key, in the minute that ends and the one that begins"
    assert 429 in answers


@covers("limits.md: requests without a valid key", "limits.md: /health/live and /health/ready")
@pytest.mark.parametrize("path", ["/queues", "/nothing", "/", "/health/ready"])
def test_requests_without_a_key_are_counted_for_their_address(stranger: Caller, path: str) -> None:
    remaining = {int(stranger.ask("GET", path).headers["x-ratelimit-remaining"]) for _ in stranger.installation.urls}
    assert all(each > 0 for each in remaining)


QUOTAS: dict[str, tuple[str, dict[str, Any], str]] = {
    "queues": ("/queues", {}, "{0} of {0} queues"),
    "listeners": ("listeners", dict(NOWHERE), "{0} of {0} listeners"),
    "topics": ("/topics", {}, "{0} of {0} topics"),
    "domains": ("/domains", {"hostname": "shop.example.com"}, "{0} of {0} domains"),
    "api_keys": ("/api_keys", {}, "{0} of {0} API keys"),
    "users": ("/users", {"email": "ada@example.com", "role": "viewer"}, "{0} of {0} users"),
    "messages_a_day": ("messages", {"data": "x"}, "messages"),
    "bytes_stored": ("messages", {"data": "x" * 10}, "bytes"),
}


@covers(
    "limits.md: queues",
    "limits.md: listeners",
    "limits.md: topics",
    "limits.md: domains",
    "limits.md: api_keys",
    "limits.md: users",
    "limits.md: messages_a_day",
    "limits.md: bytes_stored",
    "limits.md# Quotas",
)
@covers(
    "limits.md: quotas.queues, quotas.listeners, quotas.topics, quotas.domains, quotas.api_keys, quotas.users, "
    "quotas.portal_sessions",
    "limits.md: quotas.messages_a_day",
    "limits.md: quotas.bytes_stored",
)
@covers(
    "POST /queues 402",
    "PUT /queues 402",
    "POST /queues/{queue_id}/listeners 402",
    "PUT /queues/{queue_id}/listeners 402",
)
@covers("POST /queues/{queue_id}/messages 402", "PUT /queues/{queue_id}/messages 402")
@covers("POST /queues/{queue_id}/messages/batch 402")
@covers("PUT /queues/{queue_id} 402", "PUT /queues/{queue_id}/listeners/{listener_id} 402")
@covers("PUT /topics/{topic_id} 402", "PUT /domains/{domain_id} 402", "PUT /api_keys/{api_key_id} 402")
@covers(*(f"{method} /{name} 402" for method in ("POST", "PUT") for name in ("topics", "domains", "api_keys", "users")))
@pytest.mark.parametrize("name", QUOTAS)
def test_request_beyond_a_quota_is_refused(owner: Caller, operator: Caller, name: str) -> None:
    queue = owner.create("/queues")["id"]
    used = owner.get("/limits")["limits"]["quotas"][name]["used"]
    most = used + (10 if name == "bytes_stored" else 1)
    organization = owner.get("/organizations")["organizations"][0]["id"]
    operator.change(f"/organizations/{organization}", quotas={name: most})
    place, fields, detail = QUOTAS[name]
    path = place if place.startswith("/") else f"/queues/{queue}/{place}"
    owner.create(path, **fields)
    for method in ("POST", "PUT"):
        content = problem(owner.ask(method, path, fields), 402)
        assert content["title"] == "Payment Required"
        assert re.search(detail.format(most), content["detail"])
    if place not in {"messages", "/users"}:
        owner.refused(402, "PUT", f"{path}/another", fields)
    if place == "messages":
        owner.refused(402, "POST", f"{path}/batch", {"messages": [fields]})
    assert owner.get("/limits")["limits"]["quotas"][name] == {"limit": most, "used": most}


@covers("limits.md: portal_sessions")
@covers("POST /organizations/{organization_id}/portal_sessions 402", "POST /portal_sessions 402")
def test_portal_session_beyond_the_quota_is_refused(owner: Caller, operator: Caller) -> None:
    organization = owner.get("/organizations")["organizations"][0]["id"]
    path, fields = f"/organizations/{organization}/portal_sessions", {"customer": "acme"}
    made = owner.create(path, **fields)
    operator.change(f"/organizations/{organization}", quotas={"portal_sessions": 1})
    for place in (path, "/portal_sessions"):
        assert "1 of 1 portal sessions" in problem(owner.ask("POST", place, fields), 402)["detail"]
    assert [each["id"] for each in owner.get(path)["portal_sessions"]] == [made["id"]]
    assert owner.get("/limits")["limits"]["quotas"]["portal_sessions"] == {"limit": 1, "used": 1}
    owner.delete(f"{path}/{made['id']}")
    owner.create(path, **fields)


CREATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "/queues": ("POST", "", {}),
    "/queues/{queue}/listeners": ("POST", "", dict(NOWHERE)),
    "/queues/{queue}/listeners/{listener}/redeliveries": ("POST", "", {"all": True}),
    "/queues/{queue}/listeners/{listener}/replays": ("POST", "", {"from_at": 0}),
    "/queues/{queue}/schedules": ("POST", "", {"cron": "@yearly", "data": 1}),
    "/topics": ("POST", "", {}),
    "/topics/{topic}/channels": ("POST", "PUT", {"queue_id": "{other}"}),
    "/domains": ("POST", "", {"hostname": "more.example.com"}),
    "/api_keys": ("POST", "", {}),
    "/users": ("POST", "", {"email": "bea@example.com", "role": "viewer"}),
    "/organizations/{organization}/portal_sessions": ("POST", "", {"customer": "acme"}),
}
"""Requests that create a resource: their paths, methods and fields."""


@covers("limits.md: creations_a_day", "limits.md: quotas.creations_a_day")
@covers(
    *(f"{method} /queues/{{queue_id}}/listeners/{{listener_id}}/secrets 402" for method in ("POST", "PUT")),
    *(f"{method} /topics/{{topic_id}}/channels 402" for method in ("POST", "PUT")),
    *(f"POST /queues/{{queue_id}}/listeners/{{listener_id}}/{name} 402" for name in ("redeliveries", "replays")),
    "PUT /topics/{topic_id}/channels/{channel_id} 402",
)
def test_creation_beyond_the_quota_is_refused_and_changes_are_not(owner: Caller, operator: Caller) -> None:
    ids = {"organization": owner.get("/organizations")["organizations"][0]["id"]}
    ids["queue"], ids["other"] = (owner.create("/queues")["id"] for _ in range(2))
    ids["listener"] = owner.create(f"/queues/{ids['queue']}/listeners", **NOWHERE)["id"]
    secrets = f"/queues/{ids['queue']}/listeners/{ids['listener']}/secrets"
    replaced = owner.get(secrets)["secrets"][0]["id"]
    owner.create(secrets)
    ids["schedule"] = owner.create(f"/queues/{ids['queue']}/schedules", cron="@yearly", data=1)["id"]
    ids["topic"] = owner.create("/topics")["id"]
    ids["channel"] = owner.create(f"/topics/{ids['topic']}/channels", queue_id=ids["queue"])["id"]
    ids["domain"] = owner.create("/domains", hostname="shop.example.com")["id"]
    key = owner.create("/api_keys")["id"]
    user = owner.create("/users", email="ada@example.com", role="viewer")["id"]
    used = owner.get("/limits")["limits"]["quotas"]["creations_a_day"]["used"]
    assert used == 9
    operator.change(f"/organizations/{ids['organization']}", quotas={"creations_a_day": used})

    for path, (*methods, fields) in CREATIONS.items():
        filled = {name: _filled(value, ids) for name, value in fields.items()}
        before = _resources(owner, path.format(**ids))
        for method in filter(None, methods):
            content = problem(owner.ask(method, path.format(**ids), filled), 402)
            assert f"{used} of {used} resources created per day (UTC) are in use" in content["detail"], path
            assert "quota_creations_a_day" in content["detail"]
        assert _resources(owner, path.format(**ids)) == before, path
    owner.refused(402, "PUT", f"/topics/{ids['topic']}/channels/created-by-put", {"queue_id": ids["other"]})
    assert owner.get("/limits")["limits"]["quotas"]["creations_a_day"] == {"limit": used, "used": used}

    owner.change(f"/api_keys/{key}", status="disabled")
    owner.change(f"/users/{user}", status="disabled")
    owner.change(f"/queues/{ids['queue']}/listeners/{ids['listener']}", status="disabled")
    owner.change(f"/queues/{ids['queue']}/schedules/{ids['schedule']}", status="disabled")
    owner.change(f"/topics/{ids['topic']}/channels/{ids['channel']}", pattern="a.>")
    owner.create(secrets)
    owner.delete(f"{secrets}/{replaced}")
    operator.change(f"/organizations/{ids['organization']}", quotas={"bytes_stored": 0})
    for method in ("POST", "PUT"):
        # The response is kept for the key.
        owner.refused(402, method, secrets, {}, headers={"Idempotency-Key": fresh("key")})
    operator.change(f"/organizations/{ids['organization']}", quotas={"bytes_stored": None})
    for path in (f"/users/{user}", f"/topics/{ids['topic']}", f"/queues/{ids['queue']}", f"/domains/{ids['domain']}"):
        owner.delete(path)
    operator.change(f"/organizations/{ids['organization']}", quotas={"creations_a_day": used + 1})
    owner.create("/queues")
    owner.refused(402, "POST", "/queues", {})


def _resources(owner: Caller, path: str) -> dict[str, Any]:
    # Workers have different URLs.
    return {name: value for name, value in owner.get(path).items() if name != "_links"}


def _filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_filled(each, ids) for each in value]
    return value.format(**ids) if isinstance(value, str) else value


def _limit_bytes(owner: Caller, operator: Caller, bytes_stored: int) -> None:
    organization = owner.get("/organizations")["organizations"][0]["id"]
    operator.change(f"/organizations/{organization}", quotas={"bytes_stored": bytes_stored})


def _bytes_stored(owner: Caller) -> int:
    used: int = owner.get("/limits")["limits"]["quotas"]["bytes_stored"]["used"]
    return used


def test_headers_of_messages_count_towards_the_bytes(owner: Caller, operator: Caller) -> None:
    queue = owner.create("/queues")["id"]
    messages = f"/queues/{queue}/messages"
    _limit_bytes(owner, operator, 9_000)
    heavy = {"data": "", "headers": {"x-weight": "x" * 4_000}}
    message = owner.create(messages, **heavy)["id"]
    assert _bytes_stored(owner) > 4_000
    owner.create(messages, **heavy, delay=3_600)
    problem(owner.ask("POST", messages, heavy), 402)
    owner.ask("DELETE", f"{messages}/{message}")
    owner.create(messages, **heavy)


@covers("POST /queues/{queue_id}/schedules 402", "PUT /queues/{queue_id}/schedules 402")
@covers("PUT /queues/{queue_id}/schedules/{schedule_id} 402")
def test_schedules_count_towards_the_bytes(owner: Caller, operator: Caller) -> None:
    queue = owner.create("/queues")["id"]
    schedules = f"/queues/{queue}/schedules"
    _limit_bytes(owner, operator, 3_000)
    fields = {"cron": "0 0 1 1 *", "data": "x" * 2_000, "status": "disabled"}
    schedule = owner.create(schedules, **fields)["id"]
    used = _bytes_stored(owner)
    assert used > 2_000
    for method in ("POST", "PUT"):
        assert "bytes" in problem(owner.ask(method, schedules, fields), 402)["detail"]
    for larger in ({"data": "x" * 4_000}, {"headers": {"x-weight": "x" * 2_000}}):
        problem(owner.ask("PUT", f"{schedules}/{schedule}", larger), 402)
    problem(owner.ask("POST", f"/queues/{queue}/messages", {"data": "x" * 2_000}), 402)
    owner.change(f"{schedules}/{schedule}", data="x" * 1_000)
    assert _bytes_stored(owner) == used - 1_000
    owner.create(schedules, **{**fields, "data": ""})
    owner.ask("DELETE", f"{schedules}/{schedule}")
    assert 0 < _bytes_stored(owner) < 1_000
    owner.ask("DELETE", f"/queues/{queue}")
    assert _bytes_stored(owner) == 0


@covers("limits.md# Get limits", "limits.md# Change limits", "limits.md: retention", "limits.md: 400", "limits.md: 403")
@covers("limits.md: 404", "limits.md: 422")
def test_only_the_operator_changes_limits(owner: Caller, charlie: Caller, operator: Caller) -> None:
    path = f"/organizations/{owner.get('/organizations')['organizations'][0]['id']}"
    owner.refused(403, "PUT", path, {"quotas": {"queues": 1}})
    owner.refused(403, "PUT", path, {"rate_limit": 9})
    charlie.refused(404, "PUT", path, {"quotas": {"queues": 1}})
    for status, pointer, wrong in (
        (400, "/quotas/unicorns", {"quotas": {"unicorns": 1}}),
        (400, "/quotas/queues", {"quotas": {"queues": "1"}}),
        (422, "/quotas/queues", {"quotas": {"queues": -1}}),
        (422, "/rate_limit", {"rate_limit": 2**31}),
        (422, "/retention", {"retention": -1}),
    ):
        assert pointers(operator.refused(status, "PUT", path, wrong)) == [pointer]
    operator.change(path, quotas={"queues": 3, "listeners": 4}, retention=60)
    changed = operator.change(path, quotas={"listeners": None})
    assert (changed["quotas"], changed["retention"]) == ({"queues": 3}, 60)
    assert owner.change(path, **owner.shown(path))["quotas"] == {"queues": 3}
    answer = owner.ask("GET", "/limits")
    limit, remaining, reset = (int(answer.headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining", "reset"))
    assert resource(answer) == {
        "rate_limit": {"limit": limit, "remaining": remaining, "reset_at": reset * 1_000},
        "quotas": {
            "queues": {"limit": 3, "used": 0},
            "listeners": {"limit": None, "used": 0},
            "topics": {"limit": 1_000, "used": 0},
            "domains": {"limit": 100, "used": 0},
            "api_keys": {"limit": 1_000, "used": 1},
            "users": {"limit": 1_000, "used": 0},
            "portal_sessions": {"limit": 10_000, "used": 0},
            "creations_a_day": {"limit": 100_000, "used": 0},
            "messages_a_day": {"limit": None, "used": 0},
            "bytes_stored": {"limit": None, "used": 0},
        },
        "retention": 60,
        "max_message_bytes": 262_144,
        "max_batch_messages": 1_000,
        "max_batch_bytes": 8_388_608,
        "max_per_page": 100,
        "private_targets": "all",
    }
    cleared = operator.change(path, quotas=None, retention=None)
    assert {"quotas", "retention"}.isdisjoint(cleared)


def test_a_key_without_the_scope_sees_no_usage(owner: Caller) -> None:
    bob = owner.with_key(owner.create("/api_keys", scopes={"queues": {}})["key"])
    for path in ("/stats/messages", "/events", "/limits"):
        bob.refused(403, "GET", path)


def test_events_of_another_organization_are_not_seen(owner: Caller, charlie: Caller) -> None:
    queue = owner.create("/queues")["id"]
    assert queue not in body(charlie.ask("GET", "/events")).__str__()
