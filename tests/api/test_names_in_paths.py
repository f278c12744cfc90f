"""Aliases in paths: which resources they name, and what `PUT` creates."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from discue.domain.scopes import Scope
from discue.product import ROUTES
from tests.support.api_world import PULLED, World
from tests.support.problems import problem
from tests.support.served_api import Cast, Service, cast_of

NAMED = (
    "organization_id",
    "api_key_id",
    "queue_id",
    "listener_id",
    "domain_id",
    "topic_id",
    "channel_id",
    "schedule_id",
)
ID_OF_NOTHING = "Z" * 21
LISTENER = {"notify_url": "http://127.0.0.1:9/", "liveness_url": "http://127.0.0.1:9/"}


@pytest.fixture(scope="module")
def world(service: Service) -> World:
    return World(cast_of(service))


def only(answer: httpx.Response) -> dict[str, Any]:
    """Return the resource in a response."""
    assert answer.status_code == 200, answer.text
    (shown,) = [value for name, value in answer.json().items() if name != "_links"]
    assert isinstance(shown, dict)
    return shown


def creating(cast: Cast) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return a path that names no resource, and a body to create it with, for every kind of resource with an alias."""
    queue, topic = cast.queue(alias="parent/one"), cast.topic(alias="parent.two")
    cast.queue(alias="other")
    assert queue != topic
    return {
        "organization": ("/organizations/com.example.named%2Fone", {}),
        "api_client": ("/api_clients/com.example.named%2Ftwo", {}),
        "api_key": ("/api_keys/ci%2Fdeploy", {"scopes": {}}),
        "queue": ("/queues/o", {"retention": 60}),
        "listener": ("/queues/parent%2Fone/listeners/b", LISTENER),
        "domain": ("/domains/shop", {"hostname": "localhost", "port": 1_031}),
        "topic": ("/topics/t%2Fa", {}),
        "channel": ("/topics/parent.two/channels/c", {"queue_id": queue}),
        "schedule": ("/queues/parent%2Fone/schedules/daily", {"cron": "@daily", "data": "hello"}),
    }


def test_every_path_with_an_id_takes_the_alias_of_its_resource(world: World) -> None:
    alice, names = world.cast.alice, {"organization_id": world.cast.organization_alias.replace("/", "%2F")}
    for name in NAMED[1:]:
        path = next(route.path for route in ROUTES if route.path.endswith(f"{{{name}}}"))
        alias = f"{name}/1" if name != "channel_id" else "c"
        only(alice.put(world.path(path), json={"alias": alias}))
        names[name] = alias.replace("/", "%2F")
    paths = [
        route.path for route in ROUTES if "GET" in route.methods and set(names) & set(re.findall(r"\w+", route.path))
    ]
    assert len(paths) > 25
    for path in paths:
        if path.endswith(PULLED):
            continue
        named = re.sub(r"\{(\w+)\}", lambda match: names.get(match[1], f"{{{match[1]}}}"), path)
        answers = [alice.get(world.path(each)) for each in (named, path)]
        assert [answer.status_code for answer in answers] == [200, 200], (named, answers[0].text)
        assert answers[0].json()["_links"] == answers[1].json()["_links"]


@pytest.mark.parametrize(
    "kind", ["organization", "api_client", "api_key", "queue", "listener", "domain", "topic", "channel", "schedule"]
)
def test_put_creates_what_its_path_names_then_changes_it_and_delete_removes_it(cast: Cast, kind: str) -> None:
    path, body = creating(cast)[kind]
    # Only the operator creates organizations.
    alice = cast.service.client(cast.service.operator) if kind in {"organization", "api_client"} else cast.alice
    name = path.rpartition("/")[2].replace("%2F", "/")
    detail = problem(alice.get(path), 404)["detail"]
    assert f'"{name}" not found. GET {path.rpartition("/")[0]} lists the ' in detail
    made = alice.put(path, json=body)
    assert made.status_code == 200, made.text
    shown = made.json()[kind]
    assert (shown["alias"], shown["name"]) == (name, name)
    again = alice.put(path, json=body)
    assert again.status_code == 200, again.text
    assert again.json()[kind]["id"] == shown["id"]
    read = alice.get(path)
    by_id = re.sub(r"[^/]+$", shown["id"], path)
    assert read.json()[kind] == alice.get(by_id).json()[kind]
    # Responses and links use ids.
    for answer in (made, again, read):
        assert answer.json()["_links"]["self"]["href"].endswith(f"/{shown['id']}")
        assert "%2F" not in answer.json()["_links"]["self"]["href"]
    assert alice.delete(path).status_code == 200
    assert alice.get(path).status_code == alice.get(by_id).status_code == 404


