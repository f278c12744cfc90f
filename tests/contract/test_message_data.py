"""The data of messages: what listeners receive of it, and how it is shown."""

import json
from base64 import b64encode
from typing import Any, NamedTuple

import pytest

from tests.contract.caller import Caller, pointers, resource
from tests.contract.reference import covers
from tests.contract.test_delivery import listening
from tests.support.receiver import Receiver

PICTURE = b"\x89PNG\xff\x00"
IN_BASE64 = b64encode(PICTURE).decode()
TEXT = "text/plain; charset=utf-8"


class Case(NamedTuple):
    """The fields of a message, and the request that they lead to."""

    sent: dict[str, Any]
    content: bytes
    content_type: str


CASES = (
    Case({"data": {"order": 17}}, b'{"order":17}', "application/json"),
    Case({"data": '{"order":  17}'}, b'{"order":  17}', "application/json"),
    Case({"data": "hello ä"}, "hello ä".encode(), TEXT),
    Case({"data": None}, b"null", "application/json"),
    Case({"data": "hello", "content_type": "application/json"}, b'"hello"', "application/json"),
    Case({"data": "17", "content_type": "application/vnd.a+json"}, b'"17"', "application/vnd.a+json"),
    Case({"data": '{"order":17}', "content_type": "text/plain"}, b'{"order":17}', "text/plain"),
    Case(
        {"data": "<a/>", "content_type": 'application/xml; charset="utf-8"'},
        b"<a/>",
        'application/xml; charset="utf-8"',
    ),
    Case({"data": [1], "content_type": "application/x-amz-json-1.1"}, b"[1]", "application/x-amz-json-1.1"),
    Case({"data_base64": IN_BASE64}, PICTURE, "application/octet-stream"),
    Case({"data_base64": IN_BASE64, "content_type": "image/png"}, PICTURE, "image/png"),
    Case({"data_base64": "", "content_type": "application/json"}, b"", "application/json"),
)


def _of_data(shown: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shown.items() if name in {"data", "data_base64", "content_type"}}


