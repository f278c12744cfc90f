"""Queues, their schemas, listeners and messages."""

import json
import ssl
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.cli.user.local_server import local_server
from tests.contract.begun import Begun
from tests.contract.caller import Caller, body, fresh, pointers, resource
from tests.contract.reference import covers
from tests.contract.world import NOWHERE
from tests.support.authority import server_context
from tests.support.receiver import Receiver, Reply
from tests.support.self_signed import self_signed_context

RULES: dict[str, Any] = {
    "count": {"type": "number", "min": 1, "max": 9},
    "who": {"type": "object", "props": {"email": {"type": "string", "pattern": "/@/", "max": 20}}},
    "tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "required": False},
}
FITS: dict[str, Any] = {"count": 1, "who": {"email": "a@b"}}


@pytest.fixture
def queue(owner: Caller) -> str:
    return f"/queues/{owner.create('/queues')['id']}"


@covers("POST /queues 200", "PUT /queues 200", "queues.md# Create")
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_queue_is_created(owner: Caller, method: str) -> None:
    made = resource(owner.ask(method, "/queues", {"alias": "orders", "retention": 60, "max_message_bytes": 100}))
    assert (made["alias"], made["name"], made["listeners"]) == ("orders", "orders", [])
    assert made["messages"] == {"published_count": 0, "last_published_at": 0}
    assert {"schema", "json_schema", "schema_id"}.isdisjoint(made)
    assert owner.shown(f"/queues/{made['id']}") == made
    owner.refused(422, "POST", "/queues", {"alias": "orders"})


@covers(
    "PUT /queues/{queue_id} 200",
    "PUT /queues/{queue_id} 422",
    "queues.md# Change and delete",
    "DELETE /queues/{queue_id} 200",
)
def test_a_queue_is_changed_and_deleted_with_all_that_is_in_it(owner: Caller) -> None:
    taken = owner.create("/queues")["alias"]
    path = f"/queues/{owner.create('/queues')['id']}"
    listener = owner.create(f"{path}/listeners", alias="billing", **NOWHERE)
    message = owner.create(f"{path}/messages", data="x")
    assert owner.change(path, alias="renamed")["listeners"] == [
        {"id": listener["id"], "alias": "billing", "name": "billing"}
    ]
    assert owner.change(path, alias=None)["alias"] == path.rpartition("/")[2]
    owner.refused(422, "PUT", path, {"alias": taken})
    owner.delete(path)
    for below in ("", f"/listeners/{listener['id']}", f"/messages/{message['id']}", "/listeners"):
        owner.refused(404, "GET", path + below)
    assert owner.get("/listeners")["listeners"] == owner.get("/messages")["messages"] == []


@covers("GET /queues/{queue_id}/schemas/{schema_id} 200 map", "schemas.md# Set", "schemas.md# Response")
def test_a_schema_comes_back_as_it_was_sent(owner: Caller) -> None:
    made = owner.create("/queues", schema=RULES)
    assert json.dumps(made["schema"]) == json.dumps(RULES)
    shown = owner.get(f"/queues/{made['id']}/schemas/{made['schema_id']}")
    assert (shown["schema"], shown["id"], shown["language"]) == (RULES, made["schema_id"], "rules")
    again = owner.create("/queues", schema=dict(reversed(RULES.items())))
    assert again["schema_id"] == made["schema_id"]
    assert "schema" not in owner.change(f"/queues/{made['id']}", schema=None)
    owner.refused(404, "GET", f"/queues/{made['id']}/schemas/{made['schema_id']}")


@covers("schemas.md: object", "schemas.md: array", "schemas.md: string", "schemas.md: number", "schemas.md# The rules")
@covers("schemas.md# Patterns")
@pytest.mark.parametrize(
    ("data", "places"),
    [
        ({**FITS, "count": 0}, ["/data/count"]),
        ({**FITS, "count": 10}, ["/data/count"]),
        ({**FITS, "count": "1"}, ["/data/count"]),
        ({**FITS, "count": None}, ["/data/count"]),
        ({"count": 1}, ["/data/who"]),
        ({**FITS, "more": 1}, ["/data/more"]),
        ({**FITS, "who": {"email": "a@b", "more": 1}}, ["/data/who/more"]),
        ({**FITS, "who": {"email": "nobody"}}, ["/data/who/email"]),
        ({**FITS, "who": {"email": "@" * 21}}, ["/data/who/email"]),
        ({**FITS, "tags": ["a", "c"]}, ["/data/tags/1"]),
        ({**FITS, "tags": "a"}, ["/data/tags"]),
        ({"count": 0, "who": {"email": 1}}, ["/data/count", "/data/who/email"]),
    ],
)
def test_a_message_that_breaks_the_schema_is_refused_by_the_place(owner: Caller, data: Any, places: list[str]) -> None:
    path = f"/queues/{owner.create('/queues', schema=RULES)['id']}/messages"
    assert sorted(pointers(owner.refused(422, "POST", path, {"data": data}))) == places
    assert owner.get(path)["messages"] == []