def test_put_with_if_match_or_an_unknown_id_creates_nothing(cast: Cast) -> None:
    for path, headers in (("/queues/orders", {"If-Match": "*"}), (f"/queues/{ID_OF_NOTHING}", {})):
        problem(cast.alice.put(path, json={}, headers=headers), 404)
    problem(cast.alice.put("/queues/missing/listeners/billing", json=LISTENER), 404)
    assert [queue["alias"] for queue in cast.alice.get("/queues").json()["queues"]] == ["system/events"]
    made = only(cast.alice.put("/queues/orders", json={}))
    assert only(cast.alice.put("/queues/orders", json={"retention": 5}, headers={"If-Match": "*"}))["id"] == made["id"]


def test_a_body_may_repeat_the_name_in_the_path_and_not_contradict_it(cast: Cast) -> None:
    refused = problem(cast.alice.put("/queues/orders", json={"alias": "billing"}), 422)
    assert [fault["pointer"] for fault in refused["errors"]] == ["/alias"]
    assert only(cast.alice.put("/queues/orders", json={"alias": "orders", "name": None}))["alias"] == "orders"
    # An existing resource is renamed.
    assert only(cast.alice.put("/queues/orders", json={"alias": "billing"}))["alias"] == "billing"
    problem(cast.alice.get("/queues/orders"), 404)


def test_an_id_wins_over_an_equal_alias(cast: Cast) -> None:
    first, second = cast.queue(alias="first"), cast.queue(alias="second")
    assert only(cast.alice.put(f"/queues/{second}", json={"alias": first}))["alias"] == first
    listener = cast.listener(second)
    assert only(cast.alice.get(f"/queues/{first}"))["id"] == first
    problem(cast.alice.get(f"/queues/{first}/listeners/{listener}"), 404)
    assert cast.alice.delete(f"/queues/{first}").status_code == 200
    # Now the text is an alias only.
    assert only(cast.alice.get(f"/queues/{first}"))["id"] == second
    assert only(cast.alice.post(f"/queues/{first}/messages", json={"data": "hello"}))["id"]
    assert only(cast.alice.get(f"/queues/{second}"))["messages"]["published_count"] == 1


def test_a_published_message_reaches_the_queue_that_has_the_name_now(cast: Cast) -> None:
    first = cast.queue(alias="orders/eu")
    path = "/queues/orders%2Feu/messages"

    def published(queue: str) -> int:
        return int(only(cast.alice.get(f"/queues/{queue}"))["messages"]["published_count"])

    for _ in range(2):
        only(cast.alice.post(path, json={"data": "hello"}))
    assert published(first) == 2
    cast.alice.put(f"/queues/{first}", json={"alias": "orders/old"})
    problem(cast.alice.post(path, json={"data": "hello"}), 404)
    second = cast.queue(alias="orders/eu")
    only(cast.alice.post(path, json={"data": "hello"}))
    cast.alice.post(f"{path}/batch", json={"messages": [{"data": 1}, {"data": 2}]})
    assert (published(first), published(second)) == (2, 3)
    cast.alice.delete(f"/queues/{second}")
    problem(cast.alice.post(path, json={"data": "hello"}), 404)