@covers(
    "messages.md# Data",
    "lists.md: data",
    'messages.md: "data": {"order": 17}',
    r'messages.md: "data": "{\"order\": 17}"',
    'messages.md: "data": "hello"',
    'messages.md: "data": "hello", "content_type": "application/json"',
    'messages.md: "data": "<order/>", "content_type": "application/xml"',
    'messages.md: "data_base64": "iVBORw0KGgo="',
    'messages.md: "data_base64": "iVBORw0KGgo=", "content_type": "image/png"',
)
def test_data_is_delivered_and_shown_as_it_was_sent(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    queue, listener = listening(owner, endpoint)
    consumer = f"{queue}/listeners/{owner.create(f'{queue}/listeners', mode='pull')['id']}"
    [case, *others] = CASES
    ids = [owner.create(f"{queue}/messages", **case.sent)["id"]]
    batch = owner.ask("POST", f"{queue}/messages/batch", {"messages": [each.sent for each in others]})
    ids += [each["id"] for each in batch.json()["messages"]]
    by_id = dict(zip(ids, CASES, strict=True))

    def check(requests: Any) -> None:
        got = {each.headers["webhook-id"]: (each.content, each.headers["content-type"]) for each in requests}
        assert got == {message: (case.content, case.content_type) for message, case in by_id.items()}

    check(endpoint.until(len(CASES)))
    pulled = owner.get(f"{consumer}/messages?max=100")["messages"]
    assert [each["id"] for each in pulled] == ids
    for each in pulled:
        case = by_id[each["id"]]
        body = (
            {"data_base64": IN_BASE64 if case.content else ""}
            if "data_base64" in case.sent
            else {"data": case.content.decode()}
        )
        assert _of_data(each) == {**body, "content_type": case.content_type}
    for message, case in by_id.items():
        assert _of_data(owner.shown(f"{queue}/messages/{message}")) == case.sent
    listed = owner.get(f"{queue}/messages?per_page=100&data=true")["messages"]
    assert [_of_data(each) for each in reversed(listed)] == [case.sent for case in CASES]
    everywhere = owner.get("/messages?per_page=100&data=true")["messages"]
    assert {each["id"]: _of_data(each) for each in everywhere if each["id"] in by_id} == {
        message: case.sent for message, case in by_id.items()
    }
    assert not any(_of_data(each) for each in owner.get(f"{queue}/messages?per_page=100")["messages"])

    owner.create(f"{queue}/listeners/{listener['id']}/replays", from_message=ids[0])
    check(endpoint.until(2 * len(CASES))[len(CASES) :])


def test_topic_and_test_request_take_every_form_of_data(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint()
    queue, listener = listening(owner, endpoint)
    topic = f"/topics/{owner.create('/topics')['id']}"
    owner.create(f"{topic}/channels", queue_id=queue.rpartition("/")[2])
    message = owner.create(f"{topic}/messages", data_base64=IN_BASE64, content_type="image/png")["id"]
    (received,) = endpoint.until(1)
    assert (received.content, received.headers["content-type"]) == (PICTURE, "image/png")
    assert _of_data(owner.shown(f"{queue}/messages/{message}")) == {
        "data_base64": IN_BASE64,
        "content_type": "image/png",
    }
    path = f"{queue}/listeners/{listener['id']}/tests"
    for count, (sent, content, content_type) in enumerate((CASES[1], CASES[4], CASES[10]), start=2):
        resource(owner.ask("POST", path, sent))
        tried = endpoint.until(count)[-1]
        assert (tried.content, tried.headers["content-type"]) == (content, content_type)


def test_schedule_shows_data_as_it_was_sent(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/schedules"
    for sent, _, _ in CASES:
        made = owner.create(path, cron="0 9 * * *", **sent)
        assert _of_data(made) == sent
        assert _of_data(owner.shown(f"{path}/{made['id']}")) == sent
        sent_back = owner.change(f"{path}/{made['id']}", **{**made, "cron": "0 10 * * *"})
        assert (_of_data(sent_back), sent_back["cron"]) == (sent, "0 10 * * *")


def test_changed_content_type_of_schedule_applies_to_its_data(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/schedules"
    path += f"/{owner.create(path, cron='0 9 * * *', data='x' * 65_535)['id']}"
    # As a JSON string, it has two more bytes.
    owner.refused(413, "PUT", path, {"content_type": "application/json"})
    owner.change(path, data="hello", content_type="application/json")
    assert _of_data(owner.change(path, content_type=None)) == {"data": "hello"}
    changed = owner.change(path, data_base64=IN_BASE64)
    assert _of_data(changed) == {"data_base64": IN_BASE64}
    assert _of_data(owner.change(path, data={"n": 1})) == {"data": {"n": 1}}


@pytest.mark.parametrize(
    ("sent", "status", "pointer"),
    [
        ({}, 400, "/data"),
        ({"data_base64": None}, 400, "/data"),
        ({"data": "x", "data_base64": ""}, 422, "/data_base64"),
        ({"data_base64": "?"}, 422, "/data_base64"),
        ({"data_base64": "YQ"}, 422, "/data_base64"),
        ({"data_base64": 17}, 422, "/data_base64"),
        ({"data": "x", "content_type": "text"}, 422, "/content_type"),
        ({"data": "x", "content_type": ""}, 422, "/content_type"),
        ({"data": "x", "content_type": "text/plain\r\nx-a: b"}, 422, "/content_type"),
        ({"data": "x", "content_type": f"text/{'x' * 251}"}, 422, "/content_type"),
        ({"data": "x", "content_type": 17}, 400, "/content_type"),
    ],
    ids=str,
)
def test_invalid_data_is_refused(owner: Caller, sent: dict[str, Any], status: int, pointer: str) -> None:
    path = f"/queues/{owner.create('/queues')['id']}"
    assert pointers(owner.refused(status, "POST", f"{path}/messages", sent)) == [pointer]
    batch = {"messages": [{"data": "fits"}, sent]}
    assert pointers(owner.refused(status, "POST", f"{path}/messages/batch", batch)) == [f"/messages/1{pointer}"]
    if sent:
        assert pointers(owner.refused(status, "POST", f"{path}/schedules", {"cron": "0 9 * * *", **sent})) == [pointer]


def test_schema_accepts_json_only(owner: Caller) -> None:
    schema = {"word": {"type": "string"}}
    path = f"/queues/{owner.create('/queues', schema=schema)['id']}/messages"
    in_base64 = b64encode(b'{"word":"a"}').decode()
    for content_type in (None, "application/json"):
        refused = owner.refused(422, "POST", path, {"data_base64": in_base64, "content_type": content_type})
        assert pointers(refused) == ["/data_base64"]
    assert pointers(owner.refused(422, "POST", path, {"data": '{"word":"a"}', "content_type": "text/plain"})) == [
        "/data"
    ]
    owner.create(path, data='{"word":"a"}')
    owner.create(path, data={"word": "a"}, content_type="application/vnd.word+json")
    json_schema = {"type": "string", "maxLength": 3}
    path = f"/queues/{owner.create('/queues', json_schema=json_schema)['id']}/messages"
    owner.create(path, data="abc", content_type="application/json")
    owner.refused(422, "POST", path, {"data": "abcd", "content_type": "application/json"})


def test_size_limit_counts_decoded_bytes(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues', max_message_bytes=6)['id']}/messages"
    owner.create(path, data_base64=b64encode(b"\x00" * 6).decode())
    refused = owner.refused(413, "POST", path, {"data_base64": b64encode(b"\x00" * 7).decode()})
    assert pointers(refused) == ["/data_base64"]


def test_list_leaves_out_data_beyond_its_limit(owner: Caller) -> None:
    path = f"/queues/{owner.create('/queues')['id']}/messages"
    large = "x" * 250_000
    ids = [owner.create(path, data=data)["id"] for data in (large, large, large, large, large, "small")]
    listed = owner.get(f"{path}?data=true")["messages"]
    assert [each["id"] for each in listed] == ids[::-1]
    assert [len(each["data"]) if "data" in each else None for each in listed] == [5, *[250_000] * 4, None]


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_bytes_are_delivered_as_an_event(owner: Caller, receiver: Receiver, mode: str) -> None:
    endpoint = receiver.endpoint()
    queue, _ = listening(owner, endpoint, format=f"cloudevents_{mode}")
    owner.create(f"{queue}/messages", data_base64=IN_BASE64, content_type="image/png")
    [received] = endpoint.until(1)
    if mode == "binary":
        assert (received.content, received.headers["content-type"]) == (PICTURE, "image/png")
    else:
        document = json.loads(received.content)
        assert (document["data_base64"], document["datacontenttype"]) == (IN_BASE64, "image/png")
