"""Conditional requests: ETag on every single resource, If-None-Match on what reads, If-Match on what changes."""

from typing import Any

import httpx
import pytest

from discue.api.route import Method, Route
from discue.product import ROUTES
from discue.store import api_keys
from tests.support.api_world import World
from tests.support.served_api import Cast

CHANGING = [(route, method) for route in ROUTES if route.changes for method in route.methods if method != "GET"]
every_change = pytest.mark.parametrize(
    ("route", "method"), CHANGING, ids=[f"{method} {route.path}" for route, method in CHANGING]
)
STALE = '"AAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAA"'


def version(answer: httpx.Response) -> str:
    etag: str = answer.headers["etag"]
    assert etag.startswith('"')
    assert etag.endswith('"')
    return etag[1:-1].partition(".")[0]


def test_get_with_a_matching_etag_is_304(cast: Cast) -> None:
    path = f"/queues/{cast.queue()}"
    etag = cast.alice.get(path).headers["etag"]
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        for method in ("GET", "HEAD"):
            answer = cast.alice.request(method, path, headers={"if-none-match": known, "x-request-id": "mine"})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == etag
            assert answer.headers["x-request-id"] == "mine"
            assert "content-type" not in answer.headers
    assert cast.alice.get(path, headers={"if-none-match": STALE}).status_code == 200


@every_change
def test_a_change_that_is_bound_to_the_present_state_is_made(cast: Cast, route: Route, method: Method) -> None:
    world = World(cast)
    path = world.path(route.path)
    found = cast.alice.get(path)
    bound = {"if-match": f"{STALE}, {found.headers['etag']}" if found.status_code == 200 else "*"}
    assert cast.alice.request(method, path, json=world.body(route), headers=bound).status_code == 200


CHANGES: dict[str, dict[str, Any]] = {
    "/api_keys/{api_key_id}": {"status": "disabled"},
    "/queues/{queue_id}": {"max_message_bytes": 17},
    "/queues/{queue_id}/listeners/{listener_id}": {"notify_url": "http://127.0.0.1:9/other"},
    "/queues/{queue_id}/messages/{message_id}": {"alias": "other"},
    "/organizations/{organization_id}": {"alias": "com.example.changed"},
}


@pytest.mark.parametrize("template", CHANGES)
def test_the_answer_to_a_change_carries_the_version_that_is_read_then(cast: Cast, template: str) -> None:
    path = World(cast).path(template)
    before = cast.alice.get(path)
    body = {**CHANGES[template]}
    if "organization" in template:
        body["alias"] = f"com.example.x{cast.organization_id.lower()}"
    changed = cast.alice.put(path, json=body, headers={"if-match": before.headers["etag"]})
    assert changed.status_code == 200, changed.text
    assert version(changed) == version(cast.alice.get(path)) != version(before)
    late = cast.alice.put(path, json=body, headers={"if-match": before.headers["etag"]})
    assert late.status_code == 412
    assert cast.alice.put(path, json=body, headers={"if-match": changed.headers["etag"]}).status_code == 200


@pytest.mark.parametrize("collection", ["/queues", "/api_keys", "/organizations", "/queues/{queue_id}/listeners"])
def test_the_answer_to_a_creation_carries_the_version_that_is_read_then(cast: Cast, collection: str) -> None:
    path = World(cast).path(collection)
    body = {"notify_url": "http://127.0.0.1:9/", "liveness_url": "http://127.0.0.1:9/"} if "listeners" in path else {}
    owner = cast.service.client(cast.service.operator) if "organizations" in path else cast.alice
    made = owner.post(path, json=body)
    url = made.json()["_links"]["self"]["href"]
    assert version(made) == version(owner.get(url))
    assert owner.delete(url, headers={"if-match": made.headers["etag"]}).status_code == 200