@pytest.mark.parametrize("alias", ["customers%2Fjane@example.com", "a%20b", "j%C3%A4ne", "x" * 300])
def test_put_of_an_invalid_alias_is_refused_as_post_refuses_it(cast: Cast, alias: str) -> None:
    sent = cast.alice.post("/queues", json={"alias": unquote(alias)})
    named = cast.alice.put(f"/queues/{alias}", json={})
    assert problem(named, 422)["errors"] == problem(sent, 422)["errors"]
    assert "must be 1 to 64 characters of A-Z" in problem(named, 422)["detail"]
    cast.queue(alias="parent")
    assert problem(cast.alice.put(f"/v1/queues/parent/listeners/{alias}", json=LISTENER), 422)["detail"].startswith(
        problem(named, 422)["detail"]
    )
    assert "reverse domain name" in problem(cast.alice.put(f"/organizations/{alias}", json={}), 422)["detail"]
    # Without a name to create, the path has no route.
    for method, path in (("GET", f"/queues/{alias}"), ("PUT", f"/queues/{alias}/messages"), ("PUT", f"/{alias}")):
        assert problem(cast.alice.request(method, path), 404)["code"] == "no_route"
    assert problem(cast.alice.put("/queues/a//b", json={}), 404)["code"] == "no_route"


def test_a_repeated_request_is_the_same_one_by_name_and_by_id(cast: Cast) -> None:
    queue = cast.queue(alias="orders")
    key = {"Idempotency-Key": "k1"}
    first = cast.alice.post("/queues/orders/messages", json={"data": "hello"}, headers=key)
    second = cast.alice.post(f"/queues/{queue}/messages", json={"data": "hello"}, headers=key)
    assert second.headers["idempotency-replayed"] == "true"
    assert only(first) == only(second)


def test_a_key_with_targets_learns_nothing_from_names(cast: Cast) -> None:
    own, other = cast.queue(alias="own"), cast.queue(alias="other")
    # Targets are ids, whatever names there are.
    bob = cast.bob({"queues": Scope("write", (own, "nothing"))})
    assert only(bob.get("/queues/own"))["id"] == own
    assert only(bob.put("/queues/own", json={"retention": 7}))["id"] == own
    answers = [bob.get("/queues/other"), bob.get("/queues/nothing"), bob.put("/queues/nothing", json={})]
    assert {problem(answer, 403)["detail"] for answer in answers} == {
        'The API key needs the scope "queues" with read access.',
        'The API key needs the scope "queues" with write access.',
    }
    assert problem(cast.charlie.get("/queues/other"), 404)["detail"] == (
        'Queue "other" not found. GET /queues lists the queues.'
    )
    assert problem(cast.charlie.get(f"/organizations/{cast.organization_alias}"), 404)["status"] == 404
    assert other


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("POST", "/queues/ordres/messages", 'Queue "ordres" not found; did you mean orders?'),
        ("GET", "/queues/orders/listeners/bilings", 'Listener "bilings" not found; did you mean billing?'),
        (
            "GET",
            "/queues/orders/listeners/x",
            'Listener "x" not found. GET /queues/orders/listeners lists the listeners.',
        ),
        ("GET", "/topics/shops", 'Topic "shops" not found; did you mean shop?'),
        (
            "GET",
            "/v1/queues/orders/message",
            'Queue "orders/message" not found; did you mean /v1/queues/orders/messages?',
        ),
        ("GET", "/queue/orders", "No route for GET /queue/orders; did you mean /queues/orders?"),
        ("GET", "/queues/", "No route for GET /queues/; did you mean /queues?"),
        ("GET", "/v2/queues", "No route for GET /v2/queues; did you mean /v1/queues?"),
        (
            "GET",
            "/queues/orders/messages/m-1",
            'No route for GET /queues/orders/messages/m-1: "m-1" is not an id, which has 21 letters and digits.',
        ),
        ("GET", "/v1/nothing", "No route for GET /v1/nothing. /docs/api lists all paths."),
    ],
)
def test_unknown_name_or_path_names_the_way_out(cast: Cast, method: str, path: str, detail: str) -> None:
    cast.listener(cast.queue(alias="orders"), alias="billing")
    only(cast.alice.put("/topics/shop", json={}))
    answer = cast.alice.request(method, path, json={"data": 1} if method == "POST" else None)
    assert problem(answer, 404)["detail"] == detail


