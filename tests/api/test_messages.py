"""Messages as clients see them."""

from typing import Any, Literal

import pytest

from discue.api.decoding import is_json_text
from discue.domain.ids import is_public_id
from tests.support.served_api import Cast

Kind = Literal["json", "text"]


def stored(cast: Cast, queue: str) -> list[tuple[Kind, bytes]]:
    """Return the messages that listeners would receive, oldest first."""
    principal = cast.service.run(cast.service.installation.cache.authenticate(cast.alice.headers["x-api-key"]))
    organization = principal.organization.id
    record = cast.service.run(cast.service.installation.cache.queue(organization, queue))
    page = cast.service.run(cast.service.installation.store.page(organization, record.id, 0, 100, max_bytes=1 << 20))
    return [("json" if entry.is_json else "text", entry.body) for entry in page.entries]


def test_a_message_is_published_read_renamed_and_deleted(cast: Cast) -> None:
    queue = cast.queue()
    created = cast.alice.post(f"/queues/{queue}/messages", json={"data": "hello", "alias": "first"}).json()
    message = created["message"]
    assert set(message) == {"id", "alias", "name", "created_at", "updated_at"}
    assert is_public_id(message["id"])
    assert message["alias"] == message["name"] == "first"
    path = f"/queues/{queue}/messages/{message['id']}"
    assert created["_links"] == {"self": {"href": cast.service.url + path}}
    assert cast.alice.get(path).json()["message"] == {**message, "data": "hello", "deliveries": []}
    changed = cast.alice.put(path, json={"name": "renamed", "data": "ignored"}).json()["message"]
    assert changed["alias"] == "renamed"
    assert cast.alice.get(path).json()["message"]["data"] == "hello"
    assert cast.alice.delete(path).json() == {"_links": {"self": {"href": cast.service.url + path}}}
    assert cast.alice.get(path).status_code == 404


def test_an_alias_need_not_be_unique(cast: Cast) -> None:
    queue = cast.queue()
    ids = [cast.message(queue, alias="same") for _ in range(2)]
    links = cast.alice.get(f"/queues/{queue}/messages").json()["_links"]
    assert links["same"]["href"].endswith(ids[1])
    assert links[ids[0]]["href"].endswith(ids[0])


@pytest.mark.parametrize(
    ("data", "body", "kind"),
    [
        ('"plain text"', b"plain text", "text"),
        ('"{\\"a\\": 1}"', b'{"a": 1}', "json"),
        ('"{\\"a\\": }"', b'{"a": }', "text"),
        ('"12"', b"12", "json"),
        ('"true"', b"true", "json"),
        ('"truth"', b"truth", "text"),
        ('""', b"", "text"),
        ('"\\u00e9\\n"', "é\n".encode(), "text"),
        ('{"b": 1,  "a":[1.0, 1e2]}', b'{"b": 1,  "a":[1.0, 1e2]}', "json"),
        ("null", b"null", "json"),
        ("0.10", b"0.10", "json"),
        ('"\\"quoted\\""', b'"quoted"', "json"),
        ("[1, 2 ]", b"[1, 2 ]", "json"),
        ('{"a":1,"a":2}', b'{"a":1,"a":2}', "json"),
    ],
)
def test_data_becomes_the_body_byte_for_byte(cast: Cast, data: str, body: bytes, kind: Kind) -> None:
    queue = cast.queue()
    answer = cast.alice.post(
        f"/queues/{queue}/messages", content=f'{{ "data" : {data} }}', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200, answer.text
    assert stored(cast, queue) == [(kind, body)]
    shown = cast.alice.get(answer.json()["_links"]["self"]["href"]).json()["message"]
    assert shown["data"] == body.decode()


def test_a_batch_is_stored_in_its_order_and_answers_each(cast: Cast) -> None:
    queue = cast.queue()
    messages: list[dict[str, Any]] = [
        {"data": "a"},
        {"data": {"b": 1}, "alias": "second"},
        {"data": "c", "name": "third"},
    ]
    answer = cast.alice.post(f"/queues/{queue}/messages/batch", json={"messages": messages}).json()
    assert [body for _, body in stored(cast, queue)] == [b"a", b'{"b":1}', b"c"]
    shown = answer["messages"]
    assert [message["alias"] for message in shown] == [shown[0]["id"], "second", "third"]
    assert [message["id"] for message in shown] == sorted(message["id"] for message in shown)
    assert cast.alice.get(answer["_links"]["second"]["href"]).json()["message"]["data"] == '{"b":1}'
    listed = cast.alice.get(f"/queues/{queue}/messages").json()["messages"]
    assert [message["id"] for message in listed] == [message["id"] for message in shown][::-1]


def test_lists_show_no_data(cast: Cast) -> None:
    queue = cast.queue()
    cast.message(queue, data="confidential")
    for path in ("/messages", f"/queues/{queue}/messages"):
        answer = cast.alice.get(path)
        assert len(answer.json()["messages"]) == 1
        assert "confidential" not in answer.text


def test_deliveries_are_shown_for_each_listener_that_gets_it(cast: Cast) -> None:
    queue = cast.queue()
    listener = cast.listener(queue)
    message = cast.message(queue)
    cast.listener(queue)
    shown = cast.alice.get(f"/queues/{queue}/messages/{message}").json()["message"]["deliveries"]
    assert shown == [{"listener_id": listener, "state": "pending", "attempts": 0, "last_status": 0}]


def test_a_message_is_not_found_under_another_queue(cast: Cast) -> None:
    first, second = cast.queue(), cast.queue()
    message = cast.message(first)
    assert cast.alice.get(f"/queues/{second}/messages/{message}").status_code == 404
    assert cast.alice.delete(f"/queues/{second}/messages/{message}").status_code == 404


def test_publish_to_a_deleted_queue_is_404(cast: Cast) -> None:
    queue = cast.queue()
    cast.message(queue)
    assert cast.alice.delete(f"/queues/{queue}").status_code == 200
    for path, body in (("", {"data": "x"}), ("/batch", {"messages": [{"data": "x" * 20_000}]})):
        assert cast.alice.post(f"/queues/{queue}/messages{path}", json=body).status_code == 404
    assert cast.alice.get("/messages").json()["messages"] == []


def test_a_key_for_one_queue_publishes_there_alone(cast: Cast) -> None:
    mine, other = cast.queue(), cast.queue()
    key = cast.alice.post("/api_keys", json={"scopes": {"messages": {"targets": [mine]}}}).json()["api_key"]["key"]
    bob = cast.service.client(key)
    published = bob.post(f"/queues/{mine}/messages", json={"data": "x"}).json()["message"]["id"]
    assert bob.post(f"/queues/{other}/messages", json={"data": "x"}).status_code == 403
    cast.message(other)
    assert [message["id"] for message in bob.get("/messages").json()["messages"]] == [published]


@pytest.mark.parametrize("key", ["delay", "headers"])
def test_empty_options_are_accepted(cast: Cast, key: str) -> None:
    assert is_public_id(cast.message(cast.queue(), **{key: {"delay": 0, "headers": {}}[key]}))


def test_text_that_is_nested_beyond_measure_is_text() -> None:
    assert not is_json_text(b"[" * 100_000 + b"]" * 100_000)
