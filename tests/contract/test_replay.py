"""A part of the log, once more."""

from typing import Any

import pytest

from tests.contract.begun import Begun
from tests.contract.caller import Caller, body, pointers
from tests.contract.reference import covers
from tests.contract.test_delivery import listening
from tests.contract.world import NOWHERE
from tests.support.receiver import Receiver, Reply

# One worker starts the job, another one runs it.
SETTINGS_MEANT = ("three workers",)

REPLAYS = "/queues/{queue_id}/listeners/{listener_id}/replays"


def _received(owner: Caller, receiver: Receiver, count: int = 3) -> tuple[Any, str, list[str]]:
    """A listener that has got some messages."""
    endpoint = receiver.endpoint(Reply(200))
    path, listener = listening(owner, endpoint)
    place = f"{path}/listeners/{listener['id']}"
    messages = [owner.create(f"{path}/messages", data={"n": number})["id"] for number in range(count)]
    owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] == count)
    return endpoint, place, messages


def _away(owner: Caller) -> tuple[str, str]:
    """The address of a listener that gets nothing now, and the id of a message of its queue."""
    queue = f"/queues/{owner.create('/queues')['id']}"
    place = f"{queue}/listeners/{owner.create(f'{queue}/listeners', status='disabled', **NOWHERE)['id']}"
    return place, owner.create(f"{queue}/messages", data="x")["id"]


def _done(owner: Caller, path: str) -> dict[str, Any]:
    return owner.until(path, lambda shown: shown["state"] == "done")


@covers(f"POST {REPLAYS} 200", "replays.md# Replay")
def test_messages_come_again_and_say_of_what(owner: Caller, receiver: Receiver) -> None:
    endpoint, place, messages = _received(owner, receiver)
    made = owner.create(f"{place}/replays", from_message=messages[1])
    assert made["counts"]["selected"] == 2
    again = endpoint.until(5)[3:]
    assert {each.headers["webhook-id"] for each in again} == set(messages[1:])
    assert {each.headers["discue-replay"] for each in again} == {made["id"]}
    assert {each.headers["discue-attempt"] for each in again} == {"1"}
    assert not any("discue-replay" in each.headers for each in endpoint.received[:3])
    done = _done(owner, f"{place}/replays/{made['id']}")
    assert done["counts"] == {
        "selected": 2,
        "delivered": 2,
        "failed": 0,
        "expired": 0,
        "filtered": 0,
        "retrying": 0,
        "remaining": 0,
    }
    assert done["ended_at"] > 0
    assert owner.shown(place)["messages"]["acknowledged_count"] == 3
    attempts = owner.get(f"{place}/attempts")["attempts"]
    assert [each.get("replay_id") for each in attempts].count(made["id"]) == 2
    message = owner.shown(f"{place.partition('/listeners/')[0]}/messages/{messages[1]}")
    assert message["deliveries"][0]["attempts"] == 1


def test_new_listener_gets_older_messages_by_replay(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(200))
    queue = f"/queues/{owner.create('/queues')['id']}"
    old = owner.create(f"{queue}/messages", data="x")["id"]
    urls = {"notify_url": endpoint.url, "liveness_url": endpoint.url}
    place = f"{queue}/listeners/{owner.create(f'{queue}/listeners', **urls)['id']}"
    owner.create(f"{place}/replays", from_at=0)
    assert endpoint.until(1)[0].headers["webhook-id"] == old


def test_times_are_ends_that_are_included(owner: Caller) -> None:
    place, message = _away(owner)
    at = owner.shown(f"{place.partition('/listeners/')[0]}/messages/{message}")["created_at"]
    for ends, selected in (
        ({"from_at": at}, 1),
        ({"from_at": at + 1}, 0),
        ({"from_at": 0, "until_at": at}, 1),
        ({"from_at": 0, "until_at": at - 1}, 0),
        ({"from_message": message, "until_message": message}, 1),
    ):
        answer = body(owner.ask("POST", f"{place}/replays", {**ends, "dry_run": True}))
        shown = {"selected": selected, **dict.fromkeys(("first_message", "last_message"), message if selected else "")}
        assert answer["dry_run"] == shown, ends
    assert owner.get(f"{place}/replays")["replays"] == []