@pytest.mark.parametrize(
    "data", [FITS, json.dumps(FITS), {**FITS, "tags": None}, {**FITS, "tags": ["a", "b"]}], ids=str
)
def test_a_message_that_fits_the_schema_is_taken(owner: Caller, data: Any) -> None:
    assert owner.create(f"/queues/{owner.create('/queues', schema=RULES)['id']}/messages", data=data)["id"]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"a": {"type": "date"}},
        {"a": {"type": "object"}},
        {"a": {"type": "object", "props": {}}},
        {"a": {"type": "array"}},
        {"a": {"type": "string", "pattern": "(?=x)"}},
        {"a": {"type": "string", "pattern": "("}},
        {"a": {"type": "number", "min": 2, "max": 1}},
        {"a": {"type": "number", "surprise": 1}},
        [],
        "x",
    ],
    ids=json.dumps,
)
def test_a_schema_that_is_none_is_unprocessable(owner: Caller, schema: Any) -> None:
    content = owner.refused(422, "POST", "/queues", {"schema": schema})
    assert all(place.startswith("/schema") for place in pointers(content))


@covers("schemas.md# JSON Schema")
def test_json_schema_is_accepted_instead(owner: Caller) -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    made = owner.create("/queues", json_schema=schema)
    assert made["json_schema"] == schema
    assert owner.get(f"/queues/{made['id']}/schemas/{made['schema_id']}")["language"] == "json_schema"
    owner.create(f"/queues/{made['id']}/messages", data={"n": 1})
    owner.refused(422, "POST", f"/queues/{made['id']}/messages", {"data": {"n": "x"}})
    owner.refused(422, "POST", "/queues", {"json_schema": {"$ref": "https://example.com/schema"}})
    owner.refused(422, "POST", "/queues", {"schema": RULES, "json_schema": schema})