def test_counts_change_the_etag_but_not_its_version(cast: Cast) -> None:
    queue = cast.queue()
    before = cast.alice.get(f"/queues/{queue}")
    cast.message(queue)
    after = cast.alice.get(f"/queues/{queue}", headers={"if-none-match": before.headers["etag"]})
    assert after.status_code == 200
    assert after.headers["etag"] != before.headers["etag"]
    assert version(after) == version(before)
    bound = {"if-match": before.headers["etag"]}
    assert cast.alice.put(f"/queues/{queue}", json={"alias": "orders"}, headers=bound).status_code == 200


def test_the_last_use_of_a_key_makes_another_tag_and_not_another_version(cast: Cast) -> None:
    made = cast.alice.post("/api_keys", json={}).json()["api_key"]
    path = f"/api_keys/{made['id']}"
    before = cast.alice.get(path)
    store = cast.service.installation.store
    key = cast.service.run(store.read(lambda tx: api_keys.by_public_id(tx, made["id"])))
    assert key is not None
    cast.service.run(store.write(lambda tx: api_keys.mark_used(tx, key.organization, key.id, 17)))
    after = cast.alice.get(path)
    assert after.headers["etag"] != before.headers["etag"]
    assert version(after) == version(before)


@pytest.mark.parametrize("value", ["", "abc", '"a', '"a" "b"', '*, "a"'])
def test_a_header_that_cannot_be_read_is_refused_and_named(cast: Cast, value: str) -> None:
    path = f"/queues/{cast.queue()}"
    answer = cast.alice.get(path, headers={"if-none-match": value})
    assert answer.status_code == 400
    assert "If-None-Match" in answer.json()["detail"]
    for answer in (
        cast.alice.put(path, json={"alias": "orders"}, headers={"if-match": value}),
        cast.alice.delete(path, headers={"if-match": value}),
    ):
        assert answer.status_code == 400
        assert "If-Match" in answer.json()["detail"]


def test_a_header_that_is_not_ascii_does_not_pass_for_none(cast: Cast) -> None:
    path, key = f"/queues/{cast.queue()}", cast.alice.headers["x-api-key"]
    head = f'DELETE {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\nif-match: "ä"\r\n\r\n'
    assert cast.service.raw(head.encode()).startswith(b"HTTP/1.1 400")
    assert cast.alice.get(path).status_code == 200


def test_several_lines_are_one_list(cast: Cast) -> None:
    path = f"/queues/{cast.queue()}"
    etag = cast.alice.get(path).headers["etag"]
    headers = [("if-none-match", STALE), ("if-none-match", etag)]
    assert cast.alice.get(path, headers=headers).status_code == 304
    bound = [("if-match", STALE), ("if-match", etag)]
    assert cast.alice.delete(path, headers=bound).status_code == 200


def test_a_weak_tag_does_not_bind_a_change(cast: Cast) -> None:
    path = f"/queues/{cast.queue()}"
    etag = cast.alice.get(path).headers["etag"]
    assert cast.alice.delete(path, headers={"if-match": f"W/{etag}"}).status_code == 412


def test_if_match_on_a_foreign_resource_is_404(cast: Cast) -> None:
    charlies = cast.charlie.post("/queues", json={})
    path = f"/queues/{charlies.json()['queue']['id']}"
    bound = {"if-match": charlies.headers["etag"]}
    assert cast.alice.delete(path, headers=bound).status_code == 404
    assert cast.alice.put(path, json={}, headers=bound).status_code == 404


def test_creating_and_listing_do_not_look_at_conditions(cast: Cast) -> None:
    conditions = {"if-match": "nonsense", "if-none-match": "*"}
    for method in ("POST", "PUT"):
        assert cast.alice.request(method, "/queues", json={}, headers=conditions).status_code == 200
    answer = cast.alice.get("/queues", headers=conditions)
    assert answer.status_code == 200
    assert "etag" not in answer.headers


def test_a_pretty_answer_has_the_same_tag(cast: Cast) -> None:
    path = f"/queues/{cast.queue()}"
    etag = cast.alice.get(path).headers["etag"]
    assert cast.alice.get(f"{path}?pretty=true").headers["etag"] == etag
    assert cast.alice.get(f"{path}?pretty=true", headers={"if-none-match": etag}).status_code == 304