@covers("replays.md: filtered")
def test_a_filter_leaves_messages_out(owner: Caller, receiver: Receiver) -> None:
    endpoint, place, messages = _received(owner, receiver)
    made = owner.create(f"{place}/replays", from_at=0, filter={"data": {"n": 2}})
    assert made["filter"] == {"data": {"n": 2}}
    counts = _done(owner, f"{place}/replays/{made['id']}")["counts"]
    assert [each.headers["webhook-id"] for each in endpoint.received[3:]] == [messages[2]]
    assert (counts["selected"], counts["delivered"], counts["filtered"]) == (3, 1, 2)
    owner.change(place, filter={"data": {"n": {"$gt": 0}}})
    both = owner.create(f"{place}/replays", from_at=0, filter={"data": {"n": {"$lt": 2}}})
    counts = _done(owner, f"{place}/replays/{both['id']}")["counts"]
    assert (counts["delivered"], counts["filtered"]) == (1, 2)


def test_preview_selects_what_the_replay_then_delivers(owner: Caller, receiver: Receiver) -> None:
    endpoint, place, messages = _received(owner, receiver)
    queue = place.partition("/listeners/")[0]
    owner.create(f"{queue}/messages", data="later", delay=3_600)
    owner.delete(f"{queue}/messages/{messages[1]}")
    previewed = body(owner.ask("POST", f"{place}/replays", {"from_at": 0, "dry_run": True}))["dry_run"]
    made = owner.create(f"{place}/replays", from_at=0)
    counts = _done(owner, f"{place}/replays/{made['id']}")["counts"]
    assert previewed == {"selected": 2, "first_message": messages[0], "last_message": messages[2]}
    assert (made["counts"]["selected"], made["counts"]["remaining"], counts["delivered"]) == (2, 2, 2)
    assert {each.headers["webhook-id"] for each in endpoint.received[3:]} == {messages[0], messages[2]}


@covers("replays.md: failed")
def test_final_failure_is_counted_but_not_missed(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(200), Reply(500, (("webhook-no-retry", "true"),)))
    path, listener = listening(owner, endpoint)
    place = f"{path}/listeners/{listener['id']}"
    owner.create(f"{path}/messages", data="x")
    owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] == 1)
    made = owner.create(f"{place}/replays", from_at=0)
    assert _done(owner, f"{place}/replays/{made['id']}")["counts"]["failed"] == 1
    assert owner.shown(place)["messages"]["missed_count"] == 0
    assert owner.get(f"{place}/missed")["missed"] == []


@covers("replays.md: expired")
def test_expired_message_is_counted_but_not_sent(begun: Begun) -> None:
    owner, place = begun.owner, begun.replayed.missed()
    made = owner.create(f"{place}/replays", from_at=0)
    counts = _done(owner, f"{place}/replays/{made['id']}")["counts"]
    assert (counts["expired"], counts["delivered"]) == (1, 0)
    assert owner.shown(place)["messages"]["missed_count"] == 1
    assert owner.get(f"{place}/attempts")["attempts"] == []


