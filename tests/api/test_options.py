"""Options of listeners, queues and messages, as clients give and see them."""

from typing import Any

import pytest

from tests.support.problems import pointers, problem
from tests.support.served_api import Cast

URLS = {"notify_url": "http://127.0.0.1:9/", "liveness_url": "http://127.0.0.1:9/"}
DEFAULT_SCHEDULE = [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
RETRY = {"schedule": [10, 60], "jitter": 0.0, "attempts": 2, "final_statuses": [422, "3xx"]}


def listener_path(cast: Cast) -> str:
    return f"/queues/{cast.queue()}/listeners"


def test_without_options_a_listener_shows_what_the_service_does(cast: Cast) -> None:
    shown = cast.alice.post(listener_path(cast), json=URLS).json()["listener"]
    retry = {"schedule": DEFAULT_SCHEDULE, "jitter": 0.2, "attempts": 12, "final_statuses": []}
    options = {"timeout": 15, "max_in_flight": 50, "retry": retry, "format": "plain", "trace": "propagate"}
    assert shown["effective"] == options
    assert not {"headers", "timeout", "max_in_flight", "rate_limit", "retry"} & shown.keys()


def test_options_come_back_as_they_were_sent_and_null_clears_them(cast: Cast) -> None:
    options: dict[str, Any] = {
        "headers": {"X-Shop": "north", "a": "b"},
        "timeout": 3,
        "max_in_flight": 7,
        "rate_limit": {"per_second": 0.5, "burst": 3},
        "retry": RETRY,
        "format": "cloudevents_binary",
    }
    path = listener_path(cast)
    made = cast.alice.post(path, json={**URLS, **options}).json()["listener"]
    assert {name: made[name] for name in options} == options
    shown = cast.alice.get(f"{path}/{made['id']}").json()["listener"]
    assert {name: shown[name] for name in options} == options
    assert shown["effective"]["retry"] == {**RETRY, "schedule": [10], "final_statuses": ["3xx", "422"]}
    kept = cast.alice.put(f"{path}/{made['id']}", json={"timeout": None}).json()["listener"]
    assert "timeout" not in kept
    assert kept["effective"]["timeout"] == 15
    assert kept["headers"] == options["headers"]
    cleared = cast.alice.put(f"{path}/{made['id']}", json=dict.fromkeys(options)).json()["listener"]
    assert not options.keys() & cleared.keys()


def test_a_listener_as_it_is_shown_can_be_sent_back(cast: Cast) -> None:
    path = listener_path(cast)
    made = cast.alice.post(path, json={**URLS, "retry": [7]}).json()["listener"]
    answer = cast.alice.put(f"{path}/{made['id']}", json=made)
    assert answer.status_code == 200
    assert answer.json()["listener"]["retry"] == {"schedule": [7]}


def test_a_burst_is_what_a_second_brings_where_it_is_not_given(cast: Cast) -> None:
    for per_second, burst in ((2.5, 3), (100, 100), (0.01, 1)):
        made = cast.alice.post(listener_path(cast), json={**URLS, "rate_limit": {"per_second": per_second}})
        assert made.json()["listener"]["rate_limit"] == {"per_second": per_second, "burst": burst}


@pytest.mark.parametrize(
    ("options", "status", "pointer"),
    [
        ({"timeout": 0}, 422, "/timeout"),
        ({"timeout": 301}, 422, "/timeout"),
        ({"timeout": "5"}, 400, "/timeout"),
        ({"max_in_flight": 0}, 422, "/max_in_flight"),
        ({"max_in_flight": 1_001}, 422, "/max_in_flight"),
        ({"rate_limit": 5}, 400, "/rate_limit"),
        ({"rate_limit": {}}, 400, "/rate_limit/per_second"),
        ({"rate_limit": {"per_second": 0}}, 422, "/rate_limit/per_second"),
        ({"rate_limit": {"per_second": 1, "burst": 0}}, 422, "/rate_limit/burst"),
        ({"rate_limit": {"per_second": 1, "brust": 2}}, 400, "/rate_limit/brust"),
        ({"retry": {"schedule": [0]}}, 422, "/retry/schedule/0"),
        ({"retry": [5, 2_592_001]}, 422, "/retry/schedule/1"),
        ({"retry": [5] * 51}, 422, "/retry/schedule"),
        ({"retry": {"jitter": 1.1}}, 422, "/retry/jitter"),
        ({"retry": {"attempts": 0}}, 422, "/retry/attempts"),
        ({"retry": {"final_statuses": [200]}}, 422, "/retry/final_statuses/0"),
        ({"retry": {"final_statuses": ["2xx"]}}, 422, "/retry/final_statuses/0"),
        ({"retry": {"delays": []}}, 400, "/retry/delays"),
        ({"format": "raw"}, 422, "/format"),
        ({"format": ""}, 422, "/format"),
        ({"format": 5}, 400, "/format"),
        ({"headers": {"host": "x"}}, 422, "/headers/host"),
        ({"headers": {"x": "a\nb"}}, 422, "/headers/x"),
        ({"headers": {"a": "b", "x/~": 5}}, 400, "/headers/x~1~0"),
    ],
    ids=str,
)
def test_an_option_that_is_wrong_is_named_and_changes_nothing(
    cast: Cast, options: dict[str, Any], status: int, pointer: str
) -> None:
    path = listener_path(cast)
    assert pointers(problem(cast.alice.post(path, json={**URLS, **options}), status)) == [pointer]
    made = cast.alice.post(path, json=URLS).json()["listener"]
    assert pointers(problem(cast.alice.put(f"{path}/{made['id']}", json=options), status)) == [pointer]
    assert cast.alice.get(f"{path}/{made['id']}").json()["listener"]["effective"] == made["effective"]


def test_message_shows_its_options(cast: Cast) -> None:
    path = f"/queues/{cast.queue()}/messages"
    asked = {"key": "k\u0000\u20ac", "headers": {"x-trace": "7"}, "expires_at": 253_402_300_799_999, "retry": RETRY}
    plain = cast.alice.post(path, json={"data": "x"}).json()["message"]["id"]
    made = cast.alice.post(path, json={"data": "x", **asked}).json()["message"]["id"]
    batch = cast.alice.post(f"{path}/batch", json={"messages": [{"data": "x"}, {"data": 1, **asked}]}).json()[
        "messages"
    ]
    for message in (made, batch[1]["id"]):
        shown = cast.alice.get(f"{path}/{message}").json()["message"]
        assert {name: shown[name] for name in asked} == asked
        assert cast.alice.put(f"{path}/{message}", json=shown).status_code == 200
    for message in (plain, batch[0]["id"]):
        assert not asked.keys() & cast.alice.get(f"{path}/{message}").json()["message"].keys()


@pytest.mark.parametrize(
    ("asked", "status", "pointer"),
    [
        ({"key": ""}, 422, "/key"),
        ({"key": "k" * 256}, 422, "/key"),
        ({"key": 5}, 400, "/key"),
        ({"expires_at": 1}, 422, "/expires_at"),
        ({"expires_at": 253_402_300_800_000}, 422, "/expires_at"),
        ({"delay": -1}, 422, "/delay"),
        ({"delay": 31_536_001}, 422, "/delay"),
        ({"delay": "5"}, 400, "/delay"),
        ({"delay": 0, "deliver_at": 0}, 422, "/delay"),
        ({"deliver_at": -1}, 422, "/deliver_at"),
        ({"deliver_at": 253_402_300_799_999}, 422, "/deliver_at"),
        ({"headers": {"webhook-id": "x"}}, 422, "/headers/webhook-id"),
        ({"retry": {"attempts": 101}}, 422, "/retry/attempts"),
    ],
    ids=str,
)
def test_invalid_message_option_is_named_and_the_message_is_not_stored(
    cast: Cast, asked: dict[str, Any], status: int, pointer: str
) -> None:
    queue = cast.queue()
    path = f"/queues/{queue}/messages"
    assert pointers(problem(cast.alice.post(path, json={"data": "x", **asked}), status)) == [pointer]
    answer = cast.alice.post(f"{path}/batch", json={"messages": [{"data": "x"}, {"data": "x", **asked}]})
    assert pointers(problem(answer, status)) == [f"/messages/1{pointer}"]
    assert cast.alice.get(f"/queues/{queue}").json()["queue"]["messages"]["published_count"] == 0


@pytest.mark.parametrize(
    "asked", [{"delay": 3_600}, {"delay": 0}, {"delay": None}, {"deliver_at": 0}, {"deliver_at": 100_000_000_000}]
)
def test_a_message_shows_when_it_is_due_where_that_is_later(cast: Cast, asked: dict[str, Any]) -> None:
    path = f"/queues/{cast.queue()}/messages"
    made = cast.alice.post(path, json={"data": "x", **asked}).json()["message"]
    shown = cast.alice.get(f"{path}/{made['id']}").json()["message"]
    assert shown["created_at"] == made["created_at"]
    if asked.get("delay"):
        assert abs(shown["deliver_at"] - made["created_at"] - 3_600_000) < 60_000
    else:
        assert "deliver_at" not in shown
    assert cast.alice.put(f"{path}/{made['id']}", json=shown).status_code == 200


def test_delayed_message_is_listed_renamed_and_deleted(cast: Cast) -> None:
    queue = cast.queue()
    path = f"/queues/{queue}/messages"
    listener = cast.alice.post(f"/queues/{queue}/listeners", json=URLS).json()["listener"]["id"]

    def listed(place: str, **query: str) -> list[str]:
        return [each["id"] for each in cast.alice.get(place, params=query).json()["messages"]]

    made = [cast.message(queue, delay=60) for _ in range(3)]
    assert listed(path, listener=listener, state="pending") == made[::-1]
    (delivery,) = cast.alice.get(f"{path}/{made[0]}").json()["message"]["deliveries"]
    assert (delivery["state"], delivery["attempts"]) == ("pending", 0)
    assert cast.alice.put(f"{path}/{made[0]}", json={"alias": "first"}).status_code == 200
    assert listed("/messages", alias="first") == made[:1]
    assert cast.alice.delete(f"{path}/{made[0]}").status_code == 200
    assert cast.alice.get(f"{path}/{made[0]}").status_code == 404
    assert listed(path) == [made[2], made[1]]
    assert cast.alice.get(f"/queues/{queue}").json()["queue"]["messages"]["published_count"] == 3


def test_a_message_cannot_expire_before_it_is_due(cast: Cast) -> None:
    path = f"/queues/{cast.queue()}/messages"
    made = cast.alice.post(path, json={"data": "x"}).json()["message"]
    asked = {"data": "x", "deliver_at": made["created_at"] + 3_600_000, "expires_at": made["created_at"] + 3_600_000}
    assert pointers(problem(cast.alice.post(path, json=asked), 422)) == ["/expires_at"]
    later = {**asked, "expires_at": asked["expires_at"] + 1}
    shown = cast.alice.get(f"{path}/{cast.alice.post(path, json=later).json()['message']['id']}").json()["message"]
    assert {name: shown[name] for name in later} == later


def test_listener_that_is_disabled_or_enabled_by_a_request_is_logged(cast: Cast) -> None:
    path = listener_path(cast)
    listener = cast.alice.post(path, json=URLS).json()["listener"]["id"]
    for fields in ({"timeout": 3}, *({"status": status} for status in ("disabled", "disabled", "enabled"))):
        assert cast.alice.put(f"{path}/{listener}", json=fields).status_code == 200
    logged = [
        (event, fields["reason"]) for event, fields in cast.service.log.lines if fields.get("listener") == listener
    ]
    assert logged == [("listener_disabled", "request"), ("listener_enabled", "request")]