def test_unknown_id_is_named_with_what_it_is_below_as_the_client_wrote_it(cast: Cast) -> None:
    queue = cast.queue(alias="orders")
    listener, unknown = cast.listener(queue, alias="billing"), "0" * 21
    for path, named in (
        (f"/queues/{unknown}", f'Queue "{unknown}"'),
        (f"/queues/{unknown}/messages", f'Queue "{unknown}"'),
        (f"/api_keys/{unknown}", f'API key "{unknown}"'),
        (f"/portal_sessions/{unknown}", f'Portal session "{unknown}"'),
        (f"/v1/queues/{queue}/messages/{unknown}/attempts", f'Message "{unknown}" of queue "{queue}"'),
        (f"/queues/orders/messages/{unknown}", f'Message "{unknown}" of queue "orders"'),
        (
            f"/queues/orders/listeners/{listener}/replays/{unknown}",
            f'Replay "{unknown}" of listener "{listener}" of queue "orders"',
        ),
    ):
        remedy = "Check the URL. Resources of other organizations are not found either."
        assert problem(cast.alice.get(path), 404)["detail"] == f"{named} not found. {remedy}"
    # Nothing tells whether another organization has it.
    assert problem(cast.charlie.get(f"/queues/{queue}"), 404)["detail"] == (
        problem(cast.charlie.get(f"/queues/{unknown}"), 404)["detail"].replace(unknown, queue)
    )


def test_names_that_a_caller_may_not_list_are_not_suggested(cast: Cast) -> None:
    own, listed = cast.queue(alias="orders"), 'Queue "ordres" not found. GET /queues lists the queues.'
    publisher = cast.bob({"messages": Scope("write", ())})
    restricted = cast.bob({"messages": Scope("write", ()), "queues": Scope("read", (own,))})
    for caller in (publisher, restricted, cast.charlie):
        assert problem(caller.post("/queues/ordres/messages", json={"data": 1}), 404)["detail"] == listed


def test_names_end_where_the_path_continues(cast: Cast) -> None:
    queue = cast.queue(alias="a/b")
    listener = cast.listener(queue, alias="c/d")
    assert only(cast.alice.get("/queues/a%2Fb/listeners/c%2Fd"))["id"] == listener
    # A slash that a proxy has decoded makes no difference.
    head = f"Host: x\r\nX-API-KEY: {cast.alice.headers['x-api-key']}\r\n\r\n"
    answer = cast.service.raw(f"GET /queues/a/b/listeners/c/d HTTP/1.1\r\n{head}".encode())
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert listener.encode() in answer
    # `listeners` continues the path, so this is the list of `a`.
    problem(cast.alice.put("/queues/a%2Flisteners", json=LISTENER), 404)
    for path in (
        "/queues/a/",
        "/queues//a",
        "/queues/a%2F%2Fb",
        f"/queues/{queue}/x",
    ):
        assert problem(cast.alice.put(path, json={}), 404)["detail"].startswith("No route"), path


def test_no_fixed_step_hides_a_name() -> None:
    """Only then an alias such as `batch` can be told from what continues the path."""
    above_names = {
        route.path.rpartition("/")[0] for route in ROUTES if route.path.endswith(tuple(f"{{{name}}}" for name in NAMED))
    }
    assert len(above_names) == 9
    for route in ROUTES:
        above, _, step = route.path.rpartition("/")
        assert above not in above_names or step.startswith("{"), route.path


def test_one_request_creates_and_the_others_change(cast: Cast) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: cast.alice.put("/queues/orders", json={"retention": n}), range(1, 9)))
    assert len({only(answer)["id"] for answer in answers}) == 1
    assert len(cast.alice.get("/queues").json()["queues"]) == len(["orders", "system/events"])