@covers(
    "replays.md# Counts",
    "replays.md: delivered",
    "replays.md: retrying",
    "replays.md: remaining",
    "replays.md: selected",
)
def test_counts_say_how_far_it_is(owner: Caller, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(Reply(200), Reply(200), Reply(500))
    path, listener = listening(owner, endpoint)
    place = f"{path}/listeners/{listener['id']}"
    for number in range(2):
        owner.create(f"{path}/messages", data={"n": number})
    owner.until(place, lambda shown: shown["messages"]["acknowledged_count"] == 2)
    made = owner.create(f"{place}/replays", from_at=0)
    shown = owner.until(f"{place}/replays/{made['id']}", lambda shown: shown["counts"]["retrying"] == 2)
    assert shown["state"] == "running"
    assert shown["counts"] == {
        "selected": 2,
        "delivered": 0,
        "failed": 0,
        "expired": 0,
        "filtered": 0,
        "retrying": 2,
        "remaining": 2,
    }


@covers(f"POST {REPLAYS} 400 choice")
@pytest.mark.parametrize("content", [{}, {"from_at": None}, {"from_at": 0, "from_message": "x"}])
def test_replay_has_exactly_one_start(owner: Caller, content: dict[str, Any]) -> None:
    place, _ = _away(owner)
    owner.refused(400, "POST", f"{place}/replays", content)


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        ({"from_message": "0" * 21}, "/from_message"),
        ({"from_at": 0, "until_message": "0" * 21}, "/until_message"),
        ({"from_at": 0, "until_message": "0" * 21, "until_at": 100_000_000_000}, "/until_message"),
        ({"from_at": 200_000_000_000, "until_at": 100_000_000_000}, "/until_at"),
        ({"from_at": -1}, "/from_at"),
        ({"from_at": 0, "until_at": -1}, "/until_at"),
        ({"from_at": 0, "pace": 0}, "/pace"),
        ({"from_at": 0, "filter": {"boredom": 1}}, "/filter/boredom"),
    ],
)
def test_a_value_that_is_none_is_refused(owner: Caller, content: dict[str, Any], pointer: str) -> None:
    place, _ = _away(owner)
    assert pointers(owner.refused(422, "POST", f"{place}/replays", content)) == [pointer]
    assert owner.get(f"{place}/replays")["replays"] == []


def test_an_end_before_the_beginning_is_refused(owner: Caller) -> None:
    place, first = _away(owner)
    second = owner.create(f"{place.partition('/listeners/')[0]}/messages", data="y")["id"]
    ends = {"from_message": second, "until_message": first}
    assert pointers(owner.refused(422, "POST", f"{place}/replays", ends)) == ["/until_message"]


def test_a_message_of_another_queue_is_none(owner: Caller) -> None:
    place, _ = _away(owner)
    _, elsewhere = _away(owner)
    assert pointers(owner.refused(422, "POST", f"{place}/replays", {"from_message": elsewhere})) == ["/from_message"]


@covers(f"DELETE {REPLAYS}/{{replay_id}} 200", "replays.md# Cancel")
def test_open_one_can_be_cancelled(owner: Caller, receiver: Receiver) -> None:
    endpoint, place, _ = _received(owner, receiver)
    path = f"{place}/replays/{owner.create(f'{place}/replays', from_at=0, pace=1)['id']}"
    endpoint.until(4)
    owner.delete(path)
    owner.refused(404, "GET", path)
    owner.refused(404, "DELETE", path)
    assert owner.get(f"{place}/replays")["replays"] == []


def test_finished_one_is_not_found_after_deletion(owner: Caller) -> None:
    place, _ = _away(owner)
    path = f"{place}/replays/{owner.create(f'{place}/replays', from_at=0, until_at=100_000_000_000)['id']}"
    _done(owner, path)
    owner.delete(path)
    owner.refused(404, "GET", path)


@covers(f"POST {REPLAYS} 409")
def test_three_may_be_open_at_once(owner: Caller) -> None:
    place, _ = _away(owner)
    made = [owner.create(f"{place}/replays", from_at=0)["id"] for _ in range(3)]
    refused = owner.refused(409, "POST", f"{place}/replays", {"from_at": 0})
    assert "Wait until one finishes, or cancel one." in refused["detail"]
    assert [each["id"] for each in owner.get(f"{place}/replays")["replays"]] == made[::-1]
    owner.delete(f"{place}/replays/{made[1]}")
    owner.create(f"{place}/replays", from_at=0)