@covers("schemas.md: ^[a-z0-9.+-]+@[a-z0-9.-]+$", "schemas.md: ^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
@covers("schemas.md: ^[a-z0-9-]{1,63}$", r"schemas.md: ^\p{L}+$")
@pytest.mark.parametrize(
    ("pattern", "text", "most"),
    [
        ("^[a-z0-9.+-]+@[a-z0-9.-]+$", f"{'a' * 80}@example.com", 2_000),
        ("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "01234567-89ab-cdef-0123-456789abcdef", 65_536 // 40),
        ("^[a-z0-9-]{1,63}$", "a" * 60, 16_384 // 64),
        (r"^\p{L}+$", "Ä" * 60, 4_096 // 64),
    ],
)
def test_text_that_patterns_match_in_a_message_is_limited(owner: Caller, pattern: str, text: str, most: int) -> None:
    rules = {"texts": {"type": "array", "items": {"type": "string", "pattern": pattern}}}
    path = f"/queues/{owner.create('/queues', schema=rules)['id']}/messages"
    assert owner.create(path, data={"texts": [text] * most})["id"]
    # With the first pattern, a larger message would be too large.
    if most < 2_000:
        content = owner.refused(422, "POST", path, {"data": {"texts": [text] * (most + most // 8)}})
        assert pointers(content) == ["/data"]


@covers("schemas.md# Limits")
def test_a_schema_is_limited(owner: Caller) -> None:
    deep: dict[str, Any] = {"type": "number"}
    for _ in range(33):
        deep = {"type": "array", "items": deep}
    owner.refused(422, "POST", "/queues", {"schema": {"a": deep}})
    owner.refused(422, "POST", "/queues", {"schema": {f"p{n}": {"type": "number"} for n in range(1_001)}})


@covers("POST /queues/{queue_id}/listeners 200", "PUT /queues/{queue_id}/listeners 200", "listeners.md# Create")
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_listener_is_created_with_a_secret_shown_once(owner: Caller, queue: str, method: str) -> None:
    made = resource(owner.ask(method, f"{queue}/listeners", {"alias": "billing", **NOWHERE}))
    assert made.pop("secret").startswith("whsec_")
    assert made["queue_id"] == queue.rpartition("/")[2]
    assert (made["status"], made["status_reason"], made["status_changed_at"]) == ("enabled", "", made["created_at"])
    assert made["liveness"] == {
        "state": "unknown",
        "success_count": 0,
        "failure_count": 0,
        "last_success_at": 0,
        "last_failure_at": 0,
        "last_failure_status": 0,
        "last_failure_msg": "",
    }
    assert made["messages"] == {
        "acknowledged_count": 0,
        "missed": [],
        "missed_count": 0,
        "pending_count": 0,
        "last_success_at": 0,
        "last_failure_at": 0,
        "last_failure_status": 0,
        "last_failure_msg": "",
    }
    shown = [owner.shown(f"{queue}/listeners/{made['id']}")]
    lists = [owner.get(path)["listeners"] for path in ("/listeners", f"{queue}/listeners")]
    # Meanwhile it may have been probed.
    del made["liveness"]
    for (listener,) in (shown, *lists):
        del listener["liveness"]
        assert listener == made
    owner.refused(422, "POST", f"{queue}/listeners", {"alias": "billing", **NOWHERE})
    other = f"/queues/{owner.create('/queues')['id']}/listeners"
    assert owner.create(other, alias="billing", **NOWHERE)["alias"] == "billing"


@covers("attempts.md: tls")
@pytest.mark.parametrize(
    ("tls", "problem"),
    [
        (None, "127.0.0.1 does not speak TLS at this port: the URL needs http:// or another port"),
        (self_signed_context(), "the certificate of 127.0.0.1 is self-signed"),
        (server_context("127.0.0.1"), "the issuer of the certificate of 127.0.0.1 is unknown"),
    ],
    ids=["no TLS", "self-signed", "issuer"],
)
def test_failure_of_tls_is_explained_in_words(
    owner: Caller, queue: str, tls: ssl.SSLContext | None, problem: str
) -> None:
    with local_server(tls=tls) as local:
        url = local.url.replace("http:", "https:")
        made = owner.create(f"{queue}/listeners", notify_url=f"{url}/hook", liveness_url=f"{url}/live")
        message = owner.create(f"{queue}/messages", data="x")
        path = f"{queue}/listeners/{made['id']}"
        probed = owner.until(path, lambda shown: shown["liveness"]["failure_count"] > 0)["liveness"]
        owner.until(path, lambda shown: shown["messages"]["last_failure_at"] > 0)
        (attempt,) = owner.get(f"{queue}/messages/{message['id']}/attempts")["attempts"]

    assert probed["last_failure_msg"] == problem
    assert (attempt["error"], attempt["detail"]) == ("tls", f"{problem[0].upper()}{problem[1:]}.")


@covers("listeners.md# Liveness")
def test_a_listener_is_asked_whether_it_lives(owner: Caller, queue: str, begun: Begun) -> None:
    dead = f"{queue}/listeners/{owner.create(f'{queue}/listeners', **NOWHERE)['id']}"
    found = owner.until(dead, lambda shown: shown["liveness"]["failure_count"] > 0)["liveness"]
    assert (found["state"], found["last_failure_status"], found["last_failure_msg"]) == ("unstable", 0, "no connection")
    assert found["last_failure_at"] > found["last_success_at"] == 0
    found = begun.owner.until(begun.alive, lambda shown: shown["liveness"]["success_count"] > 0)["liveness"]
    assert (found["failure_count"], found["last_failure_msg"]) == (0, "")
    found = begun.owner.until(begun.alive, lambda shown: shown["liveness"]["state"] == "stable")["liveness"]
    assert found["success_count"] >= 2


@covers("listeners.md# Liveness")
def test_a_listener_needs_no_liveness_url(owner: Caller, queue: str) -> None:
    made = owner.create(f"{queue}/listeners", notify_url=NOWHERE["notify_url"])
    assert ("liveness_url" in made, made["liveness"]["state"]) == (False, "unknown")
    path = f"{queue}/listeners/{made['id']}"
    assert owner.change(path, liveness_url=NOWHERE["liveness_url"])["liveness_url"] == NOWHERE["liveness_url"]
    assert "liveness_url" not in owner.change(path, liveness_url=None)
    assert "liveness_url" not in owner.change(path, alias="renamed")
    owner.refused(400, "POST", f"{queue}/listeners", {"liveness_url": NOWHERE["liveness_url"]})


@pytest.mark.parametrize("field", ["notify_url", "liveness_url"])
@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "/relative",
        "http://user:word@example.com/",
        "http://example.com/#part",
        "http://",
        "x",
        "http://example.com/" + "x" * 240,
        "http:///path",
        "http://example.com:99999/",
    ],
)
def test_another_url_is_unprocessable(owner: Caller, queue: str, field: str, url: str) -> None:
    assert pointers(owner.refused(422, "POST", f"{queue}/listeners", {**NOWHERE, field: url})) == [f"/{field}"]


@covers("PUT /queues/{queue_id}/listeners/{listener_id} 200", "PUT /queues/{queue_id}/listeners/{listener_id} 422")
@covers("DELETE /queues/{queue_id}/listeners/{listener_id} 200", "listeners.md# Disable, enable, delete")
def test_a_listener_is_changed_and_deleted(owner: Caller, queue: str) -> None:
    path = f"{queue}/listeners/{owner.create(f'{queue}/listeners', **NOWHERE)['id']}"
    changed = owner.change(path, status="disabled", notify_url="http://example.com/other")
    assert (changed["status"], changed["notify_url"]) == ("disabled", "http://example.com/other")
    assert changed["liveness_url"] == NOWHERE["liveness_url"]
    assert changed["status_reason"] == "It is disabled by a request."
    assert changed["status_changed_at"] == changed["updated_at"]
    message = owner.create(f"{queue}/messages", data="waits")["id"]
    assert owner.until(path, lambda shown: shown["messages"]["pending_count"] == 1)["status"] == "disabled"
    [delivery] = owner.shown(f"{queue}/messages/{message}")["deliveries"]
    assert delivery["waits_for"] == "The listener is disabled by a request."
    owner.refused(422, "PUT", path, {"status": "lost"})
    owner.refused(400, "PUT", path, {"notify_url": None})
    owner.delete(path)
    owner.refused(404, "GET", path)


@covers("POST /queues/{queue_id}/messages 200", "PUT /queues/{queue_id}/messages 200", "messages.md# Publish")
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_message_is_published(owner: Caller, queue: str, method: str) -> None:
    made = resource(owner.ask(method, f"{queue}/messages", {"alias": "order-17", "data": "hello"}))
    assert set(made) == {"id", "alias", "name", "created_at", "updated_at"}
    shown = owner.shown(f"{queue}/messages/{made['id']}")
    more = {"queue_id": queue.removeprefix("/queues/"), "state": "no_listeners"}
    listed = {**made, **more, "sequence": 1, "size": 5}
    assert shown == {**listed, "data": "hello", "deliveries": []}
    assert owner.get("/messages")["messages"] == owner.get(f"{queue}/messages")["messages"] == [listed]
    counts = owner.shown(queue)["messages"]
    assert (counts["published_count"], counts["last_published_at"] > 0) == (1, True)
    assert owner.create(f"{queue}/messages", alias="order-17", data="again")["alias"] == "order-17"


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ('"text"', '"text"'),
        ('{"b": 1.0,  "a": [1e2]}', '{"b": 1.0,  "a": [1e2]}'),
        ("17", "17"),
        ("null", "null"),
        ("[ ]", "[ ]"),
        ('""', '""'),
        ('"\\u00e4\\n"', '"ä\\n"'),
        ("true", "true"),
        ("0.10", "0.10"),
        ('{"a":1,"a":2}', '{"a":1,"a":2}'),
    ],
)
def test_data_is_shown_as_it_was_sent_to_the_byte(owner: Caller, queue: str, sent: str, shown: str) -> None:
    headers = {"Content-Type": "application/json"}
    made = resource(owner.ask("POST", f"{queue}/messages", f'{{"data": {sent}}}'.encode(), headers=headers))
    assert f'"data":{shown},' in owner.ask("GET", f"{queue}/messages/{made['id']}").text


def test_a_message_is_as_large_as_its_queue_allows(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues', max_message_bytes=10)['id']}/messages"
    assert owner.create(path, data="x" * 10)["id"]
    owner.refused(413, "POST", path, {"data": "x" * 11})
    large = f"/queues/{owner.create('/queues')['id']}/messages"
    assert owner.create(large, data="x" * 262_144)["id"]
    owner.refused(413, "POST", large, {"data": "x" * 262_145})


@pytest.mark.parametrize(
    ("to", "limit", "way_out"),
    [
        ("messages", 65_596, "A message may have 10 bytes of data: raise `max_message_bytes` of its queue"),
        ("messages/batch", 8_388_608, "Send several requests."),
        ("listeners", 65_536, "Send less."),
    ],
)
def test_body_above_the_limit_gets_the_limit_and_the_way_out(owner: Caller, to: str, limit: int, way_out: str) -> None:
    path = f"/queues/{owner.create('/queues', max_message_bytes=10)['id']}/{to}"
    refused = owner.refused(413, "POST", path, {"data": "x" * limit})
    assert refused["detail"].startswith(f"The body has more than {limit} bytes, the limit for this request. {way_out}")
    assert refused["code"] == "body_too_large"


@covers("PUT /queues/{queue_id}/messages/{message_id} 200", "PUT /queues/{queue_id}/messages/{message_id} 422")
@covers("DELETE /queues/{queue_id}/messages/{message_id} 200", "messages.md# Read, rename, delete")
def test_a_message_is_renamed_and_deleted(owner: Caller, queue: str) -> None:
    path = f"{queue}/messages/{owner.create(f'{queue}/messages', data='x')['id']}"
    assert owner.change(path, alias="renamed")["alias"] == "renamed"
    assert owner.change(path, data="other")["alias"] == "renamed"
    assert owner.shown(path)["data"] == "x"
    owner.refused(422, "PUT", path, {"alias": "x!"})
    owner.delete(path)
    owner.refused(404, "GET", path)
    assert owner.get(f"{queue}/messages")["messages"] == []


@covers("POST /queues/{queue_id}/messages/batch 200", "messages.md# Publish many")
def test_a_batch_is_taken_as_a_whole_or_not_at_all(owner: Caller, queue: str) -> None:
    messages = [{"data": "a", "alias": "first"}, {"data": {"b": 1}, "name": "second"}]
    answer = body(owner.ask("POST", f"{queue}/messages/batch", {"messages": messages}))
    made = answer["messages"]
    assert [owner.shown(f"{queue}/messages/{each['id']}")["data"] for each in made] == ["a", {"b": 1}]
    assert [each["alias"] for each in made] == ["first", "second"]
    assert answer["_links"]["second"]["href"].endswith(f"{queue}/messages/{made[1]['id']}")
    more = {"queue_id": queue.removeprefix("/queues/"), "state": "no_listeners"}
    listed = [
        {**each, **more, "sequence": place, "size": size}
        for each, place, size in zip(made, (1, 2), (1, 7), strict=True)
    ]
    assert owner.get(f"{queue}/messages")["messages"] == listed[::-1]
    wrong = {"messages": [{"data": "a"}, {"data": "b", "alias": "x!"}]}
    assert pointers(owner.refused(422, "POST", f"{queue}/messages/batch", wrong)) == ["/messages/1/alias"]
    assert len(owner.get(f"{queue}/messages")["messages"]) == 2


@pytest.mark.parametrize(("count", "status"), [(0, 422), (1_000, 200), (1_001, 422)])
def test_a_batch_has_1_to_1000_messages(owner: Caller, queue: str, count: int, status: int) -> None:
    answer = owner.ask("POST", f"{queue}/messages/batch", {"messages": [{"data": "x"}] * count})
    assert answer.status_code == status


@covers("listeners.md# Request options")
def test_a_listeners_own_choice_wins_over_its_queues(owner: Caller) -> None:
    queue = f"/queues/{owner.create('/queues', retry={'schedule': [7], 'jitter': 0})['id']}"
    path = f"{queue}/listeners"
    of_queue, own = [owner.create(path, **more, **NOWHERE)["effective"] for more in ({}, {"retry": [9], "timeout": 2})]
    assert (of_queue["retry"]["schedule"], own["retry"]["schedule"]) == ([7], [9])
    assert (of_queue["timeout"], own["timeout"], own["retry"]["jitter"]) == (15, 2, 0)
    assert "retry" not in owner.change(queue, retry=None)
    assert {each["effective"]["retry"]["jitter"] for each in owner.get(path)["listeners"]} == {0.2}


@covers("listeners.md# Filters", "POST /queues/{queue_id}/listeners/{listener_id}/filter-tests 200")
@covers("listeners.md# Try a filter", "POST /queues/{queue_id}/listeners/{listener_id}/filter-tests 422")
@covers(*[f"listeners.md: {row}" for row in ("a scalar", "a list", "an object", "$eq, $in", "$gt, $gte, $lt, $lte")])
@covers(*[f"listeners.md: {row}" for row in ("$prefix, $suffix", "$contains", "$regex", "$exists", "$and, $or, $not")])
@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        ({"state": "paid"}, True),
        ({"state": ["open", "closed"]}, False),
        ({"order": {"total": 9, "items.0.sku": "a-1"}}, True),
        ({"state": {"$eq": "paid", "$in": ["paid"]}}, True),
        ({"order.total": {"$gt": 8, "$gte": 9, "$lt": 10, "$lte": 9}}, True),
        ({"/order/items/0/sku": {"$prefix": "a", "$suffix": "2"}}, False),
        ({"tags": {"$contains": "new"}}, True),
        ({"state": {"$regex": "^p.*d$"}}, True),
        ({"order.total": {"$exists": False}}, False),
        ({"$or": [{"state": "open"}, {"$and": [{"state": "paid"}]}], "order.total": {"$not": 8}}, True),
    ],
    ids=str,
)
def test_a_filter_can_be_tried(owner: Caller, queue: str, condition: dict[str, Any], *, matches: bool) -> None:
    listener = owner.create(f"{queue}/listeners", filter={"data": condition}, **NOWHERE)["id"]
    data = {"state": "paid", "order": {"total": 9, "items": [{"sku": "a-1"}]}, "tags": ["new"]}
    path = f"{queue}/listeners/{listener}/filter-tests"
    assert body(owner.ask("POST", path, {"data": data}))["filter_test"]["matches"] is matches
    stored = owner.create(f"{queue}/messages", data=data)["id"]
    found = body(owner.ask("POST", path, {"message_id": stored}))["filter_test"]
    assert found["matches"] is matches
    assert all(each["pointer"].startswith("/filter/data/") for each in found["conditions"])
    wrong = {"filter": {"data": {"a": {"$near": 1}}}, "data": 1}
    assert pointers(owner.refused(422, "POST", path, wrong)) == ["/filter/data/a/$near"]


@covers("POST /queues/{queue_id}/listeners/{listener_id}/tests 200", "tests.md# Behaviour")
@covers("tests.md# Private targets")
def test_a_listener_can_be_tested_and_nothing_is_left_of_it(owner: Caller, receiver: Receiver, queue: str) -> None:
    endpoint = receiver.endpoint(Reply(410))
    path = f"{queue}/listeners"
    made = owner.create(path, notify_url=endpoint.url, liveness_url=endpoint.url, status="disabled")
    path = f"{path}/{made['id']}"
    found = body(owner.ask("POST", f"{path}/tests", {"data": {"n": 1}, "headers": {"x-trace": "7"}}))["test"]
    [received] = endpoint.until(1)
    assert (received.content, received.headers["discue-test"]) == (b'{"n":1}', "true")
    assert (received.headers["webhook-id"], received.headers["x-trace"]) == (found["message_id"], "7")
    assert Webhook(made["secret"]).verify(received.content, received.headers) == {"n": 1}
    assert (found["state"], found["error"], found["status_class"]) == ("failed", "status", "4xx")
    assert found["withheld"] is not ("response" in found)
    owner.refused(404, "GET", f"{queue}/messages/{found['message_id']}")
    assert owner.get(f"{path}/attempts")["attempts"] == []
    assert owner.shown(path)["messages"] == made["messages"]


@covers("POST /queues/{queue_id}/listeners/{listener_id}/tests 422")
def test_invalid_test_request_is_refused(owner: Caller, queue: str) -> None:
    listener = owner.create(f"{queue}/listeners", **NOWHERE)["id"]
    wrong = {"headers": {"discue-test": "false"}}
    answer = owner.refused(422, "POST", f"{queue}/listeners/{listener}/tests", wrong)
    assert pointers(answer) == ["/headers/discue-test"]


def test_two_organizations_may_use_one_alias(owner: Caller, charlie: Caller) -> None:
    alias = fresh()
    assert owner.create("/queues", alias=alias)["alias"] == charlie.create("/queues", alias=alias)["alias"]


@covers("DELETE /queues/{queue_id} 409")
def test_queue_of_system_events_takes_no_messages_and_cannot_be_deleted(owner: Caller) -> None:
    system = "/queues/system%2Fevents"
    assert owner.refused(409, "DELETE", system)["code"] == "system_queue"
    assert owner.refused(403, "POST", f"{system}/messages", {"data": 1})["code"] == "system_queue_read_only"
